import gzip
import json

import pytest

from clinicalbert_jax.errors import UserError
from data_prep.overlap import downstream

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
        ("ner.bio", "".join(f"{word}\tO\n" for word in RUN.split())),
        ("NER.TXT", "".join(f"{word} O\n" for word in RUN.split())),
        ("a.rel", f"10030778|{RUN}|nine|0|5\n"),
    ],
)
def test_a_note_that_holds_text_of_a_test_file_is_found(tmp_path, name, content):
    forms = {
        name: content.encode(),
        f"{name}.GZ": gzip.compress(content.encode()),
        f"a-{name}": content.encode("utf-16"),
    }
    for path, data in ((tmp_path / name, data) for name, data in forms.items()):
        path.write_bytes(data)
        excluded = downstream.load_excluded([str(path)])
        assert downstream.holds_any(NOTE, excluded)
        assert not downstream.holds_any(NOTE.replace("SEVEN", "8"), excluded)
        assert not downstream.holds_any("too short", excluded)


def test_runs_do_not_go_from_one_cell_to_the_next(tmp_path):
    words = RUN.split()
    (tmp_path / "a.csv").write_text(f"{' '.join(words[:7])},{' '.join(words[7:])},{'other ' * 13}\n")
    assert not downstream.holds_any(NOTE, downstream.load_excluded([str(tmp_path / "a.csv")]))


def test_without_excluded_text_nothing_is_found():
    assert not downstream.holds_any(NOTE, downstream.load_excluded([]))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", b"{secret"), ("a.jsonl", b"secret"), ("a.txt.gz", b"secret"), ("a.txt", b"secret \xe9")],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read|expected text in UTF-8") as caught:
        downstream.load_excluded([str(tmp_path / name)])
    assert "secret" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        downstream.load_excluded([str(tmp_path / "no.txt")])


def test_a_file_that_would_exclude_nothing_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("secret " * 12)
    with pytest.raises(UserError, match="at least 13 words") as caught:
        downstream.load_excluded([str(tmp_path / "a.txt")])
    assert "secret" not in str(caught.value)
