"""The command as a user runs it: from models and a file of tasks to a page, killed and continued."""

import copy
import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig, Document
from clinicalbert_jax.finetune.compare import (
    command,
    comparison,
    data,
    leakage,
    models,
    page,
    results,
    tasks_file,
    trainings,
)
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.training.stop_request import EXIT_RESUME, StopRequest
from clinicalbert_jax.training.train_loop import EXIT_DONE
from tests.clinicalbert_jax.finetune import toy_tokenizer
from tests.clinicalbert_jax.finetune.compare import toy_comparison


@pytest.fixture(scope="module")
def finished(place: Path, both: list[str]) -> Path:
    """A comparison of two shapes on two tasks with two seeds."""
    said = toy_comparison.finish(toy_comparison.start(both, place / "tasks.toml", place / "whole", "--seeds=2"))
    assert "8 of 8" in said
    return place / "whole"


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for task in document["tasks"].values():
        for entry in task["models"].values():
            del entry["cost"]
    document.pop("sha256", None)
    return document


def test_the_result_is_complete(finished: Path) -> None:
    document = json.loads((finished / "results.json").read_text())
    assert list(document["tasks"]) == ["entities", "labels"]
    for task in document["tasks"].values():
        assert set(task["models"]) == {"small", "large"}
        assert len(task["differences"]) == 1
        for entry in task["models"].values():
            score = entry["score"]
            assert score["low"] <= score["value"] <= score["high"]
            assert score["value"] == pytest.approx(np.mean(entry["seeds"]["values"]))
    assert document["num_differences"] == 2
    text = (finished / "results.html").read_text() + (finished / "results.md").read_text()
    assert "Which model is better" in text
    assert "aspirin" not in text, "no text of a record"
    lines = (finished / "scores.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    assert not (finished / "running").exists()


def test_the_same_command_has_nothing_left_to_train(finished: Path, place: Path, both: list[str]) -> None:
    before = {
        name: (finished / name).read_bytes() for name in ("results.json", "results.html", "results.md", "scores.csv")
    }
    toy_comparison.finish(toy_comparison.start(both, place / "tasks.toml", finished, "--seeds=2"))
    assert {name: (finished / name).read_bytes() for name in before} == before


def test_a_model_is_compared_with_random_weights_of_its_shape(place: Path, both: list[str], tmp_path: Path) -> None:
    task = toy_comparison.edited(place, tmp_path, (place / "tasks.toml").read_text().partition("[labels]")[0], "")
    toy_comparison.finish(toy_comparison.start([both[0], "random"], Path(task), tmp_path / "out", "--seeds=1"))
    document = json.loads((tmp_path / "out/results.json").read_text())
    assert {name: model["is_random"] for name, model in document["models"].items()} == {"small": False, "random": True}
    assert document["num_differences"] == 1
    found = [trainings.read(path) for path in (tmp_path / "out/trainings/labels").glob("*/*.npz")]
    assert len(found) == 2
    one, other = (np.concatenate(result.logits) for result in found if result)
    assert not np.any(one == other), "they began with the same weights"


@pytest.mark.soak
def test_killed_three_times_it_ends_in_the_same_page(place: Path, both: list[str], tmp_path: Path) -> None:
    named = [*both, "random"]
    toy_comparison.finish(toy_comparison.start(named, place / "tasks.toml", tmp_path / "whole", "--seeds=2"))
    moments = random.Random(1)
    for _ in range(3):
        process = toy_comparison.start(named, place / "tasks.toml", tmp_path / "killed", "--seeds=2")
        assert process.stderr is not None
        for _ in range(moments.randint(0, 4)):  # of 16 trainings, one line each: it never ends before
            process.stderr.readline()
        time.sleep(moments.uniform(0, 2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    toy_comparison.finish(toy_comparison.start(named, place / "tasks.toml", tmp_path / "killed", "--seeds=2"))
    whole, killed = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed"))
    assert without_time(killed) == without_time(whole)
    assert page.page(without_cost(killed)) == page.page(without_cost(whole))


@pytest.mark.fast
def test_a_stop_in_a_training_ends_the_command_once_it_is_saved(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(job: Any, directory: Path, stop: StopRequest) -> int:
        stop.something_to_save()
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not stop.requested and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stop.requested
        return EXIT_RESUME

    monkeypatch.setattr(trainings.train_loop, "run", stopped)
    spent = [0.0]
    for _ in range(2):  # the time of both is that of the training
        assert command.run(toy_comparison.options(place, tmp_path)) == EXIT_RESUME
        (kept,) = (tmp_path / "out/running").rglob("seconds")
        spent.append(float(kept.read_text()))
    assert 0 < spent[1] < spent[2]
    assert trainings._seconds_before(kept.parent) == spent[2]


@pytest.mark.fast
@pytest.mark.parametrize(("fraction", "expected"), [("1", 2.0), ("0.5", 3.0)])
def test_the_grid_is_decided_by_validation_and_costs_each_training_once(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: str, expected: float
) -> None:
    """Never for a score that is not defined. The chosen training is the first seed's where all data are asked for."""
    validation = [0.5, 0.6, math.nan]

    def trained(training: trainings.Training, data: Any, loaded: Any, rows: Any, workdir: Path, stop: Any) -> int:
        is_finite = training.setting < 2
        logits = [np.array([training.setting, 0.5], np.float32)] * len(rows["test"]) if is_finite else []
        trainings.write(training.file(workdir), trainings.Result(validation[training.setting], logits, 1, 1.0))
        return EXIT_DONE

    monkeypatch.setattr(trainings, "train", trained)
    grid = "grid = [{ epochs = 2.0 }, { epochs = 3.0 }, { epochs = 4.0 }]"
    tasks = Path(toy_comparison.edited(place, tmp_path, "[labels]", f"[labels]\n{grid}"))
    tasks.write_text(f"[labels]{tasks.read_text().partition('[labels]')[2]}")
    assert (
        command.run(toy_comparison.options(place, tmp_path, tasks=str(tasks), fractions=(fraction,), seeds=2))
        == EXIT_DONE
    )
    entry = json.loads((tmp_path / "out/results.json").read_text())["tasks"]["labels"]["models"]["small"]
    assert (entry["cost"], entry["setting"]) == ({"seconds": 2.0, "grid_seconds": expected}, {"epochs": 3.0})


@pytest.mark.fast
def test_a_training_whose_weights_become_infinite_is_an_entry_that_loses_and_a_seed_that_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*_: object, **__: object) -> int:
        raise trainings.NotFiniteError("expected finite logits")

    monkeypatch.setattr(trainings.train_loop, "run", diverged)
    expected = r"^--tasks, \[entities\], model small, fraction 1, seed 0: .* give a lower learning rate"
    for _ in range(2):
        with pytest.raises(UserError, match=expected):
            command.run(toy_comparison.options(place, tmp_path))
    (kept,) = (tmp_path / "out/trainings").rglob("*.npz")
    found = trainings.read(kept)
    assert found is not None
    assert math.isnan(found.validation)
    assert found.logits == []


@pytest.mark.fast
def test_a_run_is_compared_as_it_was_when_the_comparison_began(place: Path, tmp_path: Path) -> None:
    model = models.find((f"small={place / 'small/bert'}",), ())[0]
    run = replace(model, source=loading.Source(tmp_path / "run", is_run=True), step=8)
    assert comparison._with_first_steps(tmp_path, [run])[0].step == 8
    identity: dict[str, Any] = {"models": {}, "steps": {"small": 4}, "tasks": {}}
    checksummed_json.write(tmp_path / "comparison.json", identity)
    (before,) = comparison._with_first_steps(tmp_path, [run])
    assert before.step == 4
    with pytest.raises(UserError, match=r"expected checkpoint 4 of small, .* export the checkpoint to compare"):
        trainings.check_step(before)


@pytest.mark.fast
def test_a_document_that_alone_has_a_label_is_not_drawn_for_validation(tmp_path: Path) -> None:
    """Whatever is drawn: a model cannot be asked for a label that it has never seen."""
    for name in ("train", "test"):
        labels = [*"xy" * 10, *("abcdef" if name == "train" else "")]
        records = ({"id": f"{name}{n}", "text": f"{name} {n}", "label": label} for n, label in enumerate(labels))
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "test")}
    read = data.read(
        tasks_file.ComparedTask("t", files, 0.5, (FinetuneConfig(task=ClassificationConfig()),)), Reading()
    )
    assert {"a", "b", "c", "d", "e", "f"} <= {label for one in read.examples["train"] for label in one.labels}
    assert {label for one in read.examples["validation"] for label in one.labels} == {"x", "y"}
    assert {one.id for name in ("train", "validation") for one in read.examples[name]} == {
        f"train{n}" for n in range(26)
    }


@pytest.mark.fast
def test_patients_that_look_alike_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patients = {"train": ["007", "b", *"cdefghijkl"], "test": ["7", "B"]}
    for name, of_split in patients.items():
        records = (
            {"id": f"{name}{n}", "text": f"{name} pain {n}", "label": "xy"[n % 2], "patient": patient}
            for n, patient in enumerate(of_split)
        )
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    config = ClassificationConfig(patient_column="patient")
    compared = tasks_file.ComparedTask(
        "labels", {name: tmp_path / f"{name}.jsonl" for name in patients}, 0.5, (FinetuneConfig(task=config),)
    )
    data.read(compared, Reading())
    assert "[labels]: 2 patients differ from another only by" in capsys.readouterr().err


def without_cost(document: dict[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for task in document["tasks"].values():
        for entry in task["models"].values():
            entry["cost"] = {"seconds": 0.0, "grid_seconds": 0.0}
    return document


@pytest.mark.fast
@pytest.mark.parametrize("shapes", [[(5, 3), (2, 3), (9, 3)], [(4,), (4,), (4,)]])
def test_a_result_is_read_as_it_was_written(tmp_path: Path, shapes: list[tuple[int, ...]]) -> None:
    logits = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes]
    trainings.write(tmp_path / "one.npz", trainings.Result(0.5, logits, 7, 1.5))
    found = trainings.read(tmp_path / "one.npz")
    assert found is not None
    assert (found.validation, found.num_steps, found.seconds) == (0.5, 7, 1.5)
    for one, other in zip(found.logits, logits, strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "one.npz").write_bytes(b"PK\x03\x04 of a full disk")
    assert trainings.read(tmp_path / "one.npz") is None
    assert trainings.read(tmp_path / "none.npz") is None
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "another.npz", validation=0.5)
    for name in ("empty", "another"):  # a disk that was full, another program
        assert trainings.read(tmp_path / f"{name}.npz") is None
        assert (tmp_path / f"{name}.npz.damaged").exists()


@pytest.mark.fast
def test_a_result_that_is_damaged_is_never_read_wrongly_and_one_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    trainings.write(path, trainings.Result(0.5, [np.arange(3, dtype=np.float32)] * 2, 7, 1.5))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(whole)
        changed[random.integers(len(whole))] ^= int(random.integers(1, 256))
        path.write_bytes(changed)
        found = trainings.read(path)
        if found is not None:  # of a byte that says nothing, such as a date
            assert (found.validation, found.num_steps, found.seconds) == (0.5, 7, 1.5)
            np.testing.assert_array_equal(found.logits, [np.arange(3)] * 2)
    (tmp_path / "two.npz").mkdir()  # cannot be read, as a file of another user cannot
    with pytest.raises(IsADirectoryError):
        trainings.read(tmp_path / "two.npz")
    assert (tmp_path / "two.npz").exists()


@pytest.mark.fast
@pytest.mark.parametrize("name", ["model.safetensors", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"])
def test_other_weights_make_another_comparison_whatever_their_file(place: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(place / "small/bert", tmp_path / "bert")
    (copy / name).write_bytes(b"weights")
    (model,) = models.find((f"small={place / 'small/bert'}",), ())
    model = replace(model, source=model.source._replace(directory=copy))
    before = comparison._sha256(model)
    (copy / name).write_bytes(b"other weights")
    assert comparison._sha256(model) != before


@pytest.mark.fast
def test_a_comparison_killed_before_its_first_file_is_whole_can_begin_again(place: Path, tmp_path: Path) -> None:
    found = models.find((f"small={place / 'small/bert'}",), ())
    tasks = [data.read(task, Reading()) for task in tasks_file.read(place / "tasks.toml")]
    (tmp_path / "comparison.json.partial").write_text("{")
    comparison._claim(tmp_path, found, tasks)
    assert (tmp_path / "comparison.json").exists()
    (tmp_path / "comparison.json").unlink()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="found others' files"):
        comparison._claim(tmp_path, found, tasks)


@pytest.mark.fast
def test_models_are_named_once(place: Path) -> None:
    small, large = (str(place / name / "bert") for name in ("small", "large"))
    assert [model.name for model in models.find((small,), ())] == ["bert"]
    found = models.find((f"a={small}", f"b={large}", "random"), ())
    assert [(model.name, model.is_random) for model in found[2:]] == [("random-a", True), ("random-b", True)]
    assert [model.name for model in models.find((f"a={small}", f"b={small}", "random"), ())] == ["a", "b", "random"]
    with pytest.raises(UserError, match="expected different names"):
        models.find((small, large), ())


@pytest.mark.fast
def test_other_options_of_reading_make_another_comparison(place: Path, tmp_path: Path) -> None:
    task = tasks_file.read(place / "tasks.toml")[1]
    whole = data.read(task, Reading())
    assert data.read(task, Reading()).sha256() == whole.sha256()
    assert replace(whole, examples={**whole.examples, "test": whole.examples["test"][1:]}).sha256() != whole.sha256()


@pytest.mark.fast
def test_dropout_makes_no_other_shape(place: Path, tmp_path: Path) -> None:
    before, after = place / "small/bert", shutil.copytree(place / "small/bert", tmp_path / "after")
    config = json.loads((after / "config.json").read_text())
    assert config["hidden_dropout_prob"] > 0
    changed = config | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (after / "config.json").write_text(json.dumps(changed))
    found = models.find((f"before={before}", f"after={after}", "random"), ())
    assert [model.name for model in found] == ["before", "after", "random"]


def test_another_comparison_does_not_continue_here(finished: Path, place: Path, both: list[str]) -> None:
    for named in ([f"small={place / 'large' / 'bert'}", both[1]], both[:1]):
        said = toy_comparison.finish(toy_comparison.start(named, place / "tasks.toml", finished, "--seeds=2"), code=2)
        assert said.count("error:") == 1
        assert "give the same, or another --workdir" in said


@pytest.mark.fast
def test_models_are_ordered_by_their_scores() -> None:
    entry = {"score": {"value": 0.5, "low": 0.4, "high": 0.6}}
    task = {"models": {"a": entry, "b": {"score": {"value": None}}, "c": {"score": {"value": 0.7}}}}
    assert results.ranking(task) == ["c", "a", "b"]


@pytest.mark.fast
def test_pages_show_no_score_from_which_a_small_count_follows() -> None:
    """Of 500 documents the second model has 5 wrong: the pages have neither its score nor a difference from it."""

    def entry(value: float, is_shown: bool) -> dict[str, Any]:
        score = {"value": value, "low": value - 0.001, "high": value + 0.001, "is_shown": is_shown}
        seeds = {"values": [value], "deviation": None, "validation": [value]}
        curve = {"1": dict(score), "0.5": dict(score)}
        rest = {
            "is_calibration_shown": True,
            "setting": {},
            "num_steps": 1,
            "leakage": None,
            "cost": {"seconds": 1.0, "grid_seconds": 0.0},
        }
        without = {"score_without_contaminated": score | {"documents": 460}, "calibration_error": value}
        return {"score": score, "seeds": seeds, "curve": curve, **without, **rest}

    found = {"documents": 500, "contaminated": 40, "fraction_of_words": 0.1, "not_known": 0}
    found |= {"is_least": False, "patients": None, "are_patients_least": False}
    difference = {"value": 0.044, "low": 0.041, "high": 0.047, "p_value": 0.001, "claimed": True, "sentence": "4.4"}
    task = {
        "main": "accuracy",
        "num_documents": 500,
        "unit": "documents",
        "left_out": {"train": 0, "test": 12},
        "in_task_data": found,
        "models": {"one": entry(0.946, True), "other": entry(0.99, False)},
        "differences": [{"first": "one", "second": "other", **difference}],
    }
    models = {name: {"is_random": False, "is_known": True, "started_from": ""} for name in task["models"]}
    document = {"fractions": [1.0, 0.5], "models": models, "num_differences": 1, "tasks": {"t": task}}
    before = json.dumps(document)
    for shown in (page.page(document), page.markdown(document), page.table_of_scores(document)):
        assert "0.946" in shown
        assert not [figure for figure in ("0.99", "0.98", "0.044", "0.041", "4.4") if figure in shown]
    assert json.dumps(document) == before, "the exact results stay as they are"
    task["num_documents"] = 7
    assert "&lt;11 test documents" in page.page(document)
    assert "12 records could not be used" in page.page(document)
    task["unit"] = "records"
    assert "names no patients or documents" in page.page(document)
    assert "Trained with" not in page.page(document)


def test_the_page_says_what_it_does_not_know(finished: Path) -> None:
    """Not a share of runs of documents that have none, nor that the scores are those of all training data."""
    document = json.loads((finished / "results.json").read_text())
    for task in document["tasks"].values():
        assert task["in_task_data"]["not_known"] == task["in_task_data"]["documents"]
        for entry in task["models"].values():
            entry["curve"]["0.5"] = entry["curve"]["1"]
    said = page.markdown(document | {"fractions": [0.5]})
    assert "| its training data | not known | not known |" in " ".join(said.split())
    assert "Trained with 50.0% of the training documents." in said


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ("0", "0.00%", "0 with this salt")),
        ({"contaminated": 20, "fraction_of_words": 0.25, "patients": 30}, ("20", "25.00%", "30")),
        ({"patients": 30, "are_patients_least": True}, ("0", "0.00%", "at least 30")),
        ({"not_known": 12}, ("0; 12 cannot be told", "0.00%", "0 with this salt")),
        ({"not_known": 100}, ("not known", "not known", "0 with this salt")),
        (
            {"contaminated": 20, "not_known": 80, "fraction_of_words": None, "patients": None},
            ("20; 80 cannot be told", "not known", "not known"),
        ),
        (
            {"contaminated": 3, "not_known": 97, "fraction_of_words": 0.1, "is_least": True},
            ("<11; 97 cannot be told", "at least 10.00%", "0 with this salt"),
        ),
    ],
)
def test_the_page_tells_none_from_not_known(changed: dict[str, Any], expected: tuple[str, str, str]) -> None:
    found = {"documents": 100, "contaminated": 0, "not_known": 0, "fraction_of_words": 0.0}
    found |= {"is_least": False, "patients": 0, "are_patients_least": False}
    assert page._found(found | changed, " with this salt") == expected


@pytest.mark.fast
def test_the_score_without_them_leaves_out_the_documents_that_were_read() -> None:
    """By records without ids, whose order as numbers and as names differs: right are those that were not read."""
    copied, labels = (2, 5, 9), ("drug", "problem")
    words = np.array(["the", "patient", "had", "was", "given", "liver", "failure", "aspirin", "fever"])
    random = np.random.default_rng(7)
    test = [
        Document(f"line-{n + 1}", n, "", " ".join(random.choice(words, 30)), "", (labels[n % 2],)) for n in range(12)
    ]
    train = [replace(test[n], id=f"line-{n}") for n in copied] + [replace(test[0], text="had fever", id="line-9")]
    task = ClassificationConfig().task(train + test)
    compared = tasks_file.ComparedTask("labels", {}, 0.5, ())
    read = data.TaskData(compared, task, {"train": train[1:], "validation": train[:1], "test": test})
    found = leakage.in_texts(read.test_texts(), read.seen_texts())
    assert found.is_contaminated_D.sum() == 3
    rows = task.rows(test, toy_tokenizer.make(), False)
    is_first = [(n % 2 == 0) != (n in copied) for n in range(12)]
    logits = [np.array([1.0, 0.0] if first else [0.0, 1.0], np.float32) for first in is_first]
    scored = results.scored(task, test, rows, [trainings.Result(0.5, logits, 1, 1.0)], {})
    entry = results._entry([scored], [1.0], None, found.is_contaminated_D, 0.0)
    assert entry["score"]["value"] < 1
    assert (entry["score_without_contaminated"]["value"], entry["score_without_contaminated"]["documents"]) == (1.0, 9)


@pytest.mark.fast
def test_where_every_document_was_read_none_are_left() -> None:
    scored = results.Scored(
        np.ones((2, 3, 2)), lambda _: 0.9, "f1", [{"f1": 0.9}, {"f1": math.nan}], [], 1, 1.0, {}, True, True, np.all, ""
    )
    entry = results._entry([scored], [1.0], None, np.ones(3, bool), 0.0)
    assert entry["score_without_contaminated"] == {
        **dict.fromkeys(("value", "low", "high")),
        "documents": 0,
        "is_shown": False,
    }
    assert page._without(entry["score_without_contaminated"], True) == "none are left"
    assert entry["seeds"]["deviation"] is None  # of a score that is not defined
    clean = results._entry([scored], [1.0], None, np.zeros(3, bool), 0.0)
    assert page._without(clean["score_without_contaminated"], True) == "the same"
    assert page._without(clean["score_without_contaminated"], False) == "the same, as far as is known"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [("aab", "bbcd", {"b"}), ("ab", "cd", set()), ("ab", ["", ""], None), ([""], "ab", None)],
)
def test_patients_of_training_and_test_are_found(
    train: Sequence[str], test: Sequence[str], expected: set[str] | None
) -> None:
    examples = {
        name: [Document(f"{name}-{n}", n, patient, "pain", "", ("a",)) for n, patient in enumerate(of_split)]
        for name, of_split in (("train", train[:1]), ("validation", train[1:]), ("test", test))
    }
    task = ClassificationConfig().task([Document("", 1, "", "", "", (label,)) for label in "ab"])
    compared = tasks_file.ComparedTask("labels", {}, 0.5, ())
    assert data.TaskData(compared, task, examples).seen_test_patients() == expected


@pytest.mark.fast
def test_settings_are_set_by_dotted_name() -> None:
    path = toy_comparison.ROOT / "configs" / "finetune" / "entities.py"
    config = tasks_file._config(path, "here")
    found = tasks_file.with_settings(config, {"task.max_seq_length": 64, "seeds": [3, 4]}, "here")
    assert (found.task.max_seq_length, found.seeds) == (64, (3, 4))
    assert config.task.max_seq_length == 128
    with pytest.raises(UserError, match="expected a field that has fields, found 'epochs'"):
        tasks_file.with_settings(config, {"epochs.more": 1}, "here")
    with pytest.raises(UserError, match=r"^here: task.more: expected one of "):
        tasks_file.with_settings(config, {"task": {"more": 1}}, "here")


@pytest.mark.fast
def test_settings_may_be_tables_and_come_in_any_order() -> None:
    """A shorter row needs a shorter question and stride: none is checked before all are set."""
    config = tasks_file._config(toy_comparison.ROOT / "configs/finetune/questions.py", "here")
    given = {"task.max_seq_length": 32, "task.max_question_tokens": 8, "task.stride": 8}
    expected = tasks_file.with_settings(config, given, "here")
    assert (expected.task.max_seq_length, expected.task.stride) == (32, 8)
    assert tasks_file.with_settings(config, dict(reversed(given.items())), "here") == expected
    tables = {"task": {"stride": 8, "max_seq_length": 32}, "task.max_question_tokens": 8}
    assert tasks_file.with_settings(config, tables, "here") == expected
