"""The private file of canaries: which secrets were planted and which were left out. It never lies in a dataset."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from data_prep.canaries.secrets import Candidate

FLAG = "--canaries_file"


class Content(NamedTuple):
    """What the file holds: the form, hashes of the preparation and of the dataset's shards, and the candidates."""

    form: str
    preparation: str
    shards_sha256: str
    candidates: tuple[Candidate, ...]


def check(given: str, salt_path: Path, preparation: str, output_dir: Path, candidates: Sequence[Candidate]) -> Path:
    """Where the file will lie: `given`, or beside the salt under the name of the `preparation`, a hash.

    Raises `UserError` for a path inside `output_dir` or a dataset, and for a file that belongs to something else.
    """
    path = atomic_output.local_path(given or salt_path.with_name(f"canaries-{preparation[:16]}.json"), FLAG)
    inside = path.parents
    if output_dir.resolve() in inside or any((directory / MANIFEST_FILE).exists() for directory in inside):
        raise UserError(
            f"{FLAG}: expected a file outside --output_dir and outside datasets, which are passed on, found {path}"
        )
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{FLAG}: expected the name of a file in a directory that exists, found {path}")
    if path.exists() and not _is_of(path, preparation, candidates):
        raise UserError(f"{FLAG}: {path} exists and belongs to something else: give another name")
    return path


def write(path: Path, candidates: Sequence[Candidate], form: str, preparation: str, shards_sha256: str) -> None:
    """Write the file for its owner alone. It belongs to the dataset with these shards."""
    document = {
        "form": form,
        "preparation": preparation,
        "shards_sha256": shards_sha256,
        "candidates": [asdict(one) for one in candidates],
    }
    partial = path.with_name(f"{path.name}.partial")  # of `checksummed_json`
    try:
        partial.unlink(missing_ok=True)  # of a process that was killed
        partial.touch(mode=0o600, exist_ok=False)
        checksummed_json.write(path, document)
    except OSError as error:
        raise UserError(f"{FLAG}: {path} cannot be written ({error.strerror})") from None


def preparation_of(fingerprint: Mapping[str, Any]) -> str:
    """The hash that stands for a preparation."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def read(path: Path, flag: str) -> Content:
    """What `write` wrote; raises `UserError`."""
    try:
        document: Mapping[str, Any] = checksummed_json.read(path)
        found = tuple(Candidate(**one) for one in document["candidates"])
        return Content(document["form"], document["preparation"], document["shards_sha256"], found)
    except OSError as error:
        raise UserError(f"{flag}: the file cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(
            f"{flag}: expected the file that data_prep --canaries wrote, found another, or one that was changed"
        ) from None


def _is_of(path: Path, preparation: str, candidates: Sequence[Candidate]) -> bool:
    """Whether the file is that of the same preparation, such as of a process that was killed."""
    try:
        there = read(path, FLAG)
    except UserError:
        return False
    return there.preparation == preparation and [one.parts for one in there.candidates] == [
        one.parts for one in candidates
    ]
