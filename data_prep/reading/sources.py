"""The files of notes that `--input` names, local or behind a URL: the format of each, and whether it has the columns.

No message holds a header: it may be a row of cells.
"""

import csv
import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

from clinicalbert_jax.data.manifest import INVENTED_COLUMN
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from data_prep.reading import csv_rows, files

FORMATS = ("auto", "mimic_iii", "mimic_iv", "csv", "jsonl", "parquet", "text", "sentences")

# A gzip or Parquet file of English text holds about this many times its own size; used for sizing only.
COMPRESSION = 3


@dataclass(frozen=True)
class SourceConfig:
    """Where notes come from, and which columns hold them.

    `input` are files, directories, globs or fsspec URLs, read in the order given. `input_format` 'auto' goes by the
    file's name and, for CSV, by MIMIC's column names. Columns are needed for your own csv, jsonl and parquet.
    For a directory of text files `patient_column='directory'` takes the name of a file's directory for its patient.
    In 'sentences' (one sentence a line, blank line between documents) every document is its own patient.

    `csv_quoting` 'auto' is 'doubled' (fields in quotation marks, which are doubled inside) but refuses a file in which
    quotation marks seem to be text; 'none': they always are.
    """

    input: tuple[str, ...] = option(
        "Files, directories, globs or fsspec URLs of notes, separated by commas; may be repeated.", (), labelled=True
    )
    input_format: str = option("What the input is; auto: by its name and columns.", "auto", choices=FORMATS)
    text_column: str = option("The column of the note's text, in your own files.", "")
    patient_column: str = option("The column of the patient's identifier; for text files: directory.", "")
    time_column: str = option("The column by which a patient's notes are ordered.", "")
    id_column: str = option("The column of the note's identifier.", "")
    category_column: str = option("The column of the note's category.", "")
    each_note_is_a_patient: bool = option("Required for notes without a patient column.", False)
    allow_patient_overlap: bool = option("Mix sources whose patients may be the same people.", False)
    encoding: str = option("Of text files.", "utf-8")
    csv_delimiter: str = option("Between fields: a character, or tab; default: as the file's name says.", "")
    csv_quoting: str = option("What quotation marks are in CSV files.", "auto", choices=csv_rows.QUOTINGS)
    csv_escape: str = option("What escapes a quotation mark in a quoted field.", "none", choices=csv_rows.ESCAPES)
    max_malformed_fraction: float = option("The fraction of rows that may be malformed or undecodable.", 0.01)

    def __post_init__(self) -> None:
        if not self.input:
            raise UserError("--input: expected at least one file, directory or URL, found none")
        if self.input_format not in FORMATS:
            raise UserError(f"--input_format: expected one of {', '.join(FORMATS)}, found {self.input_format!r}")
        if self.patient_column and self.each_note_is_a_patient:
            raise UserError("--patient_column and --each_note_is_a_patient exclude each other: give one of them")
        csv_rows.check_options(self.csv_delimiter, self.csv_quoting, self.csv_escape)
        if not 0 <= self.max_malformed_fraction <= 1:
            raise UserError(
                f"--max_malformed_fraction: expected a fraction in [0, 1], found {self.max_malformed_fraction}"
            )
        try:
            "".encode(self.encoding)
        except LookupError:
            raise UserError(f"--encoding: expected a text encoding such as utf-8, found {self.encoding!r}") from None


@dataclass(frozen=True)
class Source:
    """One file of notes: `url` as fsspec takes it, its number among all, the size of its text (a guess).

    `label` says in messages which file it is: its name may be that of a patient.
    """

    url: str
    number: int
    format: str
    num_bytes: int
    label: str = "--input"


def resolve(config: SourceConfig) -> list[Source]:
    """The files to be read, in order, each with its format.

    The files that MIMIC-IV-Note has beside its notes are passed over, and said, unless they are named one by one.

    Raises `UserError` for a missing file, a missing column, notes without patients, and MIMIC-III mixed with
    MIMIC-IV, whose patients are partly the same people under different identifiers.
    """
    sources: list[Source] = []
    for entry, given in enumerate(config.input, 1):
        of_entry = files.label_of(entry, len(config.input))
        found = _without_companions(files.expand(given, of_entry), given, of_entry, config)
        for place, (url, size) in enumerate(found, 1):
            label = f"{of_entry}, file {place} of {len(found)}" if len(found) > 1 else of_entry
            source = Source(url, len(sources), "", size, label)
            format_ = _detect_format(source, config)
            compressed = url.lower().endswith(".gz") or format_ == "parquet"
            num_bytes = size * (COMPRESSION if compressed else 1)
            sources.append(dataclasses.replace(source, format=format_, num_bytes=num_bytes))
    if len({source.url for source in sources}) < len(sources):
        raise UserError("--input: expected each file once, found one of them named twice")
    families = {_mimic_family(source, config) for source in sources if source.format in ("csv", *_MIMIC)}
    if families >= set(_MIMIC) and not config.allow_patient_overlap:
        raise UserError(
            "--input holds both MIMIC-III and MIMIC-IV, which share patients under different identifiers, so that no "
            "split is disjoint by patient: give one of them, or say --allow_patient_overlap"
        )
    for source in sources:
        _check_columns(source, config)
    _check_options_used(sources, config)
    return sources


# --- formats and columns


def is_invented(source: Source, config: SourceConfig) -> bool:
    """Whether a file says of itself that its notes are invented."""
    return source.format in _MIMIC and INVENTED_COLUMN in _csv_header(source, config)


def _detect_format(source: Source, config: SourceConfig) -> str:
    if config.input_format != "auto":
        return config.input_format
    suffix = PurePosixPath(source.url.lower().removesuffix(".gz")).suffix
    if suffix in (".csv", ".tsv"):
        return _mimic_family(source, config) or "csv"
    by_suffix = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".txt": "text"}
    if suffix not in by_suffix:
        raise UserError(
            f"{source.label}: expected a file ending in .csv, .tsv, .jsonl, .parquet or .txt (or one of these with "
            ".gz), found another: say what it is by --input_format"
        )
    return by_suffix[suffix]


# What PhysioNet puts beside the notes: MIMIC-IV-Note's details (by their columns), MIMIC-III's other tables and files
# about the download (by name).
_DETAIL_COLUMNS = {"note_id", "subject_id", "field_name", "field_value", "field_ordinal"}
_MIMIC_III_TABLES = frozenset(
    [
        "admissions",
        "callout",
        "caregivers",
        "chartevents",
        "cptevents",
        "datetimeevents",
        "diagnoses_icd",
        "drgcodes",
        "d_cpt",
        "d_icd_diagnoses",
        "d_icd_procedures",
        "d_items",
        "d_labitems",
        "icustays",
        "inputevents_cv",
        "inputevents_mv",
        "labevents",
        "microbiologyevents",
        "outputevents",
        "patients",
        "prescriptions",
        "procedureevents_mv",
        "procedures_icd",
        "services",
        "transfers",
    ]
)
_ABOUT = ("license.txt", "sha256sums.txt", "readme.txt", "readme.md", "index.html", "robots.txt")


def _without_companions(
    found: list[tuple[str, int]], given: str, label: str, config: SourceConfig
) -> list[tuple[str, int]]:
    """Leave out what lies beside the notes of MIMIC in a directory as it was downloaded."""
    if config.input_format not in ("auto", *_MIMIC) or files.is_file(given):
        return found
    names = {url: PurePosixPath(url.lower()).name for url, _ in found}
    headers = {url: _csv_header(Source(url, 0, "", 0, label), config) for url, name in names.items() if _is_csv(name)}
    details = {url for url, header in headers.items() if set(header) >= _DETAIL_COLUMNS}
    about = {url for url, name in names.items() if name in _ABOUT}
    tables = {url for url, name in names.items() if name.split(".csv")[0] in _MIMIC_III_TABLES and _is_csv(name)}
    left_out = details | about | tables
    if not (details or tables or "sha256sums.txt" in names.values()) or len(left_out) == len(found):
        return found
    listed = "".join(f", {names[url]}" for url in sorted(about))
    print(
        f"passed over, since they hold no notes: {len(details)} detail files, {len(tables)} tables{listed}",
        file=sys.stderr,
    )
    return [(url, size) for url, size in found if url not in left_out]


def _is_csv(name: str) -> bool:
    return name.removesuffix(".gz").endswith((".csv", ".tsv"))


def _mimic_family(source: Source, config: SourceConfig) -> str:
    """'mimic_iii' or 'mimic_iv' if a CSV file has the columns of one, whatever it is to be read as; else ''."""
    columns = {column.lower() for column in _csv_header(source, config)}
    return next((family for family, needed in _MIMIC.items() if columns.issuperset(needed)), "")


# The columns that must be there; charttime and iserror are read where they are.
_MIMIC = {
    "mimic_iii": ("row_id", "subject_id", "chartdate", "category", "text"),
    "mimic_iv": ("note_id", "subject_id", "note_type", "text"),
}


def _check_columns(source: Source, config: SourceConfig) -> None:
    if source.format in _MIMIC:
        found = [name.lower() for name in _csv_header(source, config)]
        _require_columns(source, _MIMIC[source.format], found, config)
        return
    if source.format == "sentences":
        return
    if source.format != "text" and not config.text_column:
        if source.format != "csv":
            raise UserError(f"{source.label}: expected the name of the column that holds the notes: give --text_column")
        raise UserError(
            f"{source.label}: expected the columns of NOTEEVENTS ({', '.join(_MIMIC['mimic_iii']).upper()}) or of "
            f"MIMIC-IV-Note ({', '.join(_MIMIC['mimic_iv'])}), found "
            f"{_others(_csv_header(source, config), source, config)}: for other files name the --text_column and "
            "the --patient_column"
        )
    if not config.patient_column and not config.each_note_is_a_patient:
        raise UserError(
            f"{source.label}: expected to know whose note each is, so that no patient falls in two splits: name the "
            "--patient_column, or say --each_note_is_a_patient"
        )
    if source.format == "text":
        if config.patient_column not in ("", "directory"):
            raise UserError(
                "--patient_column: for text files expected 'directory' (a file's directory is its patient), "
                f"found {config.patient_column!r}"
            )
        return
    needed = [name for name in own_columns(config) if name]
    if source.format == "csv":
        found = _csv_header(source, config)
    elif source.format == "parquet":
        with files.parquet(source.url, source.label) as file:
            found = file.schema_arrow.names
    else:
        found = _json_keys(source, config)
    _require_columns(source, needed, found, config)


def _check_options_used(sources: Sequence[Source], config: SourceConfig) -> None:
    """Raise `UserError` for an option that none of the files is read by: it would select nothing in silence."""
    formats = {source.format for source in sources}
    flags = ("text_column", "patient_column", "id_column", "time_column", "category_column")
    used = {"text_column", "id_column", "time_column", "category_column", "patient_column"}
    if not formats & {"csv", "jsonl", "parquet"}:
        used = {"patient_column"} if "text" in formats else set()
    for flag, value in zip(flags, (getattr(config, flag) for flag in flags), strict=True):
        if value and flag not in used:
            raise UserError(
                f"--{flag}: expected files with columns of your own, found only {', '.join(sorted(formats))}: leave it "
                "out, or say --input_format=csv"
            )
    by_default = {"csv_delimiter": "", "csv_quoting": "auto", "csv_escape": "none"}
    if not formats & {"csv", *_MIMIC}:
        for flag, value in by_default.items():
            if getattr(config, flag) != value:
                raise UserError(f"--{flag}: expected a CSV file, found only {', '.join(sorted(formats))}: leave it out")


def _json_keys(source: Source, config: SourceConfig) -> list[str]:
    """The keys of the first records of a JSON-lines file: any of them may lack some."""
    with files.reading_text(source.url, source.label, config.encoding) as text:
        records = [record for line in itertools.islice(text, 100) if (record := parse_json(line)) is not None]
    return list(dict.fromkeys(key for record in records for key in record))


def own_columns(config: SourceConfig) -> tuple[str, str, str, str, str]:
    """The names of the columns in your own files: text, patient, identifier, time, category; '' where not given."""
    return (
        config.text_column,
        config.patient_column,
        config.id_column,
        config.time_column,
        config.category_column,
    )


def _require_columns(source: Source, needed: Sequence[str], found: Sequence[str], config: SourceConfig) -> None:
    for name in needed:
        if found.count(name) != 1:
            what = csv_rows.not_one_column(name, found)
            raise UserError(
                f"{source.label}: expected one column {name}, found {what} among {_others(found, source, config)}: "
                "name the columns by --text_column, --patient_column, --id_column, --time_column, --category_column"
            )


def _others(columns: Sequence[str], source: Source, config: SourceConfig) -> str:
    """How many columns there are, and what may be wrong with the header. Names are not shown: they may be cells."""
    cause = ""
    if source.format in ("csv", *_MIMIC):
        with files.reading_text(source.url, source.label, config.encoding, newline="") as text:
            delimiter = csv_rows.delimiter_of(config.csv_delimiter, source.url)
            cause = csv_rows.cause_in_header(text.read(1 << 16), delimiter)
    elif source.format == "jsonl":
        with files.reading_text(source.url, source.label, config.encoding) as text:
            cause = cause_in_json(text.read(1 << 16))
    return f"{len(columns)} columns" + (f" ({cause})" if cause else "")


def _csv_header(source: Source, config: SourceConfig) -> list[str]:
    with files.reading_text(source.url, source.label, config.encoding, newline="") as text:
        try:
            return next(rows_of_csv(text, source, config), [])
        except csv.Error:
            return []


def rows_of_csv(text: Any, source: Source, config: SourceConfig) -> Any:
    """The rows of a CSV file, read as the options say; raises `csv.Error` for a row that breaks the rules."""
    delimiter = csv_rows.delimiter_of(config.csv_delimiter, source.url)
    return csv_rows.rows(text, delimiter, config.csv_quoting, config.csv_escape)


def cause_in_json(sample: str) -> str:
    """Why the file that begins with `sample` is not read as JSON lines."""
    if "\0" in sample:
        return "probably another encoding: give --encoding=utf-16 or the right one"
    if sample.lstrip().startswith("["):
        return "probably since the file is one JSON array: write each object on a line of its own"
    return "probably since an object spans several lines" if sample.lstrip().startswith("{\n") else ""


def parse_json(line: str) -> dict[str, Any] | None:
    """The record on a line of JSON lines; None where the line is no JSON object."""
    try:
        # Decimals keep every digit of an identifier; a byte-order mark also stands where files were concatenated.
        record = json.loads(line.lstrip("\ufeff"), parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
