"""What is done with annotations that a task cannot hold as they are. Every use is counted in the ledger. No JAX."""

from dataclasses import dataclass

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option


@dataclass(kw_only=True)
class Policies:
    """The options of a conversion."""

    discontinuous: str = option(
        "Entities of several parts: all from the first to the last, the first part, or refused.",
        "envelope",
        choices=("envelope", "first", "refuse"),
    )
    overlaps: str = option(
        "Overlapping entities: keep the longest, the first, the one whose type comes first in --type_priority, or "
        "one task a type (overlaps inside a type: the longest).",
        "longest",
        choices=("longest", "first", "priority", "layers"),
    )
    type_priority: tuple[str, ...] = option("Types of entities, the ones to keep first, for --overlaps=priority.", ())
    split_tokens: str = option(
        "Entities that begin or end inside a word: keep, widen to whole words, or refuse.",
        "keep",
        choices=("keep", "widen", "refuse"),
    )
    line_ends: str = option(
        "Entities over line ends: keep, keep what stands on the first line, or refuse.",
        "keep",
        choices=("keep", "first", "refuse"),
    )
    offset_search: int = option(
        "Characters to either side in which a quoted text is searched that is not at its offsets.", 5, lowest=0
    )
    duplicates: str = option(
        "Annotations that say the same as an earlier one: keep one, or refuse as a bad record.",
        "once",
        choices=("once", "refuse"),
    )
    composites: str = option(
        "Composite mentions ('renal and hepatic failure'): keep the whole, or its individual mentions where the "
        "source gives their offsets.",
        "whole",
        choices=("whole", "individual"),
    )
    pairs: str = option(
        "Pairs for relations: all of types that the source relates, in a sentence, within --window characters, or in "
        "a document; default: as suits the corpus.",
        "",
        choices=("", "sentence", "window", "document"),
    )
    window: int = option("Characters from the beginning of a pair to its end, for --pairs=window.", 300, lowest=1)

    def __post_init__(self) -> None:
        if (self.overlaps == "priority") != bool(self.type_priority):
            raise UserError(
                "--type_priority: expected types with --overlaps=priority and none without, found otherwise: give both"
            )
