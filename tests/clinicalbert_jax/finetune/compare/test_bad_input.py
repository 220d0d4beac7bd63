"""Bad input of a comparison: one line that says what to do, before anything is trained."""

import gzip
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.finetune.compare import (
    command,
)
from tests import toy_dataset
from tests.clinicalbert_jax.finetune.compare import toy_comparison


@pytest.mark.fast
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('test = "test.tsv"', 'test = "train.tsv"', "[entities]: expected a test set of its own"),
        ("validation_fraction = 0.25", 'validation = "train.tsv"', "expected a validation set of its own"),
        ("validation_fraction = 0.25", 'validation = "test.tsv"', "expected a test set of its own"),
        ("validation_fraction = 0.25", "validation = 3", "the path of a file as 'validation'"),
        (
            '"task.max_seq_length" = 32',
            '"task.max_seq_length" = 128',
            "[entities], model small: expected a model for rows of 128",
        ),
        ("max_steps = 3", "max_step = 3", "found 'max_step'"),
        ("max_steps = 3", 'max_steps = "6"', "[entities]: config.max_steps: expected a value of type int"),
        ("max_steps = 3", "seeds = [1, 1]", "expected 'seeds' to be set by --seeds"),
        ("max_steps = 3", "random_weights = true", "expected 'random_weights' to be set by 'random' in --models"),
        ("[labels]", "grid = [{ seeds = [1] }]\n[labels]", "expected 'seeds' to be set by --seeds"),
        ("[labels]", 'grid = [{ "task.max_seq_length" = 16 }]\n[labels]', "expected one 'task' for the whole grid"),
        ("[labels]", "grid = [{ epochs = 2.0 }, { epochs = 2.0 }]\n[labels]", "expected different entries of the grid"),
        ("validation_fraction = 0.25", "", "either a file as 'validation' or a 'validation_fraction'"),
        ("validation_fraction = 0.25", "validation_fraction = 1.25", "a 'validation_fraction' in (0, 1)"),
        ("[entities]", "[entities", "cannot be read as TOML"),
        ("[entities]", '["of/entities"]', "expected names of tasks of letters"),
        ('train = "train.tsv"', 'train = "absent.tsv"', "expected a file as 'train', found none"),
        ('train = "train.tsv"', 'trains = "train.tsv"', "found 'trains'"),
        ("entities.py", "absent.py", "found none at"),
    ],
)
def test_a_mistake_in_the_tasks_is_one_line(place: Path, tmp_path: Path, old: str, new: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        command.run(toy_comparison.options(place, tmp_path, tasks=toy_comparison.edited(place, tmp_path, old, new)))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def _as_gzip(lines: list[str]) -> tuple[str, bytes]:
    return "other.jsonl.gz", gzip.compress("".join(lines).encode())


def _in_another_order(lines: list[str]) -> tuple[str, bytes]:
    return "other.jsonl", "".join(reversed(lines)).encode()


def _with_other_ids(lines: list[str]) -> tuple[str, bytes]:
    records = [json.loads(line) | {"id": f"other-{number}"} for number, line in enumerate(lines)]
    return "other.jsonl", "".join(f"{json.dumps(record)}\n" for record in records).encode()


@pytest.mark.fast
@pytest.mark.parametrize("rewritten", [_as_gzip, _in_another_order, _with_other_ids])
def test_the_training_set_is_no_test_set_in_another_form(
    place: Path, tmp_path: Path, rewritten: Callable[[list[str]], tuple[str, bytes]]
) -> None:
    name, content = rewritten((place / "train.jsonl").read_text().splitlines(keepends=True))
    tasks = Path(toy_comparison.edited(place, tmp_path, 'test = "test.jsonl"', f'test = "{name}"'))
    (tasks.parent / name).write_bytes(content)
    with pytest.raises(UserError, match=r"^--tasks, \[labels\]: expected a test set of its own, found the texts"):
        command.run(toy_comparison.options(place, tmp_path, tasks=str(tasks)))


@pytest.mark.fast
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize(("suffix", "label", "found"), [("jsonl", "drug", "1: "), ("tsv", "", "0: ")])
def test_a_split_with_too_few_labels_is_refused(
    place: Path, tmp_path: Path, split: str, suffix: str, label: str, found: str
) -> None:
    """A classification with one label, where all are alike right, and entities of which there are none."""
    lines = (place / f"test.{suffix}").read_text().splitlines(keepends=True)
    kept = [line for line in lines if (json.loads(line)["label"] == label if label else "-" not in line)]
    old, new = f'test = "test.{suffix}"', f'test = "few.{suffix}"'
    if split == "validation":
        old, new = (
            f'train = "train.{suffix}"\nvalidation_fraction = 0.25',
            f'train = "train.{suffix}"\nvalidation = "few.{suffix}"',
        )
    tasks = Path(toy_comparison.edited(place, tmp_path, old, new))
    (tasks.parent / f"few.{suffix}").write_text("".join(kept))
    with pytest.raises(UserError, match=rf"training data's labels in the {split} set, found {found}"):
        command.run(toy_comparison.options(place, tmp_path, tasks=str(tasks)))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fractions": ("0.5", "2")}, "--fractions: expected different numbers in (0, 1]"),
        ({"fractions": ("1", "1.0")}, "--fractions: expected different numbers"),
        ({"fractions": ("half",)}, "--fractions: expected different numbers"),
        ({"models": ("random",)}, "--models: expected at least one model"),
        ({"pretraining_data": ("other=DATA",)}, "--pretraining_data: expected MODEL=DIR with one of small"),
        ({"pretraining_data": ("small=/nowhere",)}, "expected a prepared dataset"),
        (
            {"salt_file": "/nowhere/salt"},
            "--salt_file: expected the salt that the data were prepared with, found no file",
        ),
        ({"tasks": "/nowhere.toml"}, "--tasks: expected a TOML file, found none"),
        ({"workdir": "gs://bucket/comparison"}, "--workdir"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(
    place: Path, tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        command.run(toy_comparison.options(place, tmp_path, **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fast
def test_a_second_comparison_is_refused(place: Path, tmp_path: Path) -> None:
    in_use = pytest.raises(UserError, match=r"^--workdir: .* is in use by another process \(process \d+ ")
    with directory_lock.held(tmp_path / "out", "--workdir"), in_use:
        command.run(toy_comparison.options(place, tmp_path))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.fast
def test_fractions_that_are_the_same_documents_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--fractions: .* found 0.01 and 0.001 to be the same 1 of \[entities\]"):
        command.run(toy_comparison.options(place, tmp_path, fractions=("1", "0.01", "0.001")))


@pytest.mark.fast
def test_a_dataset_that_lost_a_shard_is_refused_before_the_first_training(place: Path, tmp_path: Path) -> None:
    dataset = toy_dataset.write(tmp_path / "data")
    next(dataset.glob("*-train.tfrecord-*")).unlink()
    with pytest.raises(UserError, match=r"^expected the shard .*train"):
        command.run(toy_comparison.options(place, tmp_path, pretraining_data=(f"small={dataset}",)))
    assert not (tmp_path / "out").exists()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (("vocab.txt", "tokenizer.json", "tokenizer_config.json"), "--models: expected a model with its tokenizer"),
        (("model.safetensors",), "expected model.safetensors, pytorch_model.bin or"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_before_the_first_training(
    place: Path, tmp_path: Path, missing: Sequence[str], expected: str
) -> None:
    broken = shutil.copytree(place / "large/bert", tmp_path / "broken")
    for name in missing:
        (broken / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=expected):
        command.run(
            toy_comparison.options(place, tmp_path, models=(f"small={place / 'small/bert'}", f"broken={broken}"))
        )
    assert not (tmp_path / "out" / "comparison.json").exists()


@pytest.mark.fast
def test_scores_that_are_all_alike_are_refused(place: Path, tmp_path: Path) -> None:
    tasks = Path(toy_comparison.edited(place, tmp_path, '/classification.py"', '/similarity.py"'))
    text = tasks.read_text().replace("train.jsonl", "pairs.jsonl").replace("test.jsonl", "alike.jsonl")
    tasks.write_text(text)
    for name, scores in (("pairs", range(8)), ("alike", [1] * 8)):
        pairs = (
            {"sentence1": f"{name} had fever {n}", "sentence2": "was given", "score": score}
            for n, score in enumerate(scores)
        )
        (tasks.parent / f"{name}.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    with pytest.raises(UserError, match=r"alike\.jsonl: expected different scores, found one for all 8 pairs"):
        command.run(toy_comparison.options(place, tmp_path, tasks=str(tasks)))
