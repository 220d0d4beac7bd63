"""Every process of a run has the same config and data, or all of them end in one line."""

from types import SimpleNamespace
from typing import Any

import jax
import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import process_0

pytestmark = pytest.mark.fast


class Store:
    """The coordination service, with what the other processes have written."""

    def __init__(self, others: dict[int, str]) -> None:
        self.others, self.mine, self.decided = others, "", b""

    def key_value_set(self, key: str, value: str) -> None:
        self.mine = value

    def blocking_key_value_get(self, key: str, patience_ms: int) -> str:
        return self.others.get(int(key.rsplit("/", 1)[1]), self.mine)

    def key_value_set_bytes(self, key: str, value: bytes) -> None:
        self.decided = value


@pytest.mark.parametrize(("third", "refused"), [("config and data", False), ("config and other data", True)])
def test_one_process_with_another_value_ends_all(third: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Any = Store({1: "config and data", 2: third})
    monkeypatch.setattr(process_0, "distributed", SimpleNamespace(global_state=SimpleNamespace(client=store)))
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    if not refused:
        process_0.check_same("config and data", "expected the data of process 0, found others")
        return
    with pytest.raises(UserError, match=r"^process 2: expected the data of process 0, found others$"):
        process_0.check_same("config and data", "expected the data of process 0, found others")
    assert not store.decided, "the others wait for a decision, and end with process 0"
