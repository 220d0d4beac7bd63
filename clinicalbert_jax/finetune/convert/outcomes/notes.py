"""The notes of a cohort, out of files that may be larger than memory: one pass, the texts kept in a temporary file."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from clinicalbert_jax import cli
from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.outcomes import tables
from clinicalbert_jax.finetune.convert.outcomes.cohort import Member
from clinicalbert_jax.finetune.convert.outcomes.tables import Admission
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.record_files import Record

_OF_III = ("subject_id", "hadm_id", "chartdate", "category", "text")
_OF_IV = ("subject_id", "hadm_id", "charttime", "note_type", "text")
_SUMMARIES_OF_IV = ("DS", "AD")  # discharge summaries and their addenda
_SUMMARY = "discharge summary"
_DAY_END = timedelta(days=1, microseconds=-1)


class NoteFile(NamedTuple):
    """A file of notes: of MIMIC-III ('mimic_iii') or MIMIC-IV-Note; whether its first note is a discharge summary."""

    path: Path
    source: str
    of_summaries: bool


class _Place(NamedTuple):
    """Where a text lies in the temporary file, and when it was written; in this order an admission's texts are read."""

    written: datetime
    number: int
    start: int
    length: int


def recognised(path: Path, reading: Reading) -> NoteFile:
    """What a file of notes is, by its columns and its first row; raises `UserError` for a file of something else."""
    first = tables.first_row(path, ("text",), reading)
    if not first:
        raise UserError(f"{path}: expected notes, found none: restore the file from a copy")
    for source, columns in (("mimic_iii", _OF_III), ("mimic_iv", _OF_IV)):
        if set(columns) <= first.keys():
            return NoteFile(path, source, source == "mimic_iv" and first["note_type"] in _SUMMARIES_OF_IV)
    raise UserError(
        f"{path}: expected notes with the columns of NOTEEVENTS ({', '.join(_OF_III)}) or of MIMIC-IV-Note "
        f"({', '.join(_OF_IV)}), found others: name the files of notes by --notes"
    )


class Gathered:
    """The texts of the members' notes. A context: the temporary file is gone at its end."""

    def __init__(self, directory: Path) -> None:
        self.counts: Counter[str] = Counter()  # of notes that are no input, by reason
        self.num_used = self.num_undecodable = 0
        self._places: defaultdict[str, list[_Place]] = defaultdict(list)
        # Without a name on disk, so that nothing is left of it after a kill.
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "Gathered":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __contains__(self, admission: str) -> bool:
        return admission in self._places

    def texts(self, admission: str) -> list[str]:
        """The admission's texts in the order in which they were written; of one time in the order of the files."""
        found = []
        for place in sorted(self._places[admission]):
            self._file.seek(place.start)
            found.append(self._file.read(place.length).decode())
        return found

    def read(
        self,
        files: Sequence[NoteFile],
        admissions: Mapping[str, Admission],
        members: Mapping[str, Member],
        summaries: bool,
        reading: Reading,
    ) -> None:
        """Read files of notes: `summaries`, the discharge summaries of members; else their notes that are none.

        Each note is used or counted by the reason why not, the first that holds.
        """
        end = 0
        for file in files:
            for written, admission, text in self._wanted(file, admissions, members, summaries, reading):
                decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                self.num_undecodable += decoded != text
                encoded = decoded.encode()
                self._file.write(encoded)
                self._places[admission].append(_Place(written, self.num_used, end, len(encoded)))
                end += len(encoded)
                self.num_used += 1
        self._file.flush()

    def _wanted(
        self,
        file: NoteFile,
        admissions: Mapping[str, Admission],
        members: Mapping[str, Member],
        summaries: bool,
        reading: Reading,
    ) -> Iterator[tuple[datetime, str, str]]:
        of_iii = file.source == "mimic_iii"

        def parse(record: Record) -> tuple[str, datetime | None]:
            """Why the note is no input, '' where it is, and when it was written."""
            if record.get("iserror", "").strip() in ("1", "1.0"):
                return "marked as error", None
            id_ = patients.identifier(record["hadm_id"])
            if not id_:
                return "without an admission", None
            if id_ not in admissions:
                return "of an admission that is not in the table", None
            if patients.identifier(record["subject_id"]) != admissions[id_].patient:
                return "of another patient than their admission", None
            if id_ not in members:
                return "of an excluded admission", None
            kind = record["category" if of_iii else "note_type"].strip()
            if (kind.lower() == _SUMMARY if of_iii else kind in _SUMMARIES_OF_IV) != summaries:
                return "not a discharge summary" if summaries else "a discharge summary", None
            if not record_files.is_text(record["text"].encode("utf-8", "replace").decode()):
                return "empty", None
            until = members[id_].until
            written = _written(record, of_iii, stored=not summaries)
            if until is not None and written is None:
                return "without a date", None
            if until is not None and written is not None and written >= until:
                return "written too late", None
            return "", written or datetime.max

        columns = _OF_III if of_iii else _OF_IV
        reader = tables.each(file.path, columns, reading, lambda record: (record, *parse(record)))
        for _, (record, why, written) in cli.progress_bar(reader, "reading notes", unit=" notes", unit_scale=True):
            if why:
                self.counts[why] += 1
            else:
                yield written, patients.identifier(record["hadm_id"]), record["text"]


def _written(record: Record, of_iii: bool, stored: bool) -> datetime | None:
    """When a note was written, None where nothing says so.

    A date without a time is the end of the day. `stored`: not before it was stored, where that is known: a report is
    charted at the time of the examination, and a progress note may be finished hours after its CHARTTIME.
    """
    charted, timed = tables.time(record, "charttime")
    if charted is None and of_iii:
        charted, _ = tables.time(record, "chartdate")
        timed = False
        charted = charted and datetime.combine(charted.date(), datetime.min.time())
    if charted is None:
        return None
    if not timed:
        charted += _DAY_END
    kept, kept_timed = tables.time(record, "storetime") if stored else (None, True)
    if kept is not None and not kept_timed:
        kept += _DAY_END
    return max(charted, kept) if kept is not None else charted
