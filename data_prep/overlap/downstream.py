"""Leakage: notes that hold text of downstream test files.

Shape legend: S shingles.
"""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from data_prep.overlap.shingles import runs, shingles

SHINGLE_WORDS = 13  # as in Brown et al. (2020), appendix C


def load_excluded(paths: Sequence[str]) -> np.ndarray:
    """The sorted shingles of the texts of downstream files: uint64 [S]; raises `UserError` for one without any.

    .json and .jsonl: every string; .csv: every cell; .tsv and .conll: every cell, and the first column as one running
    text, for files of one token a line; anything else: running text, and the first column likewise. Any of them may be
    gzipped, and in UTF-16 where its byte order mark says so.
    """
    found = [np.empty(0, np.uint64)]
    for path in paths:
        of_file = [shingles(text, SHINGLE_WORDS) for text in _texts(path)]
        if not any(map(len, of_file)):
            raise UserError(f"{path}: expected a text of at least {SHINGLE_WORDS} words, found none: leave it out")
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
    file = patterns.expanded(path)
    try:
        data = file.read_bytes()
        if file.suffix.lower() == ".gz" or data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        # What is decoded wrongly is met by no note.
        text = data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected text in UTF-8, found other bytes: convert it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: expected a file, found one that cannot be read ({type(error).__name__})") from None
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
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
            yield _first_column(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as {suffix[1:]} ({type(error).__name__})") from None


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
        yield _first_column(text)
    csv.field_size_limit(1 << 27)
    for row in csv.reader(io.StringIO(text, newline=""), delimiter="," if suffix == ".csv" else "\t"):
        yield from row


def _first_column(text: str) -> str:
    return " ".join(line.split(None, 1)[0] for line in text.splitlines() if line.strip())
