"""How annotated files are opened and read, and what happens at a record that cannot be used."""

import codecs
import contextlib
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any, TypeVar, cast

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from data_prep.reading import csv_rows

POLICIES = ("stop", "skip")
TABLES = (".csv", ".tsv")
_SAMPLE = 1 << 20  # characters from which the cause of malformed records is guessed

Parsed = TypeVar("Parsed", bound=Any)


class BadRecord(Exception):  # noqa: N818 (not every bad record is an error)
    """What is wrong with one record: what was expected and what was found, without its text.

    `line`: where, if not on the line on which the record begins.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


@dataclass
class Reading:
    """The options of reading annotated files, and how many records were left out of each."""

    on_bad_record: str = option("At a record that cannot be used: stop, or skip and count.", "stop", choices=POLICIES)
    max_malformed_fraction: float = option("The fraction of a file's records that may be skipped.", 0.01)
    encoding: str = option("Of text files.", "utf-8")
    csv_delimiter: str = option("Between fields: a character, or tab; default: as the file's name says.", "")
    csv_quoting: str = option("What quotation marks are in CSV files.", "auto", choices=csv_rows.QUOTINGS)
    csv_escape: str = option("What escapes a quotation mark in a quoted field.", "none", choices=csv_rows.ESCAPES)
    counts: Counter[str] = field(default_factory=Counter, init=False)  # of records left out, by file

    def __post_init__(self) -> None:
        csv_rows.check_options(self.csv_delimiter, self.csv_quoting, self.csv_escape)
        fraction = self.max_malformed_fraction
        if not 0 <= fraction <= 1:
            raise UserError(f"--max_malformed_fraction: expected a fraction in [0, 1], found {fraction}")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise UserError(f"--encoding: expected a text encoding such as utf-8, found {self.encoding!r}") from None

    def found(self, path: Path, line: int, problem: str, malformed: bool = False) -> None:
        """Report a bad record on `line` of `path` (from 1): raises `UserError`, or counts it with 'skip'.

        `malformed`: as a whole, so that other options may read the file.
        """
        if self.on_bad_record == "stop":
            cause = f" ({self.cause(path)})" if malformed else ""
            raise UserError(
                f"{path}, line {line}: {problem}{cause}; correct it, or leave such records out with "
                "--on_bad_record=skip"
            )
        self.counts[str(path)] += 1

    def each(
        self,
        path: Path,
        records: Iterable[tuple[int, Any]],
        parse: Callable[[int, Any], Parsed],
        unique_ids: bool = True,
    ) -> list[Parsed]:
        """`parse(line, record)` of each record of a file, without those for which it raises `BadRecord`.

        With `unique_ids` a record whose id came before is a bad one too. Raises `UserError` where no record is left,
        and where more than `max_malformed_fraction` of them are bad.
        """
        parsed: list[Parsed] = []
        seen: set[str] = set()
        before = self.counts[str(path)]
        for line, record in records:
            try:
                one = parse(line, record)
                if unique_ids and one.id in seen:
                    raise BadRecord("expected an id of its own, found that of an earlier record")
            except BadRecord as problem:
                self.found(path, problem.line or line, str(problem))
            else:
                parsed.append(one)
                if unique_ids:
                    seen.add(one.id)
        self.check_few(path, self.counts[str(path)] - before, len(parsed))
        return parsed

    def check_few(self, path: Path, bad: int, good: int) -> None:
        """Raise `UserError` where no record is good, or more than `max_malformed_fraction` of them are bad."""
        if not good:
            raise UserError(f"{path}: expected at least one record, found none that can be used")
        if bad > max(1, self.max_malformed_fraction * (bad + good)):
            cause = self.cause(path) if path.is_file() else "probably another form of corpus"
            raise UserError(
                f"{path}: {bad:,} of {bad + good:,} records cannot be used, {cause}, or allow them by "
                "--max_malformed_fraction"
            )

    @contextlib.contextmanager
    def opened(self, path: Path, newline: str) -> Iterator[IO[str]]:
        """A text file, gunzipped where its name ends in .gz, without a byte-order mark.

        What is not UTF-8 becomes lone surrogates. Raises `UserError` where there is no such file, where it is damaged,
        and where it is not in another `encoding`.
        """
        if not path.is_file():
            raise UserError(f"expected a file, found none at {path}")
        open_file = gzip.open if path.name.lower().endswith(".gz") else open
        codec = codecs.lookup(self.encoding).name
        encoding, errors = ("utf-8-sig", "surrogateescape") if codec == "utf-8" else (self.encoding, "strict")
        try:
            with open_file(path, "rt", encoding=encoding, errors=errors, newline=newline) as file:
                if codec in ("utf-16-le", "utf-16-be") and file.read(1) != "\ufeff":
                    file.seek(0)
                yield cast(IO[str], file)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}: damaged ({type(error).__name__}): restore it from a copy") from None
        except UnicodeError:
            raise UserError(f"{path}: expected text in {self.encoding}, found other bytes: give --encoding") from None

    def delimiter(self, path: Path) -> str:
        """Between the fields of a CSV or TSV file."""
        return csv_rows.delimiter_of(self.csv_delimiter, path.name)

    def cause(self, path: Path) -> str:
        """The probable cause of malformed records, and the option that reads such a file."""
        with self.opened(path, newline="") as file:
            sample = file.read(_SAMPLE).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        cause = ""
        if suffix(path) in TABLES:
            cause = csv_rows.probable_cause(sample, self.delimiter(path), self.csv_escape)
        elif "\0" in sample or "\ufffd" in sample:
            cause = "probably another encoding: give --encoding"
        elif sample.lstrip().startswith("[") and suffix(path) != ".json":
            cause = "probably one JSON array: name the file .json"
        return cause or "probably another form of file than the task reads (see docs/finetuning.md)"


def suffix(path: Path) -> str:
    """How a file's name ends, in small letters and without '.gz'."""
    return PurePath(path.name.lower().removesuffix(".gz")).suffix
