"""The metrics of a run, as the trainer logged them: one JSON object a line. Loads no JAX."""

import json
from pathlib import Path
from typing import Any

FILE_NAME = "metrics.jsonl"


def read(workdir: Path) -> list[dict[str, Any]]:
    """The records of a run in order, without those of steps that a restart repeated, nor an incomplete line."""
    records: list[dict[str, Any]] = []
    path = workdir / FILE_NAME
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the process was killed while writing
        if not isinstance(record, dict) or not {"kind", "step", "time"} <= record.keys():
            continue
        if record["kind"] == "start":
            records = [r for r in records if r["kind"] == "start" or r["step"] <= record["step"]]
        records.append(record)
    return records
