"""The working directory of a preparation: everything unfinished lies in it, readable by its owner alone.

Among it is the text of the notes. It belongs to the preparation whose fingerprint it holds: after a kill, Ctrl-C or a
full disk the same command continues from it. It is removed on success, on every other error, by a command with another
fingerprint, and by `--discard_work`.
"""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from data_prep.reading.spill import Spilled
from data_prep.sharding.fingerprint import Fingerprint, differences

NAME = "_work"


class ResumableError(UserError):
    """An error after which the same command continues from what is finished."""


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
    def _private_file(self) -> Path:
        return self.directory / "private.json"

    @property
    def _spilled_file(self) -> Path:
        return self.directory / "spill.json"

    def alone(self) -> AbstractContextManager[None]:
        """Hold the directory against a second preparation: two would append to the same files."""
        return directory_lock.held(self.directory, "--output_dir", beside=True)

    @contextmanager
    def begun(self, fingerprint: Fingerprint, private: Fingerprint) -> Iterator[None]:
        """Continue what the same command began here, or begin; what cannot be continued is removed in the end.

        `private` are the parts of the fingerprint that no dataset may hold.
        """
        if self.directory.is_symlink() or any(path.is_symlink() for path in self.directory.rglob("*")):
            raise UserError(f"--output_dir: expected no links in {self.directory}, found one: remove it")
        found, wanted = read_json(self._fingerprint_file), fingerprint | private
        if found is not None:
            found |= read_json(self._private_file) or {}
        if found == wanted:
            print(f"continuing the preparation begun in {self.directory}", file=sys.stderr)
        else:
            if found is not None:
                _say(f"removing another unfinished preparation in {self.directory}: {differences(found, wanted)}")
            self.discard()
            self.directory.mkdir(mode=0o700)
            _write_private(self._private_file, private)
            write_json(self._fingerprint_file, fingerprint)
        for directory in (self.spill, self.shards):
            directory.mkdir(exist_ok=True)
        try:
            yield
        except (KeyboardInterrupt, SystemExit, OSError, MemoryError, ResumableError):
            _say(
                f"the text of notes is still in {self.directory}: the same command continues from there, "
                "--discard_work removes it"
            )
            raise
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove everything unfinished."""
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def keep_private(self, dataset_dir: Path) -> None:
        """Put the private parts of the fingerprint beside a dataset's directory, not in it."""
        _write_private(_private_record_file(dataset_dir), read_json(self._private_file))

    def tidy_up(self, fingerprint: Fingerprint) -> None:
        """Remove what a preparation that was killed in its last moment left of itself."""
        if not self.directory.exists():
            return
        with self.alone():
            if read_json(self._fingerprint_file) in (None, fingerprint):
                self.discard()
            else:
                _say(
                    f"the text of notes of another, unfinished preparation is in {self.directory}: its own command "
                    "continues from there, --discard_work removes it"
                )

    def read_spilled(self) -> Spilled | None:
        """What stage 1 did; None where it is not finished."""
        if (done := read_json(self._spilled_file)) is None:
            return None
        kept = {split: Counter(counts) for split, counts in done["kept"].items()}
        return Spilled(**done | {"drops": Counter(done["drops"]), "kept": kept})

    def write_spilled(self, spilled: Spilled) -> None:
        """Say that stage 1 is finished."""
        write_json(self._spilled_file, vars(spilled))


def _say(what: str) -> None:
    print(f"warning: {what}", file=sys.stderr)


def private_record(dataset_dir: Path) -> Fingerprint | None:
    """The private parts of the fingerprint of a finished dataset; None where they are gone."""
    return read_json(_private_record_file(dataset_dir))


def _private_record_file(dataset_dir: Path) -> Path:
    return dataset_dir.with_name(f"{dataset_dir.name}.private.json")


def _write_private(path: Path, value: Any) -> None:
    """Write a file that only its owner may read, and that is either whole or absent."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(value))
    unfinished.replace(path)


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none, or where a power failure left half of one."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Write a file that is either whole or absent."""
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")
    unfinished.replace(path)
