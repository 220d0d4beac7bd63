"""Sections and sentences of clinical prose. The rules, with examples, are in `docs/data.md`.

Every line of a cleaned note ends a sentence. Inside a line, sentences end at '.', '!' and '?' except after
abbreviations, initials and numbers of list items; headers, bullets and numbered items begin new ones. No text is
lost: the sentences one after the other are the note, white space aside.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Sentences:
    """The sentences of a note in order, and for each the normalised header it stands under ('' before the first)."""

    texts: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)


def split(text: str) -> Sentences:
    """The sentences of a note that `cleaning.clean` gave. A header is a sentence of its own, in its own section."""
    sentences = Sentences()
    section = ""
    shouting = _is_all_caps(text)
    for line in text.split("\n"):
        if header := _header_line(line, shouting):
            section = header
            sentences.texts.append(line)
            sentences.sections.append(section)
            continue
        for sentence in _sentences_of_line(line):
            match = _INLINE_HEADER.match(sentence)
            if match and (name := _section_name(match[1])):
                section = name
                sentences.texts.append(match[0].rstrip())
                sentences.sections.append(section)
                sentence = sentence[match.end() :]
            if sentence:
                sentences.texts.append(sentence)
                sentences.sections.append(section)
    return sentences


def split_lines(text: str) -> Sentences:
    """The sentences of text that has one a line already (`--input_format=sentences`)."""
    texts = [line for line in text.split("\n") if line]
    return Sentences(texts, [""] * len(texts))


# --- headers

# Headers known by name need neither capitals nor a colon. The right side: the name that equal sections share.
_SAME_SECTION = {
    "hpi": "history of present illness",
    "present illness": "history of present illness",
    "history of the present illness": "history of present illness",
    "cc": "chief complaint",
    "pmh": "past medical history",
    "pmhx": "past medical history",
    "psh": "past surgical history",
    "fh": "family history",
    "sh": "social history",
    "ros": "review of systems",
    "pe": "physical exam",
    "exam": "physical exam",
    "physical examination": "physical exam",
    "meds": "medications",
    "current medications": "medications",
    "labs": "laboratory data",
    "lab": "laboratory data",
    "laboratory": "laboratory data",
    "pertinent results": "laboratory data",
    "a/p": "assessment and plan",
    "a&p": "assessment and plan",
    "assessment/plan": "assessment and plan",
    "assessment & plan": "assessment and plan",
    "hospital course": "hospital course",
    "brief hospital course": "hospital course",
}
_KNOWN = frozenset(_SAME_SECTION) | frozenset(_SAME_SECTION.values()) | frozenset(
    """addendum|admission date|admission diagnosis|admission medications|allergies|anesthesia|assessment|attending
    |comparison|complications|condition on discharge|consultation|description of procedure|diagnosis|diagnoses
    |discharge condition|discharge date|discharge diagnosis|discharge diagnoses|discharge disposition
    |discharge instructions|discharge medications|discharge physical|disposition|estimated blood loss|facility
    |final diagnosis|final report|findings|followup|followup instructions|follow-up|gross description
    |history|images|impression|indication|indications|instructions|interpretation|interval history|major surgical or invasive procedure
    |medical history|medications on admission|medications on discharge|microbiology|neurologic|neurological exam
    |objective|operation|operative findings|past history|physical examination on admission|plan|plans
    |postoperative diagnosis|preoperative diagnosis|procedure|procedures|reason for consultation|reason for exam
    |reason for this examination|reason for visit|recommendations|results|service|social history|studies|subjective
    |summary|surgical history|technique|treatment|vital signs|vitals""".replace("\n", "").replace("    ", "").split("|")
)  # fmt: skip

_INLINE_HEADER = re.compile(
    r"((?:(?:\d{1,2}|[IVX]{1,4})[.)] )?[A-Z][A-Za-z0-9/&,'()-]*(?: [A-Za-z0-9/&,'()-]+){0,7}) ?:(?: |$)"
)
_MARKER = re.compile(r"^(?:\d{1,2}|[ivx]{1,4})[.)] ")
_HAS_LOWER = re.compile(r"[a-z]")
_TITLE_CASE = re.compile(
    r"(?:[A-Z][\w/&'()-]*|of|and|the|for|in|on|to|at|with|or|by)(?: (?:[A-Z][\w/&'()-]*|of|and|the|for|in|on|to|at|with|or|by)){0,6}"
)
_CAPITALS_LINE = re.compile(r"[A-Z][A-Z/&,'() -]{3,58}")


def _section_name(header: str) -> str:
    """The normalised name of a header that text follows, '' if it is only a label such as 'BP' or 'Sex'."""
    name = _normalised(header)
    if name in _SAME_SECTION:
        return _SAME_SECTION[name]
    if name in _KNOWN or (sum(map(str.isalpha, header)) >= 5 and not _HAS_LOWER.search(header)):
        return name
    return ""


def _header_line(line: str, shouting: bool) -> str:
    """The normalised name of a header that has a line to itself, '' if the line is none."""
    if len(line) > 70 or not line[:1].isalnum():
        return ""
    bare = line.removesuffix(":").rstrip()
    name = _normalised(bare)
    if name in _SAME_SECTION:
        return _SAME_SECTION[name]
    if name in _KNOWN:
        return name
    if line.endswith(":"):
        unmarked = re.sub(r"^\S{1,4}[.)] ", "", bare)
        return name if not _HAS_LOWER.search(unmarked) or _TITLE_CASE.fullmatch(unmarked) else ""
    if not shouting and _CAPITALS_LINE.fullmatch(line) and line.count(" ") < 6:
        return name
    return ""


def _normalised(header: str) -> str:
    return _MARKER.sub("", header.lower())


def _is_all_caps(text: str) -> bool:
    letters = text.encode("ascii", "ignore")
    num_lower = len(letters) - len(letters.translate(None, b"abcdefghijklmnopqrstuvwxyz"))
    return num_lower * 4 < len(letters)


# --- sentences of a line

_CANDIDATE = re.compile(
    r"[.!?][\"')\]”’]* (?=\S)"  # the usual end
    r"|(?<=[a-z]{3})\.(?=[A-Z][a-z]+ )"  # the space forgotten
    r"| (?=[•·‣▪◦] )"  # a bullet inside a line
)
_ITEM = re.compile(r"(?:(?<= )|^)\(?(\d{1,2})([.)]) (?=\S)")
_ITEM_MARKER = re.compile(r"\(?(?:\d{1,2}|[a-zA-Z]|[IVX]{1,4})[.)]")

_NEVER_END = frozenset(
    """dr mr mrs ms miss prof st mt ft drs sr jr rev gen col sgt capt lt hon
    vs e.g i.e cf viz al approx ca fig figs ref refs resp prev esp incl excl est dept ext tel
    w r/o s/p d/t b/c""".split()
)
_BEFORE_NUMBER = frozenset("no nos vol pp p fig figs ref sec ch art approx ca dr room rm".split())
# These end a sentence only where the next word has a capital.
_RARELY_END = frozenset(
    """q.d q.i.d b.i.d t.i.d q.h.s q.o.d q.a.m q.p.m q.h p.o p.r.n p.r i.v i.m s.c s.q s.l n.p.o a.c p.c h.s o.d o.s o.u
    a.m p.m u.s m.d r.n ph.d d.o etc inc co corp ltd mg mcg ml cc cm mm kg lb lbs oz hr hrs min mins sec secs wk wks
    mo mos yr yrs yo pt pts tab tabs cap caps inj sol susp supp gtt gtts units bid tid qid prn po qd qhs q temp abd
    ant post lat med inf sup bilat dx hx rx tx sx fx neg pos nl wnl ext neuro resp cont admin dc d/c f/u h/o c/o
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun dist prox max av avg""".split()
)
# A capital letter before these is an end ("hepatitis B. She"), before other names an initial ("John A. Smith").
_BEGINNERS = frozenset(
    """The This That These Those There He She They We It His Her Their Our I In On At As A An No Not If When While
    After Before Patient Pt Then All Both Also However Since Upon With Will Was Is Please Continue""".split()
)
_LETTERED = frozenset(
    "vitamin hepatitis type grade stage class group influenza factor protein hemoglobin child".split()
)


def _sentences_of_line(line: str) -> Iterator[str]:
    """The parts of one line, each stripped of the spaces between them."""
    start = 0
    items = _item_starts(line) if len(line) > 6 else ()
    for cut in sorted({*items, *(m.end() for m in _CANDIDATE.finditer(line))}):
        if cut <= start:
            continue
        if cut in items or _ends(line, start, cut):
            yield line[start:cut].rstrip(" ")
            start = cut
    if start < len(line):
        yield line[start:]


def _item_starts(line: str) -> frozenset[int]:
    """Where the items of a numbered list inside a line begin: 1, 2, ... in order, or on from the line's own number."""
    markers = list(_ITEM.finditer(line))
    if len(markers) < 2:
        return frozenset()
    starts: list[int] = []
    expected = 1
    for marker in markers:
        number = int(marker[1])
        if number == expected or (not starts and marker.start() == 0):
            starts.append(marker.start())
            expected = number + 1
    return frozenset(starts) if len(starts) >= 2 else frozenset()


def _ends(line: str, start: int, cut: int) -> bool:
    """Whether a sentence that began at `start` ends before `cut`, where a candidate for an end was found."""
    following = line[cut]
    stop = _stop(line, cut)
    if stop < 0:  # a bullet, or a space forgotten
        return True
    if line[stop] != ".":
        return not following.islower()
    begin = line.rfind(" ", start, stop) + 1 or start
    begin = max(begin, start)
    word = line[begin:stop].lstrip("\"'([“‘")
    if begin == start and _ITEM_MARKER.fullmatch(line[start : stop + 1]):
        return False  # the number of a list item stays with it
    lower = word.lower()
    following_word = line[cut:].split(" ", 1)[0] if len(line) - cut < 80 else line[cut : cut + 40].split(" ", 1)[0]
    if following.islower():
        return len(word) >= 4 and word.isalpha() and lower not in _RARELY_END and lower not in _NEVER_END
    if lower in _NEVER_END:
        return False
    if following.isdigit() and (lower in _BEFORE_NUMBER or lower in _RARELY_END):
        return False
    if len(word) == 1 and word.isupper():
        before = line[start:begin].rstrip().rsplit(" ", 1)[-1].lower()
        return before in _LETTERED or following_word.rstrip(".,") in _BEGINNERS
    if lower in _RARELY_END or (len(word) >= 3 and word[1::2] == "." * (len(word) // 2)):
        return following.isupper() and len(following_word) > 1
    return True


def _stop(line: str, cut: int) -> int:
    """The place of the '.', '!' or '?' of a candidate, -1 if it has none before a space."""
    at = cut - 1
    if line[at] == ".":
        return -1
    at -= 1
    while at >= 0 and line[at] in "\"')]”’":
        at -= 1
    return at if at >= 0 and line[at] in ".!?" else -1
