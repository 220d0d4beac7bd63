"""Sections and sentences of clinical prose. The rules, with examples, are in `docs/data.md`.

Every line of a cleaned note ends a sentence. Inside a line, sentences end at '.', '!' and '?' except after
abbreviations, initials and the numbers of list items; headers, bullets and numbered items begin new ones. No text is
lost: the sentences one after the other are the note, white space aside.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from data_prep.text.clinical_words import (
    BEFORE_NUMBER,
    BEGINNERS,
    KNOWN_SECTIONS,
    LETTERED,
    NEVER_END,
    RARELY_END,
    SAME_SECTION,
)


@dataclass
class Sentences:
    """The sentences of a note in order, and for each the normalised header it stands under ('' before the first)."""

    texts: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)


def split(text: str) -> Sentences:
    """The sentences of a note that `cleaning.clean` gave. A header is a sentence of its own, in its own section."""
    texts: list[str] = []
    sections: list[str] = []
    section = ""
    shouting = _is_all_caps(text)
    if not text.isascii():
        text = _INLINE_BULLET.sub("\n", text)
    for line in text.split("\n"):
        if len(line) <= _MAX_HEADER and (name := _header_line(line, shouting)):
            section = name
            texts.append(line)
            sections.append(section)
            continue
        for sentence in _sentences_of_line(line):
            end = sentence.find(":", 0, _MAX_HEADER) + 1
            if end and sentence[end : end + 1] in ("", " ") and (name := _section_name(sentence[: end - 1])):
                section = name
                texts.append(sentence[:end])
                sections.append(section)
                sentence = sentence[end + 1 :]
            if sentence:
                texts.append(sentence)
                sections.append(section)
    return Sentences(texts, sections)


def split_lines(text: str) -> Sentences:
    """The sentences of text that has one a line already (`--input_format=sentences`)."""
    texts = [line for line in text.split("\n") if line]
    return Sentences(texts, [""] * len(texts))


# --- headers

_MAX_HEADER = 70
_MARKER = re.compile(r"(?:\d{1,2}|[a-zA-Z]|[ivxIVX]{1,4})[.)] ")
_WORDS_OF_HEADER = re.compile(r"[A-Z][A-Za-z0-9/&,'()#.-]*(?: [A-Za-z0-9/&,'()#.-]+){0,7} ?")
_TITLE_CASE = re.compile(r"[A-Z][\w/&'()-]*(?: (?:[A-Z][\w/&'()-]*|of|and|the|for|in|on|to|at|with|or|by)){0,6}")
_CAPITALS_LINE = re.compile(r"[A-Z][A-Z/&,'() -]{3,58}")
_HAS_LOWER = re.compile(r"[a-z]")


def _section_name(header: str) -> str:
    """The normalised name of a header that text follows, '' if it is only a label such as 'BP' or 'Sex'."""
    header = header.rstrip(" ")
    marker = _MARKER.match(header)
    bare = header[marker.end() :] if marker else header
    name = bare.lower()
    if name in KNOWN_SECTIONS:
        return SAME_SECTION.get(name, name)
    if _HAS_LOWER.search(bare) or not _WORDS_OF_HEADER.fullmatch(bare) or ". " in bare:
        return ""
    return name if sum(map(str.isalpha, bare)) >= 4 else ""


def _header_line(line: str, shouting: bool) -> str:
    """The normalised name of a header that has a line to itself, '' if the line is none."""
    colon = line.endswith(":")
    bare = line[:-1].rstrip(" ") if colon else line
    marker = _MARKER.match(bare)
    if marker:
        bare = bare[marker.end() :]
    name = bare.lower()
    if name in KNOWN_SECTIONS:
        return SAME_SECTION.get(name, name)
    if colon:
        return name if _TITLE_CASE.fullmatch(bare) or _section_name(bare) else ""
    is_header = not shouting and not marker and _CAPITALS_LINE.fullmatch(line) and line.count(" ") < 6
    return name if is_header else ""


def _is_all_caps(text: str) -> bool:
    """Whether a note is written in capitals, so that capitals do not make a header."""
    letters = text.encode("ascii", "ignore")
    num_lower = len(letters) - len(letters.translate(None, b"abcdefghijklmnopqrstuvwxyz"))
    return num_lower * 4 < len(letters)


# --- sentences of a line

_INLINE_BULLET = re.compile(" (?=[•·‣▪◦] )")
_CANDIDATE = re.compile(
    r"[.!?](?:[\"')\]”’]* (?=\S)"  # the usual end
    r"|(?<=[a-z]{3}\.)(?=[A-Z][a-z]+ ))"  # the space forgotten
)
_ITEM = re.compile(r"(?:(?<= )|^)\(?(\d{1,2})[.)] (?=\S)")
_INNER_ITEM = re.compile(r" \(?\d{1,2}[.)] ")
_OPENING, _CLOSING = "\"'([“‘", "\"')]”’"


def _sentences_of_line(line: str) -> Iterator[str]:
    """The parts of one line, without the spaces between them."""
    start = 0
    ends = [match.end() for match in _CANDIDATE.finditer(line)]
    items: frozenset[int] = frozenset()
    if _INNER_ITEM.search(line):
        items = _item_starts(line)
        ends = sorted(items.union(ends))
    for end in ends:
        if end > start and (end in items or _ends(line, start, end)):
            yield line[start:end].rstrip(" ")
            start = end
    if start < len(line):
        yield line[start:]


def _item_starts(line: str) -> frozenset[int]:
    """Where the items of a numbered list inside a line begin: 1, 2, ... in order, or on from the line's own number."""
    starts: list[int] = []
    expected = 1
    for marker in _ITEM.finditer(line):
        number = int(marker[1])
        if number == expected or (not starts and marker.start() == 0):
            starts.append(marker.start())
            expected = number + 1
    return frozenset(starts) if len(starts) >= 2 else frozenset()


def _ends(line: str, start: int, end: int) -> bool:
    """Whether the sentence that began at `start` ends before `end`, a candidate."""
    if line[end - 1] != " ":
        return True  # the space was forgotten
    stop = end - 2
    while line[stop] in _CLOSING:
        stop -= 1
    following = line[end]
    if line[stop] != ".":
        return not following.islower()
    begin = max(line.rfind(" ", start, stop) + 1, start)
    if begin == start and _MARKER.fullmatch(line[start : stop + 1] + " "):
        return False  # the number of a list item stays with it
    word = line[begin:stop].lstrip(_OPENING)
    lower = word.lower()
    if lower in NEVER_END:
        return False
    if following.islower():
        return word.isdigit() or (len(word) >= 3 and word.isalpha() and lower not in RARELY_END)
    if following.isdigit() and (lower in BEFORE_NUMBER or lower in RARELY_END):
        return False
    if len(word) == 1 and word.isupper():
        before = line[max(start, begin - 20) : begin].rstrip(" ").rpartition(" ")[2].lower()
        return before in LETTERED or _word_at(line, end).rstrip(".,;:") in BEGINNERS
    if lower in RARELY_END:
        return following.isupper() and len(_word_at(line, end)) > 1
    if (
        len(word) >= 3 and word[0::2].isalpha() and word[1::2] == "." * (len(word) // 2)
    ):  # letters with stops, as in 'M.D.'
        return _word_at(line, end).rstrip(".,;:") in BEGINNERS
    return True


def _word_at(line: str, start: int) -> str:
    end = line.find(" ", start)
    return line[start:] if end < 0 else line[start:end]
