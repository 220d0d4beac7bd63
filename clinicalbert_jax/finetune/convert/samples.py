"""Corpora whose records are no annotations beside a text: labelled sentences, pairs of sentences, questions.

A reader of such a corpus yields a `Sample` for each record of a task, and accounts for each in the ledger. No JAX.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.common import Record
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.inputs.reading import BadRecord

QUESTIONS = "questions"  # tasks whose names begin so have files in SQuAD's layout


@dataclass
class Sample:
    """A record of a task.

    `patient` is whom, or which document, must be in one split alone ('': the record by itself), `split` the official
    split or '', `file` where it was read from, for messages.
    """

    id: str
    task: str
    record: Record = field(repr=False)
    file: str
    patient: str = ""
    split: str = ""


class Refused(Exception):  # noqa: N818
    """A record that is as the corpus has it, and that no task can use; says why, in words of ours."""


def parts(members: Sequence[Member], names: Sequence[str], corpus: str, ledger: Ledger) -> list[Member]:
    """The files of these names, wherever they lie; raises `UserError` where there is none, and notes those missing."""
    found = [member for member in members if Path(member.name).name in names]
    if not found:
        raise UserError(
            f"--input: expected {', '.join(names)} ({corpus}), found none of them among {len(members):,} files"
        )
    for name in sorted(set(names) - {Path(member.name).name for member in found}):
        ledger["files"].noted(f"not there: {name}")
    return found


def of_lines(member: Member, name: str, parse: Callable[[int, str], Sample | None], ledger: Ledger) -> Iterator[Sample]:
    """What `parse(line number, line)` makes of each line that is not blank, accounted for as `name`.

    It raises `BadRecord` for a line that is not as the corpus has it, `Refused` for one that no task can use, and
    returns None for a header.
    """
    for number, line in enumerate(member.lines(ledger.reading), start=1):
        if not line.strip():
            continue
        ledger[name].found()
        try:
            sample = parse(number, line)
        except BadRecord as problem:
            ledger.bad(name, member.where, number, str(problem))
        except Refused as reason:
            ledger[name].refused(str(reason), member.where, number)
        else:
            ledger[name].as_is()
            if sample:
                yield sample


def json_object(line: str, required: Iterable[str]) -> Record:
    """The object of a JSON line; raises `BadRecord`."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # its message may quote the text
        record = None
    if not isinstance(record, dict):
        raise BadRecord("expected a JSON object on the line, found otherwise")
    for name in required:
        if name not in record:
            raise BadRecord(f"expected a field named {name!r}, found none")
    return record


def json_document(member: Member, ledger: Ledger) -> Any:
    """The content of a JSON file; raises `UserError` with the line where it breaks."""
    try:
        return json.loads(member.text(ledger.reading).removeprefix("\ufeff"))
    except json.JSONDecodeError as error:  # its message may quote the text
        raise UserError(
            f"{member.where}, line {error.lineno}: expected JSON, found otherwise: probably truncated, or another file"
        ) from None
    except RecursionError:
        raise UserError(f"{member.where}: expected a corpus, found JSON that is nested too deep") from None


def by_task(sides: Mapping[str, Sequence[Sample]]) -> dict[str, dict[str, list[Record]]]:
    """The records of samples by task and split."""
    tasks: dict[str, dict[str, list[Record]]] = {}
    for side, of_side in sides.items():
        for sample in of_side:
            tasks.setdefault(sample.task, {name: [] for name in sides})[side].append(sample.record)
    return tasks


def write_questions(path: Path, records: Iterable[Record]) -> None:
    """Questions as SQuAD has them, those of a document below its text, which would be long to repeat.

    A record has 'document', 'context' and perhaps 'patient', and the fields of a question.
    """
    articles: dict[tuple[str, str], Record] = {}
    for record in records:
        question = {name: value for name, value in record.items() if name not in ("document", "context", "patient")}
        shared = {name: record[name] for name in ("context", "patient") if name in record}
        articles.setdefault((record["document"], record["context"]), shared | {"qas": []})["qas"].append(question)
    data = [{"title": document, "paragraphs": [shared]} for (document, _), shared in articles.items()]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        json.dump({"version": "v2.0", "data": data}, file, ensure_ascii=False)
