"""Fine-tuning as a user does it: trained, killed, continued, measured, exported, used from PyTorch."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax import predict
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.finetune import finetuned_model
from clinicalbert_jax.finetune import run as experiment
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.convert import command as convert
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import metrics_log
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from tests.clinicalbert_jax.finetune import toy_bert

ROOT = Path(__file__).parents[3]
TAGGED = {"aspirin": "B-DRUG", "fever": "B-PROBLEM", "liver": "B-PROBLEM", "failure": "I-PROBLEM"}
SETTINGS = [
    "--config.max_steps=24",
    "--config.evaluations_per_epoch=2",
    "--config.optimizer.learning_rate=4e-3",
    "--config.log_every=4",
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny pre-trained BERT, as an exported directory."""
    return toy_bert.write(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One line of words a sentence: whether it is a drug or a problem depends on the word alone."""
    directory = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    files = {}
    for split, count in (("train", 96), ("validation", 24), ("test", 24)):
        sentences = []
        for _ in range(count):
            words = ["the", "patient", str(rng.choice(["had", "was", "given"]))]
            words += ["liver", "failure"] if rng.random() < 0.5 else [str(rng.choice(["aspirin", "fever"]))]
            sentences.append("".join(f"{word}\t{TAGGED.get(word, 'O')}\n" for word in words))
        files[split] = directory / f"{split}.tsv"
        files[split].write_text("\n".join(sentences))
    return files


def finetune(bert: Path, data: dict[str, Path], workdir: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "clinicalbert_jax.finetune", "--config=configs/finetune/entities.py"]
    files = [f"--{split}={path}" for split, path in data.items()]
    return start([*command, f"--model={bert}", f"--workdir={workdir}", *files, *SETTINGS, *more])


def start(command: list[str]) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    out, error = process.communicate(timeout=600)
    assert process.returncode == code, error
    return out + error


@pytest.fixture(scope="module")
def undisturbed(bert: Path, data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    workdir = tmp_path_factory.mktemp("run") / "undisturbed"
    finish(finetune(bert, data, workdir, "--config.seeds=(0,1)"))
    return workdir


def test_two_seeds_are_measured_and_written_down(undisturbed: Path) -> None:
    results = json.loads((undisturbed / "results.json").read_text())
    scores = results["scores"]["test"]["f1"]
    assert results["seeds"] == [0, 1]
    assert len(scores["values"]) == 2
    assert scores["mean"] == pytest.approx(np.mean(scores["values"]))
    assert scores["deviation"] == pytest.approx(np.std(scores["values"], ddof=1))
    assert scores["mean"] > 0.9, "what depends on the word alone is learned"
    page = (undisturbed / "results.html").read_text()
    assert "Fine-tuning undisturbed" in page
    assert "://" not in page.replace("http://www.w3.org", "")
    kept = [p for p in undisturbed.rglob("*") if p.suffix in (".html", ".json", ".jsonl", ".conll")]
    kept = [path for path in kept if path.parent.name != "tokenizer"]  # the vocabulary
    written = "".join(p.read_text() for p in kept)
    assert "aspirin" not in written, "no text of a record"


def test_killed_and_continued_it_ends_in_the_same_bits(
    bert: Path, data: dict[str, Path], undisturbed: Path, tmp_path: Path
) -> None:
    process = finetune(bert, data, tmp_path / "run")
    deadline = time.monotonic() + 300
    while not list((tmp_path / "run/seed-0/checkpoints").glob("[0-9]*/checksums.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said = finish(finetune(bert, data, tmp_path / "run"))
    first = finetuned_model.load(loading.Source(undisturbed / "seed-0", is_run=True), None)
    second = finetuned_model.load(loading.Source(tmp_path / "run/seed-0", is_run=True), None)
    assert first.step == second.step == 24
    for one, other in zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True):
        np.testing.assert_array_equal(one, other)
    expected = json.loads((undisturbed / "results.json").read_text())["scores"]["test"]["f1"]["values"][0]
    assert json.loads((tmp_path / "run/results.json").read_text())["scores"]["test"]["f1"]["values"] == [expected]
    assert "continuing from step" in said or "nothing to do" in said


def test_a_second_command_on_an_experiment_is_refused(bert: Path, data: dict[str, Path], tmp_path: Path) -> None:
    with directory_lock.held(tmp_path / "run", "--workdir"):
        said = finish(finetune(bert, data, tmp_path / "run"), 2)
    (line,) = [line for line in said.splitlines() if not line.startswith("warning: ")]  # those are of the data
    assert line.startswith(f"error: --workdir: {tmp_path / 'run'} is in use by another process (process {os.getpid()} ")
    assert list((tmp_path / "run").iterdir()) == []


def test_every_process_needs_the_same_config_data_and_tokenizer(
    bert: Path, data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the value that is compared between processes, before any of them trains."""

    class ComparedError(Exception):
        pass

    def compared(source: Path, files: dict[str, Path], reading: Reading, **config: object) -> str:
        monkeypatch.setattr(experiment.process_0, "check_same", lambda value, _: raised(ComparedError(value)))
        chosen = FinetuneConfig(**config)  # type: ignore[arg-type]
        examples = {split: chosen.task.read(path, reading) for split, path in files.items()}
        task = chosen.task.task(examples["train"])
        given = experiment.Data(files, examples, reading.counts)
        with pytest.raises(ComparedError) as caught:
            experiment.run(chosen, task, given, loading.find(str(source)), tmp_path / "run", False)
        return str(caught.value)

    cased, other = tmp_path / "cased", dict(data, test=tmp_path / "test.tsv")
    shutil.copytree(bert, cased)
    settings = bert_tokenizer.read(cased)
    for path in cased.glob("*token*"):
        path.unlink()
    (cased / "vocab.txt").unlink(missing_ok=True)
    bert_tokenizer.write(cased, dataclasses.replace(settings, do_lower_case=False))
    other["test"].write_text(data["test"].read_text() + "\nFever\tB-PROBLEM\n")
    latin = Reading(encoding="latin-1")
    first = compared(bert, other, Reading())
    assert compared(bert, other, latin) == first, "where it changes no row, an option of reading is no difference"
    values = [
        first,
        compared(bert, other, Reading(), max_steps=3),
        compared(bert, other, Reading(), seeds=(0, 1)),
        compared(bert, data, Reading()),
        compared(cased, other, Reading()),
    ]
    other["test"].write_text(data["test"].read_text() + "\nf\xe9ver\tB-PROBLEM\n")
    values += [compared(bert, other, Reading()), compared(bert, other, latin)]
    assert len(set(values)) == len(values)
    assert not (tmp_path / "run").exists()


def raised(error: Exception) -> None:
    raise error


def test_another_file_or_label_set_is_refused(
    bert: Path, data: dict[str, Path], undisturbed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "train.tsv"
    other.write_text(data["train"].read_text() + "\nfever\tB-PROBLEM\n")
    said = finish(finetune(bert, data | {"train": other}, undisturbed), 2)
    assert "found another file for --train" in said
    said = finish(finetune(bert, data, undisturbed, "--config.optimizer.learning_rate=2e-3"), 2)
    assert "config.optimizer.learning_rate: expected 0.004" in said
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("fever\tB-FINDING\n")
    said = finish(finetune(bert, data | {"test": wrong}, tmp_path / "run"), 2)
    assert "error: --test, line 1: expected" in said
    assert "wrong.tsv" not in said, "the name of a file may be that of a patient"
    assert said.count("\n") == 1


def test_an_export_predicts_the_same_here_and_in_pytorch(
    undisturbed: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    run, out = undisturbed / "seed-0", tmp_path / "model"
    python = [sys.executable, "-m"]
    said = finish(start([*python, "clinicalbert_jax.export", f"--workdir={run}", f"--output_dir={out}", "--verify"]))
    assert "largest difference of logits in PyTorch" in said
    for name, source in (("run", run), ("export", out)):
        command = [*python, "clinicalbert_jax.predict", f"--model={source}", f"--input={data['test']}"]
        finish(start([*command, f"--output={tmp_path / name}"]))
    assert (tmp_path / "run.jsonl").read_text() == (tmp_path / "export.jsonl").read_text()

    ours = finetuned_model.load(loading.find(out))
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(out).eval()
    assert theirs.config.id2label == dict(enumerate(ours.task.labels))
    examples = ours.task.config.read(data["test"], Reading())
    rows = ours.task.rows(examples, bert_tokenizer.build(bert_tokenizer.read(out)), False)
    logits = []
    for ids in rows.input_ids:
        with torch.no_grad():
            logits.append(theirs(torch.tensor(ids[None].astype(np.int64))).logits[0].numpy())
    predictions = ours.task.decode(examples, rows, logits)
    ours.task.write(tmp_path / "theirs", examples, predictions, False)
    assert (tmp_path / "theirs.jsonl").read_text() == (tmp_path / "run.jsonl").read_text()


def test_predictions_for_a_converted_corpus_go_back_to_its_form(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for number, words in enumerate(["the patient had  liver\nfailure", "the patient was given aspirin"]):
        (tmp_path / "in" / f"{number}.txt").write_text(words)
        (tmp_path / "in" / f"{number}.ann").write_text("T1\tDRUG 4 11\tpatient\n")
    out, options = tmp_path / "out", {"model": str(undisturbed / "seed-0"), "reading": Reading()}
    convert.run(
        convert.Options(
            corpus="brat",
            input=str(tmp_path / "in"),
            output_dir=str(out),
            split_percent=("0", "0", "100"),
            reading=Reading(),
        )
    )
    source, output = out / "entities" / "test.jsonl", tmp_path / "predicted"
    predict.main(predict.Options(input=str(source), output=str(output), **options))
    assert "give --show_text" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.brat"))
    predict.main(predict.Options(input=str(source), output=str(output), show_text=True, overwrite=True, **options))
    found = [json.loads(line) for line in (tmp_path / "predicted.jsonl").read_text().splitlines()]
    assert sum(len(one["entities"]) for one in found) >= 2
    for one in found:
        lines = (tmp_path / "predicted.brat" / f"{one['id']}.ann").read_text().splitlines()
        expected = [f"{e['label']} {e['start']} {e['end']}" for e in one["entities"]]
        assert [line.split("\t")[1] for line in lines] == expected


def test_it_ends_early_without_progress(bert: Path, data: dict[str, Path], tmp_path: Path) -> None:
    settings = ["--config.optimizer.learning_rate=1e-9", "--config.patience=2"]
    finish(finetune(bert, data, tmp_path / "run", *settings))
    records = [r for r in metrics_log.read(tmp_path / "run/seed-0") if r["kind"] == "validation"]
    assert [r["step"] for r in records] == [3, 6, 9]
    said = finish(finetune(bert, data, tmp_path / "run", *settings))
    assert "nothing to do" in said
