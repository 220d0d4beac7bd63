"""Invented documents for the tests of readers and writers: texts and annotations of every awkward kind.

`documents` draws standoff documents; what a format cannot hold is left out by `Kind`.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.standoff import Argument, Attribute, Document, Entity, Passage, Relation

# Pieces that texts are made of: what shifts offsets is there more often than in any note.
WORDS = (
    "a",
    "pain",
    "Bp",
    "née",
    "测试",
    "𝛼-x",
    "12.5",
    "CHEST",
    "it's",
    "e\u0301",
    "(b)",
    "<c>&",
    '"q"',
    "x|y",
    "x]]>",
    "end.",
)


@dataclass(frozen=True)
class Kind:
    """What a format can hold."""

    spaces: tuple[str, ...] = (" ", "  ", "\n", "\r\n", "\t", " \n\n", "\u00a0", "\u2028")
    discontinuous: bool = True
    overlapping: bool = True
    relations: bool = True
    attributes: bool = True
    passages: bool = False
    concepts: bool = False
    roles: tuple[str, str] = ("Arg1", "Arg2")
    values: tuple[str, ...] = ("", "absent")
    relation: str = "treats"
    attribute: str = "assertion"
    labels: tuple[str, ...] = ("problem", "drug", "DATE")


@st.composite
def texts(draw: st.DrawFn, spaces: tuple[str, ...]) -> tuple[str, list[tuple[int, int]]]:
    """A text and the ranges of its words; with spaces around it where there are several kinds of them."""
    text, words = draw(st.sampled_from(["", *spaces])) if len(spaces) > 1 else "", []
    for word in draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12)):
        if words:
            text += draw(st.sampled_from(spaces))
        words.append((len(text), len(text) + len(word)))
        text += word
    return text + (draw(st.sampled_from(["", *spaces])) if len(spaces) > 1 else ""), words


@st.composite
def document(draw: st.DrawFn, kind: Kind, id_: str) -> Document:
    """A document whose entities have their quoted texts."""
    text, words = draw(texts(kind.spaces))
    found = Document(id_, text, id_)
    if kind.passages:
        title, _, abstract = text.partition(" ")
        found.passages = (
            Passage(0, len(title), {"type": "title"}),
            Passage(len(title) + 1, len(title) + 1 + len(abstract), {"type": "abstract"}),
        )
        found.text = f"{title} {abstract}"
        words = [word for word in words if word[1] <= len(title) or word[0] > len(title)]
    taken: list[tuple[int, int]] = []
    for number in range(draw(st.integers(0, 4))):
        count = draw(st.integers(1, 2 if kind.discontinuous else 1))
        parts = set()
        for _ in range(count):
            first = draw(st.integers(0, len(words) - 1))
            last = draw(st.integers(first, min(first + 3, len(words) - 1)))
            parts.add((words[first][0], words[last][1]))
        chosen = tuple(sorted(parts))
        if len(chosen) == 2 and chosen[1][0] < chosen[0][1]:
            chosen = chosen[:1]
        if not kind.overlapping and any(s < chosen[0][1] and chosen[0][0] < e for s, e in taken):
            continue
        label = draw(st.sampled_from(kind.labels))
        if any((e.parts, e.label) == (chosen, label) for e in found.entities):
            continue
        taken.append(chosen[0])
        concepts = (f"D{number}",) if kind.concepts else ()
        found.entities.append(Entity(f"T{number + 1}", chosen, label, None, concepts))
    if kind.relations and len(found.entities) > 1:
        pairs = draw(st.sets(st.tuples(*[st.sampled_from([e.id for e in found.entities])] * 2), max_size=3))
        for number, (head, tail) in enumerate(sorted(pairs), start=1):
            if head != tail:
                found.relations.append(
                    Relation(
                        f"R{number}", kind.relation, (Argument(kind.roles[0], head), Argument(kind.roles[1], tail))
                    )
                )
    if kind.attributes and found.entities:
        found.attributes.append(
            Attribute("A1", kind.attribute, found.entities[0].id, draw(st.sampled_from(kind.values)))
        )
    return found


def members(files: dict[str, str]) -> list[Member]:
    """Written files as a reader gets them."""
    return [Member(f"all{name}" if name.startswith(".") else name, name, text.encode()) for name, text in files.items()]


def canonical(found: Document) -> tuple[object, ...]:
    """What two documents with the same annotations have in common: ids may differ, nothing else."""
    names = {entity.id: (entity.parts, entity.label) for entity in found.entities}
    return (
        found.text,
        sorted((entity.parts, entity.label, entity.concepts) for entity in found.entities),
        sorted(
            (relation.label, [(role, names.get(target, target)) for role, target in relation.arguments])
            for relation in found.relations
        ),
        sorted((one.name, names.get(one.target, one.target), one.value) for one in found.attributes),
    )
