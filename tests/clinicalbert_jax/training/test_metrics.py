"""What a training writes down: JSON lines, and TensorBoard's files without the seconds that importing PyTorch takes."""

import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinicalbert_jax.training.metrics import Writer

pytestmark = pytest.mark.fast


def records(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRecord file, each between its length with a checksum and its own checksum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield content[12 : 12 + length]
        content = content[16 + length :]


def test_tensorboard_is_given_what_the_lines_hold(tmp_path: Path) -> None:
    with Writer(tmp_path, active=True) as writer:
        writer.write(2, "train", {"loss": 0.5, "rate": 1e-3}, skipped=1)
        writer.write(4, "validation", {"loss": float("nan")})
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert {"step": 2, "kind": "train", "loss": 0.5, "rate": 1e-3, "skipped": 1}.items() <= first.items()
    assert {"step": 4, "kind": "validation", "loss": None}.items() <= second.items()

    from tensorboardX.proto.event_pb2 import Event

    (path,) = tmp_path.glob("events.out.tfevents.*")
    events = [Event.FromString(record) for record in records(path)]
    found = [(event.step, value.tag, value.simple_value) for event in events for value in event.summary.value]
    assert found[:2] == [(2, "train/loss", 0.5), (2, "train/rate", pytest.approx(1e-3))]
    assert [one[:2] for one in found[2:]] == [(4, "validation/loss")]


@pytest.mark.parametrize("loaded", [False, True])
def test_a_training_does_not_wait_for_pytorch_to_be_imported(tmp_path: Path, loaded: bool) -> None:
    """It is hidden only while TensorBoard's writer is imported, and one that is there already is left alone."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    program = f"""
import sys, pathlib
if {loaded}:
    import torch
from clinicalbert_jax.training.metrics import Writer
with Writer(pathlib.Path({str(tmp_path)!r}), active=True) as writer:
    writer.write(1, "train", {{"loss": 0.5}})
assert ("torch" in sys.modules) == {loaded}
import torch
assert float(torch.ones(2).sum()) == 2
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True)
