"""ChemProt (Krallinger et al., 2017): chemicals, genes, and how they are related, in abstracts.

For each part `*_abstracts*.tsv` (PMID, title, abstract), `*_entities*.tsv` (PMID, T1, type, start, end, text) and
`*_gold_standard*.tsv` (PMID, class, Arg1:T1, Arg2:T2), offsets counted in title and abstract with one character
between. GENE-Y and GENE-N, which say whether a gene was found in a database, become GENE. The sample, whose abstracts
are among the training ones, is passed over where there are other parts. `*_relations.tsv`, with classes that the
challenge does not count, is not read.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Document, Entity, Passage, Relation
from clinicalbert_jax.finetune.inputs import record_files

_ARGUMENT = re.compile(r"(Arg[12]):(\S+)")
_GENE = "GENE"
_TYPE = "type"  # what the corpus calls an entity's type


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The abstracts of every part; raises `UserError` for another corpus."""
    parts = [member for member in members if "_abstracts" in member.name and member.suffix == ".tsv"]
    if not parts:
        raise UserError(f"--input: expected files named *_abstracts*.tsv (ChemProt), found none among {len(members):,}")
    others = [part for part in parts if "sample" not in part.stem]
    for abstracts in others or parts:
        entities, relations = (_one(abstracts, what, members) for what in ("entities", "gold_standard"))
        yield from _part(abstracts, entities, relations, ledger)


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """The entities, and the relations as the challenge's scorer reads them."""
    entities, relations = [], []
    for document in documents:
        for one in document.entities:
            kind, quote = one.extra.get(_TYPE, one.label), re.sub(r"\s", " ", one.text_in(document.text))
            entities.append(f"{document.id}\t{one.id}\t{kind}\t{one.start}\t{one.end}\t{quote}\n")
        for relation in document.relations:
            ends = "\t".join(f"{role}:{target}" for role, target in relation.arguments)
            relations.append(f"{document.id}\t{relation.label}\t{ends}\n")
    return {"_entities.tsv": "".join(entities), "_gold_standard.tsv": "".join(relations)}


def _one(abstracts: Member, what: str, members: Sequence[Member]) -> Member:
    begin = abstracts.name.split("_abstracts")[0] + f"_{what}"
    found = [member for member in members if member.name.startswith(begin) and member.suffix == ".tsv"]
    if len(found) != 1:
        raise UserError(f"--input: expected one file {begin}*.tsv beside {abstracts.where}, found {len(found)}")
    return found[0]


def _part(abstracts: Member, entities: Member, relations: Member, ledger: Ledger) -> Iterator[Document]:
    documents: dict[str, Document] = {}
    for line, (id_, title, text) in _fields(abstracts, 3, "lines of abstracts", ledger):
        if id_ in documents:
            ledger.bad("lines of abstracts", abstracts.where, line, "expected an abstract once, found its id again")
            continue
        ledger["lines of abstracts"].as_is()
        middle = len(title) + 1
        passages = Passage(0, len(title), {_TYPE: "title"}), Passage(middle, middle + len(text), {_TYPE: "abstract"})
        whole = f"{title} {text}"
        documents[id_] = Document(id_, whole, entities.where, split=abstracts.split_of_file, passages=passages)
    for line, (pmid, id_, kind, start, end, quote) in _fields(entities, 6, "entities", ledger):
        document = documents.get(pmid)
        if document is None or not start.isdecimal() or not end.isdecimal():
            ledger.bad("entities", entities.where, line, "expected offsets in one of the abstracts, found otherwise")
            continue
        label = _GENE if kind.startswith(_GENE) else kind
        parts = ((int(start), int(end)),)
        document.entities.append(Entity(id_, parts, label, quote, extra={_TYPE: kind}, line=line))
    for line, (pmid, label, *ends) in _fields(relations, 4, "relations", ledger):
        document, arguments = documents.get(pmid), [_ARGUMENT.fullmatch(end.strip()) for end in ends]
        if document is None or not all(arguments):
            ledger.bad(
                "relations", relations.where, line, "expected Arg1:T1 and Arg2:T2 of an abstract, found otherwise"
            )
            continue
        given = tuple(Argument(match[1], match[2]) for match in arguments if match)
        document.relations.append(Relation(f"R{len(document.relations) + 1}", label, given, line=line))
    yield from documents.values()


def _fields(member: Member, number: int, name: str, ledger: Ledger) -> Iterator[tuple[int, list[str]]]:
    for line, row in enumerate(member.lines(ledger.reading), start=1):
        if not row.strip():
            continue
        ledger[name].found()
        fields = row.split("\t")
        if len(fields) == number and record_files.is_text(row):
            yield line, fields
        else:
            ledger.bad(name, member.where, line, f"expected {number} fields between tabs, found {len(fields)}")
