"""The converters: mentions found in their sentences, negatives as documented, splits by document, damaged lines."""

import json
import shutil
import subprocess
import sys

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import command, common
from clinicalbert_jax.finetune.convert.corpora import ade, chemprot
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.relations.task import RelationsConfig

# In the second sentence 'rash' stands twice, and its offsets say that the second is meant.
RELATED = """1|Nausea after aspirin.|Nausea|100|106|aspirin|113|120
2|A rash, then rash from zinc with aspirin.|rash|13|17|zinc|23|27
3|Gout treated with zinc gave nausea|vomiting.|nausea|28|34|zinc|18|22
"""
UNRELATED = """4 NEG Zinc helps against nausea, aspirin-like.
4 NEG Nothing here.
4 NEG Zinc helps against nausea, aspirin-like.
"""
ALL_TRAIN = [100, 0, 0]


def corpus(directory, related=RELATED, unrelated=UNRELATED):
    (directory / ade.RELATED_FILE).write_text(related)
    (directory / ade.UNRELATED_FILE).write_text(unrelated)
    return directory


def shown(record):
    text = record["text"]
    head, tail = (text[record[n]["start"] : record[n]["end"]] for n in ("head", "tail"))
    return record["id"], head, tail, record["label"]


@pytest.mark.fast
def test_ade_pairs_are_the_annotated_ones_and_names_unannotated(tmp_path):
    parts = ade.convert(corpus(tmp_path), ALL_TRAIN, None, Reading())
    assert list(map(shown, parts["train"])) == [
        ("1.1", "aspirin", "Nausea", "ADE"),
        ("2.1", "zinc", "rash", "ADE"),
        ("2.2", "aspirin", "rash", "none"),
        ("3.1", "zinc", "nausea", "ADE"),
        ("4.1", "Zinc", "nausea", "none"),
        ("4.2", "aspirin", "nausea", "none"),
    ]
    second = parts["train"][1]
    assert (second["tail"]["start"], second["text"]) == (13, "A rash, then rash from zinc with aspirin.")
    assert second["patient"] == "2"
    assert {record["head"]["type"] for record in parts["train"]} == {"DRUG"}


@pytest.mark.fast
def test_ade_pairs_of_one_sentence_that_are_not_annotated_are_negative(tmp_path):
    sentence = "X gave rash; Y gave gout and X gout."
    lines = [
        f"7|{sentence}|rash|7|11|X|0|1",
        f"7|{sentence}|gout|20|24|Y|13|14",
    ]
    parts = ade.convert(
        corpus(tmp_path, "\n".join(lines), "8 NEG no x or Rash or RASH, said Y\n"), ALL_TRAIN, None, Reading()
    )
    assert [shown(record)[1:] for record in parts["train"]] == [
        ("X", "rash", "ADE"),
        ("X", "gout", "none"),
        ("Y", "rash", "none"),
        ("Y", "gout", "ADE"),
        # A short name counts in its own capitals alone.
        ("Y", "Rash", "none"),
        ("Y", "RASH", "none"),
    ]


@pytest.mark.fast
def test_ade_pairs_that_are_neither_are_left_out(tmp_path):
    # Rash of the second zinc reads as rash of the first; and 'zinc rash' is a drug inside an effect.
    sentence = "Zinc gave rash, zinc gave zinc rash."
    lines = [f"7|{sentence}|rash|10|14|Zinc|0|4", f"7|{sentence}|zinc rash|26|35|zinc|16|20"]
    found = ade.convert(corpus(tmp_path, "\n".join(lines), "8 NEG Zinc rash.\n"), ALL_TRAIN, None, Reading())
    assert [shown(record)[1:] for record in found["train"]] == [
        ("Zinc", "rash", "ADE"),
        ("zinc", "zinc rash", "ADE"),
    ]


@pytest.mark.fast
def test_names_come_from_the_training_side_alone(tmp_path):
    documents = {str(n): common.split(str(n), [50, 0, 50]) for n in range(40)}
    train, test = (next(d for d, side in documents.items() if side == wanted) for wanted in (0, 2))
    related = f"{train}|Nausea after zinc.|Nausea|0|6|zinc|13|17\n{test}|Ulcers after zinc.|Ulcers|0|6|zinc|13|17\n"
    unrelated = f"{test} NEG Zinc, nausea and ulcers.\n{train} NEG Zinc, nausea and ulcers.\n"
    parts = ade.convert(corpus(tmp_path, related, unrelated), [50, 0, 50], None, Reading())
    assert sorted(parts) == ["test", "train"]
    for part in parts.values():
        assert [shown(record)[2].lower() for record in part if record["label"] == "none"] == ["nausea"]
    # Another part of the corpus, by the names of the first.
    common.write(tmp_path / "train.jsonl", parts["train"])
    again = ade.convert(tmp_path, [0, 0, 100], tmp_path / "train.jsonl", Reading())
    assert [shown(record)[1:] for record in again["test"] if record["label"] == "none"] == [
        ("Zinc", "nausea", "none")
    ] * 2
    with pytest.raises(UserError, match="--split_percent: expected a training split"):
        ade.convert(tmp_path, [0, 0, 100], None, Reading())
    with pytest.raises(UserError, match="--names: expected the training file"):
        ade.convert(tmp_path, [0, 0, 100], tmp_path / ade.RELATED_FILE, Reading())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("related", "unrelated", "where", "words"),
    [
        (RELATED + "secret\n", UNRELATED, f"{ade.RELATED_FILE}, line 4", "PMID|sentence"),
        (RELATED + "9|secret zinc|secret|x|6|zinc|7|11\n", UNRELATED, f"{ade.RELATED_FILE}, line 4", "PMID|sentence"),
        (RELATED + "9|secret zinc|secret|0|6|gold|7|11\n", UNRELATED, f"{ade.RELATED_FILE}, line 4", "effect and drug"),
        (RELATED + "9|secret zinc|secret|0|6|zinc|9|13\n", UNRELATED, f"{ade.RELATED_FILE}, line 4", "effect and drug"),
        (RELATED, UNRELATED + "secret\n", f"{ade.UNRELATED_FILE}, line 4", "PMID NEG sentence"),
    ],
)
def test_damaged_lines_are_named_or_left_out(tmp_path, related, unrelated, where, words):
    corpus(tmp_path, related, unrelated)
    with pytest.raises(UserError) as error:
        ade.convert(tmp_path, ALL_TRAIN, None, Reading())
    assert where in str(error.value)
    assert words in str(error.value)
    assert "secret" not in str(error.value)
    bad = Reading("skip")
    assert len(ade.convert(tmp_path, ALL_TRAIN, None, bad)["train"]) == 6
    assert bad.counts.total() == 1


@pytest.mark.fast
def test_sides_depend_on_the_document_alone_and_have_their_shares():
    sides = [common.split(str(number), [80, 10, 10]) for number in range(5000)]
    assert [sides.count(n) / 5000 for n in range(3)] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    # Known answers: a change would move documents between the sides of those who converted before.
    assert [common.split(d, [80, 10, 10]) for d in ("10048291", "10082597", "6460590")] == [0, 0, 0]


def test_the_ade_corpus_is_read_whole(shared_data):
    bad = Reading()
    parts = ade.convert(shared_data / "relation" / "ade", [80, 10, 10], None, bad)
    assert not bad.counts
    labels = {name: [record["label"] for record in part] for name, part in parts.items()}
    assert {name: (of.count("ADE"), of.count("none")) for name, of in labels.items()} == {
        "train": (3729, 2276),
        "validation": (522, 271),
        "test": (484, 208),
    }
    documents = [{record["patient"] for record in part} for part in parts.values()]
    assert not (documents[0] & documents[1] | documents[0] & documents[2] | documents[1] & documents[2])


CHEMPROT = {
    "abstracts": "11\tAspirin and COX.\tAspirin blocks COX-1. Zinc was given. It hit TNF\n",
    "entities": "11\tT1\tCHEMICAL\t17\t24\tAspirin\n11\tT2\tGENE-Y\t32\t37\tCOX-1\n11\tT3\tCHEMICAL\t39\t43\tZinc\n"
    "11\tT4\tGENE-N\t62\t65\tTNF\n11\tT5\tCHEMICAL\t0\t7\tAspirin\n11\tT6\tGENE-N\t12\t15\tCOX\n",
    "gold_standard": "11\tCPR:4\tArg1:T1\tArg2:T2\n11\tCPR:3\tArg1:T1\tArg2:T2\n11\tCPR:9\tArg1:T3\tArg2:T4\n",
}


def chemprot_corpus(directory, **changes):
    (directory / "sample").mkdir()
    for name, content in (CHEMPROT | changes).items():
        (directory / "sample" / f"chemprot_sample_{name}.tsv").write_text(content)
    return directory


@pytest.mark.fast
def test_chemprot_pairs_are_those_of_a_sentence_and_the_related_ones(tmp_path):
    parts = chemprot.convert_chemprot(chemprot_corpus(tmp_path), Reading())
    assert list(map(shown, parts["chemprot_sample"])) == [
        ("11.T1.T2", "Aspirin", "COX-1", "CPR:4"),
        ("11.T1.T2.2", "Aspirin", "COX-1", "CPR:3"),
        ("11.T3.T4", "Zinc", "TNF", "CPR:9"),
        ("11.T5.T6", "Aspirin", "COX", "none"),
    ]
    assert [record["text"] for record in parts["chemprot_sample"]][1:] == [
        "Aspirin blocks COX-1. ",
        "Zinc was given. It hit TNF",
        "Aspirin and COX. ",
    ]


@pytest.mark.fast
def test_names_of_chemprot_files_are_no_patterns_and_each_part_is_there_once(tmp_path):
    corpus = chemprot_corpus(tmp_path) / "sample"
    corpus = corpus.rename(tmp_path / "[s]ample*")
    for path in list(corpus.iterdir()):
        path.rename(path.with_name(path.name.replace("chemprot", "chem[p]rot")))
    assert len(chemprot.convert_chemprot(tmp_path, Reading())["chem[p]rot_sample"]) == 4
    shutil.copytree(corpus, tmp_path / "copy")
    with pytest.raises(UserError, match="expected each part once"):
        chemprot.convert_chemprot(tmp_path, Reading())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "line", "where"),
    [
        ("abstracts", "12\tsecret\n", "abstracts.tsv, line 2: expected 3 fields"),
        ("entities", "11\tT9\tCHEMICAL\t16\t24\tsecret\n", "entities.tsv, line 7: expected an entity's text"),
        ("gold_standard", "11\tCPR:4\tArg1:T1\tArg2:T9\n", "gold_standard.tsv, line 4: expected a relation of"),
    ],
)
def test_damaged_chemprot_lines_are_named(tmp_path, name, line, where):
    chemprot_corpus(tmp_path, **{name: CHEMPROT[name] + line})
    with pytest.raises(UserError) as error:
        chemprot.convert_chemprot(tmp_path, Reading())
    assert where in str(error.value)
    assert "secret" not in str(error.value)
    bad = Reading("skip")
    assert len(chemprot.convert_chemprot(tmp_path, bad)["chemprot_sample"]) == 4
    assert bad.counts.total() == 1


@pytest.mark.fast
def test_blue_files_keep_their_blinded_text(tmp_path):
    rows = [
        ("11.T1.T2", "@GENE$ binds @CHEMICAL$", "CPR:3"),
        ("11.T1.T2", "@GENE$ binds @CHEMICAL$", "CPR:4"),
        ("12.T1.T2", "the @CHEM-GENE$ thing", "false"),
        ("d.s.e1.e2", "@DRUG$ and @DRUG$", "DDI-false"),
    ]
    content = "index\tsentence\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows)
    (tmp_path / "train.tsv").write_text(content)
    (tmp_path / "dev.tsv").write_text(content + "13\tsecret @GENE$\tfalse\n")
    parts = chemprot.convert_blue(tmp_path / "train.tsv", Reading())
    assert list(map(shown, parts["train"])) == [
        ("11.T1.T2", "@CHEMICAL$", "@GENE$", "CPR:3"),
        ("11.T1.T2.2", "@CHEMICAL$", "@GENE$", "CPR:4"),
        ("12.T1.T2", "@CHEM-GENE$", "@CHEM-GENE$", "none"),
        ("d.s.e1.e2", "@DRUG$", "@DRUG$", "none"),
    ]
    assert [(record["head"]["type"], record["tail"]["type"]) for record in parts["train"]] == [
        ("CHEMICAL", "GENE"),
        ("CHEMICAL", "GENE"),
        ("CHEM", "GENE"),
        ("DRUG", "DRUG"),
    ]
    assert parts["train"][3]["head"]["start"] == 0
    with pytest.raises(UserError, match=r"dev.tsv, line 6: expected two blinded spans .* found 1"):
        chemprot.convert_blue(tmp_path, Reading())
    # What is written, the task reads.
    common.write(tmp_path / "train.jsonl", parts["train"])
    assert len(RelationsConfig().read(tmp_path / "train.jsonl", Reading())) == 4


def test_the_command_writes_files_and_counts(tmp_path):
    (tmp_path / "ade").mkdir()
    corpus(tmp_path / "ade", RELATED + "secret\n")

    def convert(*flags):
        command = [sys.executable, "-m", "clinicalbert_jax.finetune.convert", "--corpus=ade", *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    flags = [f"--input={tmp_path / 'ade'}", f"--output_dir={tmp_path / 'out'}", "--split_percent=100,0,0"]
    stopped = convert(*flags)
    assert stopped.returncode == 2
    assert f"{ade.RELATED_FILE}, line 4: expected" in stopped.stderr
    assert "secret" not in stopped.stderr
    assert not (tmp_path / "out").exists()
    done = convert(*flags, "--on_bad_record=skip")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "train              6 records of 4 documents, by label: 3, 3",
        f"skipped: 1 lines of {tmp_path / 'ade' / ade.RELATED_FILE}",
    ]
    records = [json.loads(line) for line in (tmp_path / "out" / "train.jsonl").read_text().splitlines()]
    assert len(records) == 6
    assert (tmp_path / "out" / "train.jsonl").stat().st_mode & 0o077 == 0
    for wrong, words in (
        (flags, "--output_dir: expected a new directory"),
        (
            [*flags[:1], f"--output_dir={tmp_path / 'b'}", "--split_percent=50,60"],
            "--split_percent: expected three whole numbers",
        ),
        ([f"--input={tmp_path / 'none'}", f"--output_dir={tmp_path / 'b'}"], "--input: expected a corpus"),
    ):
        refused = convert(*wrong)
        assert refused.returncode == 2
        assert words in refused.stderr


@pytest.mark.fast
def test_a_corpus_with_many_damaged_lines_is_refused_unless_they_are_allowed(tmp_path):
    source = corpus(tmp_path, related=RELATED + "secret\n" * 3)
    options = {
        "corpus": "ade",
        "input": str(source),
        "output_dir": str(tmp_path / "out"),
        "split_percent": ("100", "0", "0"),
    }
    with pytest.raises(UserError, match=r"3 of 9 records cannot be used.*--max_malformed_fraction") as error:
        command.run(command.Options(**options, reading=Reading("skip")))
    assert "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()
    command.run(command.Options(**options, reading=Reading("skip", max_malformed_fraction=0.5)))
    assert (tmp_path / "out" / "train.jsonl").exists()
