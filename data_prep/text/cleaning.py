"""Cleaning: a note as stored becomes lines that mean something, one paragraph, list item or table row a line.

Characters first (Unicode, control characters, white space), then lines (hard wraps joined, rules and repeated page
headers removed), then the marks of de-identification. The rules, with examples, are in `docs/data.md`.
"""

import functools
import itertools
import re
import unicodedata

from clinicalbert_jax.errors import UserError
from data_prep.text.unicode_ranges import AFTER_UNICODE_14, LATE_MARKS

DEID_POLICIES = ("keep", "type", "remove")


def clean(text: str, deid_policy: str = "keep", *, keep_lines: bool = False) -> str:
    """A note as lines of single-spaced text, without blank lines.

    `deid_policy`: what becomes of `[**...**]` and `___`: 'keep' leaves them, 'type' puts one word for their kind
    (date, name, hospital, ...), 'remove' leaves nothing. `keep_lines`: every line stays as it is (text that has one
    sentence a line already).
    """
    text = characters(text)
    if "[**" in text:
        text = _TAG.sub(lambda match: match[0].replace("\n", " "), text)
    lines = text.split("\n") if keep_lines else _logical_lines(text.split("\n"))
    text = "\n".join(lines)
    if deid_policy != "keep":
        text = _replace_tags(text, deid_policy)
    return "\n".join([joined for line in text.split("\n") if (joined := " ".join(line.split()))])


def check_policy(deid_policy: str) -> None:
    """Raises `UserError` for an unknown policy."""
    if deid_policy not in DEID_POLICIES:
        raise UserError(f"--deid_policy: expected one of {', '.join(DEID_POLICIES)}, found {deid_policy!r}")


# --- characters

_UNWANTED = frozenset({"Cn", "Cc", "Cf", "Co", "Cs"})
_LINE_ENDS = "\n\r\x0b\x0c\x85\u2028\u2029"
_ASCII_UNWANTED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def characters(text: str) -> str:
    """NFC without unassigned, control, format, private and surrogate code points; line ends are newlines.

    What is left, the fast WordPiece tokenizers and BERT's own in Python read alike.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if text.isascii():
        if not _ASCII_UNWANTED.search(text):
            return text
        return text.translate({ord(c): _replacement(c) for c in set(text)})
    text = text.translate({ord(c): new for c in set(text) if (new := _replacement(c)) != c})
    text = unicodedata.normalize("NFC", text)
    return _CAPITALS_WITH_SIGMA.sub(_with_final_sigmas, text) if "Σ" in text else text


@functools.lru_cache(maxsize=4096)
def _replacement(character: str) -> str:
    if character in _LINE_ENDS:
        return "\n"
    if character.isspace():
        return " "
    if character == "\ufffd" or unicodedata.category(character) in _UNWANTED:
        return ""
    if character in LATE_MARKS or character in AFTER_UNICODE_14:
        return ""
    return f" {character} " if character > "\u0370" and _is_cut_differently(character) else character


def _is_cut_differently(character: str) -> bool:
    # Which characters of rarer scripts are punctuation, or ideographs, depends on the age of a tokenizer's tables.
    # Set off by spaces, every tokenizer splits at them.
    if character == "\u166d" or "\U0002b820" <= character <= "\U0002b91f":
        return True
    common = (("\u2010", "\u205e"), ("\u3000", "\u303f"), ("\ufe10", "\uff65"))
    if any(first <= character <= last for first, last in common):
        return False
    return unicodedata.category(character)[0] == "P"


# Python lower-cases a capital sigma by its place in the word, Rust does not. Written small at a word's end, both agree.
_CAPITALS_WITH_SIGMA = re.compile(r"\S*Σ\S*")


def _with_final_sigmas(match: re.Match[str]) -> str:
    word = match[0]
    if len(word) > 1000:  # no word, and [UNK] to every tokenizer
        return word
    lowered = word.lower()
    return "".join(
        "ς" if character == "Σ" and lowered[len(word[:place].lower())] == "ς" else character
        for place, character in enumerate(word)
    )


# --- lines

_INNER_RULE = re.compile(r"[=~#]{4,}|-{4,}(?!>)")
_INNER_BLANK = re.compile(r"_{4,}")
_PAGE_MARK = re.compile(r"\s*(?:\((?:over|cont|cont'd|continued)\)|page \d+ of \d+)\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\s*\(?(\d{1,2})[.)]\s")
_STARTS_BLOCK = re.compile(
    r"\s*(?:[-*•·‣▪◦#+>]{1,3}\s"  # a bullet
    r"|\(?[a-z][.)]\s|\(?[A-Z]\)\s"  # a lettered item
    r"|[A-Z][A-Z0-9/&,'() -]{2,58}:"  # A HEADER:
    r"|[A-Z][\w/&'()-]*(?:[ ,]+(?:[A-Z][\w/&'()-]*|of|and|the|for|in|on|to|at|with)){0,6}:(?:\s|$))"  # A Header:
)
_MIN_WIDTH, _MAX_WIDTH = 45, 120


def _logical_lines(lines: list[str]) -> list[str]:
    """Lines with hard wraps joined, without rules, and without the headers that are repeated after a page's end."""
    if any(map(_PAGE_MARK.fullmatch, lines)):
        lines = _without_repeated_headers(lines)
    width = _wrap_width(lines)
    parts: list[str] = []  # what was stored, with the right thing between any two lines
    above = ""  # the line above, '' where the next one cannot continue it
    item = 0  # the number of the list item we are in
    for line in lines:
        if not line or line.isspace() or _is_rule(line):
            above = ""
            continue
        number = _NUMBER.match(line)
        if above and width and _continues(above, line, width, number is not None and int(number[1]) in (1, item + 1)):
            line = line.lstrip()
            hyphen = above[-1] == "-" and above[-2:-1].isalpha() and line[0].islower()
            parts.append("" if hyphen else " ")
        else:
            parts.append("\n")
            if number:
                item = int(number[1])
        above = line.rstrip()
        parts.append(above)
    return _INNER_BLANK.sub("___", _INNER_RULE.sub(" ", "".join(parts))).split("\n")


def _is_rule(line: str) -> bool:
    line = line.strip()
    if line.strip("-=*~#+_ "):
        return False
    return any(stroke in line for stroke in ("---", "===", "***", "~~~", "###", "____", "- -", "* *", "_ _"))


def _wrap_width(lines: list[str]) -> int:
    """The column at which a note was wrapped, 0 if it was not.

    A line whose successor continues in lower case was wrapped, so it is nearly as long as the width. Tags replace
    text of another length, so lines with tags tell nothing.
    """
    lengths = sorted(
        len(line)
        for line, below in itertools.pairwise(lines)
        if below.lstrip()[:1].islower()
        and line.rstrip()[-1:] not in ("", ".", ":", ";", "!", "?")
        and "[**" not in line
    )
    if not lengths:  # no lower case at all, perhaps
        lengths = [max(map(len, lines), default=0)]
    width = lengths[-2] if len(lengths) >= 4 else lengths[-1]
    return width if _MIN_WIDTH <= width <= _MAX_WIDTH else 0


def _continues(above: str, line: str, width: int, is_next_item: bool) -> bool:
    """Whether `line` continues the sentence or paragraph of the line above."""
    if is_next_item or _STARTS_BLOCK.match(line):
        return False
    begin = line.lstrip()
    if begin[0].islower() and above[-1] not in ".:;!?" and len(above) >= 0.6 * width:
        return True
    return len(above) + 1 + len(begin.split(None, 1)[0]) > width


def _without_repeated_headers(lines: list[str]) -> list[str]:
    """Drop '(Over)' and the like, and directly after them the lines that repeat lines of the note's beginning."""
    first_page = itertools.takewhile(lambda line: not _PAGE_MARK.fullmatch(line), lines)
    top = {" ".join(line.split()) for line in itertools.islice(filter(str.strip, first_page), 16)}
    kept: list[str] = []
    at_page_start = False
    for line in lines:
        if _PAGE_MARK.fullmatch(line):
            at_page_start = True
            continue
        if at_page_start and line.strip():
            if " ".join(line.split()) in top:
                continue
            at_page_start = _is_rule(line)
        kept.append(line)
    return kept


# --- marks of de-identification

_TAG = re.compile(r"\[\*\*([^\[\]]{0,200}?)\*\*\]")
_BLANK = re.compile(r"(?<!_)___(?!_)")  # MIMIC-IV's mark for everything

# In order: the first that fits tells the kind of a tag of MIMIC-III.
_KINDS = (
    ("age", re.compile(r"age over|\bage\b")),
    ("phone", re.compile(r"telephone|phone|pager|fax|contact")),
    ("number", re.compile(r"number|numeric|identifier|\bmrn\b|social security|unit no|job|serial|account")),
    ("hospital", re.compile(r"hospital|ward|clinic\b")),
    ("company", re.compile(r"company|employer")),
    ("email", re.compile(r"e-?mail|url|web")),
    ("date", re.compile(r"month|year|\bday\b|date|holiday")),
    ("location", re.compile(r"location|address|street|state|country|city|town|zip|po box|university|college|school")),
    ("name", re.compile(r"name|initial|dictator|attending|doctor|patient|wife|husband")),
    ("date", re.compile(r"[\d\s/:.-]*\d[\d\s/:.-]*$")),
)
_BEFORE_BLANK = (
    ("name", re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|Miss)\.?|\b(?:Name|Attending|by)[:.]?)\s*$")),
    ("date", re.compile(r"(?:\b(?:Date|DOB|Birth|since|until)[:.]?|\b(?:on|dated|from))\s*$", re.IGNORECASE)),
    ("number", re.compile(r"(?:\bUnit No|\bMRN|#)[:.]?\s*$", re.IGNORECASE)),
    ("phone", re.compile(r"\b(?:phone|telephone|fax|pager|call)[:.]?\s*$", re.IGNORECASE)),
)
_AGE_AFTER = re.compile(r"\s*(?:-\s*)?(?:y/?o\b|yo[mfw]\b|year|yr)", re.IGNORECASE)
UNKNOWN_KIND = "redacted"


def _replace_tags(text: str, deid_policy: str) -> str:
    if deid_policy == "remove":
        return _BLANK.sub(" ", _TAG.sub(" ", text)) if "[**" in text or "___" in text else text
    if "[**" in text:
        text = _TAG.sub(lambda match: _spaced(match, tag_kind(match[1])), text)
    if "___" in text:
        text = _BLANK.sub(lambda match: _spaced(match, _blank_kind(match)), text)
    return text


@functools.lru_cache(maxsize=4096)
def tag_kind(inside: str) -> str:
    """One word for the kind of a tag of MIMIC-III, given what stands between its asterisks."""
    inside = inside.lower()
    return next((kind for kind, pattern in _KINDS if pattern.search(inside)), UNKNOWN_KIND)


def _blank_kind(match: re.Match[str]) -> str:
    if _AGE_AFTER.match(match.string, match.end()):
        return "age"
    before = match.string[max(0, match.start() - 24) : match.start()]
    return next((kind for kind, pattern in _BEFORE_BLANK if pattern.search(before)), UNKNOWN_KIND)


def _spaced(match: re.Match[str], word: str) -> str:
    text, start, end = match.string, match.start(), match.end()
    left = " " if start and (text[start - 1].isalnum() or text[start - 1] == "]") else ""
    right = " " if end < len(text) and text[end].isalnum() else ""
    return left + word + right
