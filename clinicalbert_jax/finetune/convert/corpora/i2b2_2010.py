"""i2b2/VA 2010 (Uzuner et al., 2011): concepts, their assertions, and relations, in lines and tokens.

    c="chest pain" 13:2 13:3||t="problem"
    c="chest pain" 13:2 13:3||t="problem"||a="absent"
    c="aspirin" 1:2 1:2||r="TrAP"||c="chest pain" 1:5 1:6

A line counts from 1, a token from 0, both ends inclusive; tokens are parted by white space, and the quoted text is in
small letters. Where the text is not at its tokens, an empty token between two spaces may have been counted, or the
tokens may be a few off: both are repaired where the quoted text says so. Texts and annotations may lie apart (as in the
three archives of the release): they belong together by folder and name, or by name alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Argument, Attribute, Document, Entity, Part, Relation

ASSERTION = "assertion"
EMPTY_TOKENS = "tokens: an empty one between two spaces counts"
SHIFTED = "tokens moved to the quoted text"
_SPAN = r'c="(.*?)" (\d+):(\d+) (\d+):(\d+)'
_CONCEPT = re.compile(rf'{_SPAN}\|\|t="([^"]+)"\s*')
_ASSERTION = re.compile(rf'{_SPAN}\|\|t="([^"]+)"\|\|a="([^"]+)"\s*')
_RELATION = re.compile(rf'{_SPAN}\|\|r="([^"]+)"\|\|{_SPAN}\s*')
_KINDS = {".con": "entities", ".ast": "attributes", ".rel": "relations"}
_FOLDERS = {"txt", "concept", "concepts", "ast", "rel"}
_SEARCH = 3  # tokens to either side
# What the first argument of a relation is, by how its label begins; the second is a problem.
_FIRST = {"Tr": "treatment", "Te": "test", "PI": "problem"}


def read(members: Sequence[Member], ledger: Ledger) -> Iterator[Document]:
    """The documents; raises `UserError` where there are no .con files, and for bad records."""
    files: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        files[member.suffix].append(member)
    if not files[".con"] or not files[".txt"]:
        found = f"{len(files['.txt']):,} .txt, {len(files['.con']):,} .con"
        raise UserError(
            f"--input: expected NAME.txt and NAME.con files (i2b2 2010), found {found}: give the folder of all"
        )
    of_kind = {suffix: _Names(files[suffix]) for suffix in _KINDS}
    texts = _Names(files[".txt"])
    used: set[str] = set()
    for member in files[".txt"]:
        beside = {suffix: names.beside(member, texts) for suffix, names in of_kind.items()}
        if not any(beside.values()) and member.split == "":
            ledger["documents"].noted("a .txt without annotations, passed over")
            continue
        used |= {one.name for one in beside.values() if one}
        missing = [suffix for suffix, one in beside.items() if not one and files[suffix]]
        if missing:
            ledger["documents"].found()
            problem = f"expected a {missing[0]} of the same name, found none"
            ledger.bad("documents", member.where, 1, problem)
            continue
        yield _document(member, texts, beside, ledger)
    for suffix in _KINDS:
        if not files[suffix]:
            ledger["documents"].noted(f"no {suffix} files there")
        for member in files[suffix]:
            if member.name not in used:
                ledger["documents"].found()
                ledger.bad("documents", member.where, 1, "expected a .txt of the same name, found none")


class _Names:
    """Files by folder and name, and by name."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._by_place = {_place(member): member for member in members}
        self._by_stem: dict[str, list[Member]] = defaultdict(list)
        for member in members:
            self._by_stem[member.stem].append(member)

    def beside(self, text: Member, texts: "_Names") -> Member | None:
        """The file that belongs to a text; none where several could."""
        found = self._by_stem[text.stem]
        alone = len(found) == 1 and texts.is_unique(text)
        return self._by_place.get(_place(text)) or (found[0] if alone else None)

    def is_unique(self, member: Member) -> bool:
        """Whether no other has its name in another folder."""
        return len(self._by_stem[member.stem]) == 1


def _place(member: Member) -> tuple[str, ...]:
    return (*(folder for folder in member.folders if folder not in _FOLDERS), member.stem)


class _Tokens:
    """The tokens of a text, by lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._by_space: list[list[Part]] = []  # an empty one between two spaces counts
        self.lines: list[list[Part]] = []
        at = 0
        for line in text.split("\n"):
            self.lines.append([(at + match.start(), at + match.end()) for match in re.finditer(r"\S+", line)])
            ends = list(accumulate((len(token) + 1 for token in line.split(" ")), initial=at))
            self._by_space.append([(start, end - 1) for start, end in pairwise(ends)])
            at += len(line) + 1

    def place(self, quote: str, where: Sequence[int]) -> tuple[Part | None, tuple[str, ...]]:
        """The characters of a span of tokens, and by which rules; those that the tokens say where nothing else fits."""
        wanted = _flat(quote)
        first = self._span(self.lines, where, 0)
        for part, rules in (
            (first, ()),
            (self._span(self._by_space, where, 0), (EMPTY_TOKENS,)),
        ):
            if part and _flat(self.text[slice(*part)]) == wanted:
                return part, rules
        for shift in range(1, _SEARCH + 1):
            near = [self._span(self.lines, where, sign * shift) for sign in (-1, 1)]
            fits = [part for part in near if part and _flat(self.text[slice(*part)]) == wanted]
            if fits:
                return (fits[0], (SHIFTED,)) if len(fits) == 1 else (first, ())
        return first, ()

    def _span(self, lines: Sequence[Sequence[Part]], where: Sequence[int], shift: int) -> Part | None:
        line, token, last_line, last_token = where
        try:
            if min(line, last_line) < 1 or min(token, last_token) + shift < 0:
                return None
            start, end = lines[line - 1][token + shift][0], lines[last_line - 1][last_token + shift][1]
        except IndexError:
            return None
        return (start, end) if start < end else None

    def written(self, start: int, end: int) -> str:
        """A span of the tokens that characters touch, as the files write it."""
        touched = [
            (number, token, *part)
            for number, line in enumerate(self.lines, start=1)
            for token, part in enumerate(line)
            if part[0] < end and start < part[1]
        ]
        first, last = touched[0], touched[-1]
        quote = _flat(self.text[first[2] : last[3]])
        return f'c="{quote}" {first[0]}:{first[1]} {last[0]}:{last[1]}'


def _flat(text: str) -> str:
    return " ".join(text.lower().split())


def _document(text: Member, texts: _Names, beside: Mapping[str, Member | None], ledger: Ledger) -> Document:
    id_ = text.stem if texts.is_unique(text) else "/".join(_place(text))
    document = Document(id_, text.text(ledger.reading), (beside[".con"] or text).where, split=text.split)
    tokens = _Tokens(document.text)
    by_span: dict[Part, list[Entity]] = defaultdict(list)
    for suffix, kind in _KINDS.items():
        member = beside[suffix]
        for number, line in enumerate(member.lines(ledger.reading) if member else (), start=1):
            if not line.strip():
                continue
            ledger[kind].found()
            problem = _line(document, suffix, number, line, tokens, by_span)
            if problem and member:
                ledger.bad(kind, member.where, number, problem)
    return document


def _line(
    document: Document, suffix: str, number: int, line: str, tokens: _Tokens, by_span: dict[Part, list[Entity]]
) -> str:
    """Add what a line says to the document; returns what is wrong with it, or ''."""
    outside = "expected tokens inside the text, found others"
    if suffix == ".con":
        match = _CONCEPT.fullmatch(line)
        if not match:
            return 'expected c="TEXT" LINE:TOKEN LINE:TOKEN||t="TYPE", found otherwise'
        part, rules = tokens.place(match[1], _numbers(match.groups()[1:5]))
        if part is None:
            return outside
        there = document.text[slice(*part)]
        quote = there if _flat(there) == _flat(match[1]) else match[1]
        entity = Entity(f"T{number}", (part,), match[6], quote, rules=rules, line=number)
        document.entities.append(entity)
        by_span[part].append(entity)
        return ""
    if suffix == ".ast":
        match = _ASSERTION.fullmatch(line)
        if not match:
            return 'expected c="TEXT" LINE:TOKEN LINE:TOKEN||t="TYPE"||a="ASSERTION", found otherwise'
        one = _entity(tokens, by_span, match.groups()[:5], match[6])
        if one is None:
            return "expected an assertion of a concept of the .con, found one of another"
        document.attributes.append(Attribute(f"A{number}", ASSERTION, one.id, match[7], number))
        return ""
    match = _RELATION.fullmatch(line)
    if not match:
        return 'expected c="TEXT" LINE:TOKEN LINE:TOKEN||r="LABEL"||c="TEXT" LINE:TOKEN LINE:TOKEN, found otherwise'
    groups = match.groups()
    head = _entity(tokens, by_span, groups[:5], _FIRST.get(groups[5][:2], ""))
    tail = _entity(tokens, by_span, groups[6:], "problem")
    if head is None or tail is None:
        return "expected a relation of two concepts of the .con, found another"
    arguments = (Argument("1", head.id), Argument("2", tail.id))
    document.relations.append(Relation(f"R{number}", groups[5], arguments, line=number))
    return ""


def _numbers(groups: Sequence[str]) -> list[int]:
    return [int(group) for group in groups]


def _entity(tokens: _Tokens, by_span: Mapping[Part, list[Entity]], groups: Sequence[str], label: str) -> Entity | None:
    """The concept at a span; of several there the one of the type."""
    part, _ = tokens.place(groups[0], _numbers(groups[1:5]))
    found = by_span.get(part, []) if part else []
    of_type = [entity for entity in found if entity.label == label]
    alone = found[0] if len({entity.label for entity in found}) == 1 else None
    return of_type[0] if of_type else alone


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """For each document NAME.con, and NAME.ast and NAME.rel where it has such. A span takes the tokens it touches."""
    files = {}
    has_assertions = any(document.attributes for document in documents)
    has_relations = any(document.relations for document in documents)
    for document in documents:
        tokens = _Tokens(document.text)
        spans = {entity.id: tokens.written(entity.start, entity.end) for entity in document.entities}
        types = {entity.id: entity.label for entity in document.entities}
        files[f"{document.id}.con"] = "".join(f'{span}||t="{types[id_]}"\n' for id_, span in spans.items())
        if has_assertions:
            files[f"{document.id}.ast"] = "".join(
                f'{spans[one.target]}||t="{types[one.target]}"||a="{one.value}"\n' for one in document.attributes
            )
        if has_relations:
            files[f"{document.id}.rel"] = "".join(
                f'{spans[one.arguments[0].target]}||r="{one.label}"||{spans[one.arguments[1].target]}\n'
                for one in document.relations
            )
    return files
