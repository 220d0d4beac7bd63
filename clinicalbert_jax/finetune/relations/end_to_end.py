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
from clinicalbert_jax.files import atomic_output, patterns
from clinicalbert_jax.finetune import page_scores
from clinicalbert_jax.finetune.entities import challenges
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.relations import candidates
from clinicalbert_jax.finetune.task import Example, RateTable, Scores
from clinicalbert_jax.options import option
from clinicalbert_jax.report import html, suppression
from clinicalbert_jax.report.number_formats import count, percent
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

    gold: str = option("Documents with their annotated entities and relations.", labelled=True)
    predicted: str = option("The same documents, as a model of relations predicted them.", labelled=True)
    output: str = option("Beginning of the names of the files to write: .json and .html.")
    reading: Reading
    overwrite: bool = option("Replace earlier files of the same names.", False)


def run(options: Options) -> None:
    """Score, print, and write the scores as JSON and as a page."""
    sources = [patterns.expanded(options.gold), patterns.expanded(options.predicted)]
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
    of_kinds: dict[str, tuple[Callable[..., Scores], list[tuple[Any, Any]]]] = {
        "relations": (scores, [(one.relations, other.relations) for one, other in paired]),
        "entities": (challenges.scores, [(one.entities, other.entities) for one, other in paired]),
    }
    values = {kind: score(*zip(*pairs, strict=True)).values for kind, (score, pairs) in of_kinds.items()}
    with atomic_output.file(results, options.overwrite, sources) as partial:
        checksummed_json.write(partial, {"num_documents": len(gold), **values})
    with atomic_output.file(page, options.overwrite, sources) as partial:
        patients = [document.document for document in gold]
        sections = [
            html.Section(kind.capitalize(), _shown(score, pairs, patients)) for kind, (score, pairs) in of_kinds.items()
        ]
        introduction = [
            f"{count(suppression.shown({'documents': len(gold)})['documents'])} documents.",
            page_scores.RULE,
        ]
        partial.write_text(html.page("Entities and relations end to end", sections, introduction), encoding="utf-8")
    for kind, of_kind in values.items():
        for name, value in of_kind.items():
            if "/" not in name:  # a label's, and labels are not printed
                print(f"{kind:<10} {name:<28} {value:.3f}")


def read(path: Path, reading: Reading) -> list[Document]:
    """The documents of a file; raises `UserError`."""
    records = record_files.read(path, ("id", "entities", "relations"), reading)
    return reading.each(path, records, _document)


def scores(gold: Sequence[Sequence[Relation]], found: Sequence[Sequence[Relation]]) -> Scores:
    """Of the relations of each document."""
    found = [sorted(relations) for relations in found]
    values: dict[str, float] = {}
    made_of: dict[str, Sequence[int]] = {}
    of_labels: dict[str, Sequence[int]] = {}
    rows: list[tuple[str | int, ...]] = []
    for label in sorted({relation.label for side in (gold, found) for of in side for relation in of}):
        annotated, ours = ([[one for one in of if one.label == label] for of in side] for side in (gold, found))
        counts = {rule: _counts(annotated, ours, rule) for rule in _RULES}
        of_labels[label] = [*challenges.parts(counts["strict"]), *challenges.parts(counts["lenient"], counts["strict"])]
        both = {rule: challenges.micro(of_rule) for rule, of_rule in counts.items()}
        values |= {f"{label}/{rule}_{name}": v for rule, rates in both.items() for name, v in rates._asdict().items()}
        rows.append((label, *(percent(rate) for rates in both.values() for rate in rates)))
    for mean in (challenges.micro, challenges.macro):
        counts = {rule: _counts(gold, found, rule) for rule in _RULES}
        both = {rule: mean(of_rule) for rule, of_rule in counts.items()}
        prefix, shown = ("", "all") if mean is challenges.micro else ("macro_", "mean over documents")
        values |= {f"{rule}_{prefix}{name}": v for rule, rates in both.items() for name, v in rates._asdict().items()}
        both_rules = [*challenges.parts(counts["strict"]), *challenges.parts(counts["lenient"], counts["strict"])]
        made_of |= {f"{rule}_{prefix}f1": both_rules for rule in _RULES}
        rows.append((shown, *(percent(rate) for rates in both.values() for rate in rates)))
    header = ("label", *(f"{rule} {rate}" for rule in _RULES for rate in ("precision", "recall", "F1")))
    keys = [*(f"{label}/strict_f1" for label in of_labels), "strict_f1", "strict_macro_f1"]
    table = RateTable(header, rows, "Relations as n2c2 2018 track 2 counts them", keys)
    return Scores(
        values,
        "strict_f1",
        _counts(gold, found, "strict"),
        lambda sums_4: challenges.micro(sums_4[None]).f1,
        [table],
        made_of=made_of,
        of_labels=of_labels,
    )


def _shown(score: Callable[..., Scores], pairs: Sequence[tuple[Any, Any]], patients: Sequence[str]) -> list[Table]:
    """The tables of relations or entities, annotated and found, as the page may show them."""
    of: dict[str, set[str]] = {one.label: set() for pair in pairs for side in pair for one in side}
    for (gold, _), patient in zip(pairs, patients, strict=True):
        for one in gold:
            of[one.label].add(patient)
    names = page_scores.pooled(of)
    renamed = [tuple([one._replace(label=names[one.label]) for one in side] for side in pair) for pair in pairs]
    if not page_scores.is_enough(of):
        return []
    return page_scores.without_small_counts(score(*zip(*renamed, strict=True))).tables


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
