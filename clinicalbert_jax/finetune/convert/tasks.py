"""Documents become the records of the tasks: entities, relations, attributes of entities, labels of documents.

Each task counts what it makes of the annotations in a ledger entry of its own: a task may be unable to hold what was
read as it is. Records carry the ids by which predictions find their way back. Loads no JAX.
"""

import bisect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import NamedTuple

from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.convert.common import Record
from clinicalbert_jax.finetune.convert.formats import brat
from clinicalbert_jax.finetune.convert.ledger import Entry, Ledger
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.splits import patient_of
from clinicalbert_jax.finetune.convert.standoff import Document, Entity, Relation
from clinicalbert_jax.finetune.inputs.tags import Span

ENTITIES, RELATIONS, LABELS = "entities", "relations", "labels"
ATTRIBUTE = "attribute-"  # and its name
FLAG = "yes"  # the value of an attribute that has none
MARK = "[[ ", " ]]"  # around the entity whose attribute is to be said
_OVERLAP, _SAME = "overlaps one that is kept", "same span and type as another, by the policies above"
COMPOSITE = "relations of concepts that a composite mention adds on the way back"
_ROLE = "CompositeRole"
_UNWANTED = {"whole": "IndividualMention", "individual": "CompositeMention"}
_SENTENCE_END = re.compile(r"[.?!]\s+(?=[A-Z0-9(\[])|\n\s*\n\s*")
_LINE_END = re.compile(r"\n\s*")

Sides = Mapping[str, Sequence[Document]]


class Single(NamedTuple):
    """An entity as one span, by which rules it became that, and what is to be noted; or why it cannot."""

    span: Span | None
    rules: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""


def records(
    sides: Sides, policies: Policies, pairs: str, line_sentences: bool, ledger: Ledger
) -> dict[str, dict[str, list[Record]]]:
    """The records of every task that the documents have annotations for, by task and split."""
    documents = [document for side in sides.values() for document in side]
    for document in documents:
        for relation in document.relations:
            if any(label == common.NEGATIVE for _, _, label in binary(relation, document)):
                raise UserError(
                    f"{document.file}, line {relation.line}: expected relations of other names than "
                    f"'{common.NEGATIVE}', which is what pairs without one are called: rename it"
                )
    tasks: dict[str, dict[str, list[Record]]] = {}
    if any(document.entities for document in documents):
        tasks |= _entities(sides, policies, ledger)
    if any(document.relations for document in documents):
        related = _related_types(documents)
        makers = _Pairs(policies, policies.pairs or pairs, line_sentences, related, ledger["in task relations"])
        tasks[RELATIONS] = {name: [r for d in side for r in makers.records(d)] for name, side in sides.items()}
    tasks |= _attributes(sides, documents, policies, line_sentences, ledger)
    if any(document.labels for document in documents):
        tasks[LABELS] = {name: [_labels(d) for d in side if d.labels] for name, side in sides.items()}
    return tasks


def base(document: Document, id_: str) -> Record:
    """The fields that all records begin with."""
    patient = patients.identifier(patient_of(document)) or f"document {document.id}"
    return {"id": id_, "patient": patient, "document": document.id}


def single(entity: Entity, text: str, policies: Policies) -> Single:
    """An entity of any parts as one span, by the policies."""
    if entity.extra.get(_ROLE) == _UNWANTED[policies.composites]:
        which = "individual mention of a composite" if policies.composites == "whole" else "composite mention"
        return Single(None, reason=f"{which} (--composites={policies.composites})")
    rules, notes = [], []
    parts = sorted(entity.parts)
    start, end = parts[0]
    if any(text[before:after].strip() for (_, before), (after, _) in pairwise(parts)):
        if policies.discontinuous == "refuse":
            return Single(None, reason="discontinuous (--discontinuous=refuse)")
        rules.append(f"discontinuous: {policies.discontinuous}")
        end = end if policies.discontinuous == "first" else max(end for _, end in parts)
    elif len(parts) > 1:
        rules.append("parts with only white space between: joined")
        end = max(end for _, end in parts)
    line_end = text.find("\n", start, end)
    if line_end >= 0:
        if policies.line_ends == "refuse":
            return Single(None, reason="over a line end (--line_ends=refuse)")
        if policies.line_ends == "first":
            end = start + len(text[start:line_end].rstrip())
            rules.append("over a line end: what stands on the first line")
            if end == start:
                return Single(None, reason="nothing on its first line (--line_ends=first)")
        else:
            notes.append("over a line end")
    widened = _widened(text, start, end)
    if widened != (start, end):
        if policies.split_tokens == "refuse":
            return Single(None, reason="begins or ends inside a word (--split_tokens=refuse)")
        if policies.split_tokens == "widen":
            start, end = widened
            rules.append("begins or ends inside a word: widened")
        else:
            notes.append("begins or ends inside a word")
    if text[start].isspace() or text[end - 1].isspace():
        notes.append("begins or ends with white space")
    return Single(Span(start, end, entity.label), tuple(rules), tuple(notes))


def sentences(document: Document, line_sentences: bool) -> list[tuple[int, int]]:
    """The ranges of a text's sentences; none ends inside an entity. With `line_sentences` a line end ends one."""
    ends = {match.end() for match in _SENTENCE_END.finditer(document.text)}
    if line_sentences:
        ends |= {match.end() for match in _LINE_END.finditer(document.text)}
    for entity in document.entities:
        ends -= set(range(entity.start + 1, entity.end))
    ends -= {len(document.text)}
    found = sorted(ends)
    return list(zip([0, *found], [*found, len(document.text)], strict=True))


def binary(relation: Relation, document: Document) -> list[tuple[str, str, str]]:
    """A relation of entities as pairs with labels: an event is related to each argument by its role."""
    triggers = {one.id: one.arguments[0].target for one in document.relations if one.extra == brat.EVENT}
    targets = [(role, triggers.get(target, target)) for role, target in relation.arguments]
    if relation.extra == brat.EVENT:
        return [(targets[0][1], target, role) for role, target in targets[1:]]
    return [(targets[0][1], target, relation.label) for _, target in targets[1:]]


def mentioned_alone(pairs: Iterable[tuple[Entity, Entity]]) -> set[tuple[str, str]]:
    """The pairs of concepts that pairs of mentions of one concept each stand for."""
    return {(h.concepts[0], t.concepts[0]) for h, t in pairs if len(h.concepts) == len(t.concepts) == 1}


def concepts_of(head: Entity, tail: Entity, alone: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs of concepts that a pair of mentions decides. What is mentioned alone is not decided by a composite."""
    pairs = list(product(head.concepts, tail.concepts))
    return pairs if len(pairs) == 1 else [pair for pair in pairs if pair not in alone]


def _around(bounds: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """The range of the sentences that characters are in."""
    first = bisect.bisect_right(bounds, start, key=lambda bound: bound[0]) - 1
    last = bisect.bisect_left(bounds, end, key=lambda bound: bound[0]) - 1
    return bounds[first][0], bounds[last][1]


def _widened(text: str, start: int, end: int) -> tuple[int, int]:
    while start and text[start].isalnum() and text[start - 1].isalnum():
        start -= 1
    while end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end += 1
    return start, end


def _entities(sides: Sides, policies: Policies, ledger: Ledger) -> dict[str, dict[str, list[Record]]]:
    if policies.overlaps != "layers":
        entry = ledger["in task entities"]
        return {
            ENTITIES: {name: [_spans(d, d.entities, policies, entry) for d in side] for name, side in sides.items()}
        }
    labels = sorted({entity.label for side in sides.values() for document in side for entity in document.entities})
    layers: dict[str, dict[str, list[Record]]] = {}
    for number, label in enumerate(labels, start=1):
        entry = ledger[f"in task entities, layer {number}"]
        layers[f"{ENTITIES}-{number}"] = {
            name: [_spans(d, [e for e in d.entities if e.label == label], policies, entry) for d in side]
            for name, side in sides.items()
        }
    return layers


def _spans(document: Document, entities: Sequence[Entity], policies: Policies, entry: Entry) -> Record:
    entry.found(len(entities))
    candidates = []
    for order, entity in enumerate(entities):
        one = single(entity, document.text, policies)
        if one.span:
            candidates.append((_rank(one.span, order, policies), one.span, one, entity))
        else:
            entry.refused(one.reason, document.file, entity.line)
    kept: list[Span] = []
    for _, span, one, entity in sorted(candidates, key=lambda candidate: candidate[0]):
        crossed = [other for other in kept if other.start < span.end and span.start < other.end]
        if crossed:
            entry.refused(_SAME if span in crossed else _OVERLAP, document.file, entity.line)
            continue
        kept.append(span)
        entry.settled(*one.rules)
        for note in one.notes:
            entry.noted(note)
    return base(document, document.id) | {
        "text": document.text,
        "entities": [span._asdict() for span in sorted(kept)],
    }


def _rank(span: Span, order: int, policies: Policies) -> tuple[int, ...]:
    longest = (span.start - span.end, span.start, order)
    if policies.overlaps == "first":
        return (span.start, *longest)
    if policies.overlaps == "priority":
        known = policies.type_priority
        return (known.index(span.label) if span.label in known else len(known), *longest)
    return longest


def _related_types(documents: Sequence[Document]) -> dict[tuple[str, str], bool]:
    """The types of related entities; and whether the first is the first in the text, where both orders of types occur.

    Else a pair such as two drugs that interact would be read twice, related and the other way round unrelated.
    """
    found: dict[tuple[str, str], bool] = {}

    def add(head: Entity, tail: Entity) -> None:
        types = head.label, tail.label
        found[types] = found.get(types, True) and (head.start, head.end) <= (tail.start, tail.end)

    for document in documents:
        entities = document.by_id()
        by_concept = _by_concept(document)
        for relation in document.relations:
            if relation.of_concepts:
                for head, tail in product(*(by_concept[target] for _, target in relation.arguments[:2])):
                    add(head, tail)
            else:
                for head_id, tail_id, _ in binary(relation, document):
                    if head_id in entities and tail_id in entities:
                        add(entities[head_id], entities[tail_id])
    return {(head, tail): in_order and found.get((tail, head), False) for (head, tail), in_order in found.items()}


def _by_concept(document: Document) -> dict[str, list[Entity]]:
    found: dict[str, list[Entity]] = defaultdict(list)
    for entity in document.entities:
        for concept in entity.concepts:
            found[concept].append(entity)
    return found


class _Pairs(NamedTuple):
    """Makes the records of pairs: all of types that some relation has, in one unit of the text."""

    policies: Policies
    unit: str
    line_sentences: bool
    types: Mapping[tuple[str, str], bool]
    entry: Entry

    def records(self, document: Document) -> Iterator[Record]:
        spans: dict[str, Span] = {}
        for entity in document.entities:
            span = single(entity, document.text, self.policies).span
            if span:
                spans[entity.id] = span
        bounds = sentences(document, self.line_sentences)
        candidates = {}
        for (one, head), (other, tail) in product(spans.items(), spans.items()):
            in_order = self.types.get((head.label, tail.label))
            if one != other and in_order is not None and (head[:2] <= tail[:2] or not in_order):
                extent = self._extent(document, head, tail, bounds)
                if extent:
                    candidates[one, other] = extent
        labels = self._labels(document, candidates)
        number = 0
        for (one, other), (first, last) in candidates.items():
            head, tail = (Span(s.start - first, s.end - first, s.label) for s in (spans[one], spans[other]))
            given = labels.get((one, other), [common.NEGATIVE])
            for label in given:
                number += 1
                id_ = f"{document.id}.{number}"
                record = common.pair(id_, document.id, document.text[first:last], head, tail, label)
                record["head"]["id"], record["tail"]["id"] = one, other
                yield record | base(document, id_)

    def _extent(
        self, document: Document, head: Span, tail: Span, bounds: Sequence[tuple[int, int]]
    ) -> tuple[int, int] | None:
        """The range of the text that a pair is shown in; None where it is no candidate."""
        if self.unit == "document":
            return 0, len(document.text)
        start, end = min(head.start, tail.start), max(head.end, tail.end)
        if self.unit == "window" and end - start > self.policies.window:
            return None
        first, last = _around(bounds, start, end)
        in_one = _around(bounds, start, start + 1) == (first, last)
        return (first, last) if self.unit == "window" or in_one else None

    def _labels(
        self, document: Document, candidates: Mapping[tuple[str, str], tuple[int, int]]
    ) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        by_concept = _by_concept(document)
        outside = f"not in one {self.unit}: --pairs says what is"
        for relation in document.relations:
            if relation.of_concepts:
                self.entry.found()
                mentions = [by_concept[target] for _, target in relation.arguments[:2]]
                pairs = [(head.id, tail.id) for head, tail in product(*mentions)] if len(mentions) == 2 else []
                pairs = [pair for pair in pairs if pair in candidates]
                if pairs:
                    self.entry.as_is()
                    self.entry.noted("relations of concepts: of all pairs of their mentions")
                else:
                    where = "no mentions of its concepts" if not all(mentions) else outside
                    self.entry.refused(where, document.file, relation.line)
                for pair in pairs:
                    if relation.label not in found[pair]:
                        found[pair].append(relation.label)
                continue
            ties = binary(relation, document)
            self.entry.found(max(1, len(ties)))
            if not ties:
                self.entry.refused("fewer than two arguments", document.file, relation.line)
            for head_id, tail_id, label in ties:
                if (head_id, tail_id) not in candidates:
                    self.entry.refused(self._why(document, head_id, tail_id, outside), document.file, relation.line)
                elif label in found[head_id, tail_id]:
                    self.entry.refused("same pair and label as another", document.file, relation.line)
                else:
                    found[head_id, tail_id].append(label)
                    rule = "an event: its trigger with each argument" if relation.extra == brat.EVENT else ""
                    rule = rule or ("more than two arguments: the first with each other" if len(ties) > 1 else "")
                    self.entry.settled(*filter(None, [rule]))
        if any(relation.of_concepts for relation in document.relations):
            entities = document.by_id()
            alone = mentioned_alone((entities[head], entities[tail]) for head, tail in candidates)
            back = {
                (label, pair)
                for (head, tail), labels in found.items()
                for label in labels
                for pair in concepts_of(entities[head], entities[tail], alone)
            }
            said = {(one.label, tuple(target for _, target in one.arguments)) for one in document.relations}
            self.entry.noted(COMPOSITE, len(back - said))
        self.entry.noted("pairs with several labels", sum(len(labels) > 1 for labels in found.values()))
        return found

    def _why(self, document: Document, head: str, tail: str, outside: str) -> str:
        entities = document.by_id()
        if head not in entities or tail not in entities:
            return "an argument is no entity"
        if head == tail:
            return "of an entity with itself"
        if any(single(entities[one], document.text, self.policies).span is None for one in (head, tail)):
            return "an argument was refused"
        return outside


def _attributes(
    sides: Sides, documents: Sequence[Document], policies: Policies, line_sentences: bool, ledger: Ledger
) -> dict[str, dict[str, list[Record]]]:
    types: dict[str, set[str]] = defaultdict(set)  # of entities that have an attribute, by its name
    given: dict[str, set[str]] = defaultdict(set)  # its values
    for document in documents:
        entities = document.by_id()
        for attribute in document.attributes:
            if attribute.target in entities:
                types[attribute.name].add(entities[attribute.target].label)
                given[attribute.name].add(attribute.value)
            else:
                ledger["in task attributes"].found()
                ledger["in task attributes"].refused("of a relation: no task", document.file, attribute.line)
    tasks = {}
    for number, name in enumerate(sorted(types), start=1):
        entry = ledger["in task attributes"]
        folder = name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name) else str(number)
        tasks[ATTRIBUTE + folder] = {
            side: [
                record
                for document in of
                for record in _values(document, name, types[name], given[name], policies, line_sentences, entry)
            ]
            for side, of in sides.items()
        }
    return tasks


def _values(
    document: Document,
    name: str,
    types: set[str],
    given: set[str],
    policies: Policies,
    line_sentences: bool,
    entry: Entry,
) -> Iterator[Record]:
    is_flag = given == {""}
    missing = next(label for label in (common.NEGATIVE, "not annotated", "(not annotated)") if label not in given)
    entities = document.by_id()
    values: dict[str, str] = {}
    usable = {e.id: single(e, document.text, policies).span for e in document.entities if e.label in types}
    for attribute in document.attributes:
        if attribute.name != name or attribute.target not in entities:
            continue
        entry.found()
        if usable.get(attribute.target) is None:
            entry.refused("its entity was refused", document.file, attribute.line)
        elif attribute.target in values:
            entry.refused("another value of the same attribute", document.file, attribute.line)
        else:
            values[attribute.target] = attribute.value or FLAG
            entry.settled(*[f"without a value: {FLAG}"][: not is_flag and not attribute.value])
    bounds = sentences(document, line_sentences)
    for id_, span in usable.items():
        if span is None:
            continue
        first, last = _around(bounds, span.start, span.end)
        text = document.text
        marked = text[first : span.start] + MARK[0] + text[span.start : span.end] + MARK[1] + text[span.end : last]
        yield base(document, f"{document.id}.{id_}") | {
            "text": marked,
            "entity": id_,
            "attribute": name,
            "is_flag": is_flag,
            "missing": missing,
            "label": values.get(id_, missing),
        }


def _labels(document: Document) -> Record:
    given = sorted(name for name, holds in document.labels.items() if holds)
    return base(document, document.id) | {"text": document.text, "labels": given}
