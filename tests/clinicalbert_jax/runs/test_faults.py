"""Damage to files, numbers and disks: each ends in recovery to the same result, or in one clear line."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax.data import tfrecord
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import checksums, metrics_log
from clinicalbert_jax.runs.checkpoint import recover, restore_params
from tests import toy_dataset
from tests.clinicalbert_jax.conftest import pretrain, small_config

pytestmark = pytest.mark.usefixtures("compilation_cache")

MUTATIONS = ("truncated", "emptied", "flipped", "removed")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=40, num_other=12, shards=2)


@pytest.fixture(scope="module")
def undisturbed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    run = tmp_path_factory.mktemp("run") / "undisturbed"
    assert pretrain(small_config(), data_dir, run) == 0
    return jax.tree.leaves(restore_params(run)[1])


@pytest.fixture(scope="module")
def half_way(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "half_way"
    assert pretrain(small_config(steps=6), data_dir, run) == 0
    return run


def mutate(path: Path, mutation: str, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    if mutation == "removed":
        path.unlink()
        return
    if mutation == "emptied":
        content = bytearray()
    elif mutation == "truncated":
        del content[rng.integers(len(content)) if content else 0 :]
    elif content:
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def check_damage(case: int, data_dir: Path, half_way: Path, undisturbed: list[np.ndarray], tmp_path: Path) -> str:
    """Damage one file of a copy of data and half-finished run, continue, and check how that ends."""
    rng = np.random.default_rng(case)
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data_dir, data)
    shutil.copytree(half_way, run)
    # Kinds of files first, then one of the kind, so that the many small files of orbax do not crowd out the rest.
    files = sorted(path for path in (*data.rglob("*"), *run.rglob("*")) if path.is_file())
    kinds = sorted({kind(path, tmp_path) for path in files})
    chosen_kind = kinds[case % len(kinds)]
    candidates = [path for path in files if kind(path, tmp_path) == chosen_kind]
    path = candidates[rng.integers(len(candidates))]
    mutation = MUTATIONS[(case // len(kinds)) % len(MUTATIONS)]
    said = f"case {case}: {path.relative_to(tmp_path)} {mutation}"
    mutate(path, mutation, rng)
    try:
        assert pretrain(small_config(), data, run) == 0, said
        params = jax.tree.leaves(restore_params(run)[1])
    except UserError as error:
        assert "\n" not in str(error), said
        return "one clear line"
    assert len(params) == len(undisturbed)
    for ours, expected in zip(params, undisturbed, strict=True):
        np.testing.assert_array_equal(ours, expected, err_msg=said)
    return "recovered"


def kind(path: Path, base: Path) -> str:
    parts = path.relative_to(base).parts
    if "checkpoints" in parts:
        return "/".join(parts[:2] + parts[3:5])
    return "/".join((parts[0], *(part.split("-0")[0].split(".out")[0] for part in parts[1:]))) + path.suffix


@pytest.mark.parametrize("case", range(0, 200, 10))
def test_a_damaged_file_is_recovered_from_or_named(
    case: int, data_dir: Path, half_way: Path, undisturbed: list[np.ndarray], tmp_path: Path
) -> None:
    check_damage(case, data_dir, half_way, undisturbed, tmp_path)


@pytest.mark.soak
def test_two_hundred_damaged_files(
    data_dir: Path, half_way: Path, undisturbed: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    ends: dict[str, int] = {}
    for case in range(240):
        place = tmp_path / str(case)
        place.mkdir()
        end = check_damage(case, data_dir, half_way, undisturbed, place)
        ends[end] = ends.get(end, 0) + 1
        shutil.rmtree(place)
    with capsys.disabled():
        print(f"\n240 damaged files: {ends}")


def test_every_checkpoint_damaged_is_refused_and_nothing_is_lost(
    data_dir: Path, half_way: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(half_way, run)
    damaged = sorted(run.glob("checkpoints/*/params/d/*"))
    for path in damaged:
        mutate(path, "flipped", np.random.default_rng(0))
    before = sorted(path.relative_to(run) for path in run.rglob("*"))
    with pytest.raises(UserError, match="expected a checkpoint that is as it was written, found 2 damaged"):
        pretrain(small_config(), data_dir, run)
    assert set(before) <= {path.relative_to(run) for path in run.rglob("*")}


def test_a_flipped_bit_in_the_newest_checkpoint_costs_only_the_steps_since_the_one_before(
    data_dir: Path, half_way: Path, undisturbed: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(half_way, run)
    mutate(next(run.glob("checkpoints/6/optimizer/d/*")), "flipped", np.random.default_rng(1))
    assert pretrain(small_config(), data_dir, run) == 0
    said = capsys.readouterr().err
    assert "warning: checkpoint 6 is left out: optimizer/d/" in said
    assert "continuing from step 3" in said
    for ours, expected in zip(jax.tree.leaves(restore_params(run)[1]), undisturbed, strict=True):
        np.testing.assert_array_equal(ours, expected)


def planted(data_dir: Path, to: Path, examples: set[int] | None) -> Path:
    """A copy of the data in which the weights of some training examples (None: all) are NaN."""
    shutil.copytree(data_dir, to)
    manifest = Manifest.load(to)
    features = manifest.layout.features()
    number = 0
    for shard in manifest.splits["train"].shards:
        path = to / shard.file
        arrays = tfrecord.Shard(path, features).read(range(shard.num_examples))
        for row in range(shard.num_examples):
            if examples is None or number in examples:
                arrays["masked_lm_weights"][row] = np.nan
            number += 1
        tfrecord.write_shard(path, [arrays], features)
    return to


def test_a_batch_with_a_nan_is_skipped_and_named(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = small_config(steps=60, eval_every=30, checkpoint_every=30)
    assert pretrain(config, data_dir, tmp_path / "clean") == 0
    poisoned = planted(data_dir, tmp_path / "data", {7})
    assert pretrain(config, poisoned, tmp_path / "run") == 0
    records = metrics_log.read(tmp_path / "run")
    skipped = [record for record in records if record["kind"] == "skipped"]
    assert len(skipped) == 12, "60 steps of 8 rows are 12 epochs over 40 examples"
    shard = Manifest.load(poisoned).splits["train"].shards[0].file
    assert all(f"{shard}:7" in record["records"] for record in skipped)
    assert "skipped, its loss or gradient was not finite" in capsys.readouterr().err
    last = [record for record in records if record["kind"] == "train"][-1]
    assert (last["step"], last["updates"]) == (60, 48)
    for run in ("clean", "run"):
        assert metrics_log.read(tmp_path / run)[-1]["mlm_loss"] is not None
    assert np.isfinite(
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(restore_params(tmp_path / "run")[1])])
    ).all()


def test_one_planted_nan_ends_within_half_a_percent_of_the_clean_loss(data_dir: Path, tmp_path: Path) -> None:
    """A long enough run that one batch of many does not matter."""
    data = toy_dataset.write(tmp_path / "toy", num_train=1600, num_other=100, shards=1)
    config = small_config(steps=200, eval_every=200, checkpoint_every=200, log_every=50)
    losses = {}
    for name, data_of in (("clean", data), ("poisoned", planted(data, tmp_path / "poisoned_data", {123}))):
        assert pretrain(config, data_of, tmp_path / name) == 0
        records = metrics_log.read(tmp_path / name)
        assert sum(record["kind"] == "skipped" for record in records) == (name == "poisoned")
        losses[name] = next(record["mlm_loss"] for record in records if record["kind"] == "validation")
    assert losses["poisoned"] == pytest.approx(losses["clean"], rel=5e-3)


def test_nan_in_every_batch_returns_to_a_checkpoint_then_stops(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    config = small_config(steps=200, max_skips=4, max_returns=2, checkpoint_every=50, eval_every=100)
    poisoned = planted(data_dir, tmp_path / "data", None)
    with pytest.raises(
        UserError, match=r"4 steps in a row had no finite loss or gradient, after 2 rollbacks"
    ) as caught:
        pretrain(config, poisoned, run)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err.count("rolled back to the parameters of step") == 2
    with pytest.raises(UserError, match="4 steps in a row"):  # the same command does not hide it by starting over
        pretrain(config, poisoned, run)


def test_a_return_at_a_step_that_is_saved_anyway_goes_on(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = small_config(steps=8, max_skips=4, max_returns=2, checkpoint_every=2, eval_every=8)
    assert pretrain(config, planted(data_dir, tmp_path / "data", None), tmp_path / "run") == 0
    assert "rolled back to the parameters of step" in capsys.readouterr().err
    assert restore_params(tmp_path / "run")[3] == 8


def test_a_kill_between_commit_and_checksums_leaves_the_checkpoint_before(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    config = small_config(steps=6, keep_checkpoints=1, keep_best=0)
    publish = checksums.publish

    def killed(directory: Path) -> None:
        if directory.name != "3":
            raise KeyboardInterrupt
        publish(directory)

    monkeypatch.setattr(checksums, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, data_dir, run)
    assert recover(run)[0] == 3


def test_a_damaged_record_can_be_left_out(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = tmp_path / "data"
    shutil.copytree(data_dir, data)
    path = data / "toy-train.tfrecord-00001-of-00002"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(tfrecord.CorruptRecordError, match=r"record 1?\d of .*toy-train.tfrecord-00001"):
        pretrain(small_config(), data, tmp_path / "stops")
    assert pretrain(small_config(on_corrupt="skip"), data, tmp_path / "skips") == 0
    assert "of toy-train.tfrecord-00001-of-00002 is damaged; its row has no weight" in capsys.readouterr().err
    corrupt = [record for record in metrics_log.read(tmp_path / "skips") if record["kind"] == "corrupt"]
    assert len(corrupt) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_stops_the_run_with_the_last_good_checkpoint_intact(
    data_dir: Path, undisturbed: list[np.ndarray], tmp_path: Path
) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a small file system")
    try:
        run = place / "run"
        assert pretrain(small_config(steps=3), data_dir, run) == 0
        filler = place / "filler"
        with filler.open("wb") as file:
            free = shutil.disk_usage(place).free
            file.write(b"\0" * (free - 120_000))
        with pytest.raises(UserError, match=r"No space left on device.*the same command again") as caught:
            pretrain(small_config(), data_dir, run)
        assert "\n" not in str(caught.value)
        assert restore_params(run)[3] == 3
        filler.unlink()
        assert pretrain(small_config(), data_dir, run) == 0
        for ours, expected in zip(jax.tree.leaves(restore_params(run)[1]), undisturbed, strict=True):
            np.testing.assert_array_equal(ours, expected)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only mount needs root")
def test_a_read_only_workdir_is_one_clear_line(data_dir: Path, half_way: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(half_way, run)
    bound = subprocess.run(["mount", "--bind", str(run), str(run)], capture_output=True, check=False)
    if bound.returncode:
        pytest.skip("this machine does not allow a read-only mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(run)], check=True)
        with pytest.raises(UserError, match=r"--workdir: cannot write .*Read-only file system"):
            pretrain(small_config(), data_dir, run)
    finally:
        subprocess.run(["umount", "-l", str(run)], check=True)
    assert restore_params(run)[3] == 6


def test_goodput_counts_from_the_first_start(data_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert pretrain(small_config(steps=6), data_dir, run) == 0
    assert pretrain(small_config(), data_dir, run) == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [record for record in records if record["kind"] == "train"]
    useful = [record["useful_s"] for record in train]
    assert useful == sorted(useful)
    assert all(0 < record["goodput"] <= 1 for record in train)
    last, first = train[-1], records[0]
    assert last["goodput"] == pytest.approx(last["useful_s"] / (last["time"] - first["time"]), rel=0.05)
