"""A run of several processes in a bucket, none of which shares a disk with another: killed, moved, continued."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from clinicalbert_jax.runs import checksums, metrics_log, object_store
from clinicalbert_jax.runs.checkpoint import restore_params
from tests import toy_dataset
from tests.clinicalbert_jax.runs.bucket_run import BucketRun

moto_server = pytest.importorskip("moto.server", reason="moto is of the test extra")
s3fs = pytest.importorskip("s3fs", reason="s3fs is of the test extra")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of moto's and s3fs's own libraries
]


Outcome = tuple[list[float], list[np.ndarray]]


def losses(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """The loss of every step, and the parameters at the end, as a machine without a copy finds them in the bucket."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    run = object_store.run(url)
    records = [record for record in metrics_log.read(run) if record["kind"] == "train"]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records], jax.tree.leaves(restore_params(run)[1])


def check_equal(found: Outcome, expected: Outcome) -> None:
    """Every loss, and every parameter at the end, bit for bit."""
    assert found[0] == expected[0]
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(one, other)


def object_store_steps(files: "s3fs.S3FileSystem", url: str) -> list[Path]:
    return [Path(name).parent for name in files.glob(f"{url}/checkpoints/*/checksums.json")]


@pytest.mark.parametrize("count", [2, 4])
def test_ten_kills(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, count: int
) -> None:
    """Killed at ten random moments, a run ends as the undisturbed one does, with another number of processes too."""
    data, steps, rng = f"{bucket}/data", "--config.train.steps=20", np.random.default_rng(count)
    files = s3fs.S3FileSystem(use_listings_cache=False)

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="")

    undisturbed = BucketRun(tmp_path / "undisturbed", data, f"{bucket}/undisturbed", count, steps)
    until_first_step, until_end = undisturbed.wait_for_step(), undisturbed.wait()  # compiling included
    assert undisturbed.codes() == [0] * count, undisturbed.said()
    expected = losses(f"{bucket}/undisturbed", tmp_path / "reader", monkeypatch)
    show(f"{count} processes, undisturbed: first step after {until_first_step:.1f} s, end after {until_end:.1f} s")
    show("| kill | run | process | seconds | started from step | steps logged | whole in the bucket |")

    others = {1, 2, 4} - {count}
    kills, number, copied_at = 0, 0, None
    while True:
        url = f"{bucket}/killed{number}"
        run = BucketRun(tmp_path / f"machines{number}", data, url, count, steps)
        if kills >= 10:
            run.wait()
        elif rng.integers(4):  # somewhere in the steps, saves and uploads that follow
            run.wait_for_step()
            origin = run.origin() or 0
            run.wait_for_step(rng.integers(origin, min(origin + 8, 20)) + 1)
            time.sleep(rng.uniform(0, 0.5))
        else:  # joining, copying, restoring, compiling
            time.sleep(rng.uniform(0, until_first_step / 2))
        if run.has_ended():
            assert run.codes() == [0] * count, run.said()
            check_equal(losses(url, tmp_path / f"reader{number}", monkeypatch), expected)
            if kills >= 10:
                break
            number += 1
            continue
        killed = int(rng.integers(count))
        run.processes[killed].kill()
        seconds = time.monotonic() - run.started
        time.sleep(rng.uniform(0, 1))  # in which the others notice, or continue
        run.kill()
        kills += 1
        whole = check_bucket(url, tmp_path / f"check{kills}", monkeypatch)
        assert not list(tmp_path.glob(f"machines{number}/[1-9]/**/checkpoints/*")), "process 0 alone keeps the run"
        shutil.rmtree(tmp_path / f"machines{number}" / f"{rng.integers(1, count)}")  # the disk of another machine
        show(f"| {kills} | {number} | {killed} | {seconds:.1f} | {run.origin()} | {run.steps()} | {whole or 'none'} |")
        if copied_at is None and whole and whole[-1] < 20:
            copied_at = whole[-1]
            for other in others:
                files.copy(url, f"{bucket}/with{other}", recursive=True)
                files.rm(f"{bucket}/with{other}/lease.json")  # of machines that are not there: two minutes to wait
    for other in others:
        run = BucketRun(tmp_path / f"with{other}", data, f"{bucket}/with{other}", other, steps)
        assert run.codes() == [0] * other, run.said()
        assert run.origin() == copied_at
        found, _ = losses(f"{bucket}/with{other}", tmp_path / f"reader_with{other}", monkeypatch)
        np.testing.assert_allclose(found, expected[0], rtol=1e-5)
        difference = max(abs(one / other - 1) for one, other in zip(found, expected[0], strict=True))
        show(f"continued from step {copied_at} by {other}: losses differ by {difference:.0e} at most")


def check_bucket(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of the newest checkpoints that are complete in the bucket, each of which must be as it was written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    checkpoints = object_store.run(url) / "checkpoints"
    published = [path for path in checkpoints.glob("*") if checksums.is_published(path)]
    assert [checksums.damage(path) for path in published] == [None] * len(published)
    return sorted(int(path.name) for path in published)


LONG = ["--config.train.steps=1000000", "--config.train.log_every=20", "--config.train.eval_every=0"]


def test_an_outage_of_a_minute(
    bucket: str, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The run continues, warns once, and sends the rest when the bucket is back; it keeps its lease."""
    run = BucketRun(
        tmp_path / "machines", f"{bucket}/data", f"{bucket}/run", 2, *LONG, "--config.train.checkpoint_every=40"
    )
    files = s3fs.S3FileSystem(use_listings_cache=False)
    wait_until(lambda: object_store_steps(files, f"{bucket}/run"), run)
    host, port = server.get_host_and_port()
    server.stop()
    stopped, before = time.monotonic(), run.steps()
    time.sleep(70)
    after, said = run.steps(), run.said()[0]
    again = moto_server.ThreadedMotoServer(ip_address=host, port=port)  # the state is of the process
    again.start()
    down, back = time.monotonic() - stopped, time.monotonic()
    try:
        wait_until(lambda: ": all sent\n" in run.said()[0], run)
        caught_up = time.monotonic() - back
        run.processes[1].terminate()
        run.wait()
        assert run.codes() == [75, 75], run.said()
        assert after > before + 40
        assert said.count("; training continues, and it is tried again\n") == 1
        assert run.said()[0].count("warning: ") == 1
        last = check_bucket(f"{bucket}/run", tmp_path / "reader", monkeypatch)[-1]
        assert last == run.steps()
        assert json.loads(files.cat(f"{bucket}/run/lease.json"))["released"]
    finally:
        again.stop()
    with capsys.disabled():
        print(
            f"\n{down:.0f} s without the bucket: steps {before} to {after}, {said.count('warning: ')} warning; all "
            f"sent {caught_up:.0f} s after it was back; stopped at step {last}, which is in the bucket"
        )


def wait_until(condition: Callable[[], object], run: BucketRun, timeout: float = 300) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert not run.has_ended(), run.said()
        assert time.monotonic() < deadline, run.said()
        time.sleep(0.1)


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an emulator of Google's store, with a dataset in it."""
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is of the test extra")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is of the test extra")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="hospital")
    server.start()
    host, port = server._api._httpd.server_address
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # for credentials, which the emulator does not ask for
    gcsfs.GCSFileSystem.clear_instance_cache()
    gcsfs.GCSFileSystem().put(str(toy_dataset.write(tmp_path / "toy", num_train=40)), "hospital/data", recursive=True)
    yield "gs://hospital"
    server.stop()
    gcsfs.GCSFileSystem.clear_instance_cache()


def test_in_a_bucket_of_google_another_machine_takes_over(
    google: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Two processes are killed; after two minutes of silence two on other machines continue their run, bit for bit."""
    data, steps = f"{google}/data", "--config.train.steps=20"
    first = BucketRun(tmp_path / "machines", data, f"{google}/run", 2, steps)
    first.wait_for_step()
    while not check_bucket(f"{google}/run", tmp_path / "check", monkeypatch):
        time.sleep(0.1)
    first.kill()
    second = BucketRun(tmp_path / "others", data, f"{google}/run", 2, steps)
    undisturbed = BucketRun(tmp_path / "undisturbed", data, f"{google}/undisturbed", 2, steps)  # in the meantime
    assert undisturbed.codes() == [0, 0], undisturbed.said()
    expected = losses(f"{google}/undisturbed", tmp_path / "reader", monkeypatch)
    seconds = second.wait_for_step()
    assert second.codes() == [0, 0], second.said()
    assert f"waiting for {google}/run: process {first.processes[0].pid} on host" in second.said()[0]
    assert second.origin()
    check_equal(losses(f"{google}/run", tmp_path / "reader", monkeypatch), expected)
    with capsys.disabled():
        print(f"\ntaken over at step {second.origin()}, first step {seconds:.0f} s after the start")


def test_bad_input_is_one_line_within_a_minute(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data = str(tmp_path / "toy")

    def check(what: str, run: BucketRun, line: str) -> None:
        seconds = run.wait()
        said = [text for text in run.said() if text]
        assert run.codes() == [2] * len(run.processes), said
        assert len(said) == 1, said
        assert said[0].count("\n") == 1, said
        assert line in said[0]
        with capsys.disabled():
            print(f"\n| {what} | {seconds:.1f} | {said[0].strip()} |", end="")
        assert seconds < 60

    def start(name: str, url: str, count: int = 2, **arguments: Any) -> BucketRun:
        return BucketRun(tmp_path / name, data, url, count, *LONG, **arguments)

    check("an absent bucket", start("absent", "s3://absent/run"), "cannot be written (no such bucket)")
    check("a process 1 that never arrives", start("no 1", f"{bucket}/run", present=[0]), "expected 2 processes")
    check("a process 0 that never arrives", start("no 0", f"{bucket}/run", present=[1]), "expected 2 processes")
    holder = start("first", f"{bucket}/run")
    holder.wait_for_step()
    check("two runs on one path", start("second", f"{bucket}/run"), "is in use by another run (process ")
    holder.kill()

    with monkeypatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.delenv(f"AWS_{name}")
        check("no credentials for S3", start("no login", f"{bucket}/run"), "cannot be ")
    check("no credentials for GCS", start("no google", "gs://hospital/run"), "credentials")
    with reader_alone(bucket):
        check("a bucket that refuses writes", start("reader", f"{bucket}/new"), "cannot be written (PermissionError)")


@contextlib.contextmanager
def reader_alone(bucket: str) -> Iterator[None]:
    """Have the server know a user, the one of the environment within this context, who may only read."""
    import boto3
    import moto.settings

    iam = boto3.client("iam")
    iam.create_user(UserName="reader")
    policy = {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"},
    }
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto.settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        yield
