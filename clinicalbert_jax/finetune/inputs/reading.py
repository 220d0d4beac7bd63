"""How annotated files are read, and what happens at a record that cannot be used."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option

POLICIES = ("stop", "skip")

Parsed = TypeVar("Parsed", bound=Any)


class BadRecord(Exception):  # noqa: N818 (not every bad record is an error)
    """What is wrong with one record: what was expected and what was found, without its text.

    `line`: where, if not on the line on which the record begins.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


@dataclass
class Reading:
    """The options of reading annotated files, and how many records were left out of each."""

    on_bad_record: str = option("At a record that cannot be used: stop, or skip and count.", "stop", choices=POLICIES)
    counts: Counter[str] = field(default_factory=Counter, init=False)  # of records left out, by file

    def found(self, path: Path, line: int, problem: str) -> None:
        """Report a bad record on `line` of `path` (from 1): raises `UserError`, or counts it with 'skip'."""
        if self.on_bad_record == "stop":
            raise UserError(
                f"{path}, line {line}: {problem}; correct it, or leave such records out with --on_bad_record=skip"
            )
        self.counts[str(path)] += 1

    def each(
        self,
        path: Path,
        records: Iterable[tuple[int, Any]],
        parse: Callable[[int, Any], Parsed],
        unique_ids: bool = True,
    ) -> list[Parsed]:
        """`parse(line, record)` of each record of a file, without those for which it raises `BadRecord`.

        With `unique_ids` a record whose id came before is a bad one too. Raises `UserError` where none is left.
        """
        parsed: list[Parsed] = []
        seen: set[str] = set()
        for line, record in records:
            try:
                one = parse(line, record)
                if unique_ids and one.id in seen:
                    raise BadRecord("expected an id of its own, found that of an earlier record")
            except BadRecord as problem:
                self.found(path, problem.line or line, str(problem))
            else:
                parsed.append(one)
                if unique_ids:
                    seen.add(one.id)
        if not parsed:
            raise UserError(f"{path}: expected at least one record, found none that can be used")
        return parsed
