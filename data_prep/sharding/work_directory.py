"""The working directory of a preparation: everything unfinished lies in it, readable by its owner alone.

It belongs to the run whose fingerprint it holds. A run that was killed goes on from there; one with other settings is
refused as long as something finished lies there, and starts afresh where nothing does.
"""

import fcntl
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from data_prep.reading.spill import Spilled

NAME = "_work"

Fingerprint = dict[str, Any]  # everything that the shards depend on, by name


@dataclass(frozen=True)
class Work:
    """The working directory and what lies where in it."""

    directory: Path

    @property
    def spill(self) -> Path:
        """Where the notes of each bucket lie."""
        return self.directory / "spill"

    @property
    def shards(self) -> Path:
        """Where finished shards lie."""
        return self.directory / "shards"

    @property
    def tokenizer(self) -> Path:
        """Where the dataset's tokenizer lies, once it is known."""
        return self.directory / "tokenizer"

    @property
    def dataset(self) -> Path:
        """The dataset's directory while it is put together."""
        return self.directory / "dataset"

    @property
    def _fingerprint_file(self) -> Path:
        return self.directory / "fingerprint.json"

    @property
    def _spilled_file(self) -> Path:
        return self.directory / "spill.json"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Make the directory and hold it against a second run: two would append to the same files."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            lock = (self.directory / "lock").open("w")
        except OSError as error:
            place = self.directory.parent
            raise UserError(f"--output_dir: {place} cannot be written to: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"--output_dir: another run is at work in {self.directory}: wait for it, or give another "
                    "--output_dir"
                ) from None
            except OSError:  # a file system without locks
                pass
            yield

    def begin(self, fingerprint: Fingerprint) -> None:
        """Go on with the run begun here, or begin one; raises `UserError` where another's work would be lost."""
        begun = read_json(self._fingerprint_file)
        if begun != fingerprint:
            if begun is not None and (self._spilled_file.exists() or any(self.shards.glob("*.done.json"))):
                refuse_other(self.directory, begun, fingerprint)
            for directory in (self.spill, self.shards, self.tokenizer, self.dataset):
                shutil.rmtree(directory, ignore_errors=True)
            self._spilled_file.unlink(missing_ok=True)
            write_json(self._fingerprint_file, fingerprint)
        for directory in (self.spill, self.shards):
            directory.mkdir(exist_ok=True)

    def tidy_up(self, fingerprint: Fingerprint) -> None:
        """Remove what a run that was killed in its last moment left of itself."""
        if self.directory.exists():
            with self.alone():
                if read_json(self._fingerprint_file) in (None, fingerprint):
                    shutil.rmtree(self.directory)

    def read_spilled(self) -> Spilled | None:
        """What stage 1 did; None where it is not finished."""
        if (done := read_json(self._spilled_file)) is None:
            return None
        kept = {split: Counter(counts) for split, counts in done["kept"].items()}
        return Spilled(**done | {"drops": Counter(done["drops"]), "kept": kept})

    def write_spilled(self, spilled: Spilled) -> None:
        """Say that stage 1 is finished."""
        write_json(self._spilled_file, vars(spilled))


def refuse_other(place: Path, there: Fingerprint, asked: Fingerprint) -> None:
    """Raise `UserError` if what lies at `place` was made with other settings."""
    for name in sorted({*there, *asked}):
        if there.get(name) != asked.get(name):
            raise UserError(
                f"{place} was begun with {name}={there.get(name)!r}, found {name}={asked.get(name)!r}: the two do not "
                "mix; give the same settings, another --output_dir, --name or --version, or remove it"
            )


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path: Path, value: Any) -> None:
    """Write a file that is either whole or absent."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    unfinished.replace(path)
