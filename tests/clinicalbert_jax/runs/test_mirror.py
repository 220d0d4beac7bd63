"""What is sent to a bucket and copied from it: whole checkpoints only, the same on both sides, in spite of faults."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import checksums, lease, object_store

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move(tmp_path, monkeypatch, "first")
    monkeypatch.setattr(object_store, "_RETRY_EVERY_S", 0.02)
    monkeypatch.setattr(object_store, "_FINISH_WITHIN_S", 0.1)


def move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """To another machine, whose disk is empty or as it was left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return f"file://{tmp_path}/store/run"


@contextlib.contextmanager
def opened(url: str) -> Iterator[tuple[Path, object_store.Mirror]]:
    local = object_store.run_directory(url)
    local.mkdir(parents=True, exist_ok=True)
    with object_store.mirrored(url) as mirror:
        yield local, mirror


def save(local: Path, step: int, content: str = "") -> None:
    directory = local / "checkpoints" / str(step)
    (directory / "params").mkdir(parents=True)
    (directory / "params" / f"array{content}").write_text(f"{step} {content}")
    checksums.publish(directory)
    (local / "metrics.jsonl").write_text(f"{step}")


def remove(local: Path, step: int) -> None:
    object_store._remove_checkpoint(local, step)


def contents(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in (lease.FILE_NAME, lease.TOKEN_FILE)
    }


def test_all_that_is_kept_moves_to_another_machine_and_stays(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store" / "run"
    with opened(url) as (local, mirror):
        for step in (3, 6, 9, 12):
            save(local, step)
        mirror.finish()
        remove(local, 6)  # 3 is the best
        mirror.finish()
        assert contents(store) == contents(local)
    move(tmp_path, monkeypatch, "second")
    with opened(url) as (local, mirror):
        assert contents(local) == contents(store)
        save(local, 15)
        remove(local, 9)
        mirror.finish()
        assert {name.split("/")[1] for name in contents(store) if "checkpoints" in name} == {"3", "12", "15"}
        assert contents(store) == contents(local)


def test_checksums_are_sent_last_and_what_is_torn_is_neither_copied_nor_left(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    put = object_store.Bucket.put

    def interrupted(self: object_store.Bucket, name: str, local: Path) -> None:
        sent.append(name)
        if name == f"checkpoints/6/{checksums.FILE_NAME}":
            raise UserError("it was killed")
        put(self, name, local)

    monkeypatch.setattr(object_store.Bucket, "put", interrupted)
    with opened(url) as (local, mirror):
        save(local, 3)
        save(local, 6, "of the first")
        with pytest.raises(UserError, match="it was killed"):
            mirror.finish()
        assert sent[:2] == ["checkpoints/3/params/array", "checkpoints/3/checksums.json"]
    monkeypatch.setattr(object_store.Bucket, "put", put)
    move(tmp_path, monkeypatch, "second")
    with opened(url) as (local, mirror):
        assert {path.name for path in (local / "checkpoints").iterdir()} == {"3"}
        save(local, 6, "of the second")
        mirror.finish()
        assert contents(tmp_path / "store" / "run") == contents(local)
    move(tmp_path, monkeypatch, "first")
    with opened(url) as (local, _):
        assert "checkpoints/6/params/arrayof the first" in contents(local), "it is as far as the bucket"


def test_a_machine_that_was_overtaken_takes_the_state_of_the_bucket(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(url) as (local, mirror):
        save(local, 3)
        mirror.finish()
        save(local, 5, "never sent")
        first = local
    move(tmp_path, monkeypatch, "second")
    with opened(url) as (local, mirror):
        save(local, 6)
        save(local, 7)
        mirror.finish()
    move(tmp_path, monkeypatch, "first")
    with opened(url) as (local, _):
        assert local == first
        assert contents(local) == contents(tmp_path / "store" / "run")


def test_an_absent_bucket_is_waited_for_in_the_background(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_absent, files, tries = True, object_store.Bucket.files, 0

    def sometimes(self: object_store.Bucket) -> list[str]:
        nonlocal tries
        tries += 1
        if is_absent:
            raise UserError(f"{self.url} cannot be reached{' (too slow)' * (tries > 1)}")
        return files(self)

    with opened(url) as (local, mirror):
        monkeypatch.setattr(object_store.Bucket, "files", sometimes)
        save(local, 3)
        mirror.wake()
        assert said(mirror) == f"warning: {url} cannot be reached; training continues, and it is tried again"
        wanted = tries + 3
        while tries < wanted:
            time.sleep(0.01)
        assert mirror.news() is None, "once"
        save(local, 6)
        is_absent = False
        assert said(mirror) == f"{url}: all sent"
        assert contents(Path(url.removeprefix("file://"))) == contents(local)


def said(mirror: object_store.Mirror) -> str | None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if news := mirror.news():
            return news
        time.sleep(0.01)
    return None


def test_checkpoints_that_come_and_go_meanwhile_do_not_end_the_sending(url: str) -> None:
    with opened(url) as (local, mirror):
        for step in range(100):
            save(local, step)
            mirror.wake()
            if step >= 2:
                remove(local, step - 2)
        assert mirror._thread.is_alive()
        mirror.finish()
        assert contents(Path(url.removeprefix("file://"))) == contents(local)


def test_a_run_that_was_taken_over_sends_nothing(url: str, tmp_path: Path) -> None:
    with opened(url) as (local, mirror):
        save(local, 3)
        mirror._lease._is_lost = True
        for change in (mirror.check, mirror.finish):
            with pytest.raises(UserError, match="another run has taken over file://"):
                change()
        assert contents(tmp_path / "store" / "run") == {}
