"""A run of several processes in a bucket, none of which shares a disk with another: killed, moved, continued."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax.runs import metrics_log, object_store
from clinicalbert_jax.runs.checkpoint import restore_params
from tests import toy_dataset
from tests.clinicalbert_jax.runs.bucket_run import BucketRun

moto_server = pytest.importorskip("moto.server", reason="moto is of the test extra")
s3fs = pytest.importorskip("s3fs", reason="s3fs is of the test extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of moto's and s3fs's own libraries


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real S3 server on this machine, with a dataset in it."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    name = f"hospital-{secrets.token_hex(4)}"
    files.mkdir(name)
    files.put(str(toy_dataset.write(tmp_path / "toy", num_train=40)), f"{name}/data", recursive=True)
    yield f"s3://{name}"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def losses(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[np.ndarray]]:
    """The loss of every step, and the parameters at the end, as a machine without a copy finds them in the bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    run = object_store.run(url)
    records = [record for record in metrics_log.read(run) if record["kind"] == "train"]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records], jax.tree.leaves(restore_params(run)[1])


def test_two_machines_then_one_of_them_with_another(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after a checkpoint has arrived, a run continues where the disk of one machine is gone."""
    machines, run = tmp_path / "machines", (f"{bucket}/data", f"{bucket}/run")
    files = s3fs.S3FileSystem(use_listings_cache=False)
    first = BucketRun(machines, *run, 2, "--config.train.steps=100000")
    deadline = time.monotonic() + 300
    while not files.exists(f"{run[1]}/checkpoints/3/checksums.json") and time.monotonic() < deadline:
        time.sleep(0.1)
    first.kill()
    (machines / "1").rename(tmp_path / "gone")
    reached = max(int(path.name) for path in object_store_steps(files, run[1]))
    second = BucketRun(machines, *run, 2, f"--config.train.steps={reached + 3}")
    assert second.codes() == [0, 0], second.said()
    assert f"continuing from step {reached}\n" in second.said()[0]
    assert not list((machines / "1").rglob("checkpoints/*")), "process 0 alone keeps the run"

    alone = BucketRun(tmp_path / "alone", *run[:1], f"{bucket}/alone", 1, f"--config.train.steps={reached + 3}")
    assert alone.codes() == [0], alone.said()
    found, expected = (losses(f"{bucket}/{name}", tmp_path / name, monkeypatch)[0] for name in ("run", "alone"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def object_store_steps(files: "s3fs.S3FileSystem", url: str) -> list[Path]:
    return [Path(name).parent for name in files.glob(f"{url}/checkpoints/*/checksums.json")]


@pytest.mark.soak
@pytest.mark.parametrize("count", [2, 4])
def test_ten_kills(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, count: int
) -> None:
    """Killed at ten random moments, a run ends as the undisturbed one does, with another number of processes too."""
    data, steps, rng, files = (
        f"{bucket}/data",
        "--config.train.steps=20",
        np.random.default_rng(count),
        s3fs.S3FileSystem(),
    )
    undisturbed = BucketRun(tmp_path / "undisturbed", data, f"{bucket}/undisturbed", count, steps)
    started = time.monotonic()
    assert undisturbed.codes() == [0] * count, undisturbed.said()
    duration = time.monotonic() - started
    expected, parameters = losses(f"{bucket}/undisturbed", tmp_path / "reader", monkeypatch)

    kills, path, disturbed, reached = 0, 0, [], []
    while kills < 10 or (disturbed and disturbed[-1] != "done"):
        run = BucketRun(tmp_path / f"machines{path}", data, f"{bucket}/killed{path}", count, steps)
        if kills < 10:
            time.sleep(rng.uniform(0.2, 1.1) * duration)
        else:
            assert run.codes() == [0] * count, run.said()
        if all(process.poll() is not None for process in run.processes):
            assert run.codes() == [0] * count, run.said()
            disturbed.append("done")
            if kills < 10:
                path += 1
            continue
        run.processes[rng.integers(count)].kill()
        time.sleep(rng.uniform(0, 1.0))
        run.kill()
        kills += 1
        disturbed.append("killed")
        reached.append(run.said()[0].count("\nstep "))
        if kills == 5:
            for others in {1, 2, 4} - {count}:
                files.copy(f"{bucket}/killed{path}", f"{bucket}/with{others}", recursive=True)
    for number in range(path + 1):
        found, ours = losses(f"{bucket}/killed{number}", tmp_path / f"reader{number}", monkeypatch)
        assert found == expected
        for one, other in zip(ours, parameters, strict=True):
            np.testing.assert_array_equal(one, other)
    for others in {1, 2, 4} - {count}:
        run = BucketRun(tmp_path / f"with{others}", data, f"{bucket}/with{others}", others, steps)
        assert run.codes() == [0] * others, run.said()
        found, _ = losses(f"{bucket}/with{others}", tmp_path / f"reader_with{others}", monkeypatch)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    with capsys.disabled():
        print(f"\n{count} processes: {kills} kills in {path + 1} runs, after {reached} lines of steps in their starts")
