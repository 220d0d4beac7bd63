"""doccano's JSON lines: `{"id": ..., "text": ..., "label": [[start, end, "TYPE"], ...]}`.

Older versions call the field `labels`, newer ones `entities`, with `start_offset`, `end_offset`, `label` and an id, to
which `relations` refer (`from_id`, `to_id`, `type`). Labels that are strings are of the whole text.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Relation

_FIELDS = ("label", "labels", "entities", "cats")
_REST = "record"  # the other fields of a record, as JSON


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The documents of all .jsonl and .json files; raises `UserError` where there is none, and for bad records."""
    files = [member for member in members if member.suffix in (".jsonl", ".json")]
    if not files:
        raise UserError(f"--input: expected doccano's JSON lines (.jsonl), found none among {len(members):,} files")
    for member in files:
        for number, line in enumerate(member.lines(ledger.reading), start=1):
            if line.strip():
                document = _document(member, number, line, len(files) > 1, ledger)
                if document:
                    yield document


def _document(member: Member, number: int, line: str, several: bool, ledger: Ledger) -> Document | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # its message may quote the text
        record = None
    text = record.get("text", record.get("data")) if isinstance(record, dict) else None
    key = next((name for name in _FIELDS if isinstance(record, dict) and name in record), "")
    values = record.get(key) if isinstance(record, dict) else None
    if not isinstance(text, str) or not isinstance(values, list):
        ledger["documents"].found()
        problem = "expected an object with 'text' and a list 'label', 'labels' or 'entities' (doccano), found otherwise"
        ledger.bad("documents", member.where, number, problem)
        return None
    id_ = str(record.get("id", number))
    document = Document(f"{member.stem}.{id_}" if several else id_, text, member.where, split=member.split_of_file)
    rest = {name: value for name, value in record.items() if name not in (key, "text", "data", "relations")}
    document.extra = {"field": key, _REST: json.dumps(rest, ensure_ascii=False)}
    for value in values:
        _label(document, value, number, ledger)
    for value in record.get("relations") or ():
        ledger["relations"].found()
        if isinstance(value, dict) and {"from_id", "to_id", "type"} <= value.keys():
            arguments = Argument("from", str(value["from_id"])), Argument("to", str(value["to_id"]))
            relation_id = str(value.get("id", f"R{len(document.relations)}"))
            document.relations.append(Relation(relation_id, str(value["type"]), arguments, line=number))
        else:
            problem = "expected relations with 'from_id', 'to_id' and 'type', found otherwise"
            ledger.bad("relations", member.where, number, problem)
    return document


def _label(document: Document, value: Any, number: int, ledger: Ledger) -> None:
    if isinstance(value, str):
        if value not in document.labels:
            ledger["document labels"].found()
            document.labels[value] = True
        return
    ledger["entities"].found()
    extra: dict[str, str] = {}
    id_ = f"{len(document.entities)}"
    if isinstance(value, dict):
        id_ = str(value.get("id", id_))
        value = [value.get(name) for name in ("start_offset", "end_offset", "label")]
        extra = {"object": "true"}
    match value:
        case [int(start), int(end), str(label)] if label.strip():
            document.entities.append(Entity(id_, ((start, end),), label, extra=extra, line=number))
        case _:
            problem = "expected labels of the form [start, end, type], found otherwise"
            ledger.bad("entities", document.file, number, problem)


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """One file of JSON lines, with the fields that the source has."""
    lines = []
    for document in documents:
        record = {
            "text": document.text,
            **json.loads(document.extra.get(_REST, f'{{"id": {json.dumps(document.id)}}}')),
        }
        objects = any("object" in entity.extra for entity in document.entities) or bool(document.relations)
        key = document.extra.get("field", "label")
        record[key] = [_written(entity, objects) for entity in document.entities] or [
            name for name, holds in document.labels.items() if holds
        ]
        if document.relations:
            record["relations"] = [
                {"id": _number(one.id), "from_id": _number(head), "to_id": _number(tail), "type": one.label}
                for one in document.relations
                for (_, head), (_, tail) in [one.arguments[:2]]
            ]
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return {".doccano.jsonl": "".join(lines)}


def _written(entity: Entity, as_object: bool) -> Any:
    if not as_object:
        return [entity.start, entity.end, entity.label]
    return {"id": _number(entity.id), "label": entity.label, "start_offset": entity.start, "end_offset": entity.end}


def _number(id_: str) -> int | str:
    return int(id_) if id_.isdecimal() else id_
