"""The one document model that every format's reader makes and every task's writer takes.

A text with annotations beside it: entities of one or more ranges of characters, relations, attributes, labels of the
document. Offsets count characters (code points) of the text exactly as it stands in the source, carriage returns
included; starts from 0, ends exclusive. Loads no JAX.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from clinicalbert_jax.errors import UserError

Part = tuple[int, int]  # start, end


@dataclass
class Entity:
    """A typed stretch of text in one or more parts, in the order in which the source names them.

    `quote` is the text that the source gives for it (None: none), `concepts` the identifiers of a terminology,
    `extra` what else the source says, by name. `rules` name the repairs that its reader made. `line` is where it stands
    in the source, from 1.
    """

    id: str
    parts: tuple[Part, ...]
    label: str
    quote: str | None = field(default=None, repr=False)
    concepts: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    line: int = field(default=0, compare=False)

    @property
    def start(self) -> int:
        """Of the first part."""
        return min(start for start, _ in self.parts)

    @property
    def end(self) -> int:
        """Of the last part."""
        return max(end for _, end in self.parts)

    def text_in(self, text: str) -> str:
        """What it says: its parts in order, a space between."""
        return " ".join(text[start:end] for start, end in self.parts)


class Argument(NamedTuple):
    """Who takes part in a relation, and as what: an entity's id, or a concept where the relation is `of_concepts`."""

    role: str
    target: str


@dataclass
class Relation:
    """Related entities, or concepts of the whole document."""

    id: str
    label: str
    arguments: tuple[Argument, ...]
    of_concepts: bool = False
    extra: dict[str, str] = field(default_factory=dict)
    line: int = field(default=0, compare=False)


@dataclass
class Attribute:
    """Something said of an entity or a relation, such as an assertion; the value '' says that it is there."""

    id: str
    name: str
    target: str
    value: str = ""
    line: int = field(default=0, compare=False)


class Passage(NamedTuple):
    """A range that the source divides the text into, such as a title, and what it says of it."""

    start: int
    end: int
    extra: dict[str, str]


@dataclass
class Document:
    """A text and its annotations.

    `id` names it in the corpus and in our files. `file` is where it was read from, for messages. `patient` is '' where
    the corpus names none, `split` where it has no official one. `labels` say whether something holds of the
    whole, by name. `first_offset` is what the source calls the text's first character. `extra` and `others`
    are what else the source says, and lines of it that no task uses: kept for the way back.
    """

    id: str
    text: str = field(repr=False)
    file: str = field(default="", compare=False)
    patient: str = ""
    split: str = ""
    entities: list[Entity] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)
    labels: dict[str, bool] = field(default_factory=dict)
    passages: tuple[Passage, ...] = ()
    first_offset: int = 0
    extra: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list, repr=False)

    def by_id(self) -> dict[str, Entity]:
        """Its entities by id."""
        return {entity.id: entity for entity in self.entities}


def write(path: Path, documents: Iterable[Document]) -> None:
    """Documents as JSON lines, for the way back."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(dataclasses.asdict(document), ensure_ascii=False) + "\n")


def read(path: Path) -> list[Document]:
    """The documents that `write` wrote; raises `UserError` for another file."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            return [_document(json.loads(line)) for line in file]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: expected the documents of a conversion, found otherwise ({type(error).__name__}): convert again"
        ) from None


def _document(found: dict[str, Any]) -> Document:
    entities = [
        Entity(
            **one
            | {
                "parts": tuple(map(tuple, one["parts"])),
                "concepts": tuple(one["concepts"]),
                "rules": tuple(one["rules"]),
            }
        )
        for one in found["entities"]
    ]
    relations = [
        Relation(**one | {"arguments": tuple(Argument(*pair) for pair in one["arguments"])})
        for one in found["relations"]
    ]
    attributes = [Attribute(**one) for one in found["attributes"]]
    passages = tuple(Passage(*one) for one in found["passages"])
    return Document(
        **found | {"entities": entities, "relations": relations, "attributes": attributes, "passages": passages}
    )
