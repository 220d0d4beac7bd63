"""What every reader's documents go through: offsets and quoted texts compared, references resolved, duplicates found.

The readers count what they find in the ledger; here each of it is settled: as it is, repaired, or refused.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import count

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Part, Relation
from clinicalbert_jax.finetune.inputs import record_files

_LONGEST_ID = 150  # characters, of a document or a type; ids of records are a little longer
DISAGREES = "quoted text not at its offsets, nor near"
_MOVED, _CASE, _SPACE = (
    "offsets moved to the quoted text",
    "letter case of the quoted text",
    "white space of the quoted text",
)
_DUPLICATE, _LOST = "duplicate", "refers to what was refused"


def settle(documents: Iterable[Document], ledger: Ledger, policies: Policies) -> list[Document]:
    """Documents with what can be used of them; raises `UserError` for bad records, as `--on_bad_record` says."""
    kept: dict[str, Document] = {}
    for document in documents:
        ledger["documents"].found()
        if document == kept.get(document.id):
            ledger["documents"].refused("the same document again", document.file)
        elif document.id in kept:
            problem = f"expected one document of a name, found that of {kept[document.id].file} again"
            ledger.bad("documents", document.file, 1, problem)
        elif not document.id.isprintable() or len(document.id) > _LONGEST_ID:
            problem = f"expected a document's name of at most {_LONGEST_ID} characters, found otherwise"
            ledger.bad("documents", document.file, 1, problem)
        elif not record_files.is_text(document.text):
            ledger["documents"].refused("without text", document.file)
        else:
            kept[document.id] = document
            ledger["documents"].as_is()
            if document.labels:
                ledger["document labels"].as_is(len(document.labels))
            continue
        _refuse_all(document, ledger)
    for document in kept.values():
        _settle(document, ledger, policies)
    _check_few(ledger)
    return list(kept.values())


def _refuse_all(document: Document, ledger: Ledger) -> None:
    for name in ("entities", "relations", "attributes"):
        for one in getattr(document, name):
            ledger[name].refused("its document was refused", document.file, one.line)
    if document.labels:
        ledger["document labels"].refused("its document was refused", document.file, number=len(document.labels))


def _check_few(ledger: Ledger) -> None:
    wrong, found = ledger["entities"].reasons[DISAGREES], ledger["entities"].number_found
    if wrong > max(1, ledger.reading.max_malformed_fraction * found):
        raise UserError(
            f"--input: {wrong:,} of {found:,} entities are not at their offsets: probably texts of another version, or "
            "another --encoding; or allow them by --max_malformed_fraction"
        )


def _settle(document: Document, ledger: Ledger, policies: Policies) -> None:
    same_as: dict[str, str] = {}  # ids of duplicates, and what stands for each
    known: set[str] = set()  # ids read so far, refused ones as well
    entities: dict[tuple[object, ...], Entity] = {}
    for entity in document.entities:
        try:
            if entity.id in known:
                raise _Bad("expected an id of its own, found that of an earlier annotation")
            known.add(entity.id)
            rules = _place(entity, document.text, policies.offset_search)
        except _Bad as problem:
            ledger.bad("entities", document.file, entity.line, str(problem))
            continue
        if rules is None:
            ledger["entities"].refused(DISAGREES, document.file, entity.line)
            continue
        key = entity.parts, entity.label, entity.concepts, tuple(sorted(entity.extra.items()))
        if key in entities:
            same_as[entity.id] = entities[key].id
            _duplicate("entities", document, entity.line, ledger, policies)
            continue
        entities[key] = entity
        ledger["entities"].settled(*entity.rules, *rules)
    document.entities = list(entities.values())
    usable = {entity.id for entity in document.entities} | {relation.id for relation in document.relations}
    known |= {relation.id for relation in document.relations}
    _settle_relations(document, same_as, known, usable, ledger, policies)
    usable = {entity.id for entity in document.entities} | {relation.id for relation in document.relations}
    _settle_attributes(document, same_as, known, usable, ledger, policies)


def _settle_attributes(
    document: Document, same_as: dict[str, str], known: set[str], usable: set[str], ledger: Ledger, policies: Policies
) -> None:
    said: set[tuple[str, ...]] = set()
    attributes = document.attributes
    document.attributes = []
    for one in attributes:
        one.target = same_as.get(one.target, one.target)
        key = one.name, one.target, one.value
        if one.target not in known:
            problem = "expected an attribute of an annotation of its document, found another"
            ledger.bad("attributes", document.file, one.line, problem)
        elif one.target not in usable:
            ledger["attributes"].refused(_LOST, document.file, one.line)
        elif key in said:
            _duplicate("attributes", document, one.line, ledger, policies)
        else:
            said.add(key)
            document.attributes.append(one)
            ledger["attributes"].as_is()


def _settle_relations(
    document: Document, same_as: dict[str, str], known: set[str], usable: set[str], ledger: Ledger, policies: Policies
) -> None:
    relations: dict[tuple[object, ...], Relation] = {}
    ids: set[str] = set()
    _rename(document.relations, same_as)
    while lost := {one.id for one in document.relations if one.id in usable and not _targets(one) <= usable}:
        usable = usable - lost  # what refers to them is lost too
    for relation in document.relations:
        targets = _targets(relation)
        key = relation.label, relation.arguments, tuple(sorted(relation.extra.items()))
        if relation.id in ids or not targets <= known:
            problem = "expected an id of its own and arguments that are annotations of its document, found otherwise"
            ledger.bad("relations", document.file, relation.line, problem)
        elif not targets <= usable:
            ledger["relations"].refused(_LOST, document.file, relation.line)
        elif key in relations:
            same_as[relation.id] = relations[key].id
            _duplicate("relations", document, relation.line, ledger, policies)
        else:
            relations[key] = relation
            ids.add(relation.id)
            ledger["relations"].as_is()
    document.relations = list(relations.values())
    _rename(document.relations, same_as)


def _rename(relations: Iterable[Relation], same_as: dict[str, str]) -> None:
    for one in relations:
        if not one.of_concepts:
            one.arguments = tuple(Argument(role, same_as.get(target, target)) for role, target in one.arguments)


def _targets(relation: Relation) -> set[str]:
    return set() if relation.of_concepts else {target for _, target in relation.arguments}


def _duplicate(name: str, document: Document, line: int, ledger: Ledger, policies: Policies) -> None:
    if policies.duplicates == "refuse":
        ledger.bad(name, document.file, line, "expected an annotation once, found it again: give --duplicates=once")
    else:
        ledger[name].refused(_DUPLICATE, document.file, line)


class _Bad(Exception):  # noqa: N818
    """What is wrong with one annotation."""


def _place(entity: Entity, text: str, search: int) -> tuple[str, ...] | None:
    """Compare an entity with its text, and move it where its quoted text is near; None where that is nowhere.

    Returns the rules by which it was repaired.
    """
    if not entity.label.isprintable() or not 0 < len(entity.label) <= _LONGEST_ID:
        raise _Bad(f"expected a type of one line and at most {_LONGEST_ID} characters, found otherwise")
    for start, end in entity.parts:
        if not 0 <= start < end <= len(text):
            is_near = 0 <= start < end <= len(text) + search and end - start == len(entity.quote or "")
            if len(entity.parts) == 1 and is_near and (parts := _moved(entity, text, search)):
                entity.parts = parts
                return (_MOVED,)
            raise _Bad(f"expected offsets inside the text of {len(text)} characters, found {start} to {end}")
    if entity.quote is None:
        return ()
    found = agreement(entity, text)
    if found is None:
        parts = _moved(entity, text, search)
        if parts is None:
            return None
        entity.parts = parts
        return tuple(filter(None, (_MOVED, agreement(entity, text))))
    return (found,) if found else ()


def agreement(entity: Entity, text: str) -> str | None:
    """'' where the quoted text is at the offsets, the rule by which it is, or None.

    A line of a format cannot hold a line end, and many write a space for it: that is no difference.
    """
    quote = entity.quote or ""
    there = entity.text_in(text)
    # Of a carriage return and a line feed a writer makes one space or two.
    if _flat(quote) in (_flat(there), _flat(there.replace("\r\n", "\n"))):
        return ""
    if "".join(quote.split()) == "".join(there.split()):
        return _SPACE
    if "".join(quote.lower().split()) == "".join(there.lower().split()):
        return _CASE
    return None


def _flat(text: str) -> str:
    return re.sub(r"\s", " ", text)


def _moved(entity: Entity, text: str, search: int) -> tuple[Part, ...] | None:
    """The parts at the nearest offsets that say what is quoted. None where there are none or two as near."""
    quotes = _quotes(entity)
    if quotes is None:
        return None
    parts = []
    for (start, _), quote in zip(entity.parts, quotes, strict=True):
        wanted, found = _flat(quote).lower(), None
        for distance in range(search + 1):
            near = {
                place
                for place in (start - distance, start + distance)
                if place >= 0 and _flat(text[place : place + len(quote)]).lower() == wanted
            }
            if near:
                found = near
                break
        if found is None or len(found) > 1:
            return None
        place = found.pop()
        parts.append((place, place + len(quote)))
    return tuple(parts)


def _quotes(entity: Entity) -> Sequence[str] | None:
    """The quoted text of each part: one part has it all, several have what is as long as they are."""
    quote = entity.quote or ""
    if len(entity.parts) == 1:
        return [quote] if quote.strip() else None
    quotes, at = [], 0
    for number, (start, end) in zip(count(), entity.parts):
        if number and quote[at : at + 1].isspace():
            at += 1
        quotes.append(quote[at : at + end - start])
        at += end - start
    return quotes if at == len(quote) and all(map(str.strip, quotes)) else None
