"""What a model was trained on and started from, so that an evaluation can say whether patients were held out."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clinicalbert_jax.config import Config
from clinicalbert_jax.data import checksummed_json, patients
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.runs import workdir

FILE_NAME = "pretraining.json"
EVALUATION_FILE = "evaluation_{split}.json"
AUDIT_FILE = "audit.json"
# In the manifest that a run keeps: training started from a model of notes with canaries.
STARTED_FROM_CANARIES = "started_from_canaries"


def provenance(config: Config, manifest: Manifest, step: int) -> dict[str, Any]:
    """What `evaluate` and `init_from` need to know whether held-out patients were held out from this model."""
    return {
        "step": step,
        "data": f"{manifest.name} {manifest.version}",
        "shards_sha256": shards_sha256(manifest),
        "split_rule": split_rule_of(manifest),
        "started_from": started_from(config),
        "canaries": bool(manifest.extra.get("canaries") or manifest.extra.get(STARTED_FROM_CANARIES)),
    }


def has_canaries(directory: Path) -> bool:
    """Whether a run or an exported model was trained on notes with planted canaries, or started from one that was."""
    if (path := workdir.kept(directory, workdir.MANIFEST_FILE)).exists():
        extra = Manifest.load(path.parent).extra
        return bool(extra.get("canaries") or extra.get(STARTED_FROM_CANARIES))
    if (path := workdir.kept(directory, workdir.TASK_FILE)).exists():  # fine-tuned
        return bool(read_json(path).get("canaries"))
    known = read(directory)
    # Earlier exports do not say it, but name their data.
    return bool(known.get("canaries", known.get("data", "").split(" ")[0].endswith("_canaries")))


def write(directory: Path, config: Config, manifest: Manifest, step: int) -> None:
    """Write it into an exported directory: derived from the manifest, without its list of shards and its counts."""
    checksummed_json.write(directory / FILE_NAME, provenance(config, manifest, step))


def read(directory: Path) -> dict[str, Any]:
    """What `write` wrote, empty where there is none; raises `UserError` where it is not as it was written."""
    document = read_json(directory / FILE_NAME)
    if "shards" in document:  # of an earlier version: the list of checksums, and none of the file
        return document | {"shards_sha256": _sha256_of(document["shards"])}
    try:
        return checksummed_json.read(directory / FILE_NAME) if document else {}
    except ValueError:
        raise UserError(f"{directory / FILE_NAME} is not as it was written: export the model again") from None


def split_rule_of(manifest: Manifest) -> dict[str, Any] | None:
    """The key and the fractions by which a dataset's patients were split; None where it does not say."""
    rule = patients.split_rule(manifest.options)
    return dataclasses.asdict(rule) if rule else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no such file; raises `UserError` where it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): restore it from a copy") from None
    return document if isinstance(document, dict) else {}


def started_from(config: Config) -> str:
    """The name of the model that a run started from, without its directory; empty for random weights."""
    return Path(config.init_from).name if patterns.expanded(config.init_from).is_absolute() else config.init_from


def shards_sha256(manifest: Manifest) -> str:
    """One hash over the checksums of a dataset's shards, which says whether two datasets are the same."""
    return _sha256_of(shard.sha256 for split in manifest.splits.values() for shard in split.shards)


def _sha256_of(checksums: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(checksums)).encode()).hexdigest()
