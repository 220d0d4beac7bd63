"""Tags of words, in the schemes IOB2 and IOBES, and the spans of words they stand for.

IOB2: an entity's first word is `B-TYPE`, its others `I-TYPE`. IOBES: an entity of one word is `S-TYPE`, a longer one
`B-TYPE`, any number of `I-TYPE`, `E-TYPE`. All else is `O`. Files in other schemes are rewritten: see `normalized`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
SCHEMES = ("IOB2", "IOBES")
_PREFIXES = {"IOB2": "BI", "IOBES": "BIES"}
UNTYPED = "Entity"  # the type of tags without one, such as BioBERT's `B`, `I` and `O`
_TAG = re.compile(r"O|[BIESLU](?:-\S(?:[^\t\r\n]*\S)?)?")
_BILOU = {"L": "E", "U": "S"}


class Span(NamedTuple):
    """Something of one type from `start` to before `end`: words here, characters of a text elsewhere."""

    start: int
    end: int
    label: str


def is_tag(text: str) -> bool:
    """Whether this is a tag of some scheme."""
    return _TAG.fullmatch(text) is not None


def all_tags(types: Iterable[str], scheme: str) -> tuple[str, ...]:
    """`O`, then the tags of each type, types in the order of their names."""
    return (OUTSIDE, *(f"{prefix}-{label}" for label in sorted(set(types)) for prefix in _PREFIXES[scheme]))


def types(tags: Iterable[str]) -> set[str]:
    """The types that tags name."""
    return {tag[2:] for tag in tags if tag != OUTSIDE}


def scheme_of(tags: Iterable[str]) -> str:
    """IOBES where a tag is one that only IOBES has, else IOB2."""
    return "IOBES" if any(tag[:2] in ("E-", "S-") for tag in tags) else "IOB2"


def normalized(sequences: Sequence[Sequence[str]]) -> list[list[str]]:
    """The tags of a file in IOB2 or IOBES.

    BILOU (L for E, U for S) and IOB1 (`I-` begins entities, `B-` only after another of the same type) are rewritten,
    and tags get the type `UNTYPED` where none in the file has one.
    """
    found = {tag for tags in sequences for tag in tags} - {OUTSIDE}
    rewritten = [list(tags) for tags in sequences]
    if found and all(len(tag) == 1 for tag in found):
        rewritten = [[tag if tag == OUTSIDE else f"{tag}-{UNTYPED}" for tag in tags] for tags in rewritten]
    prefixes = {tag[0] for tag in found}
    if prefixes & set("LU") and not prefixes & set("ES"):
        rewritten = [[_BILOU.get(tag[0], tag[0]) + tag[1:] for tag in tags] for tags in rewritten]
    if _is_iob1(rewritten):
        for tags in rewritten:
            for position, (before, tag) in enumerate(zip([OUTSIDE, *tags], list(tags), strict=False)):
                if tag[0] == "I" and before[1:] != tag[1:]:
                    tags[position] = "B" + tag[1:]
    return rewritten


def best_scheme(sequences: Sequence[Sequence[str]]) -> str:
    """The scheme that more of the sequences keep to; IOB2 where both have as many and no tag is one of IOBES alone."""
    likely = scheme_of(tag for tags in sequences for tag in tags)
    if likely == "IOB2":
        return likely
    sound = {scheme: sum(first_break(tags, scheme) is None for tags in sequences) for scheme in SCHEMES}
    return likely if sound[likely] >= sound["IOB2"] else "IOB2"


def spans(tags: Sequence[str], scheme: str) -> list[Span]:
    """The entities in tags that may break the scheme, as seqeval's strict mode finds them.

    An entity is a run that the scheme allows as a whole. IOB2: `B-X` and the `I-X` that follow it; an `I-X` after
    anything but `B-X` or `I-X` of its entity is none. IOBES: `S-X`; or `B-X`, any `I-X`, `E-X`, and a `B-X` that is not
    closed by `E-X` of its type is none, nor is an `I-X` or `E-X` outside. Tested against seqeval itself.
    """
    found = []
    for start, tag in enumerate(tags):
        prefix, label = tag[:1], tag[2:]
        if prefix == "S":
            found.append(Span(start, start + 1, label))
        elif prefix == "B":
            end = start + 1
            while end < len(tags) and tags[end] == f"I-{label}":
                end += 1
            if scheme == "IOB2":
                found.append(Span(start, end, label))
            elif end < len(tags) and tags[end] == f"E-{label}":
                found.append(Span(start, end + 1, label))
    return found


def of_spans(spans: Iterable[Span], length: int, scheme: str) -> list[str]:
    """The tags of `length` words that hold these entities, which do not overlap."""
    tags = [OUTSIDE] * length
    for start, end, label in spans:
        tags[start:end] = [f"I-{label}"] * (end - start)
        tags[start] = f"B-{label}"
        if scheme == "IOBES":
            tags[end - 1] = f"E-{label}" if end - start > 1 else f"S-{label}"
    return tags


def first_break(tags: Sequence[str], scheme: str) -> tuple[int, str] | None:
    """Where a sequence of tags first breaks its scheme, and how in words, or None."""
    sound = of_spans(spans(tags, scheme), len(tags), scheme)
    position = next((n for n, (tag, other) in enumerate(zip(tags, sound, strict=True)) if tag != other), None)
    if position is None:
        return None
    prefix = tags[position][0]  # a tag's type is not quoted: in a malformed file it may be text
    if len(tags[position]) == 1:
        return position, f"expected a tag with a type, as others in the file, found {prefix} without"
    if prefix not in _PREFIXES[scheme]:
        return position, f"expected tags of {scheme}, found one that begins with {prefix}-"
    if prefix == "B":
        return position, "expected E- of the same type at the end of what B- begins (IOBES), found none"
    return position, f"expected B- to begin an entity ({scheme}), found {prefix}- that continues none of its type"


def _is_iob1(sequences: Iterable[Sequence[str]]) -> bool:
    """Whether some entity begins with `I-`, and each that begins otherwise follows one of its type."""
    found = False
    for tags in sequences:
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
            if tag != OUTSIDE and before[1:] != tag[1:]:
                if tag[0] != "I":
                    return False
                found = True
    return found
