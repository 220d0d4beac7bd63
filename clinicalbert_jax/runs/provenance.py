"""What a model was trained on and started from, so that an evaluation can say whether patients were held out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from clinicalbert_jax.config import Config
from clinicalbert_jax.data import patients
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError

FILE_NAME = "pretraining.json"
EVALUATION_FILE = "evaluation_{split}.json"


def provenance(config: Config, manifest: Manifest, step: int) -> dict[str, Any]:
    """What `evaluate` and `init_from` need to know whether held-out patients were held out from this model."""
    return {
        "step": step,
        "data": f"{manifest.name} {manifest.version}",
        "shards": shards_of(manifest),
        "split_rule": split_rule_of(manifest),
        "started_from": started_from(config),
    }


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
    """The model that a run started from by its name, without where it lay; empty for random weights."""
    return Path(config.init_from).name if Path(config.init_from).expanduser().is_absolute() else config.init_from


def shards_of(manifest: Manifest) -> list[str]:
    """The checksums of a dataset's shards, which say whether two datasets are the same."""
    return sorted(shard.sha256 for split in manifest.splits.values() for shard in split.shards)
