"""One table for pages and cards, as HTML and as Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from markupsafe import Markup

from clinicalbert_jax.report import number_formats

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names them. Columns of numbers are aligned right."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def html(self) -> Markup:
        """The table as HTML, everything escaped."""
        kinds = [Markup(' class="number"') if numeric else Markup() for numeric in self._numeric()]
        head = (Markup('<th{} scope="col">{}</th>').format(*pair) for pair in zip(kinds, self.header, strict=True))
        body = []
        for row in self._shown():
            first = Markup('<tr><th{} scope="row">{}</th>').format(kinds[0], row[0])
            cells = (Markup("<td{}>{}</td>").format(*pair) for pair in zip(kinds[1:], row[1:], strict=True))
            body.append(first + Markup("").join(cells) + Markup("</tr>"))
        caption = Markup("<caption>{}</caption>").format(self.caption) if self.caption else Markup()
        table = '<div class="scroll"><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
        return Markup(table).format(caption, Markup("").join(head), Markup("").join(body))

    def markdown(self) -> str:
        """The table as Markdown, its caption above it, everything escaped."""
        rule = ["---:" if numeric else "---" for numeric in self._numeric()]
        lines = [list(map(plain, self.header)), rule, *(list(map(plain, row)) for row in self._shown())]
        caption = f"{plain(self.caption)}:\n\n" if self.caption else ""
        return caption + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def _shown(self) -> list[list[str]]:
        return [[_shown(cell) for cell in row] for row in self.rows]

    def _numeric(self) -> list[bool]:
        columns = zip(*self._shown(), strict=True) if self.rows else [()] * len(self.header)
        return [bool(column) and all(map(_NUMBER.fullmatch, column)) for column in columns]


def settings(values: Mapping[str, Any]) -> Table:
    """A nested configuration as a table of dotted names and values."""
    rows = []
    for name, value in values.items():
        inner = {f"{name}.{field}": setting for field, setting in value.items()} if isinstance(value, dict) else None
        rows += [(name, str(setting)) for name, setting in (inner or {name: value}).items()]
    return Table(("setting", "value"), rows)


def plain(text: str) -> str:
    """Text that Markdown takes as text, on one line: no markup, HTML, entity, formula, mention or link.

    An underscore inside a word is no markup.
    """
    text = re.sub(r"[\\`*{}\[\]<>|#&~$@]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", " ".join(text.split()))
    return re.sub(r"(?<=:)(?=//)|(?<=www)(?=\.)", r"\\", text, flags=re.IGNORECASE)


def _shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    # NumPy's integers are no `int`.
    return number_formats.count(int(cell)) if isinstance(cell, Integral) else number_formats.score(cell)


_NUMBER = re.compile(r"[-+–]?[\d.,]*( ?%| [a-zA-Z]{1,3})?|<\d+")
