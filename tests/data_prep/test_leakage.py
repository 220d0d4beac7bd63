import gzip
import json

import pytest

from clinicalbert_jax.errors import UserError
from data_prep import leakage

# Thirteen words, and the same among others.
RUN = "one two three four five six seven eight nine ten eleven twelve thirteen"
NOTE = f"Before it. {RUN.upper()}, after it."


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"Zero.\n{RUN}\nfourteen"),
        ("a.json", json.dumps({"data": [{"context": f"zero {RUN}", "n": 5}]})),
        ("a.jsonl", json.dumps({"id": "1"}) + "\n\n" + json.dumps({"tokens": RUN.split()}) + "\n"),
        ("a.csv", f'id,text\n1,"zero, {RUN}"\n'),
        ("a.tsv", f"1\tzero {RUN}\n"),
        ("ner.tsv", "".join(f"{word}\tB-Disease\n" for word in RUN.split()) + "\nOther\tO\n"),
        ("ner.conll", "".join(f"{word} NN O\n" for word in RUN.split())),
        ("a.rel", f"10030778|{RUN}|nine|0|5\n"),
    ],
)
def test_a_note_that_holds_text_of_a_test_file_is_found(tmp_path, name, content):
    for path, data in ((tmp_path / name, content.encode()), (tmp_path / f"{name}.gz", gzip.compress(content.encode()))):
        path.write_bytes(data)
        excluded = leakage.load_excluded([str(path)])
        assert leakage.holds_any(NOTE, excluded)
        assert not leakage.holds_any(NOTE.replace("SEVEN", "8"), excluded)
        assert not leakage.holds_any("too short", excluded)


def test_runs_do_not_go_from_one_cell_to_the_next(tmp_path):
    words = RUN.split()
    (tmp_path / "a.csv").write_text(f"{' '.join(words[:7])},{' '.join(words[7:])}\n")
    assert not leakage.holds_any(NOTE, leakage.load_excluded([str(tmp_path / "a.csv")]))


def test_without_excluded_text_nothing_is_found():
    assert not leakage.holds_any(NOTE, leakage.load_excluded([]))


@pytest.mark.parametrize(("name", "content"), [("a.json", b"{secret"), ("a.jsonl", b"secret"), ("a.txt.gz", b"secret")])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="--exclude_text") as caught:
        leakage.load_excluded([str(tmp_path / name)])
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        leakage.load_excluded([str(tmp_path / "no.txt")])


@pytest.mark.parametrize("one_in", [1, 4])
def test_overlap_is_the_share_of_runs_in_common(one_in):
    def numbered(first, last):
        return " ".join(f"w{number}" for number in range(first, last))

    train = leakage.sample([numbered(0, 20_012)], one_in)
    held_out = leakage.sample([numbered(15_000, 19_012), numbered(30_000, 46_012)], one_in)
    assert leakage.overlap(held_out, train) == pytest.approx(4000 / 20_000, abs=0.03 if one_in > 1 else 0)
    assert leakage.overlap(held_out, held_out) == 1
    assert leakage.overlap(leakage.sample([], one_in), train) == 0
    assert leakage.overlap(train, leakage.sample([], one_in)) == 0


def test_sample_is_about_a_million_runs_whatever_the_input():
    for num_bytes in (10**6, 10**9, 4 * 10**9):
        assert num_bytes / 6 / leakage.sampling_rate(num_bytes) < 1.4 * 2**20
