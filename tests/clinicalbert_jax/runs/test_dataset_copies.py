"""Local copies of a dataset at a URL: never stale, one process at a time, without a trace of credentials."""

import shutil
import string
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import fsspec
import pytest

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.errors import UserError, redacted
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.runs import bucket, clear_copies, object_store
from tests import toy_dataset

pytestmark = pytest.mark.fast


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return toy_dataset.write(tmp_path / "store", num_train=30, num_other=4)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_copy_follows_the_store(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{store}"
    local = object_store.dataset(url)
    assert contents(local) == contents(store)

    fetched: list[str] = []
    get = bucket.Bucket.get
    monkeypatch.setattr(bucket.Bucket, "get", lambda *a: (fetched.append(a[1]), get(*a)))
    assert object_store.dataset(url) == local
    assert fetched == ["manifest.json"]

    # Another preparation, whose files have the same names: a shard fewer in train, another in validation.
    other = toy_dataset.write(tmp_path / "other", num_train=20, num_other=4, seed=1)
    for path in store.iterdir():
        path.unlink()
    for path in other.iterdir():
        path.rename(store / path.name)
    object_store.dataset(url)
    assert contents(local) == contents(store)
    assert "vocab.txt" not in fetched, "it is the same"
    assert Dataset(local, "train").num_examples == 20


@pytest.mark.parametrize("suffix", ["", ".index"])
def test_a_copy_that_was_damaged_or_interrupted_is_completed(store: Path, suffix: str) -> None:
    local = object_store.dataset(f"file://{store}")
    shard = local / f"toy-train.tfrecord-00001-of-00003{suffix}"
    if suffix:
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    (local / ".arriving").mkdir()
    (local / ".arriving" / "toy-train.tfrecord-00000-of-00003").write_text("of a process that was killed")
    (local / "toy-train.tfrecord-00009-of-00010").write_text("of an earlier preparation")
    object_store.dataset(f"file://{store}")
    assert contents(local) == contents(store)


def test_a_shard_and_its_index_are_of_one_preparation(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed between the two, and then the store is put back."""
    url, before = f"file://{store}", contents(store)
    local = object_store.dataset(url)
    other = toy_dataset.write(tmp_path / "other", num_train=30, num_other=4, seed=1)
    for path in other.iterdir():
        path.rename(store / path.name)
    replace = Path.replace

    def killed_before_the_shard(path: Path, target: Path) -> Path:
        if "-train" in path.name and not path.name.endswith(".index"):
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed_before_the_shard)
    with pytest.raises(KeyboardInterrupt):
        object_store.dataset(url)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, content in before.items():
        (store / name).write_bytes(content)
    assert object_store.dataset(url) == local
    assert contents(local) == before


def test_a_second_process_waits(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads here: the kernel's locks are between openings of a file, so they wait as processes do."""
    lines: list[str] = []
    get, barrier = bucket.Bucket.get, threading.Barrier(2)

    def logged(store: bucket.Bucket, name: str, directory: Path) -> None:
        lines.append(f"{threading.current_thread().name} {name}")
        get(store, name, directory)

    def copy() -> None:
        barrier.wait()
        object_store.dataset(f"file://{store}")

    monkeypatch.setattr(bucket.Bucket, "get", logged)
    threads = [threading.Thread(target=copy, name=name) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    first, second = lines[0][0], lines[-1][0]
    assert first != second
    assert lines[-1] == f"{second} manifest.json", "the second finds everything copied"
    assert {line[0] for line in lines[:-1]} == {first}


def test_a_command_clears_the_copies(store: Path, cache: Path, capsys: pytest.CaptureFixture) -> None:
    local = object_store.dataset(f"file://{store}")
    run = object_store.run(f"file://{store.parent}/run")
    clear_copies.main(clear_copies.Options())
    assert capsys.readouterr().out.startswith("removed 1 local copies of datasets (")
    assert not local.exists()
    assert run.exists()
    assert contents(object_store.dataset(f"file://{store}")) == contents(store)


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:SECRET@bucket/data",
        "s3://SECRET@bucket/data",
        "https://KEY:SEC%40RET@host:8080/data",
        "https://me:SECRET/more@host/data",
        "https://me:SECRET?more@host/data",
        "https://me:SECRET@more@host/data",
        "https://host/data?token=SECRET",
        "https://host:80/data?se=2026-01-01T00:00:00Z&me=a@b.org&sig=SECRET",
        "https://host/data#access_token=SECRET",
        "gs://a/b?x=SECRET,gs://c/d?x=SECRET",
    ],
)
def test_credentials_are_in_no_message(url: str) -> None:
    message = str(UserError(f"{url}: expected a file at {url}, found none ({url}), see {url}/manifest.json"))
    for secret in ("SECRET", "SEC%40RET", "more@", "KEY", "sig="):
        assert secret not in message
    assert ": expected a file at " in message
    assert redacted(message) == message


def test_a_run_records_no_credentials() -> None:
    with pytest.raises(UserError, match="init_from: expected a URL without credentials") as caught:
        Config(init_from="s3://KEY:SECRET@bucket/run")
    assert "SECRET" not in str(caught.value)
    assert Config(init_from="s3://bucket/run").init_from == "s3://bucket/run"


@pytest.mark.parametrize(
    "text", ["gs://bucket/a@b/c: found none", "https://host:80/a, b", "a@b.org or x?y", "hf://bert@REV"]
)
def test_what_holds_no_credentials_stays(text: str) -> None:
    assert redacted(text) == text


def test_credentials_are_in_no_name_of_a_file(store: Path, cache: Path, capsys: pytest.CaptureFixture) -> None:
    class Store(type(fsspec.filesystem("file"))):  # type: ignore[misc]
        protocol = "secretive"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.partition("@")[2].partition("?")[0] if "://" in path else path

    fsspec.register_implementation("secretive", Store, clobber=True)
    urls = [f"secretive://KEY:{secret}@{store}?token={secret}" for secret in ("SECRET", "SECRET2")]
    (first, second) = map(object_store.dataset, urls)
    assert first == second
    assert contents(first) == contents(store)
    (store / "vocab.txt").unlink()
    (first / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"expected a file at secretive://.*/store/vocab.txt, found none$") as caught:
        object_store.dataset(urls[0])
    printed = str(caught.value) + "".join(capsys.readouterr()) + "".join(map(str, cache.rglob("*")))
    assert "SECRET" not in printed
    assert "KEY" not in printed


def test_the_name_of_a_run_in_a_store_is_no_pattern(tmp_path: Path) -> None:
    """What was removed here is removed there, and in no run whose name the first one's would match."""
    names = [f"run{character}x" for character in string.printable if character != "/"]
    for number, name in enumerate([*names, "[ab]"]):
        url = f"memory://{tmp_path}/{number}"
        filesystem, root = fsspec.core.url_to_fs(url)
        for run in {name, "runax", "a", "b"}:
            filesystem.pipe({f"{root}/{run}/checkpoints/{step}/checksums.json": b"{}" for step in (1, 2)})
        local = object_store.run_directory(f"{url}/{name}")
        local.mkdir(parents=True)
        with object_store.mirrored(f"{url}/{name}") as mirror:
            shutil.rmtree(local / "checkpoints" / "1")
            for beside in (".lock", ".report.html.lock", ".partial.report.html", "metrics.jsonl"):
                (local / beside).touch()
            mirror.finish()
        left = {path.removeprefix(f"{root}/") for path in filesystem.find(root)}
        others = {f"{run}/checkpoints/{step}/checksums.json" for run in {"runax", "a", "b"} - {name} for step in (1, 2)}
        kept = {f"{name}/{file}" for file in ("metrics.jsonl", "lease.json", "checkpoints/2/checksums.json")}
        assert left == {*kept, *others}


def test_two_processes_clear_the_copies(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second has listed the copies before the first removes them."""
    object_store.dataset(f"file://{store}")
    held = directory_lock.held

    def after_the_other(local: Path, *arguments: Any, **options: Any) -> AbstractContextManager[None]:
        shutil.rmtree(local, ignore_errors=True)
        return held(local, *arguments, **options)

    monkeypatch.setattr(directory_lock, "held", after_the_other)
    assert object_store.clear_datasets() == (0, 0)


def test_a_copy_in_use_is_not_cleared(store: Path) -> None:
    local = object_store.dataset(f"file://{store}")
    with (
        directory_lock.held(local, "copying", beside=True),
        pytest.raises(UserError, match="in use by another process"),
    ):
        object_store.clear_datasets()
    assert contents(local) == contents(store)
