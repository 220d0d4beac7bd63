"""Datasets and runs behind fsspec URLs (gs://, s3://): used through a local copy; what a run writes is sent back.

Shards are memory-mapped and checkpoints are committed by renaming, neither of which an object store can do. So a URL
stands for a directory in the local cache. A dataset is copied once to each machine, and compared with the store's
manifest at every start. A run is copied to the machine of process 0 alone, which holds the run's lease and sends every
checkpoint once it is whole, its checksums last.
"""

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.data.tfrecord import INDEX_SUFFIX
from clinicalbert_jax.errors import UserError, redacted
from clinicalbert_jax.files import directory_lock, patterns, safe_names
from clinicalbert_jax.runs import checksums, lease
from clinicalbert_jax.runs.bucket import Bucket
from clinicalbert_jax.runs.workdir import CHECKPOINTS

_NEWEST = 2  # checkpoints that are copied to read a run: the newest, and one in case it is damaged
_RETRY_EVERY_S = 10.0
_FINISH_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0


def is_url(location: str) -> bool:
    """Whether `location` is not a path on this machine."""
    return "://" in location


def dataset(location: str, with_shards: bool = True) -> Path:
    """The local directory of a dataset: `location` itself, or a copy of the one at that URL, brought up to date.

    Without its shards, which may be many, the copy is enough to check the dataset against a config.
    """
    if not is_url(location):
        return patterns.expanded(location)
    store = Bucket(location)
    with _cached("data", location) as local:
        arriving = local / ".arriving"
        shutil.rmtree(arriving, ignore_errors=True)  # of a process that was killed
        store.get(MANIFEST_FILE, arriving)
        manifest = Manifest.load(arriving)
        wanted = dict(manifest.files)
        for split in manifest.splits.values() if with_shards else ():
            wanted |= {shard.file: shard.sha256 for shard in split.shards}
        for name, expected in wanted.items():
            path = safe_names.without_links(local, name)
            is_shard = name not in manifest.files
            index_name = name + INDEX_SUFFIX
            if (
                path.is_file()
                and sha256_of(path) == expected
                and (not is_shard or safe_names.without_links(local, index_name).is_file())
            ):
                continue
            store.get(name, arriving)
            if sha256_of(arriving / name) != expected:
                raise UserError(
                    f"{store.url}/{name} is not the file that its manifest describes: restore it, or prepare the data "
                    "again"
                )
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_shard:  # an index has no hash of its own: it is fetched with its shard, and in place before it
                store.get(index_name, arriving)
                (arriving / index_name).replace(local / index_name)
            (arriving / name).replace(path)
        (arriving / MANIFEST_FILE).replace(local / MANIFEST_FILE)
        shutil.rmtree(arriving)
        kept = {MANIFEST_FILE, *wanted, *(name + INDEX_SUFFIX for name in wanted)}
        for path in (
            local.rglob("*") if with_shards else ()
        ):  # of an earlier preparation, perhaps with notes that were withdrawn since
            if not path.is_dir() and path.relative_to(local).as_posix() not in kept:
                path.unlink()
    return local


def clear_datasets() -> tuple[int, int]:
    """Remove the local copies of all datasets; returns how many there were, and their size in bytes."""
    count = size = 0
    for local in sorted(_cache("data").iterdir()):
        if local.is_dir() and not local.is_symlink():
            with directory_lock.held(local, str(local), beside=True):
                if not local.is_dir():  # another process has removed it since
                    continue
                size += sum(path.stat().st_size for path in local.rglob("*") if path.is_file())
                count += 1
                shutil.rmtree(local)
    return count, size


def run(location: str) -> Path:
    """The local directory of a run to read: `location` itself, or a copy of the newest checkpoints at that URL."""
    if not is_url(location):
        return patterns.expanded(location)
    bucket = Bucket(location)
    with _cached("runs", location) as local:
        _fetch(bucket, local, _NEWEST)
    return local


def run_directory(location: str) -> Path:
    """The local directory in which a run works: `location` itself, or that of its copy, which may not exist yet."""
    return _local("runs", location) if is_url(location) else patterns.expanded(location)


@contextlib.contextmanager
def mirrored(location: str) -> Iterator["Mirror"]:
    """Hold the run at a URL against every other run, and keep it like `run_directory`, which the caller has locked.

    First the copy is brought up to date. Raises `UserError` where another run holds it, or it cannot be written to.
    """
    bucket = Bucket(location)
    local = run_directory(location)
    with lease.held(bucket, local) as ours:
        with _cached("runs", location):
            _fetch(bucket, local)
        mirror = Mirror(bucket, local, ours)
        try:
            yield mirror
        finally:
            mirror.stop()


class Mirror:
    """Sends the run in a local directory to its bucket, in a thread of its own: a slow or absent bucket costs no steps.

    Checkpoints are sent once they are whole, their checksums last, and removed when they are gone here. Only the holder
    of the lease has one.
    """

    def __init__(self, bucket: Bucket, local: Path, ours: lease.Lease) -> None:
        self.url = bucket.url
        self._bucket, self._local, self._lease = bucket, local, ours
        self._sent: dict[int, bytes] = {}  # checksums of the checkpoints that are known to be in the bucket
        self._wake, self._ended = threading.Event(), threading.Event()
        self._failure: str | None = None
        self._said: str | None = None
        self._thread = threading.Thread(target=self._keep_sending, daemon=True, name="mirror")
        self._thread.start()

    def wake(self) -> None:
        """Have what is new sent in the background."""
        self._wake.set()

    def check(self) -> None:
        """Raise `UserError` where another run has taken the bucket over."""
        self._lease.check_not_lost()

    def news(self) -> str | None:
        """A line on whether the bucket can be written to, where that has changed since the line before."""
        failure = self._failure
        if (failure is None) == (self._said is None):  # the attempts of one outage fail in several ways
            return None
        self._said = failure
        return f"warning: {failure}; training continues, and it is tried again" if failure else f"{self.url}: all sent"

    def finish(self) -> None:
        """Return once everything is in the bucket; raises `UserError` after a minute of failures."""
        self.stop()
        started = time.monotonic()
        while True:
            try:
                self._send()
                return
            except UserError:
                self._lease.check_not_lost()
                if time.monotonic() - started > _FINISH_WITHIN_S:
                    raise
                time.sleep(min(_RETRY_EVERY_S, _FINISH_WITHIN_S))

    def stop(self) -> None:
        """End the thread, after the file that it is sending."""
        self._ended.set()
        self._wake.set()
        self._thread.join(_STOP_WITHIN_S)

    def _keep_sending(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._ended.is_set():
                return
            try:
                self._send(self._ended)
                self._failure = None
            except (UserError, OSError) as error:
                here = f"{self._local} cannot be read ({type(error).__name__})"
                self._failure = str(error) if isinstance(error, UserError) else here
                self._ended.wait(_RETRY_EVERY_S)
                self._wake.set()

    def _send(self, ended: threading.Event | None = None) -> None:
        """Send what is new, and remove what is gone; stop between two files once `ended` is set."""
        self._lease.check()
        names, present = _files(self._local), self._bucket.files()
        for name in names:
            if not name.startswith(f"{CHECKPOINTS}/"):
                try:  # a log grows meanwhile: what is sent is the file as it is now
                    content = (self._local / name).read_bytes()
                except FileNotFoundError:  # removed meanwhile
                    continue
                self._bucket.write(name, content)
        here, there = _whole_checkpoints(names), _numbered(present)
        for step in here:
            if not self._send_checkpoint(step, present, ended):
                return
        for step in there - set(here):
            if here and step < here[-1]:
                self._lease.check()
                self._bucket.remove(f"{CHECKPOINTS}/{step}")

    def _send_checkpoint(self, step: int, present: list[str], ended: threading.Event | None) -> bool:
        """Send a checkpoint unless it is there; whether to continue with the next one."""
        directory = f"{CHECKPOINTS}/{step}"
        sums = f"{directory}/{checksums.FILE_NAME}"
        try:
            content = (self._local / sums).read_bytes()
            if step not in self._sent and sums in present:
                self._sent[step] = self._bucket.read(sums)
            if self._sent.get(step) == content:
                return True
            if any(name.startswith(f"{directory}/") for name in present):  # torn, or of another attempt at these steps
                if sums in present:
                    self._bucket.remove(sums)
                self._bucket.remove(directory)
            for name in _checksums_last(_files(self._local, directory)):
                if ended is not None and ended.is_set():
                    return False
                self._lease.check()
                self._bucket.put(name, self._local)
        except FileNotFoundError:  # removed here meanwhile: a newer one took its position
            return True
        self._sent[step] = content
        return True


def _fetch(bucket: Bucket, local: Path, newest: int | None = None) -> None:
    """Make the checkpoints in `local` those of the bucket (or the `newest` alone), unless those here are further.

    A checkpoint is the same where its checksums are.
    """
    names = bucket.files()
    remote, here = _whole_checkpoints(names), _whole_checkpoints(_files(local))
    is_further_here = bool(here) and (not remote or here[-1] >= remote[-1])
    if newest is not None and is_further_here:
        return
    if not is_further_here and newest is None:
        for step in _numbered(_files(local)) - set(remote):  # of steps that another machine has repeated since
            _remove_checkpoint(local, step)
    for step in remote[-newest:] if newest else remote:
        directory = f"{CHECKPOINTS}/{step}"
        sums = f"{directory}/{checksums.FILE_NAME}"
        if (local / sums).is_file() and (is_further_here or (local / sums).read_bytes() == bucket.read(sums)):
            continue
        _remove_checkpoint(local, step)
        for name in _checksums_last([name for name in names if name.startswith(f"{directory}/")]):
            bucket.get(name, local)
    if not is_further_here:
        for name in names:
            if not name.startswith(f"{CHECKPOINTS}/") and name != lease.FILE_NAME:
                bucket.get(name, local)


def _remove_checkpoint(local: Path, step: int) -> None:
    """Remove one here, its checksums first, so that what is left of it after a kill is not taken for whole."""
    directory = safe_names.without_links(local, f"{CHECKPOINTS}/{step}")
    (directory / checksums.FILE_NAME).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _cached(kind: str, url: str) -> Iterator[Path]:
    """The local copy's directory, which other processes wait for meanwhile."""
    local = _local(kind, url)
    with directory_lock.held(local, redacted(url).rstrip("/"), wait=True, beside=True):
        local.mkdir(mode=0o700, exist_ok=True)
        yield local


def _local(kind: str, url: str) -> Path:
    """Where the local copy of a URL is, named without its credentials."""
    return _cache(kind) / hashlib.sha256(redacted(url).rstrip("/").encode()).hexdigest()[:16]


def _cache(kind: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "clinicalbert_jax" / kind
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _files(local: Path, below: str = ".") -> list[str]:
    """Names of the run's files here; links are none of them, nor locks and what another command writes beside."""
    walk = os.walk(local / below, onerror=_unless_gone)  # Path.rglob fails where a directory is removed meanwhile
    paths = (Path(directory, name) for directory, _, names in walk for name in names)
    found = (path.relative_to(local).as_posix() for path in paths if path.is_file() and not path.is_symlink())
    return [name for name in found if not name.startswith(".") and not name.endswith(".partial")]


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _checksums_last(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name.endswith(checksums.FILE_NAME))


def _whole_checkpoints(names: list[str]) -> list[int]:
    """Steps of the checkpoints among the files of a run that came to their end, ascending."""
    return sorted(step for step in _numbered(names) if f"{CHECKPOINTS}/{step}/{checksums.FILE_NAME}" in names)


def _numbered(names: list[str]) -> set[int]:
    """Steps of the checkpoints among the files of a run, whole or not."""
    parts = [name.split("/") for name in names if name.startswith(f"{CHECKPOINTS}/")]
    return {int(part[1]) for part in parts if len(part) > 2 and part[1].isascii() and part[1].isdigit()}
