"""The file of `--tasks`: which data, which experiment, and which settings are tried for every model. Loads no JAX.

    [ncbi]
    config = "../finetune/entities.py"          # paths are relative to this file
    train = "ncbi/train.tsv"
    validation_fraction = 0.15                  # of the training documents; or validation = "ncbi/validation.tsv"
    test = "ncbi/devel.tsv"
    settings = { max_steps = 400 }              # fields of the config, as --config.NAME sets them
    grid = [{ "optimizer.learning_rate" = 5e-5 }, { "optimizer.learning_rate" = 1e-4 }]

Of the `grid`, every model takes the entry with its best score on validation data, found with the first seed.
"""

import dataclasses
import re
import runpy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from clinicalbert_jax import errors
from clinicalbert_jax.config import validated
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.finetune.config import FinetuneConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_FILES = ("train", "validation", "test")
_OPTIONS = {"seeds": "--seeds", "random_weights": "'random' in --models"}
_KEYS = ("config", *_FILES, "validation_fraction", "settings", "grid")


@dataclass(frozen=True)
class ComparedTask:
    """One task. `configs` holds the experiment for each entry of the grid; `validation_fraction` 0: a file is given."""

    name: str
    files: Mapping[str, Path]
    validation_fraction: float
    configs: tuple[FinetuneConfig, ...]


def read(path: Path) -> list[ComparedTask]:
    """The tasks in the order of the file; raises `UserError` where it cannot be read or says something unknown."""
    try:
        document = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise UserError("--tasks: expected a TOML file, found none") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--tasks cannot be read as TOML ({type(error).__name__})") from None
    if not document:
        raise UserError("--tasks: expected a table for each task, found none")
    return [_task(name, entry, path) for name, entry in document.items()]


def with_settings(config: FinetuneConfig, settings: Mapping[str, Any], where: str) -> FinetuneConfig:
    """A config with some fields replaced, by dotted name or in nested tables.

    Raises `UserError` for an unknown field or a wrong value.
    """
    try:
        return validated(_replaced(config, _nested(settings), ""))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _task(name: str, entry: Any, path: Path) -> ComparedTask:
    where = f"--tasks, [{name}]"
    if not NAME.fullmatch(name):
        raise UserError("--tasks: expected names of tasks of letters, digits, '.', '_' and '-', found another")
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected a table, found a value")
    for key in entry:
        if key not in _KEYS:
            raise UserError(f"{where}: expected {', '.join(_KEYS)}, found {key!r}")
    for key in ("config", "train", "test", *(["validation"] if "validation" in entry else [])):
        if not isinstance(entry.get(key), str):
            raise UserError(f"{where}: expected the path of a file as {key!r}, found no text")
    files = {key: path.parent / patterns.expanded(entry[key]) for key in _FILES if key in entry}
    for key, file in files.items():
        if not file.is_file():
            raise UserError(f"{where}: expected a file as {key!r}, found none")
        errors.label(file, f"{where} {key}")
    fraction = entry.get("validation_fraction", 0.0)
    if ("validation" in files) == bool(fraction) or not isinstance(fraction, float) or not 0 <= fraction < 1:
        raise UserError(f"{where}: expected either a file as 'validation' or a 'validation_fraction' in (0, 1)")
    settings, grid = entry.get("settings", {}), entry.get("grid", [{}])
    if not isinstance(settings, dict):
        raise UserError(f"{where}: expected a table as 'settings', found a value")
    if not isinstance(grid, list) or not grid or not all(isinstance(one, dict) for one in grid):
        raise UserError(f"{where}: expected a list of tables as 'grid', found otherwise")
    for name in (name for one in (settings, *grid) for name in one if name in _OPTIONS):
        raise UserError(f"{where}: expected {name!r} to be set by {_OPTIONS[name]}, found it here: leave it out")
    config = with_settings(_config(path.parent / patterns.expanded(entry["config"]), where), settings, where)
    configs = tuple(with_settings(config, one, f"{where} grid") for one in grid)
    if any(one.task != config.task for one in configs):
        raise UserError(f"{where}: expected one 'task' for the whole grid, found several: set its fields in 'settings'")
    if any(one == other for one, other in combinations(configs, 2)):
        raise UserError(f"{where}: expected different entries of the grid, found one twice")
    return ComparedTask(name, files, fraction, configs)


def _config(path: Path, where: str) -> FinetuneConfig:
    if not path.is_file():
        raise UserError(f"{where}: expected a file of configs/finetune/ as 'config', found none at {path}")
    try:
        config = runpy.run_path(str(path))["get_config"]()
    except UserError:
        raise
    except Exception as error:  # the file is a program
        raise UserError(f"{where}: {path} has no get_config() that can be called ({type(error).__name__})") from None
    if not isinstance(config, FinetuneConfig):
        raise UserError(f"{where}: expected get_config() of {path} to return a FinetuneConfig, found another type")
    return config


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name as tables in tables."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        inner = {rest: value} if rest else value
        known = found.get(first)
        found[first] = known | inner if isinstance(known, dict) and isinstance(inner, dict) else inner
    return {name: _nested(value) if isinstance(value, dict) else value for name, value in found.items()}


def _replaced(config: Any, changes: Mapping[str, Any], where: str) -> Any:
    """All fields of a dataclass at once, since what one may be can depend on another."""
    fields = [entry.name for entry in dataclasses.fields(config)]
    values = {}
    for name, value in changes.items():
        if name not in fields:
            raise UserError(f"{where}{name}: expected one of {', '.join(fields)}, found {name!r}")
        if isinstance(value, dict):
            if not dataclasses.is_dataclass(getattr(config, name)):
                raise UserError(f"{where}{name}: expected a field that has fields, found {name!r}")
            value = _replaced(getattr(config, name), value, f"{where}{name}.")
        values[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **values)
