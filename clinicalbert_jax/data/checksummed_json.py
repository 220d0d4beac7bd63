"""Checksummed JSON files: a changed byte is found when they are read. Loads no JAX."""

import hashlib
import json
from pathlib import Path
from typing import Any

_CHECKSUM_KEY = "sha256"


def write(path: Path, document: dict[str, Any]) -> None:
    """Write `document` with a checksum over it, atomically."""
    checksummed = document | {_CHECKSUM_KEY: _checksum(document)}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(checksummed, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(path)


def read(path: Path) -> dict[str, Any]:
    """The document that `write` wrote. Raises OSError where it cannot be read, ValueError where it was changed."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict) or document.pop(_CHECKSUM_KEY, None) != _checksum(document):
        raise ValueError("its checksum is wrong")
    return document


def _checksum(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
