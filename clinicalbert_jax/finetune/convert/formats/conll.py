"""CoNLL files in every scheme of tags, as texts with spans: see `entities.conll`, which reads them.

The words of a sentence are joined by a space. With -DOCSTART- lines a document is what stands between two, its
sentences on lines; else each sentence is one.
"""

import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document, Entity
from clinicalbert_jax.finetune.entities import conll
from clinicalbert_jax.finetune.inputs import tags

_START = "-DOCSTART-"


def read(members: Sequence[Member], ledger: Ledger, scheme: str = "") -> Iterator[Document]:
    """The documents of all files with a suffix of CoNLL; raises `UserError` where there is none."""
    files = [member for member in members if member.suffix in conll.SUFFIXES]
    if not files:
        kinds = ", ".join(conll.SUFFIXES)
        raise UserError(f"--input: expected CoNLL files ({kinds}), found none among {len(members):,} files")
    for member in files:
        yield from _documents(member, ledger, scheme)


def _documents(member: Member, ledger: Ledger, scheme: str) -> Iterator[Document]:
    lines = member.lines(ledger.reading)
    before = ledger.reading.counts.total()
    sentences, scheme = conll.parse(Path(member.where), lines, scheme, ledger.reading, annotated=True)
    starts = [number for number, line in enumerate(lines, start=1) if line.startswith(_START)]
    groups: dict[int, list[conll.Sentence]] = defaultdict(list)
    for number, (line, sentence) in enumerate(sentences):
        broken = tags.first_break(sentence.tags, scheme)
        if broken:
            ledger.reading.found(Path(member.where), sentence.lines[broken[0]], broken[1])
        else:
            groups[bisect.bisect(starts, line) if starts else number].append(sentence)
    bad = ledger.reading.counts.total() - before
    entry = ledger["sentences"]
    entry.found(bad + sum(map(len, groups.values())))
    entry.as_is(sum(map(len, groups.values())))
    if bad:
        entry.refused("bad record", member.where, number=bad)
    for number, group in groups.items():
        document = Document(f"{member.stem}.{number + 1}", "", member.where, group[0].patient, member.split_of_file)
        document.extra = {"scheme": scheme}
        for sentence in group:
            _add(document, sentence, scheme, ledger)
        yield document


def _add(document: Document, sentence: conll.Sentence, scheme: str, ledger: Ledger) -> None:
    document.text += "\n" if document.text else ""
    characters, text = [], document.text
    for number, word in enumerate(sentence.words):
        text += " " if number else ""
        characters.append((len(text), len(text) + len(word)))
        text += word
    document.text = text
    for start, end, label in tags.spans(sentence.tags, scheme):
        ledger["entities"].found()
        part = characters[start][0], characters[end - 1][1]
        document.entities.append(Entity(str(len(document.entities)), (part,), label, line=sentence.lines[start]))


def write(documents: Sequence[Document]) -> Mapping[str, str]:
    """One file in the scheme of the first document. An entity takes the words that it touches."""
    scheme = documents[0].extra.get("scheme", tags.SCHEMES[0]) if documents else tags.SCHEMES[0]
    sentences = []
    for document in documents:
        at = 0
        for text in document.text.split("\n"):
            ends = [at := at + len(word) + 1 for word in text.split(" ")]
            words = [(end - 1 - len(word), end - 1) for end, word in zip(ends, text.split(" "), strict=True)]
            spans: list[tags.Span] = []
            for entity in sorted(document.entities, key=lambda one: one.start):
                touched = [n for n, (s, e) in enumerate(words) if s < entity.end and entity.start < e]
                if touched and (not spans or touched[0] >= spans[-1].end):
                    spans.append(tags.Span(touched[0], touched[-1] + 1, entity.label))
            sentences.append((document.id, text.split(" "), tags.of_spans(spans, len(words), scheme)))
    return {".conll": "".join(conll.lines(sentences))}
