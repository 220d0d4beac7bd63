"""Tags of words, in the schemes IOB2 and IOBES, and the spans of words they stand for.

IOB2: an entity's first word is `B-TYPE`, its others `I-TYPE`. IOBES: an entity of one word is `S-TYPE`, a longer one
`B-TYPE`, any number of `I-TYPE`, `E-TYPE`. All else is `O`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
SCHEMES = ("IOB2", "IOBES")
_PREFIXES = {"IOB2": "BI", "IOBES": "BIES"}
_TAG = re.compile(r"O|[BIES]-\S(?:[^\t\r\n]*\S)?")


class Span(NamedTuple):
    """Something of one type from `start` to before `end`: words here, characters of a text elsewhere."""

    start: int
    end: int
    label: str


def is_tag(text: str) -> bool:
    """Whether this is a tag of either scheme."""
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
    place = next((n for n, (tag, other) in enumerate(zip(tags, sound, strict=True)) if tag != other), None)
    if place is None:
        return None
    tag = tags[place]
    if tag[:1] not in _PREFIXES[scheme]:
        return place, f"expected tags of {scheme}, found {tag!r}"
    if tag[:1] == "B":
        return place, f"expected {'E-' + tag[2:]!r} at the end of what {tag!r} begins (IOBES), found none"
    before = repr(tags[place - 1]) if place else "the beginning"
    return place, f"expected {'B-' + tag[2:]!r} to begin an entity ({scheme}), found {tag!r} after {before}"


def looks_like_iob1(sequences: Iterable[Sequence[str]]) -> int | None:
    """Number of the first sequence with an entity that begins with `I-`, where no other kind of entity stands alone.

    IOB1 begins entities with `I-`, and has `B-` only between two neighbours of one type.
    """
    first = None
    for number, tags in enumerate(sequences):
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
            if before[2:] == tag[2:] or tag == OUTSIDE:
                continue
            if tag[:1] != "I":
                return None
            first = number if first is None else first
    return first
