"""The text of an admission as the published script of Huang et al. prepares it (arXiv:1904.05342).

Where a word of theirs, such as 'dr.' for 'doctor', depends on the order of their replacements, so it does here.
"""

import re
from collections.abc import Sequence

WORDS, SHORTEST = 318, 10
_REPLACEMENTS = (
    (re.compile(r"\[(.*?)\]"), ""),  # de-identification marks
    (re.compile(r"[0-9]+\."), ""),  # their sentence splitter takes '1.' for the end of a sentence
    (re.compile(r"dr\."), "doctor"),
    (re.compile(r"m\.d\."), "md"),
    (re.compile("admission date:"), ""),
    (re.compile("discharge date:"), ""),
    (re.compile("--|__|=="), ""),
)


def chunks(texts: Sequence[str], summaries: bool) -> list[str]:
    """Chunks of 318 words, and what remains where it has more than 10.

    Of several discharge summaries (`summaries`) the last is taken, other notes are joined.
    """
    text = texts[-1] if summaries else " ".join(texts)
    text = text.replace("\n", " ").replace("\r", " ").strip().lower()
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    words = text.split()
    whole = len(words) - len(words) % WORDS
    parts = [words[start : start + WORDS] for start in range(0, whole, WORDS)]
    if len(words) - whole > SHORTEST:
        parts.append(words[whole:])
    return [" ".join(part) for part in parts]
