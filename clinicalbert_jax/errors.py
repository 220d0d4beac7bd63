"""The one exception whose message is meant for the person at the terminal, and what its line may not say.

Names of files with notes, records or lists of people may be those of patients. Messages name such a file by its path;
in what is printed stands its label instead: the option that names it, and its number in a directory or an archive.
"""

import re
from pathlib import Path

_END = r"\S*?([:;,)]?)(?=\s|$)"  # of a URL in a sentence
_CREDENTIALS = (
    (re.compile(r"((?<!\bh)\w://)[^\s/?#]*@"), r"\1"),  # USER:PASSWORD@, but not hf://NAME@REVISION
    (re.compile(r"(\w://)[^\s/]*:\S*@" + _END), r"\1...\2"),  # the same with a '/', '?' or '#', or what may be that
    (re.compile(r"(\w://[^\s?#]*)[?#]" + _END), r"\1\2"),  # ?token=
)

_PATH = r"(?<![\w./-])%s(?![\w-]|\.\w)"
_WORD = r"(?:^|(?<= at ))%s(?=[,:;]|$)"  # a path that may also be a word of the message

_labels: dict[str, str] = {}  # of a process, by path as it may be spelled


class UserError(Exception):
    """An error that the user can correct: says what was expected, what was found, where, and what to do.

    The message is one line and never holds the text of a note; credentials in its URLs are left out. `cli.run` prints
    it and exits with 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


def redacted(text: str) -> str:
    """`text` without the credentials in its URLs: USER:PASSWORD@, and all that follows a '?' or '#'."""
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def label(path: str | Path, name: str) -> None:
    """Have `labelled` say `name` for `path`, and for the beginning of paths in it."""
    if set(str(path)) - set("./"):
        _labels.setdefault(redacted(str(path)), name)


def labelled(text: str) -> str:
    """`text` with the labels of paths instead of the paths."""
    met = sorted((path for path in _labels if path in text), key=len, reverse=True)
    patterns = [(_WORD if re.fullmatch(r"\w+", path) else _PATH) % re.escape(path) for path in met]
    return re.sub("|".join(patterns), lambda found: _labels[found[0]], text) if met else text
