"""Patterns in paths that a user gives: `*`, `?` and brackets. What exists under a name is that, never a pattern."""

import glob
import re
from collections.abc import Callable
from pathlib import Path

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(given: str) -> bool:
    """Whether `given` has characters of patterns; a file or directory of this very name may exist all the same."""
    return _MAGIC.search(given) is not None


def matching(pattern: str) -> list[Path]:
    """The local paths that `pattern` matches."""
    path = Path(pattern).expanduser()
    relative = path.relative_to(path.anchor).as_posix()
    return list(Path(path.anchor).glob(literal_start(relative, lambda start: Path(path.anchor, start).exists())))


def literal_start(pattern: str, exists: Callable[[str], bool]) -> str:
    """`pattern` with the longest part of it that `exists`, from its beginning, made one that matches only itself."""
    parts = pattern.split("/")
    starts = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    start = next((start for start in starts if is_pattern(start) and exists(start)), "")
    return glob.escape(start) + pattern.removeprefix(start)
