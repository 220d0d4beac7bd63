"""Texts from a file or from standard input."""

import gzip
import io
import sys
from pathlib import Path

import pytest

from clinicalbert_jax import text_input
from clinicalbert_jax.errors import UserError

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl").write_text(mark + '{"id": "1", "text": "Chest pain."}\n', encoding="utf-8")
    assert text_input.read_records(str(tmp_path / "x.jsonl")) == (["1"], ["Chest pain."])
    (tmp_path / "x.txt").write_text(mark + "Chest pain.\n", encoding="utf-8")
    assert text_input.read([], str(tmp_path / "x.txt")) == ["Chest pain."]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((mark + "Chest pain.\n").encode())))
    assert text_input.read([], "-") == ["Chest pain."]


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson", "X.JSONL", "x.jsonl.gz", "x.NDJSON.GZ"])
def test_json_lines_are_known_by_every_name_of_theirs(tmp_path: Path, name: str) -> None:
    data = b'{"id": 7, "text": "Chest pain."}\r\n'
    (tmp_path / name).write_bytes(gzip.compress(data) if name.lower().endswith("gz") else data)
    assert text_input.read_records(str(tmp_path / name)) == (["7"], ["Chest pain."])
    assert text_input.read([], str(tmp_path / name)) == ["Chest pain."]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.csv", b"id,zyx\n", "found a table"),
        ("x.json", b'[{"text": "zyx"}]', "found a table"),
        ("x.txt", "zyx\xfc".encode("utf-16"), "in UTF-8, found other bytes"),
        ("x.txt", "zyx".encode("utf-16-le"), "found zero bytes, as of UTF-16"),
        ("x.txt", gzip.compress(b"zyx" * 99, mtime=0)[:-9], "expected a text file"),
        ("x.jsonl", b'{"id": null, "text": "zyx"}', "on line 1"),
        ("x.jsonl", b'{"id": {"zyx": 1}, "text": "a"}', "on line 1"),
    ],
)
def test_what_is_not_a_text_a_line_is_refused_without_quoting_it(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    for read in (text_input.read_records, lambda file: text_input.read([], file)):
        with pytest.raises(UserError, match=message) as caught:
            read(str(tmp_path / name))
        assert "zyx" not in str(caught.value)
