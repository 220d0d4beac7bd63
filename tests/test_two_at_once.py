"""Two processes of a command that writes, on one output: one ends as if alone, the other is refused in one line.

Of every command that writes: data preparation and pre-training as two real processes, the others as a second command
that starts while the first one writes (the kernel's locks are between openings of a file, so they keep two calls of one
process apart as well). Fine-tuning is in finetune/test_commands.py, several processes of one run in
runs/test_restore.py, copies of what is in a store in runs/test_dataset_copies.py, the salt in test_salt_file.py,
a comparison in compare/test_comparison.py, the private file of canaries in test_canaries.py.
"""

import dataclasses
import os
import re
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from clinicalbert_jax import embed, predict
from clinicalbert_jax.audit import command as audit
from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.evaluate import heldout
from clinicalbert_jax.export import write_run
from clinicalbert_jax.files import atomic_output, directory_lock
from clinicalbert_jax.finetune import export, finetuned_model, heads
from clinicalbert_jax.finetune.convert import command as convert
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.relations import end_to_end
from clinicalbert_jax.report import pretraining_page
from clinicalbert_jax.runs import metrics_log
from data_prep.synthetic import command as synthetic
from tests import toy_dataset, toy_run

ROOT = Path(__file__).parents[1]


def both(*arguments: str) -> tuple[list[int], list[str]]:
    """Exit codes and standard errors of two processes that start together."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    running = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    return [process.returncode for process in running], errors


def check_two_processes(arguments: list[str], output: Path) -> None:
    codes, errors = both(*arguments)
    assert sorted(codes) == [0, 2], errors
    refused = errors[codes.index(2)]
    assert len([line for line in refused.splitlines() if line.startswith("error: ")]) == 1, refused
    assert "Traceback" not in refused
    assert output.exists()
    assert unfinished(output.parent) == []


def unfinished(directory: Path) -> list[str]:
    """What a command left beside its output."""
    return [path.name for path in directory.iterdir() if re.search(r"partial|\.old$|\.lock$|_work", path.name)]


def test_a_preparation(tmp_path: Path) -> None:
    notes, output = tmp_path / "notes.csv", tmp_path / "out"
    synthetic.run(synthetic.Options(output=str(notes), num_notes=400))
    flags = ["--train_vocab", "--vocab_size=600", "--max_seq_length=64", "--dupe_factor=3"]
    check_two_processes(["-m", "data_prep", f"--input={notes}", f"--output_dir={output}", *flags], output)
    assert unfinished(output) == []
    dataset = output / "clinical_notes" / "1.0.0"
    verified = subprocess.run([sys.executable, "-m", "data_prep.verify", str(dataset)], cwd=ROOT, capture_output=True)
    assert verified.returncode == 0


def test_a_pre_training(data_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = "model.hidden_size=32 model.num_hidden_layers=1 model.num_attention_heads=2 model.intermediate_size=64"
    flags = [f"--config.{one}" for one in small.split()]
    flags += ["--config.data.max_seq_length=32", "--config.optimizer.warmup_steps=1", "--config.train.steps=150"]
    flags += ["--config.train.global_batch_size=8", "--config.train.eval_every=0", "--config.train.log_every=1"]
    arguments = ["run_pretrain.py", "--config=configs/tiny_128.py", f"--data_dir={data_dir}", f"--workdir={run}"]
    check_two_processes([*arguments, *flags], run)
    assert [record["step"] for record in metrics_log.read(run) if record["kind"] == "train"] == list(range(1, 151))
    assert sum(record["kind"] == "start" for record in metrics_log.read(run)) == 1


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def run(data_dir: Path) -> Path:
    return toy_run.write(data_dir.parent / "run", data_dir)


@pytest.fixture(scope="module")
def fine_tuned(data_dir: Path) -> Path:
    """The export of a model for entities, which predicts into two files."""
    task = EntitiesConfig(max_seq_length=16).task_with_labels(("O", "B-drug", "I-drug"))
    config = ModelConfig(
        vocab_size=len(toy_dataset.VOCABULARY), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16,
    )  # fmt: skip
    params = jax.tree.map(np.asarray, heads.init(config, len(task.labels), jax.random.key(0)))
    directory = data_dir.parent / "fine_tuned"
    directory.mkdir()
    export.write(directory, finetuned_model.Trained(task, config, params, data_dir, 1), data_dir.parent, "float32")
    return directory


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the commands of a test read and write."""

    data_dir: Path
    run: Path
    fine_tuned: Path
    texts: Path
    corpus: Path
    documents: Path
    output: Path


Command = Callable[[Place, bool], object]  # the second: --overwrite


def convert_ade(place: Place, overwrite: bool) -> None:
    convert.run(convert.Options(corpus="ade", input=str(place.corpus), output_dir=str(place.output), reading=Reading()))


# The command, what it writes below the directory of the test, and whether it replaces its own earlier output unasked.
COMMANDS: dict[str, tuple[Command, list[str], bool]] = {
    "synthetic": (
        lambda p, o: synthetic.run(synthetic.Options(output=f"{p.output}.csv.gz", num_notes=20, overwrite=o)),
        ["out.csv.gz"],
        False,
    ),
    "embed": (
        lambda p, o: embed.main(
            embed.Options(model=str(p.run), input=str(p.texts), output=f"{p.output}.parquet", overwrite=o)
        ),
        ["out.parquet"],
        False,
    ),
    "predict": (
        lambda p, o: predict.main(
            predict.Options(
                model=str(p.fine_tuned), input=str(p.texts), output=str(p.output), reading=Reading(), overwrite=o
            )
        ),
        ["out.jsonl", "out.conll"],
        False,
    ),
    "export": (
        lambda p, o: write_run.export(write_run.Options(workdir=str(p.run), output_dir=str(p.output), overwrite=o)),
        ["out"],
        False,
    ),
    "convert": (convert_ade, ["out"], False),
    "end to end": (
        lambda p, o: end_to_end.run(
            end_to_end.Options(
                gold=str(p.documents), predicted=str(p.documents), output=str(p.output), reading=Reading(), overwrite=o
            )
        ),
        ["out.json", "out.html"],
        False,
    ),
    "evaluate --output": (
        lambda p, o: heldout.run(
            heldout.Options(workdir=str(p.run), data_dir=str(p.data_dir), output=f"{p.output}.json", overwrite=o)
        ),
        ["out.json"],
        False,
    ),
    "evaluate": (
        lambda p, o: heldout.run(heldout.Options(workdir=str(p.run), data_dir=str(p.data_dir))),
        ["run/evaluation_test.json"],
        True,
    ),
    "report --output": (
        lambda p, o: pretraining_page.write(
            pretraining_page.Options(workdir=str(p.run), output=f"{p.output}.html", overwrite=o)
        ),
        ["out.html"],
        False,
    ),
    "report": (
        lambda p, o: pretraining_page.write(pretraining_page.Options(workdir=str(p.run))),
        ["run/report.html"],
        True,
    ),
}
# Of the directory that holds everything: a path is read literally by each command.
PRINTABLE = "".join(character for character in string.printable if character not in "/\t\n\r\x0b\x0c") + "[a]"
IN_USE = r"^--\w+: .* is in use by another process \(process \d+ on host .*\): wait until it ends, or give another$"


@pytest.mark.usefixtures("compilation_cache")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_command_while_the_first_writes(
    name: str, data_dir: Path, run: Path, fine_tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, outputs, replaces = COMMANDS[name]
    tmp_path = tmp_path / PRINTABLE
    tmp_path.mkdir()
    for link, target in (("run", run), ("data", data_dir), ("fine_tuned", fine_tuned)):
        (tmp_path / link).symlink_to(target)
    texts, corpus = tmp_path / "texts.txt", tmp_path / "corpus"
    texts.write_text("word1 word2\nword3\n")
    corpus.mkdir()
    (corpus / "DRUG-AE.rel").write_text("1|Aspirin caused rash.|rash|15|19|Aspirin|0|7\n")
    (corpus / "ADE-NEG.txt").write_text("2 NEG Zinc was given.\n")
    documents = tmp_path / "documents.jsonl"
    documents.write_text('{"id": "1", "text": "word1", "entities": [], "relations": []}\n')
    given = (tmp_path / "data", tmp_path / "run", tmp_path / "fine_tuned", texts, corpus, documents)
    place = Place(*given, tmp_path / "out")
    if name == "predict":
        texts = texts.rename(tmp_path / "texts.tsv")
        texts.write_text("word1\tO\nword2\tO\n\nword3\tO\n")
        place = dataclasses.replace(place, texts=texts)
    refusals: list[str] = []
    flush = atomic_output.flush

    def while_it_writes(path: Path) -> None:
        monkeypatch.setattr(atomic_output, "flush", flush)
        with pytest.raises(UserError) as caught:
            command(place, True)
        refusals.append(str(caught.value))
        flush(path)

    command(place, False)
    alone = contents(tmp_path, outputs)
    if not replaces:
        with pytest.raises(UserError, match=r"exists|expected a new directory"):
            command(place, False)
        for path in [tmp_path / one for one in outputs]:
            path.rename(path.with_name(f"first-{path.name}"))
    monkeypatch.setattr(atomic_output, "flush", while_it_writes)
    command(place, False)
    (refusal,) = refusals
    assert re.search(IN_USE, refusal), refusal
    assert contents(tmp_path, outputs) == alone
    assert unfinished(tmp_path) == unfinished(tmp_path / "run") == []


def test_a_second_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first is at work, and where it ends between the second one's check and its lock."""
    output = tmp_path / "report"
    options = audit.Options(model="run", data_dir="data", output=str(output))
    (tmp_path / "data").mkdir()
    source = SimpleNamespace(directory=tmp_path / "run")
    found = SimpleNamespace(data_dir=tmp_path / "data", source=source, canaries=None, manifest=None, tokenizer=None)
    monkeypatch.setattr(audit, "check", lambda _: found)
    monkeypatch.setattr(audit, "check_patients", lambda _: None)
    monkeypatch.setattr(audit, "audit", lambda *_: pytest.fail("it audits"))
    monkeypatch.setattr(audit.texts, "read", lambda *_: None)
    with directory_lock.held(output, "--output", beside=True), pytest.raises(UserError, match=IN_USE):
        audit.run(options)
    monkeypatch.setattr(audit.texts, "read", lambda *_: (output / audit.JSON_FILE).write_text("the first one's"))
    with pytest.raises(UserError, match=r"exists: give another name, or --overwrite"):
        audit.run(options)
    assert (output / audit.JSON_FILE).read_text() == "the first one's"


def contents(directory: Path, outputs: list[str]) -> dict[str, bytes]:
    paths = [path for one in outputs for path in [directory / one, *(directory / one).rglob("*")] if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}
