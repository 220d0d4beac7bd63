"""Texts from a file or from standard input."""

import io
import sys
from pathlib import Path

import pytest

from clinicalbert_jax import text_input

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl").write_text(mark + '{"id": "1", "text": "Chest pain."}\n', encoding="utf-8")
    assert text_input.read_records(str(tmp_path / "x.jsonl")) == (["1"], ["Chest pain."])
    (tmp_path / "x.txt").write_text(mark + "Chest pain.\n", encoding="utf-8")
    assert text_input.read([], str(tmp_path / "x.txt")) == ["Chest pain."]
    monkeypatch.setattr(sys, "stdin", io.StringIO(mark + "Chest pain.\n"))
    assert text_input.read([], "-") == ["Chest pain."]
