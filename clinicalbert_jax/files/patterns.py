"""Paths that a user gives: `~`, and patterns with `*`, `?` and brackets.

What exists under a name is that, never a pattern.
"""

import glob
import re
from collections.abc import Callable
from pathlib import Path

from clinicalbert_jax.errors import UserError

_MAGIC = re.compile(r"[*?\[]")


def expanded(given: str | Path) -> Path:
    """`given` with home directories for `~` and `~USER`; where there is no such user, the name as it stands.

    Raises `UserError` for `~` where there is no home directory.
    """
    try:
        return Path(given).expanduser()
    except RuntimeError:
        if Path(given).parts[0] == "~":
            raise UserError("~: expected a home directory, found none: set HOME, or give the whole path") from None
        return Path(given)


def is_pattern(given: str) -> bool:
    """Whether `given` has characters of patterns; a file or directory of this very name may exist all the same."""
    return _MAGIC.search(given) is not None


def matching(pattern: str) -> list[Path]:
    """The local paths that `pattern` matches."""
    path = expanded(pattern)
    relative = path.relative_to(path.anchor).as_posix()
    return list(Path(path.anchor).glob(literal_start(relative, lambda start: Path(path.anchor, start).exists())))


def literal_start(pattern: str, exists: Callable[[str], bool]) -> str:
    """`pattern` with the longest part of it that `exists`, from its beginning, made one that matches only itself."""
    parts = pattern.split("/")
    starts = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    start = next((start for start in starts if is_pattern(start) and exists(start)), "")
    return glob.escape(start) + pattern.removeprefix(start)
