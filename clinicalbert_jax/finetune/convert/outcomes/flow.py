"""The flow of a cohort: admissions, exclusions by reason, and the splits; exact, and as a page to pass on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from clinicalbert_jax.report import html, suppression
from clinicalbert_jax.report.table import Table

Key = tuple[str, ...]


@dataclass(frozen=True)
class SplitCounts:
    """What a split holds. `positives` are admissions with the outcome, or with at least one of the codes."""

    admissions: int
    positives: int
    patients: int
    notes: int
    rows: int


@dataclass(frozen=True)
class Flow:
    """From all admissions of the table to the splits; they add up. `outcome` says what the positives are."""

    title: str
    outcome: str
    admissions: int
    excluded: Mapping[str, int]
    splits: Mapping[str, SplitCounts]

    @property
    def kept(self) -> int:
        """The admissions of all splits."""
        return sum(split.admissions for split in self.splits.values())

    def check(self) -> None:
        """Raise `AssertionError` where the flow does not add up: a mistake of ours."""
        assert self.admissions == self.kept + sum(self.excluded.values()), "admissions that are not accounted for"

    def document(self) -> dict[str, Any]:
        """The exact counts as JSON."""
        return {
            "outcome": self.outcome,
            "admissions": self.admissions,
            "excluded": dict(self.excluded),
            "kept": self.kept,
            "splits": {name: asdict(split) for name, split in self.splits.items()},
        }

    def lines(self) -> list[str]:
        """The exact counts for a terminal."""
        shown = [f"{self.admissions:>10,} admissions in the table"]
        shown += [f"{-count:>10,} {reason}" for reason, count in self.excluded.items() if count]
        shown += [f"{self.kept:>10,} admissions in the cohort"]
        for name, split in self.splits.items():
            rate = f" ({split.positives / split.admissions:.1%})" if split.admissions else ""
            shown.append(
                f"{name:<12}{split.admissions:>8,} admissions of {split.patients:,} patients, {split.positives:,} "
                f"{self.outcome}{rate}, {split.rows:,} rows of {split.notes:,} notes"
            )
        return shown

    def page(self) -> str:
        """An HTML page that may be passed on: counts under 11, and those from which one would follow, are hidden."""
        of_splits = {name: split for name, split in self.splits.items() if split.admissions}
        counts: dict[Key, int] = {("admissions",): self.admissions, ("kept",): self.kept}
        counts |= {("excluded", reason): count for reason, count in self.excluded.items()}
        parts: dict[str, dict[str, int]] = {}
        for name, split in of_splits.items():
            parts[name] = {"positive": split.positives, "negative": split.admissions - split.positives}
            counts |= {("kept", name): split.admissions, ("patients", name): split.patients}
            counts |= {(kind, name): count for kind, count in parts[name].items()}
        sums: list[tuple[Key, list[Key]]] = [
            (("admissions",), [("kept",), *(("excluded", reason) for reason in self.excluded)]),
            (("kept",), [("kept", name) for name in of_splits]),
        ]
        sums += [(("kept", name), [(kind, name) for kind in parts[name]]) for name in of_splits]
        orders: list[tuple[Key, Key]] = [(("patients", name), ("kept", name)) for name in of_splits]
        shown = suppression.shown(counts, sums, orders)
        table = Table(
            ("admissions", "count"),
            [
                ("in the table", shown["admissions",]),
                *((f"excluded: {reason}", shown["excluded", reason]) for reason in self.excluded),
                ("in the cohort", shown["kept",]),
            ],
        )
        names = ("kept", "patients", "positive", "negative")
        header = ("split", "admissions", "patients", self.outcome, f"not {self.outcome}")
        splits = Table(header, [(split, *(shown[name, split] for name in names)) for split in of_splits])
        rule = f"Counts under {suppression.LEAST}, and counts from which one would follow, are not shown."
        sections = [html.Section("From the table to the cohort", [table.html()])]
        sections.append(html.Section("Splits", [splits.html(), rule]))
        return html.page(self.title, sections)
