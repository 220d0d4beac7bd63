"""The lease on a run in a bucket: one run at a time, by conditional writes, in a store with them and one without."""

import json
import socket
import threading
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import lease
from clinicalbert_jax.runs.bucket import Bucket, Found
from clinicalbert_jax.training import stop_request

pytestmark = pytest.mark.fast


class ConditionalBucket(Bucket):
    """A store in memory that refuses a write to another version than the one named, with a clock of its own."""

    def __init__(self) -> None:
        self.url, self.versions, self.now, self.written, self.reachable = "mem://run", [], 0.0, 0.0, True

    def look(self, name: str) -> Found | None:
        self._reach()
        if not self.versions:
            return None
        return Found(self.versions[-1], str(len(self.versions)), self.now - self.written)

    def replace(self, name: str, content: bytes, version: str | None) -> str | None:
        self._reach()
        if (version or "0") != str(len(self.versions)):
            return None
        self.versions.append(content)
        self.written = self.now
        return str(len(self.versions))

    def _reach(self) -> None:
        if not self.reachable:
            raise UserError("mem://run cannot be reached")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_RENEW_EVERY_S", 0.02)
    monkeypatch.setattr(lease, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(lease, "_SILENCE_S", 0.3)


def machine(tmp_path: Path, name: str) -> Path:
    (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / name


def killed(bucket: Bucket, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the lease and leave it behind."""
    with monkeypatch.context() as patch:
        patch.setattr(lease.Lease, "_keep_renewing", lambda self: None)
        patch.setattr(lease.Lease, "release", lambda self: None)
        with lease.held(bucket, local):
            pass


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    bucket = ConditionalBucket()
    with lease.held(bucket, machine(tmp_path, "a")) as first:
        with (
            pytest.raises(
                UserError, match=rf"mem://run is in use by another run \(process \d+ on host {socket.gethostname()}\)"
            ),
            lease.held(bucket, machine(tmp_path, "b")),
        ):
            pass
        first.check()
    with lease.held(bucket, machine(tmp_path, "b")):
        pass


def test_two_that_start_at_once_are_one(tmp_path: Path) -> None:
    bucket, held, refused, done = ConditionalBucket(), [], [], threading.Barrier(4)

    def start(name: str) -> None:
        try:
            with lease.held(bucket, machine(tmp_path, name)):
                held.append(name)
                done.wait(10)
        except UserError:
            refused.append(name)
            done.wait(10)

    threads = [threading.Thread(target=start, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 3)


def test_the_same_run_has_it_back_at_once_and_another_after_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    bucket, waits = ConditionalBucket(), []
    wait = lease.Lease._wait_for_silence
    monkeypatch.setattr(lease.Lease, "_wait_for_silence", lambda *a: (waits.append(1), wait(*a)))
    killed(bucket, machine(tmp_path, "a"), monkeypatch)
    killed(bucket, machine(tmp_path, "a"), monkeypatch)
    assert not waits
    with lease.held(bucket, machine(tmp_path, "b")):
        assert waits == [1]
    assert "waiting for mem://run: process" in capsys.readouterr().err
    killed(bucket, machine(tmp_path, "a"), monkeypatch)
    bucket.now = 1000.0  # by the store's clock
    with lease.held(bucket, machine(tmp_path, "b")):
        assert "waiting" not in capsys.readouterr().err


def test_a_copy_of_a_disk_on_another_host_is_not_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = ConditionalBucket()
    with lease.held(bucket, machine(tmp_path, "a")):
        monkeypatch.setattr(lease.socket, "gethostname", lambda: "another")
        with pytest.raises(UserError, match="in use by another run"), lease.held(bucket, machine(tmp_path, "a")):
            pass


def test_who_was_out_of_reach_for_too_long_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = ConditionalBucket()
    with lease.held(bucket, machine(tmp_path, "a")) as first:
        bucket.reachable = False
        with pytest.raises(UserError, match="cannot be reached"):
            monkeypatch.setattr(first, "_renewed", -1e9)
            first.check()
        with monkeypatch.context() as patch:
            patch.setattr(lease.Lease, "_renew", lambda self: None)  # of the first: it cannot reach the bucket
            bucket.reachable, bucket.now = True, 1000.0
            killed(bucket, machine(tmp_path, "b"), monkeypatch)
        with pytest.raises(UserError, match="another run has taken over mem://run"):
            first._renew()
            first.check()
        assert json.loads(bucket.versions[-1])["token"] == (tmp_path / "b" / lease.TOKEN_FILE).read_text()
    assert json.loads(bucket.versions[-1])["released"] is False, "it does not release what is another's"


def test_an_answer_that_was_lost_is_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = ConditionalBucket()
    with lease.held(bucket, machine(tmp_path, "a")) as first:
        replace = bucket.replace
        with monkeypatch.context() as patch:
            patch.setattr(bucket, "replace", lambda *a: (replace(*a), None)[1])
            first._renew()
        first._renew()
        first.check()


def test_a_process_that_ends_at_once_leaves_it_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, ended, answer = ConditionalBucket(), [], threading.Event()
    monkeypatch.setattr(stop_request.os, "_exit", ended.append)
    with lease.held(bucket, machine(tmp_path, "a")):
        stop_request.end_process(75)
        assert json.loads(bucket.versions[-1])["released"] is True
    monkeypatch.setattr(stop_request, "_RELEASE_S", 0.05)
    with lease.held(bucket, machine(tmp_path, "b")):
        monkeypatch.setattr(bucket, "replace", lambda *_: answer.wait(10))
        stop_request.end_process(2)
        assert ended == [75, 2], "a bucket that does not answer is not waited for"
        answer.set()


def test_a_store_without_conditional_writes_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    class Ignoring(ConditionalBucket):
        def replace(self, name: str, content: bytes, version: str | None) -> str | None:
            return super().replace(name, content, str(len(self.versions)))

    for bucket in (Ignoring(), Bucket(f"file://{tmp_path}/run")):
        with lease.held(bucket, machine(tmp_path, "a")):
            pass
        assert "is in a store without conditional writes: make sure" in capsys.readouterr().err
