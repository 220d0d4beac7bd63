"""PubTator: `PMID|t|title`, `PMID|a|abstract`, then annotations between tabs, and a blank line after each document.

`PMID START END TEXT TYPE [CONCEPT [MENTIONS]]`: offsets count in title, one space, abstract. A composite mention names
several concepts with `|` between, and in a last column what each reads; these have no offsets, so only the whole can
be kept. `PMID TYPE CONCEPT CONCEPT` is a relation of concepts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Passage, Relation

MENTIONS = "mentions"  # of a composite, as a file names them
_TEXT = re.compile(r"(\S+?)\|([ta])\|(.*)")
_UNKNOWN = "-1"  # the concept of a mention that has none, in BC5CDR


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The documents of all files; raises `UserError` where none begins as PubTator does, and for bad records."""
    files = [member for member in members if _begins(member, ledger)]
    if not files:
        raise UserError(
            f"--input: expected files whose first line is PMID|t|TITLE (PubTator), found none among {len(members):,}"
        )
    ledger["documents"].noted("files that are not PubTator, passed over", len(members) - len(files))
    for member in files:
        yield from _documents(member, ledger)


def _begins(member: Member, ledger: Ledger) -> bool:
    if b"|t|" not in member.data[:4096]:
        return False
    lines = (line for line in member.lines(ledger.reading) if line.strip())
    return bool(_TEXT.fullmatch(next(lines, "")))


def _documents(member: Member, ledger: Ledger) -> Iterator[Document]:
    texts: dict[str, str] = {}
    document = None
    for number, line in enumerate([*member.lines(ledger.reading), ""], start=1):
        if not line.strip():
            if document and "t" not in texts:
                ledger["documents"].found()
                problem = "expected a title before each abstract, found none above this line"
                ledger.bad("documents", member.where, number, problem)
                _refuse(document, ledger)
            elif document:
                ledger["documents"].noted("without an abstract", "a" not in texts)
                yield document
            texts, document = {}, None
            continue
        match = _TEXT.fullmatch(line) if "\t" not in line.split("|", 1)[0] else None
        if match:
            if match[2] in texts or (document and match[1] != document.id):
                ledger["documents"].found()
                problem = "expected one title and one abstract of a document, then a blank line, found otherwise"
                ledger.bad("documents", member.where, number, problem)
                continue
            texts[match[2]] = match[3]
            title, abstract = texts.get("t", ""), texts.get("a", "")
            document = document or Document(match[1], "", member.where, split=member.split_of_file)
            document.text = f"{title} {abstract}"
            middle = len(title) + 1
            document.passages = (
                Passage(0, len(title), {"type": "title"}),
                Passage(middle, middle + len(abstract), {"type": "abstract"}),
            )
        else:
            _annotation(document, number, line.split("\t"), member, ledger)


def _refuse(document: Document, ledger: Ledger) -> None:
    for name, refused in (("entities", document.entities), ("relations", document.relations)):
        for one in refused:
            ledger[name].refused("its document was refused", document.file, one.line)


def _annotation(document: Document | None, number: int, columns: list[str], member: Member, ledger: Ledger) -> None:
    is_relation = len(columns) == 4 and not columns[1].isdecimal()
    kind = "relations" if is_relation else "entities"
    ledger[kind].found()
    if document is None or columns[0] != document.id:
        ledger.bad(kind, member.where, number, "expected an annotation of the document above it, found another id")
    elif is_relation:
        arguments = (Argument("1", columns[2]), Argument("2", columns[3]))
        document.relations.append(Relation(f"R{len(document.relations)}", columns[1], arguments, True, line=number))
    elif 5 <= len(columns) <= 7 and columns[1].isdecimal() and columns[2].isdecimal() and columns[4].strip():
        _, start, end, quote, label, *rest = columns
        concepts = tuple(rest[0].split("|")) if rest and rest[0] not in ("", _UNKNOWN) else ()
        extra = {MENTIONS: rest[1]} if len(rest) > 1 else {}
        if len(concepts) > 1 or extra:
            ledger["entities"].noted("composite mentions, kept whole")
        parts = ((int(start), int(end)),)
        document.entities.append(
            Entity(str(len(document.entities)), parts, label.strip(), quote, concepts, extra, line=number)
        )
    else:
        problem = "expected PMID, start, end, text, type and concept between tabs, found otherwise"
        ledger.bad(kind, member.where, number, problem)


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """One file; a mention without a concept has -1, as in BC5CDR."""
    blocks = []
    for document in documents:
        title, abstract = _passages(document)
        lines = [f"{document.id}|t|{title}", f"{document.id}|a|{abstract}"]
        for one in document.entities:
            quote = re.sub(r"[\t\r\n]", " ", document.text[one.start : one.end])
            columns = [document.id, str(one.start), str(one.end), quote, one.label, "|".join(one.concepts) or _UNKNOWN]
            lines.append("\t".join([*columns, *([one.extra[MENTIONS]] if MENTIONS in one.extra else [])]))
        for relation in document.relations:
            targets = [target for _, target in relation.arguments]
            lines.append("\t".join([document.id, relation.label, *targets]))
        blocks.append("\n".join(lines) + "\n\n")
    return {".PubTator": "".join(blocks)}


def _passages(document: Document) -> tuple[str, str]:
    if len(document.passages) == 2:
        return tuple(document.text[start:end] for start, end, _ in document.passages)  # type: ignore[return-value]
    title, _, abstract = document.text.partition("\n")
    return title, re.sub(r"[\r\n]", " ", abstract)
