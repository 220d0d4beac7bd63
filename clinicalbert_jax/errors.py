"""The one exception whose message is meant for the person at the terminal."""

import re

_END = r"\S*?([:;,)]?)(?=\s|$)"  # of a URL in a sentence
_CREDENTIALS = (
    (re.compile(r"((?<!\bh)\w://)[^\s/?#]*@"), r"\1"),  # USER:PASSWORD@, but not hf://NAME@REVISION
    (re.compile(r"(\w://)[^\s/]*:\S*@" + _END), r"\1...\2"),  # the same with a '/', '?' or '#', or what may be that
    (re.compile(r"(\w://[^\s?#]*)[?#]" + _END), r"\1\2"),  # ?token=
)


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
