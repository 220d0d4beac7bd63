"""Annotated records that cannot be used: told by file and line, then the end, or left out and counted."""

from collections import Counter
from pathlib import Path

from clinicalbert_jax.errors import UserError

POLICIES = ("stop", "skip")


class BadRecords:
    """Takes what readers find wrong. Policy 'stop': the first one raises `UserError`; 'skip': all are counted.

    A problem is told in words that hold no text of the record: what was expected, what was found, which label.
    """

    def __init__(self, policy: str = "stop") -> None:
        self._stops = policy == "stop"
        self.counts: Counter[str] = Counter()  # by file

    def found(self, path: Path, line: int, problem: str) -> None:
        """A record that begins on `line` of `path` (from 1) has a problem."""
        if self._stops:
            raise UserError(f"{path}, line {line}: {problem}; mend it, or leave such records out: --on_bad_record=skip")
        self.counts[str(path)] += 1
