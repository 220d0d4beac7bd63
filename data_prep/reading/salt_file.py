"""The private salt that keys `patient_group` and buckets: a file of its owner's, made at the first use.

Nothing derived from it may stand in a dataset: who has the salt and a list of patients finds them in the examples.
"""

import os
import secrets
from pathlib import Path

from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock, patterns

_MIN_BYTES = 16


def load(given: str, output_dir: Path, make: bool = True) -> tuple[bytes, Path]:
    """The salt in the file `given`, or in `default_path()` where none is given, and that file's path.

    A file that is not there is made, with a random salt; without `make` it is an error. Raises `UserError` for a file
    that others may read, one inside `output_dir` or a dataset, and one that is too short.
    """
    path = patterns.expanded(given) if given else default_path()
    inside = path.resolve().parents
    if output_dir.resolve() in inside or any((directory / MANIFEST_FILE).exists() for directory in inside):
        raise UserError(
            f"--salt_file: expected a file outside --output_dir and outside datasets, which are passed on, found {path}"
        )
    try:
        if not path.exists() and not make:
            raise UserError(f"--salt_file: expected the salt that the data were prepared with, found no file {path}")
        if not path.exists():
            if not given:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.stat()  # raises where there is none: it is not made for a `given` path
            with directory_lock.held(path, "--salt_file", wait=True, beside=True):
                if not path.exists():  # else another process was first
                    _make(path)
        if path.stat().st_mode & 0o077:
            raise UserError(
                f"--salt_file: expected {path} to be readable by its owner alone, found that others may read or write "
                "it: chmod 600, and take a new salt if someone may have read it"
            )
        salt = path.read_bytes().strip()
    except OSError as error:
        raise UserError(f"--salt_file: {path} cannot be read or made ({error.strerror})") from None
    if len(salt) < _MIN_BYTES:
        raise UserError(f"--salt_file: expected at least {_MIN_BYTES} bytes in {path}, found {len(salt)}")
    return salt, path


def default_path() -> Path:
    """Where the salt lies unless `--salt_file` says otherwise: in the user's configuration directory (XDG)."""
    try:
        directory = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        raise UserError("--salt_file: expected a home directory for the salt, found none: give --salt_file") from None
    return directory / "clinicalbert_jax" / "salt"


def _make(path: Path) -> None:
    """Make the file as a whole: another process would take a half for its salt."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.unlink(missing_ok=True)  # of a process that was killed
    unfinished.touch(mode=0o600, exist_ok=False)
    unfinished.write_text(secrets.token_hex(32) + "\n")
    unfinished.replace(path)
