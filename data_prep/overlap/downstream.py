"""Leakage: notes that hold text of downstream test files.

Shape legend: S shingles.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clinicalbert_jax.errors import UserError
from data_prep.overlap.shingles import runs, shingles

SHINGLE_WORDS = 13  # as in Brown et al. (2020), appendix C


def load_excluded(paths: Sequence[str]) -> np.ndarray:
    """The sorted shingles of the texts of downstream files: uint64 [S]; raises `UserError` for one without any.

    .json and .jsonl: every string; .csv: every cell; .tsv: the first column as one running text if it is one token
    a line, else every cell; anything else: running text. Any of them may be .gz.
    """
    found = [np.empty(0, np.uint64)]
    for path in paths:
        of_file = [shingles(text, SHINGLE_WORDS) for text in _texts(path)]
        if not any(map(len, of_file)):
            raise UserError(f"--exclude_text: expected a text of at least {SHINGLE_WORDS} words in {path}, found none")
        found += of_file
    return np.unique(np.concatenate(found))


def holds_any(text: str, excluded_S: np.ndarray) -> bool:
    """Whether a text has a run of 13 words in common with the excluded ones."""
    if not len(excluded_S):
        return False
    runs_S = runs(text, SHINGLE_WORDS)
    places = np.minimum(np.searchsorted(excluded_S, runs_S), len(excluded_S) - 1)
    return bool((excluded_S[places] == runs_S).any())


def _texts(path: str) -> Iterator[str]:
    file = Path(path).expanduser()
    try:
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"--exclude_text: {path} cannot be read ({type(error).__name__})") from None
    text = data.decode("utf-8-sig", errors="replace")
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    try:
        if suffix == ".json":
            yield from _strings(json.loads(text))
        elif suffix in (".jsonl", ".ndjson"):
            for line in text.splitlines():
                if line.strip():
                    yield from _strings(json.loads(line))
        elif suffix in (".csv", ".tsv", ".conll"):
            yield from _cells(text, suffix)
        else:
            yield text
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"--exclude_text: {path} cannot be read as {suffix[1:]} ({type(error).__name__})") from None


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        if value and all(isinstance(inner, str) for inner in value):
            yield " ".join(value)  # tokens of one text
        else:
            for inner in value:
                yield from _strings(inner)


def _cells(text: str, suffix: str) -> Iterator[str]:
    if suffix != ".csv":
        first = [line.split(None, 1)[0] for line in text.splitlines() if line.strip()]
        yield " ".join(first)
    csv.field_size_limit(1 << 27)
    for row in csv.reader(io.StringIO(text, newline=""), delimiter="," if suffix == ".csv" else "\t"):
        yield from row
