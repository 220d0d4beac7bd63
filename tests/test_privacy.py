"""No text of a note, category, label, identifier or file name is in anything that is printed or written.

Exceptions: shards, checkpoints, weights, and what `--show_text` writes. A vocabulary has words of many patients only.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKER = "Zyxquarrel"
MAY_HOLD = ("tfrecord", "/checkpoints/", "model.safetensors")
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
    texts, words = tmp_path.parent / "texts.txt", f"{MARKER} had pneumonia ."
    texts.write_text(f"{words}\n{words}\n")
    said += command(
        *("-m", "clinicalbert_jax.embed", f"--model={model}", f"--input={texts}", f"--output={tmp_path / 'v.npz'}")
    )
    labelled = tmp_path.parent / "labelled.csv"
    lines = [f"{MARKER}{n},{MARKER} {'fever' if n % 2 else 'cough'} {n},{MARKER}{n % 2}" for n in range(24)]
    labelled.write_text("id,text,label\n" + "".join(f"{line}\n" for line in lines))
    said += command(
        *("-m", "clinicalbert_jax.finetune", "--config=configs/finetune/classification.py", f"--model={model}"),
        *(f"--train={labelled}", f"--validation={labelled}", f"--workdir={tmp_path.parent / 'fine'}"),
        *("--config.max_steps=2", "--config.task.max_seq_length=16", "--config.task.id_column=id"),
    )
    assert MARKER.lower() not in said.lower()
    assert holding(tmp_path) == []
    assert (model / "model.safetensors").exists()


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
FINETUNE = ("-m", "clinicalbert_jax.finetune", "--config=configs/finetune/entities.py", *RECORDS)
FILL_MASK = ("-m", "clinicalbert_jax.fill_mask", "--model=DIR", "x")
PREDICT = ("-m", "clinicalbert_jax.predict", "--model=MODEL", "--input=FILE", "--output=OUT")
CONVERT = ("-m", "clinicalbert_jax.finetune.convert", "--corpus=ade", "--input=DIR", "--output_dir=OUT")
TRAIN_VOCAB = ("-m", "data_prep", "--input=FILE", "--output_dir=OUT", "--train_vocab", "--each_note_is_a_patient")
OWN_NOTES = (*TRAIN_VOCAB, "--text_column=text")
URL = f"--input=ftp://{MARKER}:{MARKER}@localhost:1/x.csv"
FAILING = {
    "a column that is not there": ("a.csv", f"A,B\n{MARKER},{MARKER}\n", OWN_NOTES),
    "broken JSON": ("a.jsonl", f'{{"text": "{MARKER}"\n', OWN_NOTES),
    "another type in JSON": ("a.jsonl", f'["{MARKER}"]\n', OWN_NOTES),
    "no Parquet": ("a.parquet", MARKER, OWN_NOTES),
    "no gzip": ("a.csv.gz", MARKER, OWN_NOTES),
    "an open quotation mark": ("a.csv", f'text\n"{MARKER}\n', OWN_NOTES),
    "a category never met": ("a.csv", f"text,c\n{MARKER},x\n", (*TRAIN_VOCAB, f"--categories={MARKER}")),
    "a list that is CSV": ("a.csv", f"{MARKER},1\n", (*OWN_NOTES, "--exclude_patients=FILE")),
    "a vocabulary without specials": ("v.txt", f"{MARKER}\n", (*TRAIN_VOCAB[:4], "--vocab_file=FILE")),
    "a setting with text": ("a.csv", "text\nx\n", (*OWN_NOTES, f"--max_seq_length={MARKER}")),
    "a choice with text": ("a.csv", "text\nx\n", (*OWN_NOTES, f"--pairing={MARKER}")),
    "a stray word": ("a.csv", "text\nx\n", (*OWN_NOTES, MARKER)),
    "a URL with a user": ("a.csv", "text\nx\n", (*OWN_NOTES[:2], URL, *OWN_NOTES[3:])),
    "no model": ("a.tsv", f"{MARKER}\tB-X\n", FINETUNE),
    "no BERT": ("config.json", f'{{"model_type": "{MARKER}"}}', FILL_MASK),
    "no JSON in a model": ("config.json", MARKER, FILL_MASK),
    "no run": ("config.json", f'{{"model": "{MARKER}"}}', ("-m", "clinicalbert_jax.report", "--workdir=DIR")),
    "a damaged manifest": ("manifest.json", f'{{"name": "{MARKER}"}}', ("-m", "data_prep.verify", "DIR")),
    "a corpus that is none": ("DRUG-AE.rel", f"1|{MARKER}\n", CONVERT),
    "records without a model": ("a.jsonl", f'{{"text": "{MARKER}"}}\n', PREDICT),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_command_quotes_nothing(name: str, tmp_path: Path) -> None:
    file, content, arguments = FAILING[name]
    directory = tmp_path / "given"
    directory.mkdir()
    (directory / file).write_text(content)
    places = {"FILE": directory / file, "DIR": directory, "OUT": tmp_path / "out", "MODEL": tmp_path / "none"}
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
    assert set(holding(tmp_path)) <= {f"given/{file}"}


def test_what_show_text_writes_is_the_exception(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(MARKER))
    assert holding(tmp_path) == ["a.json"], "the search finds what is there"
