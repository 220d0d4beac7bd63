"""No text of a note, category, identifier or file name is in anything that is printed or written.

Exceptions: shards, checkpoints, weights, what `--show_text` writes, and the identifiers of records in predictions, by
which their owner finds them. A vocabulary has words of many patients only. What was made to be trained on is data:
converted corpora. A fine-tuned model has the names of its labels.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings

ROOT = Path(__file__).parents[1]
MARKER = "Zyxquarrel"
IDENTIFIER = f"{MARKER}-id-"
MAY_HOLD = ("tfrecord", "/checkpoints/", "model.safetensors")
PREDICTIONS = ("validation.jsonl", "validation-errors.jsonl", "predictions.jsonl")  # hold identifiers, and no text
PREPARE = (
    "--max_seq_length=32",
    "--dupe_factor=1",
    "--max_malformed_fraction=0.05",
)
VOCABULARY = ("--train_vocab", "--vocab_size=600")
SPLITS = ("--validation_fraction=0.2", "--test_fraction=0.2")


def command(*arguments: str) -> str:
    """The exit code, and all that a command printed at the highest verbosity."""
    done = subprocess.run(
        [sys.executable, *arguments, "--verbosity=1"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def holding(directory: Path) -> list[str]:
    """Files below `directory` that hold the marker, in any case, where they should not."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and not any(part in str(path) for part in MAY_HOLD):
            content = path.read_bytes().lower()
            if path.name in PREDICTIONS:
                content = content.replace(IDENTIFIER.lower().encode(), b"")
            if MARKER.lower().encode() in content:
                found.append(str(path.relative_to(directory)))
    return found


@pytest.fixture
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented notes in a file named with the marker. It stands in notes of a few patients, in one patient's identifier
    and in another's category, and in rows that cannot be read.
    """
    path = tmp_path_factory.mktemp("notes") / f"{MARKER}_NOTEEVENTS.csv"
    made = command("-m", "data_prep.synthetic", f"--output={path}", "--num_notes=150")
    assert made.startswith("0\n"), made
    text = path.read_text()
    for count in range(1, 6):
        text = text.replace("The patient", f"{MARKER} The patient", count)
    rows = list(csv.reader(text.splitlines(keepends=True)))
    header, patients = rows[0], sorted({row[1] for row in rows[1:]})
    for row in rows[1:]:
        if row[1] == patients[0]:
            row[header.index("CATEGORY")] = MARKER
        row[1] = f"{MARKER}-7" if row[1] == patients[1] else row[1]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
        file.write(f'"{MARKER},not a row\n{MARKER},too,few\n')
    return path


def test_a_marker_word_is_nowhere(notes: Path, tmp_path: Path) -> None:
    said = command(
        "-m", "data_prep", f"--input={notes}", f"--output_dir={tmp_path / 'data'}", *VOCABULARY, *PREPARE, *SPLITS
    )
    assert said.startswith("0\n"), said
    run, model, data_dir = tmp_path / "run", tmp_path / "model", tmp_path / "data" / "clinical_notes" / "1.0.0"
    said += command(
        *("run_pretrain.py", "--config=configs/demo.py", f"--data_dir={data_dir}", f"--workdir={run}"),
        *("--config.train.steps=4", "--config.optimizer.warmup_steps=1", "--config.train.log_every=2"),
    )
    said += command("-m", "data_prep.verify", str(data_dir))
    said += command("-m", "clinicalbert_jax.evaluate", f"--workdir={run}", f"--data_dir={data_dir}")
    said += command("-m", "clinicalbert_jax.report", f"--workdir={run}")
    said += command("-m", "clinicalbert_jax.export", f"--workdir={run}", f"--output_dir={model}")
    said += with_a_model(model, tmp_path)
    assert MARKER.lower() not in said.lower()
    assert holding(tmp_path) == []
    assert (model / "model.safetensors").exists()


def with_a_model(model: Path, tmp_path: Path) -> str:
    """What is said by each command that uses a model, on files of the marker that are named with it."""
    given, words = tmp_path.parent / "given", f"{MARKER} had pneumonia ."
    given.mkdir()
    texts, labelled = given / f"{MARKER}.txt", given / f"{MARKER}.csv"
    texts.write_text(f"{words} [MASK]\n{words} [MASK] [MASK]\n")
    rows = [f"{IDENTIFIER}{n},{MARKER} {'fever' if n % 2 else 'cough'} {n},{n % 2}" for n in range(24)]
    labelled.write_text("id,text,label\n" + "".join(f"{row}\n" for row in [*rows, f"{MARKER},{MARKER}"]))
    (given / "DRUG-AE.rel").write_text(f"1|{MARKER} caused rash.|rash|18|22|{MARKER}|0|10\n")
    (given / "ADE-NEG.txt").write_text(f"2 NEG {MARKER} was given.\n")
    fine, use = tmp_path / "fine", f"--model={model}"
    skipping = ("--on_bad_record=skip", "--max_malformed_fraction=0.1")
    commands = [
        ("embed", use, f"--input={texts}", f"--output={tmp_path / 'v.npz'}"),
        ("fill_mask", use, f"--input={texts}"),
        ("next_sentence", use, words, words),
        (
            *("finetune", "--config=configs/finetune/classification.py", use, f"--workdir={fine}", *skipping),
            *(f"--train={labelled}", f"--validation={labelled}", "--config.task.id_column=id"),
            *("--config.max_steps=2", "--config.task.max_seq_length=16"),
        ),
        ("export", f"--workdir={fine / 'seed-0'}", f"--output_dir={tmp_path / 'fine_tuned'}"),
        (
            *("predict", f"--model={tmp_path / 'fine_tuned'}", f"--input={labelled}", *skipping),
            f"--output={tmp_path / 'predictions'}",
        ),
        ("finetune.convert", "--corpus=ade", f"--input={given}", f"--output_dir={given / 'converted'}"),
    ]
    said = ""
    for name, *arguments in commands:
        done = command("-m", f"clinicalbert_jax.{name}", *arguments)
        assert done.startswith("0\n"), done
        said += done
    assert IDENTIFIER in (tmp_path / "predictions.jsonl").read_text()
    converted = [path.read_text() for path in (given / "converted").rglob("train.jsonl")]
    assert any(MARKER in text for text in converted), "it is the corpus"
    return said


def test_beam_prints_no_note(notes: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam")
    vocabulary = tmp_path / "vocab.txt"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *"0123456789.,"]
    vocabulary.write_text("\n".join([*words, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789")]))
    said = command(
        *("-m", "data_prep", f"--input={notes}", f"--output_dir={tmp_path / 'data'}", f"--vocab_file={vocabulary}"),
        *(*PREPARE, *SPLITS, "--engine=beam"),
    )
    assert said.startswith("0\n"), said
    assert MARKER.lower() not in said.lower()
    assert holding(tmp_path) == []


RECORDS = ("--model=MODEL", "--train=FILE", "--validation=FILE", "--workdir=OUT")


def finetune(task: str, *arguments: str) -> tuple[str, ...]:
    return "-m", "clinicalbert_jax.finetune", f"--config=configs/finetune/{task}.py", *RECORDS, *arguments


FILL_MASK = ("-m", "clinicalbert_jax.fill_mask", "--model=DIR", "x")
PREDICT = ("-m", "clinicalbert_jax.predict", "--model=MODEL", "--input=FILE", "--output=OUT")
CONVERT = ("-m", "clinicalbert_jax.finetune.convert", "--corpus=ade", "--input=DIR", "--output_dir=OUT")
REPORT = ("-m", "clinicalbert_jax.report", "--workdir=DIR")
VERIFY = ("-m", "data_prep.verify", "DIR")
TRAIN_VOCAB = ("-m", "data_prep", "--input=FILE", "--output_dir=OUT", "--train_vocab", "--each_note_is_a_patient")
OWN_NOTES = (*TRAIN_VOCAB, "--text_column=text")
URL = f"--input=ftp://{MARKER}:{MARKER}@localhost:1/x.csv"
SPLIT_PAIR = f'{{"text": "{MARKER}", "head": {{"start": 0, "end": 1, "type": "A"}}, "tail": 3}}'
# By what is wrong: a file, its content, the command, and what its message says.
FAILING = {
    "a column that is not there": ("a.csv", f"A,B\n{MARKER},{MARKER}\n", OWN_NOTES, "expected one column text"),
    "broken JSON": (
        "a.jsonl",
        '{"text": "x"}\n' + f'{{"text": "{MARKER}"\n' * 3,
        OWN_NOTES,
        "3 of 4 rows are malformed",
    ),
    "another type in JSON": ("a.jsonl", f'["{MARKER}"]\n', OWN_NOTES, "expected one column text"),
    "no Parquet": ("a.parquet", MARKER, OWN_NOTES, "cannot be read as Parquet"),
    "no gzip": ("a.csv.gz", MARKER, OWN_NOTES, "expected a whole gzip file"),
    "an open quotation mark": ("a.csv", f'text\n"{MARKER}\n', OWN_NOTES, "1 of 1 rows are malformed"),
    "a category never met": (
        *("a.csv", f"text,c\n{MARKER},x\n"),
        *((*OWN_NOTES, "--category_column=c", f"--categories={MARKER}"), "--categories"),
    ),
    "a list that is CSV": (
        *("a.csv", f"text,patient\n{MARKER},{MARKER}\n"),
        *((*OWN_NOTES, "--exclude_patients=FILE"), "--exclude_patients"),
    ),
    "a vocabulary without specials": (
        *(
            "v.txt",
            f"{MARKER}\n",
            (*TRAIN_VOCAB[:4], "--each_note_is_a_patient", "--vocab_file=FILE"),
            "expected a BERT vocabulary",
        ),
    ),
    "a setting with text": ("a.csv", "text\nx\n", (*OWN_NOTES, f"--max_seq_length={MARKER}"), "expected an integer"),
    "a choice with text": ("a.csv", "text\nx\n", (*OWN_NOTES, f"--pairing={MARKER}"), "expected one of balanced"),
    "a stray word": ("a.csv", "text\nx\n", (*OWN_NOTES, MARKER), "a word that belongs to none"),
    "a URL with a user": ("a.csv", "text\nx\n", (*OWN_NOTES[:2], URL, *OWN_NOTES[3:]), "cannot be reached"),
    "a tag that is none": ("a.tsv", f"{MARKER}\t{MARKER}\n", finetune("entities"), "line 1: expected a tag"),
    "labels that are text": (
        *(
            "a.csv",
            f"text,label\nx,{MARKER + ' was well' * 10}\ny,{MARKER + ' was ill' * 10}\n",
        ),
        *(finetune("classification"), "found what looks like text"),
    ),
    "a pair without spans": ("a.jsonl", f"{SPLIT_PAIR}\n", finetune("relations"), "line 1: expected"),
    "a score that is none": (
        *(
            "a.tsv",
            f"sentence1\tsentence2\tscore\nx\ty\t{MARKER}\n",
            finetune("similarity"),
            "line 2: expected a number",
        ),
    ),
    "questions that are none": ("a.json", f'{{"data": "{MARKER}"}}', finetune("questions"), "the layout of SQuAD"),
    "no BERT": ("config.json", f'{{"model_type": "{MARKER}"}}', FILL_MASK, "another architecture"),
    "no JSON in a model": ("config.json", MARKER, FILL_MASK, "cannot be read (JSONDecodeError)"),
    "no run": ("config.json", f'{{"model": "{MARKER}"}}', REPORT, "is not as it was written"),
    "a damaged manifest": ("manifest.json", f'{{"name": "{MARKER}"}}', VERIFY, "was changed since it was written"),
    "a corpus that is none": ("DRUG-AE.rel", f"1|{MARKER}\n", CONVERT, "line 1: expected PMID"),
    "a model that predicts nothing": (
        *("a.jsonl", f'{{"text": "{MARKER}"}}\n', PREDICT, "expected a fine-tuned model"),
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_command_quotes_nothing(name: str, tmp_path: Path) -> None:
    file, content, arguments, expected = FAILING[name]
    directory = tmp_path / "given"
    directory.mkdir()
    (directory / file).write_text(content)
    model = tmp_path / "model"  # its weights are read after the records
    model.mkdir()
    bert_tokenizer.write(model, Settings((*SPECIAL_TOKENS, "a", "##a"), False))
    (model / "config.json").write_text('{"vocab_size": 7, "num_hidden_layers": 1, "max_position_embeddings": 512}')
    places = {"FILE": directory / file, "DIR": directory, "OUT": tmp_path / "out", "MODEL": model}
    for word, path in places.items():
        arguments = tuple(
            argument.replace(word, str(path)) if argument in (word, f"{argument.split('=')[0]}={word}") else argument
            for argument in arguments
        )
    said = command(*arguments)
    assert said.startswith("2\n"), said
    assert MARKER.lower() not in said.lower()
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert expected in errors[0], errors
    assert set(holding(tmp_path)) <= {f"given/{file}"}


def test_there_are_twenty_failing_commands() -> None:
    assert len(FAILING) >= 20


def test_what_show_text_writes_is_the_exception(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(MARKER))
    assert holding(tmp_path) == ["a.json"], "the search finds what is there"
