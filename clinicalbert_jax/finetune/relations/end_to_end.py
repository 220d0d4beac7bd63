"""Relations between entities that were predicted too, scored against a document's own, as n2c2 2018 track 2 counts.

A relation is right where its type and both entities are: their types, and strictly their offsets, leniently a character
in common (see `entities.challenges`). Recall is over all annotated relations, also those no pair was made of. Both
files hold a document a line, as `clinicalbert_jax.predict` writes them with a model of relations:
`{"id": ..., "entities": [{"start": ..., "end": ..., "label": ...}], "relations": [{"label": ..., "head": {"start": ...,
"end": ..., "type": ...}, "tail": {...}}]}`, or as a conversion keeps it in `documents/`.

Shape legend: E documents; 4 counts, see `entities.challenges`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.finetune.entities import challenges
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.relations import candidates
from clinicalbert_jax.finetune.task import Example
from clinicalbert_jax.options import option
from clinicalbert_jax.report import html
from clinicalbert_jax.report.number_formats import percent
from clinicalbert_jax.report.table import Table


class Relation(NamedTuple):
    """Two related entities, by characters of their document."""

    head: Span
    tail: Span
    label: str


@dataclass(frozen=True)
class Document(Example):
    """What a document was found or annotated to hold."""

    entities: tuple[Span, ...]
    relations: tuple[Relation, ...]


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    gold: str = option("Documents with their annotated entities and relations.")
    predicted: str = option("The same documents, as a model of relations predicted them.")
    output: str = option("Beginning of the names of the files to write: .json and .html.")
    reading: Reading
    overwrite: bool = option("Replace earlier files of the same names.", False)


def run(options: Options) -> None:
    """Score, print, and write the scores as JSON and as a page."""
    sources = [Path(options.gold), Path(options.predicted)]
    output = atomic_output.local_path(options.output, "--output")
    results, page = (output.with_name(output.name + end) for end in (".json", ".html"))
    for path in (results, page):
        atomic_output.check_file(path, options.overwrite, sources)
    gold, found = (read(path, options.reading) for path in sources)
    by_id = {document.id: document for document in found}
    if by_id.keys() != {document.id for document in gold}:
        both = sum(document.id in by_id for document in gold)
        raise UserError(
            f"{sources[1]}: expected the {len(gold):,} documents of {sources[0]}, found {both:,} of them and "
            f"{len(found) - both:,} others: predict for that very file"
        )
    paired = [(document, by_id[document.id]) for document in gold]
    relation_values, relation_tables = scores([d.relations for d, _ in paired], [d.relations for _, d in paired])
    entity_values, entity_tables = challenges.scores([d.entities for d, _ in paired], [d.entities for _, d in paired])
    with atomic_output.file(results, options.overwrite, sources) as partial:
        values = {"num_documents": len(gold), "relations": relation_values, "entities": entity_values}
        checksummed_json.write(partial, values)
    with atomic_output.file(page, options.overwrite, sources) as partial:
        sections = [html.Section("Relations", relation_tables), html.Section("Entities", entity_tables)]
        introduction = [f"{len(gold):,} documents."]
        partial.write_text(html.page("Entities and relations end to end", sections, introduction), encoding="utf-8")
    for kind, of_kind in (("relations", relation_values), ("entities", entity_values)):
        for name, value in of_kind.items():
            if "/" not in name:  # a label's, and labels are not printed
                print(f"{kind:<10} {name:<28} {value:.3f}")


def read(path: Path, reading: Reading) -> list[Document]:
    """The documents of a file; raises `UserError`."""
    records = record_files.read(path, ("id", "entities", "relations"), reading)
    return reading.each(path, records, _document)


def scores(
    gold: Sequence[Sequence[Relation]], found: Sequence[Sequence[Relation]]
) -> tuple[dict[str, float], list[Table]]:
    """Values by name and tables, of the relations of each document."""
    found = [sorted(relations) for relations in found]
    values: dict[str, float] = {}
    rows: list[tuple[str | int, ...]] = []
    for label in sorted({relation.label for side in (gold, found) for of in side for relation in of}):
        annotated, ours = ([[one for one in of if one.label == label] for of in side] for side in (gold, found))
        both = {rule: challenges.micro(_counts(annotated, ours, rule)) for rule in _RULES}
        values |= {f"{label}/{rule}_{name}": v for rule, rates in both.items() for name, v in rates._asdict().items()}
        rows.append((label, *(percent(rate) for rates in both.values() for rate in rates)))
    for mean in (challenges.micro, challenges.macro):
        both = {rule: mean(_counts(gold, found, rule)) for rule in _RULES}
        prefix, shown = ("", "all") if mean is challenges.micro else ("macro_", "mean over documents")
        values |= {f"{rule}_{prefix}{name}": v for rule, rates in both.items() for name, v in rates._asdict().items()}
        rows.append((shown, *(percent(rate) for rates in both.values() for rate in rates)))
    header = ("label", *(f"{rule} {rate}" for rule in _RULES for rate in ("precision", "recall", "F1")))
    return values, [Table(header, rows, "Relations as n2c2 2018 track 2 counts them")]


def _lenient(one: Relation, other: Relation) -> bool:
    return (
        one.label == other.label
        and challenges.overlap_in_type(one.head, other.head)
        and challenges.overlap_in_type(one.tail, other.tail)
    )


_RULES: dict[str, Callable[[Relation, Relation], bool]] = {"strict": Relation.__eq__, "lenient": _lenient}


def _counts(gold: Sequence[Sequence[Relation]], found: Sequence[Sequence[Relation]], rule: str) -> np.ndarray:
    pairs = zip(gold, found, strict=True)
    return np.array([challenges.n2c2_2018(*pair, _RULES[rule]) for pair in pairs], np.int64).reshape(-1, 4)


def _document(line: int, record: Record) -> Document:
    record = candidates.plain(record)
    text = fields.text(record, "text") if "text" in record else None
    entities = {fields.span(one, text, "an entity", "label") for one in _list(record, "entities")}
    relations = []
    for one in _list(record, "relations"):
        if not isinstance(one, dict):
            raise BadRecord("expected objects in the field 'relations', found otherwise")
        head, tail = (fields.span(one.get(end), text, f"a {end}", "type") for end in ("head", "tail"))
        if not {head, tail} <= entities:
            raise BadRecord("expected relations between entities of the record, found one of another span or type")
        relations.append(Relation(head, tail, fields.name(one, "label")))
    id_, patient = fields.identifier(record, str(line)), fields.optional_patient(record)
    return Document(id_, line, patient, tuple(sorted(entities)), tuple(relations))


def _list(record: Record, name: str) -> list[Any]:
    if not isinstance(record[name], list):
        raise BadRecord(f"expected a list in the field {name!r}, found otherwise")
    return record[name]
