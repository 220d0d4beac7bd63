"""Sources: files in a dozen forms, local or behind a URL, as one stream of notes.

What cannot be read as a note is counted by reason; what cannot be read at all is one `UserError`. No message holds
text of a note: the errors of csv, json and pyarrow quote the offending line, so they are never passed on.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from clinicalbert_jax.errors import UserError

FORMATS = ("auto", "mimic_iii", "mimic_iv", "csv", "jsonl", "parquet", "text", "sentences")
NO_CATEGORY = "uncategorised"

# A gzip or Parquet file of English text holds about this many times its own size; used for sizing only.
COMPRESSION = 3

# A note longer than this is no note but an unclosed quotation mark.
MAX_NOTE_CHARACTERS = 1 << 27

# What the `note_type` of MIMIC-IV-Note stands for.
MIMIC_IV_CATEGORIES = {
    "DS": "Discharge summary",
    "AD": "Discharge summary addendum",
    "RR": "Radiology",
    "AR": "Radiology addendum",
}


@dataclass(frozen=True, slots=True)
class Note:
    """One note as read: `time` sorts as text (ISO), `patient_id` is the source's own identifier."""

    row_id: str
    patient_id: str
    time: str
    category: str
    text: str


@dataclass(frozen=True)
class SourceConfig:
    """Where notes come from, and which columns hold them.

    `inputs` are files, directories, globs or fsspec URLs, read in the order given. `input_format` 'auto' goes by the
    file's name and, for CSV, by MIMIC's column names. Columns are needed for one's own csv, jsonl and parquet.
    For a directory of text files `patient_column='directory'` takes the name of a file's directory for its patient.
    In 'sentences' (one sentence a line, blank line between documents) every document is its own patient.
    """

    inputs: tuple[str, ...]
    input_format: str = "auto"
    text_column: str = ""
    patient_column: str = ""
    time_column: str = ""
    id_column: str = ""
    category_column: str = ""
    each_note_is_a_patient: bool = False
    allow_patient_overlap: bool = False
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if not self.inputs:
            raise UserError("--input: expected at least one file, directory or URL, found none")
        if self.input_format not in FORMATS:
            raise UserError(f"--input_format: expected one of {', '.join(FORMATS)}, found {self.input_format!r}")
        if self.patient_column and self.each_note_is_a_patient:
            raise UserError("--patient_column and --each_note_is_a_patient exclude each other: give one of them")
        try:
            "".encode(self.encoding)
        except LookupError:
            raise UserError(f"--encoding: expected a text encoding such as utf-8, found {self.encoding!r}") from None


@dataclass(frozen=True)
class Source:
    """One file of notes: `url` as fsspec takes it, its number among the inputs, its text's guessed size."""

    url: str
    number: int
    format: str
    num_bytes: int


def resolve(config: SourceConfig) -> list[Source]:
    """The files to be read, in order, each with its format.

    Raises `UserError` for a missing file, a missing column, notes without patients, and MIMIC-III mixed with
    MIMIC-IV, whose patients are partly the same people under different identifiers.
    """
    sources: list[Source] = []
    for given in config.inputs:
        for url, size in _expand(given, config.input_format):
            format_ = _detect_format(url, config)
            compressed = url.endswith(".gz") or format_ == "parquet"
            sources.append(Source(url, len(sources), format_, size * (COMPRESSION if compressed else 1)))
    if len({source.url for source in sources}) < len(sources):
        raise UserError("--input: expected each file once, found one of them named twice")
    formats = {source.format for source in sources}
    if {"mimic_iii", "mimic_iv"} <= formats and not config.allow_patient_overlap:
        raise UserError(
            "--input holds both MIMIC-III and MIMIC-IV, which share patients under different identifiers, so that no "
            "split is disjoint by patient: give one of them, or say --allow_patient_overlap"
        )
    for source in sources:
        _check_columns(source, config)
    return sources


def read(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    """The notes of one file in its order; rows that are not notes are counted in `counts` by reason.

    Raises `UserError` when the file cannot be read to its end.
    """
    readers = {"mimic_iii": _read_csv, "mimic_iv": _read_csv, "csv": _read_csv, "jsonl": _read_jsonl}
    readers |= {"parquet": _read_parquet, "text": _read_text, "sentences": _read_sentences}
    return readers[source.format](source, config, counts)


# --- finding files


def _is_url(given: str) -> bool:
    return "://" in given


def _expand(given: str, input_format: str) -> list[tuple[str, int]]:
    """A path, directory, glob or URL as (file, size) in the order of names."""
    found: list[tuple[str, int]]
    if _is_url(given):
        import fsspec

        try:
            filesystem, path = fsspec.core.url_to_fs(given)
            protocol = given.split("://", 1)[0]
            if filesystem.has_magic(path) if hasattr(filesystem, "has_magic") else re.search(r"[*?\[]", path):
                entries = filesystem.glob(path, detail=True)
            elif filesystem.isdir(path):
                entries = filesystem.find(path, detail=True)
            else:
                entries = {path: filesystem.info(path)}
        except ImportError as error:
            raise UserError(f"--input: {given} needs the package {error.name or 'for its protocol'}") from None
        except FileNotFoundError:
            raise UserError(f"--input: expected a file at {given}, found none") from None
        except Exception as error:  # every store raises its own kinds
            raise UserError(f"--input: {given} cannot be reached ({type(error).__name__})") from None
        found = sorted(
            (f"{protocol}://{name}" if "://" not in name else name, int(entry.get("size") or 0))
            for name, entry in entries.items()
            if entry.get("type", "file") == "file"
        )
    else:
        path_ = Path(given).expanduser()
        if path_.is_file():
            files: Iterable[Path] = [path_]
        elif path_.is_dir():
            files = path_.rglob("*")
        elif re.search(r"[*?\[]", given):
            files = Path(path_.anchor).glob(str(path_.relative_to(path_.anchor)))
        else:
            raise UserError(f"--input: expected a file or directory at {given}, found none")
        found = sorted((str(file), file.stat().st_size) for file in files if file.is_file())
    found = [(file, size) for file, size in found if not PurePosixPath(file).name.startswith((".", "_"))]
    if not found:
        raise UserError(f"--input: expected files under {given}, found none")
    return found


def _detect_format(url: str, config: SourceConfig) -> str:
    if config.input_format != "auto":
        return config.input_format
    name = url.lower().removesuffix(".gz")
    suffix = PurePosixPath(name).suffix
    if suffix in (".csv", ".tsv"):
        if config.text_column:
            return "csv"
        columns = {column.lower() for column in _csv_header(url, config)}
        if {"row_id", "subject_id", "category", "text"} <= columns:
            return "mimic_iii"
        if {"note_id", "subject_id", "note_type", "text"} <= columns:
            return "mimic_iv"
        return "csv"
    by_suffix = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".txt": "text"}
    if suffix not in by_suffix:
        raise UserError(
            f"--input: expected a file ending in .csv, .tsv, .jsonl, .parquet or .txt (or one of these with .gz), "
            f"found {url}: say which by --input_format"
        )
    return by_suffix[suffix]


# --- columns

MIMIC_III_COLUMNS = ("row_id", "subject_id", "charttime", "chartdate", "category", "iserror", "text")
MIMIC_IV_COLUMNS = ("note_id", "subject_id", "charttime", "note_type", "text")


def _check_columns(source: Source, config: SourceConfig) -> None:
    if source.format in ("mimic_iii", "mimic_iv"):
        needed: Sequence[str] = MIMIC_III_COLUMNS if source.format == "mimic_iii" else MIMIC_IV_COLUMNS
        needed = [name for name in needed if name not in ("charttime", "iserror")]
        _require_columns(source, needed, [name.lower() for name in _csv_header(source.url, config)])
        return
    if source.format == "sentences":
        return
    if not config.patient_column and not config.each_note_is_a_patient:
        raise UserError(
            f"{source.url}: expected to know whose note each is, so that no patient falls in two splits: name the "
            "--patient_column, or say --each_note_is_a_patient"
        )
    if source.format == "text":
        if config.patient_column not in ("", "directory"):
            raise UserError(
                f"--patient_column: for text files expected 'directory' (a file's directory is its patient), "
                f"found {config.patient_column!r}"
            )
        return
    if not config.text_column:
        raise UserError(f"{source.url}: expected the name of the column that holds the notes: give --text_column")
    needed = [name for name in _own_columns(config) if name]
    if source.format == "csv":
        _require_columns(source, needed, _csv_header(source.url, config))
    elif source.format == "parquet":
        with _parquet(source.url) as file:
            _require_columns(source, needed, file.schema_arrow.names)
    else:
        with _reading(source.url) as stream:
            for line in io.TextIOWrapper(stream, config.encoding, errors="replace"):
                record = _parse_json(line)
                if record is not None:
                    _require_columns(source, needed[:2], list(record))
                    break


def _own_columns(config: SourceConfig) -> tuple[str, str, str, str, str]:
    return (
        config.text_column,
        config.patient_column,
        config.id_column,
        config.time_column,
        config.category_column,
    )


def _require_columns(source: Source, needed: Sequence[str], found: Sequence[str]) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise UserError(
            f"{source.url}: expected the column {missing[0]}, found {_shown(found)}: "
            "name the columns by --text_column, --patient_column, --id_column, --time_column, --category_column"
        )


def _shown(columns: Sequence[str]) -> str:
    # A file without a header line has a note where the names should be: show only what looks like a name.
    if not all(re.fullmatch(r"[A-Za-z_][\w .-]{0,39}", column) for column in columns):
        return f"{len(columns)} columns whose names are not shown, since the first line does not look like a header"
    return ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "") if columns else "none"


def _csv_header(url: str, config: SourceConfig) -> list[str]:
    with _reading(url) as stream:
        text = io.TextIOWrapper(stream, _with_mark(config.encoding), errors="replace", newline="")
        try:
            return next(_csv_rows(text, url), [])
        except csv.Error:
            return []


# --- readers, one a format


def _read_csv(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    with _reading(source.url) as stream:
        text = io.TextIOWrapper(stream, _with_mark(config.encoding), errors="replace", newline="")
        rows = _csv_rows(text, source.url)
        header = next(rows, [])
        if source.format != "csv":
            header = [name.lower() for name in header]
        record_to_note = _mimic_rows(header, source, config) if source.format != "csv" else None
        pick = _picker(header, config) if record_to_note is None else None
        width = len(header)
        number = 0
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                # A stray quotation mark. The reader starts afresh on the next line, and the lines of the broken
                # note have too few columns: they are counted one by one until the next whole row.
                counts["malformed row"] += 1
                continue
            if not row:
                continue
            number += 1
            if len(row) != width:
                counts["malformed row"] += 1
                continue
            if record_to_note is not None:
                note, reason = record_to_note(row)
            else:
                assert pick is not None
                note, reason = _own_note(pick(row), source, config, number)
            if note is None:
                counts[reason] += 1
            else:
                yield note


def _csv_rows(text: Iterable[str], url: str) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_NOTE_CHARACTERS)
    delimiter = "\t" if url.lower().removesuffix(".gz").endswith(".tsv") else ","
    return csv.reader(text, delimiter=delimiter, strict=True)


def _mimic_rows(header: list[str], source: Source, config: SourceConfig) -> Any:
    """A function from a row of a MIMIC file to (note, ''), or to (None, why not)."""
    column = {name: header.index(name) for name in header}
    missing = len(header)

    def at(name: str) -> int:
        return column.get(name, missing)

    if source.format == "mimic_iii":
        row_id, patient, category, text = at("row_id"), at("subject_id"), at("category"), at("text")
        time, date, error = at("charttime"), at("chartdate"), at("iserror")

        def mimic_iii(row: list[str]) -> tuple[Note | None, str]:
            row.append("")  # what an absent column holds
            if row[error].strip() in ("1", "1.0"):
                return None, "marked as error"
            if not row[patient].strip():
                return None, "no patient"
            when = row[time].strip() or row[date].strip()
            return Note(row[row_id], row[patient].strip(), when, row[category].strip() or NO_CATEGORY, row[text]), ""

        return mimic_iii

    row_id, patient, category, text = at("note_id"), at("subject_id"), at("note_type"), at("text")
    time = at("charttime")

    def mimic_iv(row: list[str]) -> tuple[Note | None, str]:
        row.append("")
        if not row[patient].strip():
            return None, "no patient"
        kind = row[category].strip()
        kind = MIMIC_IV_CATEGORIES.get(kind, kind) or NO_CATEGORY
        return Note(row[row_id], row[patient].strip(), row[time].strip(), kind, row[text]), ""

    return mimic_iv


def _picker(header: list[str], config: SourceConfig) -> Any:
    """A function from a row to its (text, patient, id, time, category), None where no column was named."""
    places = [header.index(name) if name else None for name in _own_columns(config)]
    return lambda row: [None if place is None else row[place] for place in places]


def _read_jsonl(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    columns = _own_columns(config)
    with _reading(source.url) as stream:
        text = io.TextIOWrapper(stream, _with_mark(config.encoding), errors="replace", newline="\n")
        for number, line in enumerate(text, 1):
            if line.isspace():
                continue
            record = _parse_json(line)
            if record is None:
                counts["malformed row"] += 1
                continue
            note, reason = _own_note([record.get(c) if c else None for c in columns], source, config, number)
            if note is None:
                counts[reason] += 1
            else:
                yield note


def _parse_json(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _read_parquet(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    columns = _own_columns(config)
    number = 0
    with _parquet(source.url) as file:
        for batch in file.iter_batches(batch_size=512, columns=sorted({c for c in columns if c}), use_threads=False):
            for record in batch.to_pylist():
                number += 1
                note, reason = _own_note([record[c] if c else None for c in columns], source, config, number)
                if note is None:
                    counts[reason] += 1
                else:
                    yield note


def _read_text(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    with _reading(source.url) as stream:
        text = stream.read().decode(config.encoding, errors="replace")
    path = PurePosixPath(source.url)
    patient = path.parent.name if config.patient_column else None
    note, reason = _own_note([text, patient, str(path), None, None], source, config, 1)
    if note is None:
        counts[reason] += 1
    else:
        yield note


def _read_sentences(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    with _reading(source.url) as stream:
        lines: list[str] = []
        number = 0
        for line in io.TextIOWrapper(stream, _with_mark(config.encoding), errors="replace"):
            if not line.isspace():
                lines.append(line)
                continue
            if lines:
                number += 1
                yield _document(lines, source, number)
                lines = []
        if lines:
            yield _document(lines, source, number + 1)


def _document(lines: list[str], source: Source, number: int) -> Note:
    name = f"{source.number:05d}-{number:010d}"
    return Note(name, name, "", NO_CATEGORY, "".join(lines))


def _own_note(values: list[Any], source: Source, config: SourceConfig, number: int) -> tuple[Note | None, str]:
    text, patient, row_id, time, category = values
    if not isinstance(text, str):
        return None, "empty" if text is None else "malformed row"
    name = f"{source.number:05d}-{number:010d}"
    whose = name if config.each_note_is_a_patient else _identifier(patient)
    if not whose:
        return None, "no patient"
    return Note(_identifier(row_id) or name, whose, _identifier(time), _identifier(category) or NO_CATEGORY, text), ""


def _identifier(value: Any) -> str:
    if value is None or value != value:  # NaN: how Parquet files written by pandas say 'none'
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


# --- bytes


def _with_mark(encoding: str) -> str:
    return "utf-8-sig" if encoding.lower().replace("-", "").replace("_", "") == "utf8" else encoding


@contextmanager
def _reading(url: str) -> Iterator[IO[bytes]]:
    """A file's bytes, uncompressed; whatever goes wrong on the way becomes one line."""
    try:
        with _opened(url) as raw:
            if url.endswith(".gz"):
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield io.BufferedReader(stream, 1 << 20)  # type: ignore[arg-type, type-var]
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UserError(f"{url}: expected a whole gzip file, found a damaged one: fetch it again") from None
    except FileNotFoundError:
        raise UserError(f"--input: expected a file at {url}, found none") from None
    except OSError as error:
        raise UserError(f"{url} cannot be read ({type(error).__name__})") from None


def _opened(url: str) -> Any:
    if not _is_url(url):
        return Path(url).open("rb")
    import fsspec

    return fsspec.open(url, "rb").open()


@contextmanager
def _parquet(url: str) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with _opened(url) as raw, pyarrow.parquet.ParquetFile(raw) as file:
            yield file
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{url} cannot be read as Parquet ({type(error).__name__})") from None
