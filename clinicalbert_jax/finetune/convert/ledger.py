"""What happened to every annotation of a source: read as it is, repaired by a rule, or refused for a reason.

    entry = ledger["entities"]
    entry.found()                                   # when an annotation is seen, before it is understood
    entry.as_is()                                   # then exactly one of these three
    entry.repaired("offsets moved to the quoted text")
    entry.refused("discontinuous", "a.ann", 3)
    ledger.check()                                  # found = as is + repaired + refused, of every entry

A bad record is refused too: `ledger.bad` counts it, or ends the command, as `--on_bad_record` says. Rules and reasons
are words of ours: never a label, an id or a text of the source. Loads no JAX.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.report.table import Table

FILE = "ledger.json"


@dataclass
class Entry:
    """The account of one kind of annotation."""

    number_found: int = 0
    number_as_is: int = 0
    number_repaired: int = 0  # annotations; one may be repaired by several rules
    number_refused: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)  # what is worth knowing and changes nothing
    refusals: list[dict[str, Any]] = field(default_factory=list)  # reason, file and line of each

    def found(self, number: int = 1) -> None:
        """Count annotations that the source holds."""
        self.number_found += number

    def as_is(self, number: int = 1) -> None:
        """Count annotations that were used unchanged."""
        self.number_as_is += number

    def repaired(self, *rules: str, number: int = 1) -> None:
        """Count annotations that were changed, by each of `rules`."""
        self.number_repaired += number
        self.rules.update(dict.fromkeys(rules, number))

    def refused(self, reason: str, file: str = "", line: int = 0, number: int = 1) -> None:
        """Count annotations that were left out, and where they stand (line from 1; 0: no line)."""
        self.number_refused += number
        self.reasons[reason] += number
        if file:
            self.refusals.append({"reason": reason, "file": file, "line": line})

    def settled(self, *rules: str) -> None:
        """Count one annotation as repaired by `rules`, or as it is where there is none."""
        if rules:
            self.repaired(*rules)
        else:
            self.as_is()

    def noted(self, what: str, number: int = 1) -> None:
        """Count what changes nothing, such as entities that begin inside a word."""
        if number:
            self.notes[what] += number

    def document(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {
            "found": self.number_found,
            "as_is": self.number_as_is,
            "repaired": self.number_repaired,
            "refused": self.number_refused,
            "repaired_by_rule": dict(self.rules.most_common()),
            "refused_by_reason": dict(self.reasons.most_common()),
            "notes": dict(self.notes.most_common()),
            "refusals": self.refusals,
        }


@dataclass
class Ledger:
    """The accounts of a conversion by name, in the order in which they were opened."""

    reading: Reading = field(default_factory=Reading)
    entries: dict[str, Entry] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Entry:
        return self.entries.setdefault(name, Entry())

    def bad(self, name: str, file: str, line: int, problem: str) -> None:
        """Refuse a bad record that `found` has counted: raises `UserError` unless `--on_bad_record=skip`."""
        self.reading.found(Path(file), line, problem)
        self[name].refused("bad record", file, line)

    def check(self) -> None:
        """Raise `AssertionError` where an account does not add up: a mistake of ours."""
        for name, entry in self.entries.items():
            total = entry.number_as_is + entry.number_repaired + entry.number_refused
            assert entry.number_found == total, f"{name}: found {entry.number_found}, accounted for {total}"

    def write(self, directory: Path, about: Mapping[str, Any]) -> None:
        """Write `ledger.json` with `about`, after `check`."""
        self.check()
        document = {**about, "entries": {name: entry.document() for name, entry in self.entries.items()}}
        text = json.dumps(document, indent=2, ensure_ascii=False)
        (directory / FILE).write_text(text + "\n", encoding="utf-8", newline="\n")

    def table(self) -> Table:
        """The accounts, and below each its rules, reasons and notes."""
        rows: list[tuple[str | int, ...]] = []
        for name, entry in self.entries.items():
            rows.append((name, entry.number_found, entry.number_as_is, entry.number_repaired, entry.number_refused))
            rows += [(f"  repaired: {rule}", "", "", count, "") for rule, count in entry.rules.most_common()]
            rows += [(f"  refused: {reason}", "", "", "", count) for reason, count in entry.reasons.most_common()]
            rows += [(f"  note: {what}", count, "", "", "") for what, count in entry.notes.most_common()]
        return Table(("ledger", "found", "as is", "repaired", "refused"), rows)

    def lines(self) -> list[str]:
        """The table for a terminal."""
        table = self.table()
        shown = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in table.rows]
        width = max(map(len, (row[0] for row in [table.header, *shown])))
        return [
            row[0].ljust(width) + "".join(cell.rjust(10) for cell in row[1:]) for row in [list(table.header), *shown]
        ]
