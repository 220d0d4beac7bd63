"""What was written as CSV, TSV or JSON lines is read as it was, each record with the line it begins on."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import Reading

pytestmark = pytest.mark.fast

# Whatever stands in a note: quotation marks, separators, form feeds, other line ends, any letter.
texts = st.text(
    st.sampled_from('ab",;\t\n\r\x0b\x0c\x85\u2028\u00e9\U0001f9b7') | st.characters(codec="utf-8"), max_size=12
)
columns = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)


@given(columns, st.sampled_from([".csv", ".tsv", ".csv.gz"]), st.booleans())
def test_tables_are_read_as_they_were_written(rows: list[tuple[str, str]], suffix: str, windows: bool) -> None:
    written = io.StringIO()
    ends = "\r\n" if windows else "\n"
    writer = csv.writer(
        written, delimiter="\t" if suffix == ".tsv" else ",", lineterminator=ends, quoting=csv.QUOTE_ALL
    )
    lines = []
    for row in [("x", "y"), *rows]:
        lines.append(len(io.StringIO(written.getvalue(), newline="").readlines()) + 1)
        writer.writerow(row)
    check(written.getvalue(), suffix, rows, lines[1:])


@given(columns, st.sampled_from([".jsonl", ".jsonl.gz"]), st.booleans())
def test_json_lines_are_read_as_they_were_written(rows: list[tuple[str, str]], suffix: str, ascii_only: bool) -> None:
    records = [json.dumps({"x": x, "y": y}, ensure_ascii=ascii_only) for x, y in rows]
    # A blank line between any two.
    check("\n\n".join(records), suffix, rows, list(range(1, 2 * len(rows), 2)))


def check(content: str, suffix: str, rows: list[tuple[str, str]], lines: list[int]) -> None:
    data = content.encode()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"a{suffix}"
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        read = list(record_files.read(path, ["x", "y"], Reading()))
    assert [(record["x"], record["y"]) for _, record in read] == rows
    assert [line for line, _ in read] == lines
