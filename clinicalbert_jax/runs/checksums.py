"""Checksums over a directory: published once it is complete, checked before it is trusted. Loads no JAX.

orbax restores a flipped bit without an error, so checkpoints have checksums of their own.
"""

import json
import os
from pathlib import Path

import google_crc32c

from clinicalbert_jax.files import safe_names

FILE_NAME = "checksums.json"
_CHUNK_BYTES = 1 << 22


def publish(directory: Path) -> None:
    """Write size and CRC-32C of every file below `directory` into it, atomically."""
    sums = {str(path.relative_to(directory)): _sum(path) for path in _files(directory)}
    partial = directory / (FILE_NAME + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(sums, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(directory / FILE_NAME)


def is_published(directory: Path) -> bool:
    """Whether `publish` has ended."""
    return (directory / FILE_NAME).exists()


def damage(directory: Path) -> str | None:
    """What is wrong with a published directory, in a few words; None where every file is unchanged."""
    try:
        sums = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
        expected = {name: (int(size), int(crc)) for name, (size, crc) in sums.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return f"{FILE_NAME} cannot be read"
    if not all(map(safe_names.is_safe, expected)):
        return f"{FILE_NAME} names a file outside its directory"
    present = {str(path.relative_to(directory)): path for path in _files(directory)}
    if missing := expected.keys() - present.keys():
        return f"{min(missing)} is missing"
    for name, (size, crc) in expected.items():
        path = present[name]
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if _sum(path) != [size, crc]:
            return f"{name} has another checksum than when it was written"
    return None


def _files(directory: Path) -> list[Path]:
    ours = (FILE_NAME, FILE_NAME + ".partial")
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name not in ours)


def _sum(path: Path) -> list[int]:
    checksum, size = google_crc32c.Checksum(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            checksum.update(chunk)
            size += len(chunk)
    return [size, int.from_bytes(checksum.digest(), "big")]
