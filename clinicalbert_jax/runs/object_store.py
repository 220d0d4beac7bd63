"""Datasets and runs behind fsspec URLs (gs://, s3://): worked on in a local copy; what a run writes is sent back.

Shards are memory-mapped and checkpoints are committed by renaming, neither of which an object store can do. So a URL
stands for a directory below the local cache. A dataset is copied and checked once. Of a run, the files and the newest
whole checkpoints are copied when it starts, and every checkpoint is sent back once it is whole, its checksums last.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.runs import checksums
from clinicalbert_jax.runs.workdir import CHECKPOINTS

_INDEX_SUFFIX = ".index"
_KEPT = 2  # checkpoints that are copied at a start: the newest, and one in case it is damaged


def is_url(place: str) -> bool:
    """Whether `place` is not a path on this machine."""
    return "://" in place


def dataset(place: str) -> Path:
    """The local directory of a dataset: `place` itself, or a checked copy of the one at that URL."""
    if not is_url(place):
        return Path(place).expanduser()
    store, local = _Store(place), _cache("data", place)
    store.get(MANIFEST_FILE, local)
    manifest = Manifest.load(local)
    wanted = dict(manifest.files)
    for split in manifest.splits.values():
        wanted |= {shard.file: shard.sha256 for shard in split.shards}
        wanted |= {shard.file + _INDEX_SUFFIX: "" for shard in split.shards}  # its shard's checksums vouch for it
    for name, expected in wanted.items():
        if (local / name).exists():
            continue  # renamed to its name only once it was whole
        partial = local / f"{name}.partial"
        store.get(name, local, partial)
        if expected and sha256_of(partial) != expected:
            raise UserError(f"{place}/{name} is not the file that the manifest tells of: restore it, or prepare again")
        partial.rename(local / name)
    return local


def run(place: str) -> tuple[Path, "Mirror | None"]:
    """The local directory of a run, and what keeps the one at a URL like it (None where `place` is a path).

    Where the remote run is further than the local copy, or there is none, it is fetched first.
    """
    if not is_url(place):
        return Path(place).expanduser(), None
    local = _cache("runs", place)
    mirror = Mirror(place, local)
    mirror.fetch()
    return local, mirror


class Mirror:
    """Keeps the run at a URL like its local copy. Raises `UserError` where the store cannot be reached."""

    def __init__(self, url: str, local: Path) -> None:
        self.url, self.local = url, local
        self._store = _Store(url)

    def fetch(self) -> None:
        """Copy the remote run here, if it is further than what is here."""
        remote = self._store.whole_checkpoints()
        here = _whole_checkpoints(self.local)
        if here and (not remote or here[-1] >= remote[-1]):
            return
        newest = {str(step) for step in remote[-_KEPT:]}
        # Checksums come last, so that a copy that was cut short is not taken for a whole checkpoint.
        for name in sorted(self._store.files(), key=lambda name: name.endswith(checksums.FILE_NAME)):
            parts = name.split("/")
            if parts[0] != CHECKPOINTS or parts[1] in newest:
                self._store.get(name, self.local)

    def push(self) -> None:
        """Send what is new: the run's files, then checkpoints that are whole; then drop those that are gone here."""
        present = set(self._store.files())
        here = _whole_checkpoints(self.local)
        files = [path for path in self.local.rglob("*") if path.is_file() and path.name != directory_lock.FILE_NAME]
        names = [path.relative_to(self.local).as_posix() for path in files]
        steps = {str(step) for step in here}
        for name in sorted(names, key=lambda name: name.endswith(checksums.FILE_NAME)):
            parts = name.split("/")
            if parts[0] != CHECKPOINTS or (parts[1] in steps and name not in present):
                self._store.put(name, self.local)
        if here:
            for step in self._store.whole_checkpoints():
                if step < here[-1] and step not in here:
                    self._store.remove(f"{CHECKPOINTS}/{step}")


class _Store:
    """One directory of an object store; whatever goes wrong becomes one line."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            import fsspec

            # Listings are cached by default, and others write to the store.
            self._files, self._root = fsspec.core.url_to_fs(self._url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise UserError(f"{url}: its protocol needs a package that is not installed ({error})") from None

    def files(self) -> list[str]:
        """Names below the directory."""
        try:
            self._files.invalidate_cache()
            return [name[len(self._root) :].lstrip("/") for name in self._files.find(self._root)]
        except FileNotFoundError:
            return []
        except Exception as error:  # every store raises its own kinds
            raise self._unreachable(error) from None

    def whole_checkpoints(self) -> list[int]:
        """Steps of the checkpoints that came to their end."""
        parts = [name.split("/") for name in self.files()]
        return sorted(
            int(part[1])
            for part in parts
            if len(part) == 3 and part[0] == CHECKPOINTS and part[2] == checksums.FILE_NAME
        )

    def get(self, name: str, local: Path, to: Path | None = None) -> None:
        """Copy one file to its place below `local`, or to `to`."""
        path = to or local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._files.get_file(f"{self._root}/{name}", str(path))
        except FileNotFoundError:
            raise UserError(f"expected a file at {self._url}/{name}, found none") from None
        except Exception as error:
            raise self._unreachable(error) from None

    def put(self, name: str, local: Path) -> None:
        """Send one file."""
        try:
            self._files.put_file(str(local / name), f"{self._root}/{name}")
        except Exception as error:
            raise self._unreachable(error) from None

    def remove(self, name: str) -> None:
        """Remove a directory and all below it."""
        try:
            self._files.rm(f"{self._root}/{name}", recursive=True)
        except Exception as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> UserError:
        return UserError(
            f"{self._url} cannot be reached ({type(error).__name__}): check address, network and credentials"
        )


def _cache(kind: str, url: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    directory = base / "clinicalbert_jax" / kind / name
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def _whole_checkpoints(local: Path) -> list[int]:
    found: list[Any] = [path.parent.name for path in (local / CHECKPOINTS).glob(f"*/{checksums.FILE_NAME}")]
    return sorted(int(name) for name in found if name.isdigit())
