"""No text of a note, category, identifier or file name is in anything that is printed or written.

Exceptions: shards, checkpoints, weights, what `--show_text` writes, and the identifiers of records in predictions, by
which their owner finds them. A vocabulary has words of many patients only. What was made to be trained on is data:
converted corpora. A fine-tuned model has the names of its labels.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from absl import flags

from clinicalbert_jax import cli, errors, fill_mask, text_input
from clinicalbert_jax.audit import command as audit
from clinicalbert_jax.audit import people
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.compare import command as compare
from clinicalbert_jax.finetune.compare import data as compare_data
from clinicalbert_jax.finetune.compare import tasks_file
from clinicalbert_jax.finetune.convert import command as convert
from clinicalbert_jax.finetune.relations import end_to_end
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep import command as data_prep
from data_prep.canaries import private_file
from data_prep.overlap import downstream
from data_prep.reading import files
from data_prep.wordpiece import tokenizer

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
    "a column that is not there": (f"{MARKER}.csv", f"A,B\n{MARKER},{MARKER}\n", OWN_NOTES, "expected one column text"),
    "broken JSON": (
        f"{MARKER}.jsonl",
        '{"text": "x"}\n' + f'{{"text": "{MARKER}"\n' * 3,
        OWN_NOTES,
        "3 of 4 rows are malformed",
    ),
    "another type in JSON": (f"{MARKER}.jsonl", f'["{MARKER}"]\n', OWN_NOTES, "expected one column text"),
    "no Parquet": (f"{MARKER}.parquet", MARKER, OWN_NOTES, "cannot be read as Parquet"),
    "no gzip": (f"{MARKER}.csv.gz", MARKER, OWN_NOTES, "expected a whole gzip file"),
    "an open quotation mark": (f"{MARKER}.csv", f'text\n"{MARKER}\n', OWN_NOTES, "1 of 1 rows are malformed"),
    "a category never met": (
        *(f"{MARKER}.csv", f"text,c\n{MARKER},x\n"),
        *((*OWN_NOTES, "--category_column=c", f"--categories={MARKER}"), "--categories"),
    ),
    "a list that is CSV": (
        *(f"{MARKER}.csv", f"text,patient\n{MARKER},{MARKER}\n"),
        *((*OWN_NOTES, "--exclude_patients=FILE"), "--exclude_patients"),
    ),
    "a vocabulary without specials": (
        *(
            f"{MARKER}.txt",
            f"{MARKER}\n",
            (*TRAIN_VOCAB[:4], "--each_note_is_a_patient", "--vocab_file=FILE"),
            "expected a BERT vocabulary",
        ),
    ),
    "a setting with text": (
        f"{MARKER}.csv",
        "text\nx\n",
        (*OWN_NOTES, f"--max_seq_length={MARKER}"),
        "expected an integer",
    ),
    "a choice with text": (
        f"{MARKER}.csv",
        "text\nx\n",
        (*OWN_NOTES, f"--pairing={MARKER}"),
        "expected one of balanced",
    ),
    "a stray word": (f"{MARKER}.csv", "text\nx\n", (*OWN_NOTES, MARKER), "a word that belongs to none"),
    "a URL with a user": (f"{MARKER}.csv", "text\nx\n", (*OWN_NOTES[:2], URL, *OWN_NOTES[3:]), "cannot be reached"),
    "a tag that is none": (f"{MARKER}.tsv", f"{MARKER}\t{MARKER}\n", finetune("entities"), "line 1: expected a tag"),
    "labels that are text": (
        *(
            f"{MARKER}.csv",
            f"text,label\nx,{MARKER + ' was well' * 10}\ny,{MARKER + ' was ill' * 10}\n",
        ),
        *(finetune("classification"), "found what looks like text"),
    ),
    "a pair without spans": (f"{MARKER}.jsonl", f"{SPLIT_PAIR}\n", finetune("relations"), "line 1: expected"),
    "a score that is none": (
        *(
            f"{MARKER}.tsv",
            f"sentence1\tsentence2\tscore\nx\ty\t{MARKER}\n",
            finetune("similarity"),
            "line 2: expected a number",
        ),
    ),
    "questions that are none": (
        f"{MARKER}.json",
        f'{{"data": "{MARKER}"}}',
        finetune("questions"),
        "the layout of SQuAD",
    ),
    "no BERT": ("config.json", f'{{"model_type": "{MARKER}"}}', FILL_MASK, "another architecture"),
    "no JSON in a model": ("config.json", MARKER, FILL_MASK, "cannot be read (JSONDecodeError)"),
    "no run": ("config.json", f'{{"model": "{MARKER}"}}', REPORT, "is not as it was written"),
    "a damaged manifest": ("manifest.json", f'{{"name": "{MARKER}"}}', VERIFY, "was changed since it was written"),
    "a corpus that is none": ("DRUG-AE.rel", f"1|{MARKER}\n", CONVERT, "line 1: expected PMID"),
    "a model that predicts nothing": (
        *(f"{MARKER}.jsonl", f'{{"text": "{MARKER}"}}\n', PREDICT, "expected a fine-tuned model"),
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_failing_command_quotes_nothing(name: str, tmp_path: Path) -> None:
    file, content, arguments, expected = FAILING[name]
    directory = tmp_path / "given" / (MARKER if arguments == CONVERT else "")
    directory.mkdir(parents=True)
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
    assert set(holding(tmp_path)) <= {str((directory / file).relative_to(tmp_path))}


def printed(of: type, run: Callable, *arguments: str) -> str:
    """What a command prints that ends by an error, without a process of its own."""
    errors._labels.clear()
    values = flags.FlagValues()
    cli.define_flags(of, values)
    values(["command", *arguments])
    with pytest.raises((UserError, OSError)) as failure:
        run(cli.parsed(of, (), values))
    return cli.outcome(failure.value)[1]


def test_the_option_stands_for_the_name_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the place of the marker: files, a directory, files in it, an archive in it and its members, tables, a TOML."""
    corpus, mimic = tmp_path / f"{MARKER} brat", tmp_path / "mimic"
    (corpus / MARKER).mkdir(parents=True)
    mimic.mkdir()
    bad = [tmp_path / f"{MARKER} {number}.jsonl" for number in range(2)]
    for path in bad:
        path.write_text(f'{{"id": "1", "text": "{MARKER}"}}\n')
    (corpus / MARKER / f"{MARKER}.txt").write_text("x")
    (corpus / MARKER / f"{MARKER}.ann").write_text(f"T1\t{MARKER}\n")
    output, to = f"--output={tmp_path / 'out'}", f"--output_dir={tmp_path / 'out'}"
    missing = f"{tmp_path / MARKER}.jsonl"

    def converted(corpus_name: str, source: Path, *others: str) -> str:
        return printed(convert.Options, convert.run, f"--corpus={corpus_name}", f"--input={source}", to, *others)

    said = {
        "--gold, line 1": printed(
            end_to_end.Options, end_to_end.run, f"--gold={bad[0]}", f"--predicted={bad[1]}", output
        ),
        "--input: expected a text file": printed(
            fill_mask.Options, lambda options: text_input.read((), options.input), "--model=x", f"--input={missing}"
        ),
        "--input, file 1 of 2, line 1: expected": converted("brat", corpus),
        "--input, line 1: expected": converted("doccano", bad[0]),
        "--input: expected a corpus, found nothing": converted("brat", Path(missing)),
        "--output_dir: expected a new directory, found --input there": printed(
            convert.Options, convert.run, "--corpus=brat", f"--input={bad[0]}", f"--output_dir={bad[0]}"
        ),
        "--names: expected a CSV file": printed(
            audit.Options,
            lambda options: people.read(Path(options.names)),
            *("--model=x", "--data_dir=x", output, f"--names={bad[0]}"),
        ),
        "--canaries: expected the file": printed(
            audit.Options,
            lambda options: private_file.read(Path(options.canaries), "--canaries"),
            *("--model=x", "--data_dir=x", output, f"--canaries={bad[0]}"),
        ),
        "--exclude_text entry 2 of 2: expected a text of at least 13 words": printed(
            data_prep.Options,
            lambda options: downstream.load_excluded(options.prep.exclude_text),
            *(f"--input={bad[0]}", f"--exclude_text={__file__}", f"--exclude_text={bad[1]}"),
            *("--train_vocab", to),
        ),
        "--vocab_file: expected a BERT vocabulary": printed(
            data_prep.Options,
            lambda options: tokenizer.load(options.prep.vocabulary.vocab_file),
            *(f"--input={bad[0]}", f"--vocab_file={bad[1]}", to),
        ),
    }
    # Files that cannot be opened, in a directory that the user names and by a pattern.
    said["cannot read or write a file of --input ("] = printed(
        data_prep.Options,
        lambda options: [(Path(url) / "x").read_text() for url, _ in files.expand(*options.prep.source.input)],
        *(f"--input={tmp_path}/*.jsonl", "--train_vocab", to),
    )
    (corpus / f"{MARKER}.json").mkdir()
    said["cannot read or write --input ("] = printed(
        convert.Options,
        lambda options: (Path(options.input) / f"{MARKER}.json").read_text(),
        *("--corpus=brat", f"--input={corpus}", to),
    )
    with zipfile.ZipFile(corpus / f"{MARKER}.zip", "w") as archive:
        archive.writestr(f"{MARKER}.tsv", f"{MARKER}\tB-x\n{MARKER}\n")
    shutil.rmtree(corpus / MARKER)
    said["--input, file 1 of 1, member 1, line 2: expected"] = converted("conll", corpus)
    (mimic / MARKER).mkdir()
    (mimic / MARKER / "ADMISSIONS.csv").write_text(f"{MARKER}\n{MARKER}\n")
    (mimic / MARKER / "noteevents.csv").write_text("x\n1\n")
    said["--input, a file of the table noteevents, line 1: expected a column named 'text'"] = converted(
        "mimic_mortality", mimic
    )
    tasks = tmp_path / f"{MARKER}.toml"
    config = ROOT / "configs" / "finetune" / "entities.py"
    tasks.write_text(f'[one]\nconfig = "{config}"\ntrain = "{bad[0]}"\ntest = "{bad[1]}"\nvalidation_fraction = 0.1\n')
    bad[1].write_text(f"{MARKER}\n\n")
    said["--tasks, [one] train, line 1: expected a field named 'entities'"] = printed(
        compare.Options,
        lambda options: [compare_data.read(task, options.reading) for task in tasks_file.read(Path(options.tasks))],
        *("--models=x", f"--tasks={tasks}", f"--workdir={tmp_path / 'out'}"),
    )
    assert {expected: line for expected, line in said.items() if expected not in line} == {}
    assert MARKER.lower() not in " ".join([*said.values(), *capsys.readouterr()]).lower()


@pytest.mark.parametrize("path", ["notes", "data", "in", "./notes", "a.csv", "x y.csv", "ü.csv", "é (1) [2].csv"])
def test_a_label_replaces_paths_and_no_words(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_labels", {})
    plain = "expected notes with data in columns, found none: see a.csvx and data.csv"
    errors.label(path, "--input")
    assert errors.labelled(plain) == plain
    for message in ("{}, line 3: expected text in notes", "{}: damaged", "expected records, found none at {}"):
        assert errors.labelled(message.format(path)) == message.format("--input")
    assert errors.labelled(f"cannot read {path}/b" if "/" in path else "") in ("cannot read --input/b", "")


def test_there_are_twenty_failing_commands() -> None:
    assert len(FAILING) >= 20


def test_what_show_text_writes_is_the_exception(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(MARKER))
    assert holding(tmp_path) == ["a.json"], "the search finds what is there"
