"""Datasets and runs behind fsspec URLs (gs://, s3://): used through a local copy; what a run writes is sent back.

Shards are memory-mapped and checkpoints are committed by renaming, neither of which an object store can do. So a URL
stands for a directory in the local cache. A dataset's copy is compared with the store's manifest at every start. Of a
run, the files and the newest whole checkpoints are copied when it starts, and every checkpoint is sent back once it is
whole, its checksums last. Processes wait for each other while they copy.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.data.tfrecord import INDEX_SUFFIX
from clinicalbert_jax.errors import UserError, redacted
from clinicalbert_jax.files import directory_lock, safe_names
from clinicalbert_jax.runs import checksums
from clinicalbert_jax.runs.workdir import CHECKPOINTS

_KEPT = 2  # checkpoints that are copied at a start: the newest, and one in case it is damaged


def is_url(location: str) -> bool:
    """Whether `location` is not a path on this machine."""
    return "://" in location


def dataset(location: str) -> Path:
    """The local directory of a dataset: `location` itself, or a copy of the one at that URL, brought up to date."""
    if not is_url(location):
        return Path(location).expanduser()
    store = _Store(location)
    with _cached("data", location) as local:
        arriving = local / ".arriving"
        shutil.rmtree(arriving, ignore_errors=True)  # of a process that was killed
        store.get(MANIFEST_FILE, arriving)
        manifest = Manifest.load(arriving)
        wanted = dict(manifest.files)
        for split in manifest.splits.values():
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
        for path in local.rglob("*"):  # of an earlier preparation, perhaps with notes that were withdrawn since
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


def run(location: str) -> tuple[Path, "Mirror | None"]:
    """The local directory of a run, and what keeps the one at a URL like it (None where `location` is a path).

    Where the remote run is further than the local copy, or there is none, it is fetched first.
    """
    if not is_url(location):
        return Path(location).expanduser(), None
    store = _Store(location)
    with _cached("runs", location) as local:
        mirror = Mirror(store, local)
        mirror.fetch()
    return local, mirror


class Mirror:
    """Keeps the run in a store like its local copy. Raises `UserError` where the store cannot be reached."""

    def __init__(self, store: "_Store", local: Path) -> None:
        self.url, self.local = store.url, local
        self._store = store

    def fetch(self) -> None:
        """Copy the remote run here, if it is further than what is here."""
        names = self._store.files()
        remote, here = _whole_checkpoints(names), _whole_checkpoints(self._files())
        if here and (not remote or here[-1] >= remote[-1]):
            return
        newest = {str(step) for step in remote[-_KEPT:]}
        for name in _checksums_last(names):  # a copy that was interrupted is not taken for a whole checkpoint
            if not name.startswith(f"{CHECKPOINTS}/") or name.split("/")[1] in newest:
                self._store.get(name, self.local)

    def push(self) -> None:
        """Send what is new: the run's files, then whole checkpoints; then remove checkpoints that are gone here."""
        present, names = set(self._store.files()), self._files()
        here = _whole_checkpoints(names)
        steps = {str(step) for step in here}
        for name in _checksums_last(names):
            if not name.startswith(f"{CHECKPOINTS}/") or (name.split("/")[1] in steps and name not in present):
                self._store.put(name, self.local)
        if here:
            for step in _whole_checkpoints(list(present)):
                if step < here[-1] and step not in here:
                    self._store.remove(f"{CHECKPOINTS}/{step}")

    def _files(self) -> list[str]:
        """Names of the run's files here; links are none of them, nor locks and what another command writes beside."""
        paths = (path for path in self.local.rglob("*") if path.is_file() and not path.is_symlink())
        names = (path.relative_to(self.local).as_posix() for path in paths)
        return [name for name in names if not name.startswith(".")]


class _Store:
    """One directory of an object store; every failure becomes a `UserError` of one line."""

    def __init__(self, url: str) -> None:
        self.url = redacted(url).rstrip("/")
        try:
            import fsspec

            # Listings are cached by default, and others write to the store.
            self._files, root = fsspec.core.url_to_fs(url.rstrip("/"), use_listings_cache=False)
            self._root = root.rstrip("/")
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{self.url}: its protocol is unknown or needs a package that is not installed ({type(error).__name__})"
            ) from None

    def files(self) -> list[str]:
        """Names of the files below the directory; raises `UserError` where one would lead outside it."""
        try:
            self._files.invalidate_cache()
            found = [name.removeprefix(f"{self._root}/") for name in self._files.find(self._root)]
        except FileNotFoundError:
            return []
        except Exception as error:  # every store raises its own kinds
            raise self._unreachable(error) from None
        # Consoles make a folder as an empty object whose name ends in '/'.
        return [safe_names.check(name, f"the listing of {self.url}") for name in found if not name.endswith("/")]

    def get(self, name: str, local: Path) -> None:
        """Copy one file to `local / name`."""
        path = safe_names.without_links(local, safe_names.check(name, self.url))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._files.get_file(f"{self._root}/{name}", str(path))
        except FileNotFoundError:
            raise UserError(f"expected a file at {self.url}/{name}, found none") from None
        except Exception as error:
            raise self._unreachable(error) from None

    def put(self, name: str, local: Path) -> None:
        """Send one file."""
        try:
            self._files.put_file(str(local / name), f"{self._root}/{name}")
        except Exception as error:
            raise self._unreachable(error) from None

    def remove(self, name: str) -> None:
        """Remove a directory and all below it. By single files: `rm` takes brackets in a path for a pattern."""
        try:
            for path in self._files.find(f"{self._root}/{name}"):
                self._files.rm_file(path)
        except Exception as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> UserError:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return UserError(f"no space left to copy {self.url}: free space, or set XDG_CACHE_HOME to a larger disk")
        return UserError(
            f"{self.url} cannot be reached ({type(error).__name__}): check address, network and credentials"
        )


@contextlib.contextmanager
def _cached(kind: str, url: str) -> Iterator[Path]:
    """The local copy's directory, which other processes wait for meanwhile; named without the URL's credentials."""
    url = redacted(url).rstrip("/")
    local = _cache(kind) / hashlib.sha256(url.encode()).hexdigest()[:16]
    with directory_lock.held(local, url, wait=True, beside=True):
        local.mkdir(mode=0o700, exist_ok=True)
        yield local


def _cache(kind: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "clinicalbert_jax" / kind
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _checksums_last(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name.endswith(checksums.FILE_NAME))


def _whole_checkpoints(names: list[str]) -> list[int]:
    """Steps of the checkpoints among the files of a run that came to their end."""
    parts = [name.split("/") for name in names if name.startswith(f"{CHECKPOINTS}/")]
    return sorted(
        int(part[1])
        for part in parts
        if len(part) == 3 and part[1].isascii() and part[1].isdigit() and part[2] == checksums.FILE_NAME
    )
