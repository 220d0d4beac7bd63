"""Pre-training on data as users have it: with an empty split, behind links, with damaged records."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import run_pretrain
from clinicalbert_jax.config import Config
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.report import pretraining_page
from clinicalbert_jax.runs import metrics_log, workdir
from clinicalbert_jax.runs.checkpoint import restore_params
from clinicalbert_jax.training import pretrain as pretraining
from clinicalbert_jax.training import train_loop
from clinicalbert_jax.training.stop_request import StopRequest
from tests import toy_dataset
from tests.clinicalbert_jax.conftest import pretrain, small_config

pytestmark = pytest.mark.usefixtures("compilation_cache")


def test_without_validation_examples_training_needs_to_be_asked_for(tmp_path: Path) -> None:
    data_dir, run = toy_dataset.write(tmp_path / "toy", num_train=40, num_other=0), tmp_path / "run"
    with pytest.raises(UserError, match=r"expected validation examples in .*toy, found none: .*eval_every=0"):
        pretrain(small_config(), data_dir, run)
    assert pretrain(small_config(steps=4, eval_every=0), data_dir, run) == 0
    assert restore_params(run)[3] == 4
    assert {record["kind"] for record in metrics_log.read(run)} == {"start", "train"}
    assert "finished" in pretraining_page.page(run)
    with pytest.raises(
        UserError, match=r"expected a checkpoint of .* with a validation score that is defined, found none"
    ):
        loading.checkpoint_number(run, "best")
    assert loading.best_step(run) is None


@pytest.mark.parametrize(("split", "hint"), [("train", "with more notes$"), ("test", "a larger --test_fraction$")])
@pytest.mark.parametrize("without_shards", [True, False])
def test_an_empty_split_is_one_clear_line(tmp_path: Path, split: str, hint: str, without_shards: bool) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=0, num_other=0)
    if without_shards:
        manifest = Manifest.load(data_dir)
        empty = {name: dataclasses.replace(one, shards=()) for name, one in manifest.splits.items()}
        dataclasses.replace(manifest, splits=empty).save(data_dir)
    with pytest.raises(UserError, match=f"expected examples in the {split} split, found none: .*{hint}"):
        Dataset(data_dir, split)


def test_a_run_begun_meanwhile_with_another_config_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check before JAX is loaded and the lock another command may have ended in the same directory."""
    data_dir, run = toy_dataset.write(tmp_path / "toy", num_train=40), tmp_path / "run"
    config, manifest = small_config(), Manifest.load(data_dir)
    started: list[Path] = []
    monkeypatch.setattr(pretraining, "pretrain", lambda *given: started.append(given[2]) or 0)

    def begin(other: Config) -> int:
        @contextlib.contextmanager
        def after_another_command(directory: Path) -> Iterator[None]:
            workdir.keep(directory, workdir.check_data(other, manifest, data_dir), manifest, data_dir)
            (directory / workdir.CHECKPOINTS / "3").mkdir(parents=True, exist_ok=True)
            yield

        monkeypatch.setattr(run_pretrain.distributed, "only_command", after_another_command)
        options = run_pretrain.Options(config=config, data_dir=str(data_dir), workdir=str(run))
        return run_pretrain._pretrain(options, StopRequest())

    with pytest.raises(UserError, match=r"config\.train\.steps|train\.seed"):
        begin(small_config(seed=7))
    assert started == []
    shutil.rmtree(run)
    assert begin(config) == 0
    assert started == [run]


def test_each_damaged_record_is_reported_once() -> None:
    """In whatever order they are met."""
    corrupt: set[tuple[str, int]] = set()
    said: list[str] = []
    written: list[Any] = []
    job: Any = SimpleNamespace(
        training=SimpleNamespace(corrupt=corrupt),
        program=SimpleNamespace(config=SimpleNamespace(train=None), mesh=None),
    )
    loop = train_loop._Loop(
        job,
        None,  # type: ignore[arg-type]
        None,
        SimpleNamespace(write=lambda step, kind, scalars, file: written.append((file, int(scalars["record"])))),  # type: ignore[arg-type]
        SimpleNamespace(say=said.append),  # type: ignore[arg-type]
        SimpleNamespace(flush=lambda: None),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        [],
    )
    for met in ([("b", 7)], [], [("a", 9), ("a", 2)], [("b", 1), ("c", 0)]):
        corrupt.update(met)
        loop._log(1)
    assert written == [("b", 7), ("a", 2), ("a", 9), ("b", 1), ("c", 0)]
    assert said[1] == "warning: record 2 of a is damaged; its row has no weight"


def linked(directory: Path, original: Path) -> Path:
    """A directory whose files are links into another one, as DVC lays data out."""
    directory.mkdir()
    for path in original.iterdir():
        (directory / path.name).symlink_to(path)
    return directory


def test_data_and_workdir_may_be_links(tmp_path: Path) -> None:
    data_dir = linked(tmp_path / "data", toy_dataset.write(tmp_path / "toy", num_train=40))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "scratch")
    assert pretrain(small_config(steps=4, eval_every=0), data_dir, tmp_path / "run") == 0
    assert restore_params(tmp_path / "run")[3] == restore_params(tmp_path / "scratch")[3] == 4
    assert not any(path.is_symlink() for path in (tmp_path / "scratch").rglob("*"))
    assert pretrain(small_config(steps=6, eval_every=0), data_dir, tmp_path / "run") == 0
    assert restore_params(tmp_path / "scratch")[3] == 6
