"""Corpora of relations: mentions found, negatives as documented, splits by document, damaged lines."""

import json
import shutil
import subprocess
import sys

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import command, common, settle, splits, tasks
from clinicalbert_jax.finetune.convert.archives import members
from clinicalbert_jax.finetune.convert.corpora import ade, blinded, chemprot
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.policies import Policies
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


def ade_pairs(directory, percent=ALL_TRAIN, names=None, reading=None):
    """The pairs with names, by split."""
    ledger = Ledger(reading or Reading())
    files = members(directory, ledger)
    documents = settle.settle(ade.read(files, ledger), ledger, Policies())
    sides = splits.split(documents, percent, 10, 0, ledger)
    others = splits.split(ade.unannotated(files, ledger), percent, 10, 0, ledger)
    found = ade.with_names(sides, others, names)
    ledger.check()
    return {side: records for side, records in found.items() if records}


def shown(record):
    text = record["text"]
    head, tail = (text[record[n]["start"] : record[n]["end"]] for n in ("head", "tail"))
    return record["id"], head, tail, record["label"]


@pytest.mark.fast
def test_ade_pairs_are_the_annotated_ones_and_names_unannotated(tmp_path):
    parts = ade_pairs(corpus(tmp_path))
    assert list(map(shown, parts["train"])) == [
        ("1.1.1", "aspirin", "Nausea", "ADE"),
        ("2.1.1", "zinc", "rash", "ADE"),
        ("2.1.2", "aspirin", "rash", "none"),
        ("3.1.1", "zinc", "nausea", "ADE"),
        ("4.n1.1", "Zinc", "nausea", "none"),
        ("4.n1.2", "aspirin", "nausea", "none"),
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
    parts = ade_pairs(corpus(tmp_path, "\n".join(lines), "8 NEG no x or Rash or RASH, said Y\n"))
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
    found = ade_pairs(corpus(tmp_path, "\n".join(lines), "8 NEG Zinc rash.\n"))
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
    parts = ade_pairs(corpus(tmp_path, related, unrelated), [50, 0, 50])
    assert sorted(parts) == ["test", "train"]
    for part in parts.values():
        assert [shown(record)[2].lower() for record in part if record["label"] == "none"] == ["nausea"]
    # Another part of the corpus, by the names of the first.
    common.write(tmp_path / "train.jsonl", parts["train"])
    again = ade_pairs(tmp_path, [0, 0, 100], tmp_path / "train.jsonl")
    assert [shown(record)[1:] for record in again["test"] if record["label"] == "none"] == [
        ("Zinc", "nausea", "none")
    ] * 2
    with pytest.raises(UserError, match="--split_percent: expected a training split"):
        ade_pairs(tmp_path, [0, 0, 100])
    with pytest.raises(UserError, match="--names: expected the training file"):
        ade_pairs(tmp_path, [0, 0, 100], tmp_path / ade.RELATED_FILE)


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
        ade_pairs(tmp_path)
    assert where in str(error.value)
    assert words in str(error.value)
    assert "secret" not in str(error.value)
    bad = Reading("skip")
    assert len(ade_pairs(tmp_path, reading=bad)["train"]) == 6
    assert bad.counts.total() == 1


@pytest.mark.fast
def test_sides_depend_on_the_document_alone_and_have_their_shares():
    sides = [common.split(str(number), [80, 10, 10]) for number in range(5000)]
    assert [sides.count(n) / 5000 for n in range(3)] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    # Known answers: a change would move documents between the sides of those who converted before.
    assert [common.split(d, [80, 10, 10]) for d in ("10048291", "10082597", "6460590")] == [0, 0, 0]


def test_the_ade_corpus_is_read_whole(shared_data):
    ledger = Ledger()
    files = members(shared_data / "relation" / "ade", ledger)
    documents = settle.settle(ade.read(files, ledger), ledger, Policies())
    sides = splits.split(documents, (), 10, 0, ledger)
    parts = ade.with_names(sides, splits.split(ade.unannotated(files, ledger), (), 10, 0, ledger), None)
    tasks.records(sides, Policies(), "document", False, ledger)
    ledger.check()
    assert ledger["relations"].number_as_is == ledger["in task relations"].number_as_is == 4735
    assert ledger["in task entities"].reasons == {"overlaps one that is kept": 76}
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


def chemprot_corpus(directory, part="chemprot_training", **changes):
    (directory / part).mkdir()
    for name, content in (CHEMPROT | changes).items():
        (directory / part / f"{part}_{name}.tsv").write_text(content)
    return directory


def chemprot_pairs(directory, reading=None, **policies):
    ledger, policy = Ledger(reading or Reading()), Policies(**policies)
    documents = settle.settle(chemprot.read(members(directory, ledger), ledger), ledger, policy)
    found = tasks.records({"train": documents}, policy, "sentence", False, ledger)
    ledger.check()
    return found["relations"]["train"], documents, ledger


@pytest.mark.fast
def test_chemprot_pairs_are_those_of_a_sentence_and_every_relation_is_accounted_for(tmp_path):
    pairs, documents, ledger = chemprot_pairs(chemprot_corpus(tmp_path))
    assert sorted(shown(record)[1:] for record in pairs) == [
        ("Aspirin", "COX", "none"),
        ("Aspirin", "COX-1", "CPR:3"),
        ("Aspirin", "COX-1", "CPR:4"),
    ]
    assert {record["text"] for record in pairs} == {"Aspirin blocks COX-1. ", "Aspirin and COX. "}
    entry = ledger["in task relations"]
    assert (entry.number_found, entry.number_as_is, entry.number_refused) == (3, 2, 1)
    assert ("Zinc", "TNF", "CPR:9") in [shown(one)[1:] for one in chemprot_pairs(tmp_path, pairs="window")[0]]
    # The way back holds what the corpus says: the types of genes, and the ids.
    written = chemprot.write(documents)
    assert sorted(written["_entities.tsv"].splitlines()) == sorted(CHEMPROT["entities"].splitlines())
    assert written["_gold_standard.tsv"] == CHEMPROT["gold_standard"]


@pytest.mark.fast
def test_the_sample_of_chemprot_is_passed_over_beside_the_training_part(tmp_path):
    chemprot_corpus(tmp_path, "chemprot_sample")
    assert chemprot_pairs(tmp_path)[1][0].split == ""
    chemprot_corpus(tmp_path)
    assert [document.split for document in chemprot_pairs(tmp_path)[1]] == ["train"]


@pytest.mark.fast
def test_names_of_chemprot_files_are_no_patterns_and_each_abstract_is_there_once(tmp_path):
    corpus = chemprot_corpus(tmp_path) / "chemprot_training"
    corpus = corpus.rename(tmp_path / "[t]raining*")
    for path in list(corpus.iterdir()):
        path.rename(path.with_name(path.name.replace("chemprot", "chem[p]rot")))
    assert len(chemprot_pairs(tmp_path)[0]) == 3
    shutil.copytree(corpus, tmp_path / "copy")
    pairs, _, ledger = chemprot_pairs(tmp_path)
    assert (len(pairs), ledger["documents"].reasons) == (3, {"the same document again": 1})


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "line", "where"),
    [
        ("abstracts", "12\tsecret\n", "abstracts.tsv, line 2: expected 3 fields"),
        ("abstracts", CHEMPROT["abstracts"], "abstracts.tsv, line 2: expected an abstract once"),
        ("entities", "99\tT9\tCHEMICAL\t16\t24\tsecret\n", "entities.tsv, line 7: expected offsets in one of"),
        ("gold_standard", "11\tCPR:4\tArg1:T1\tsecret\n", "gold_standard.tsv, line 4: expected Arg1:T1"),
    ],
)
def test_damaged_chemprot_lines_are_named(tmp_path, name, line, where):
    chemprot_corpus(tmp_path, **{name: CHEMPROT[name] + line})
    with pytest.raises(UserError) as error:
        chemprot_pairs(tmp_path)
    assert where in str(error.value)
    assert "secret" not in str(error.value)
    bad = Reading("skip")
    assert len(chemprot_pairs(tmp_path, bad)[0]) == 3
    assert bad.counts.total() == 1


BLUE = [
    ("11.T1.T2", "@GENE$ binds @CHEMICAL$", "CPR:3"),
    ("11.T1.T2", "@GENE$ binds @CHEMICAL$", "CPR:4"),
    ("12.T1.T2", '"the ""@CHEM-GENE$"" thing"', "false"),
    ("d.s.e1.e2", "@DRUG$ and @DRUG$", "DDI-false"),
]


@pytest.mark.fast
def test_blue_files_keep_their_blinded_text(tmp_path):
    content = "index\tsentence\tlabel\n" + "".join("\t".join(row) + "\n" for row in BLUE)
    (tmp_path / "train.tsv").write_text(content)
    ledger = Ledger()
    found = list(blinded.read_blue(members(tmp_path, ledger), ledger))
    ledger.check()
    records = [sample.record for sample in found]
    assert list(map(shown, records)) == [
        ("11.T1.T2", "@CHEMICAL$", "@GENE$", "CPR:3"),
        ("11.T1.T2.2", "@CHEMICAL$", "@GENE$", "CPR:4"),
        ("12.T1.T2", "@CHEM-GENE$", "@CHEM-GENE$", "none"),
        ("d.s.e1.e2", "@DRUG$", "@DRUG$", "none"),
    ]
    assert [(record["head"]["type"], record["tail"]["type"]) for record in records] == [
        ("CHEMICAL", "GENE"),
        ("CHEMICAL", "GENE"),
        ("CHEM", "GENE"),
        ("DRUG", "DRUG"),
    ]
    assert (records[2]["text"], records[3]["head"]["start"]) == ('the "@CHEM-GENE$" thing', 0)
    assert {(sample.split, sample.patient) for sample in found} == {("train", "11"), ("train", "12"), ("train", "d")}
    # What is written, the task reads.
    common.write(tmp_path / "train.jsonl", records)
    assert len(RelationsConfig().read(tmp_path / "train.jsonl", Reading())) == 4
    (tmp_path / "dev.tsv").write_text(content + "13\tsecret @GENE$\tfalse\n")
    with pytest.raises(UserError, match=r"dev.tsv, line 6: expected two blinded spans .* found 1"):
        list(blinded.read_blue(members(tmp_path, Ledger()), Ledger()))


@pytest.mark.fast
def test_one_fold_of_gad_is_read_with_its_header_in_the_test_file_alone(tmp_path):
    rows = [("a @GENE$ and a @DISEASE$", "1"), ('the "@DISEASE$ of @GENE$', "0")]
    for fold in ("1", "2"):
        (tmp_path / fold).mkdir()
        (tmp_path / fold / "train.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
        lines = "".join(f"{n}\t{text}\t{label}\n" for n, (text, label) in enumerate(rows))
        (tmp_path / fold / "test.tsv").write_text("index\tsentence\tlabel\n" + lines)
    with pytest.raises(UserError, match="expected one fold of GAD, found 2: give the folder of one"):
        list(blinded.read_gad(members(tmp_path, Ledger()), Ledger()))
    ledger = Ledger()
    found = list(blinded.read_gad(members(tmp_path / "1", ledger), ledger))
    ledger.check()
    assert sorted((one.split, *shown(one.record)[1:]) for one in found) == [
        (split, "@DISEASE$", "@GENE$", label) for split in ("test", "train") for label in ("association", "none")
    ]
    (tmp_path / "1" / "train.tsv").write_text("secret @GENE$ @DISEASE$\tCPR:4\n")
    with pytest.raises(UserError, match=r"train.tsv, line 1: expected a sentence and its label, 0 or 1") as error:
        list(blinded.read_gad(members(tmp_path / "1", Ledger()), Ledger()))
    assert "secret" not in str(error.value)


def test_the_command_writes_files_and_counts(tmp_path):
    (tmp_path / "ade").mkdir()
    corpus(tmp_path / "ade", RELATED + "secret\n")

    def convert(*flags):
        command = [sys.executable, "-m", "clinicalbert_jax.finetune.convert", "--corpus=ade", *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    flags = [f"--input={tmp_path / 'ade'}", f"--output_dir={tmp_path / 'out'}", "--split_percent=100,0,0"]
    stopped = convert(*flags)
    assert stopped.returncode == 2
    assert "--input, file 2 of 2, line 4: expected" in stopped.stderr
    assert "secret" not in stopped.stderr
    assert not (tmp_path / "out").exists()
    done = convert(*flags, "--on_bad_record=skip")
    assert done.returncode == 0, done.stderr
    assert "records of task 3: train 6" in done.stdout.splitlines()
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["lines", "4", "3", "0", "1"] in table
    assert ["refused:", "bad", "record", "1"] in table
    pairs = tmp_path / "out" / "relations-with-names" / "train.jsonl"
    records = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(records) == 6
    assert pairs.stat().st_mode & 0o077 == 0
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
    with pytest.raises(UserError, match=r"3 of \d\d records cannot be used.*--max_malformed_fraction") as error:
        command.run(command.Options(**options, reading=Reading("skip")))
    assert "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()
    command.run(command.Options(**options, reading=Reading("skip", max_malformed_fraction=0.5)))
    assert (tmp_path / "out" / "relations" / "train.jsonl").exists()
