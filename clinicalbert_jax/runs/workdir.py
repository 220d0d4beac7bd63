"""What a run's directory holds beside its checkpoints: configuration, manifest and tokenizer. Loads no JAX.

config.json  manifest.json  tokenizer/  metrics.jsonl  events.out.tfevents.*  checkpoints/STEP/
"""

import dataclasses
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clinicalbert_jax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.runs import checksums
from clinicalbert_jax.tokenizer_files import bert_tokenizer

CONFIG_FILE = "config.json"
TASK_FILE = "task.json"  # of a fine-tuned model, instead of a manifest
CHECKPOINTS = "checkpoints"  # one directory a step

# Changing one of these under a run would silently make it another run. The rest (steps, logging, evaluation,
# retention, threads, mesh, microbatches) may change between restarts.
FIXED = (
    "init_from",
    "init_optimizer",
    "model",
    "data.max_seq_length",
    "optimizer",
    "train.global_batch_size",
    "train.seed",
    "train.dtype",
)

# What the libraries under a checkpoint do not read literally: etils expands patterns anywhere in a path, so that a save
# merges the arrays of other directories or of none, and takes /gs/x for a bucket, as orbax does `gs:/`; tensorstore
# takes a backslash for a slash, and reads no name that is not UTF-8.
_MISREAD = re.compile(r"[*?\[\\\udc80-\udcff]|gs:(?=/|$)|^/(gs|s3|az|hf)(?=/|$)")


def check_path(run: Path) -> None:
    """Raise `UserError` where a checkpoint below `run` would be written elsewhere or could not be read."""
    path = str(run.absolute().resolve())
    if found := _MISREAD.search(path):
        raise UserError(
            f"--workdir: expected a path without '{ascii(found[0])[1:-1]}', which checkpoint libraries do not read "
            f"literally, found {ascii(path)[1:-1]}: give another directory, or rename it"
        )


def check_free(run: Path, inputs: Iterable[str | Path]) -> None:
    """Raise `UserError` where `run` is one of the `inputs` of a command, or holds a configuration that no run wrote."""
    for given in inputs:
        path = patterns.expanded(given)
        if given and run.exists() and path.exists() and run.samefile(path):
            raise UserError(f"--workdir: expected a directory of its own, found an input of this command, {run}")
    if (run / CONFIG_FILE).exists() and not (run / CHECKPOINTS).exists():
        try:
            checksummed_json.read(run / CONFIG_FILE)
        except (OSError, ValueError):
            raise UserError(
                f"--workdir: expected a new directory or an earlier run, found another {CONFIG_FILE} in {run}: give "
                "another directory"
            ) from None


def check_data(config: Config, manifest: Manifest, data_dir: Path) -> Config:
    """The config with the data's vocabulary size in it; raises `UserError` where model and data do not fit."""
    found = manifest.layout.max_seq_length
    if found != config.data.max_seq_length:
        raise UserError(
            f"config.data.max_seq_length: expected {config.data.max_seq_length}, found {found} in {data_dir}: "
            f"prepare the data with --max_seq_length={config.data.max_seq_length}, or set it to {found} "
            f"(the model has {config.model.max_position_embeddings} positions)"
        )
    for name, expected in manifest.files.items():
        if not (data_dir / name).exists() or sha256_of(data_dir / name) != expected:
            raise UserError(
                f"{data_dir / name} is not the file that the data was prepared with: restore it from a copy, or "
                "prepare the data again"
            )
    if config.train.eval_every and not manifest.splits["validation"].num_examples:
        raise UserError(
            f"config.train.eval_every: expected validation examples in {data_dir}, found none: prepare the data again "
            "with a larger --validation_fraction, or train without validation (--config.train.eval_every=0)"
        )
    lower = config.data.do_lower_case
    if lower is not None and lower != manifest.vocabulary.do_lower_case:
        raise UserError(
            f"config.data.do_lower_case: expected {lower}, found {manifest.vocabulary.do_lower_case} in {data_dir}: "
            "prepare the data with the other casing, or drop the setting"
        )
    if config.model.vocab_size not in (0, manifest.vocabulary.size):
        raise UserError(
            f"config.model.vocab_size: expected {config.model.vocab_size}, found a vocabulary of "
            f"{manifest.vocabulary.size} in {data_dir}: prepare the data with the model's vocabulary"
        )
    model = dataclasses.replace(config.model, vocab_size=manifest.vocabulary.size)
    return dataclasses.replace(config, model=model)


def check_same_run(workdir: Path, config: Config, manifest: Manifest) -> None:
    """Where `workdir` holds a run's checkpoint, raise `UserError` if this command would continue it as another one."""
    if not any((workdir / CHECKPOINTS).glob("*")):
        return  # nothing was saved that could be continued
    check_same_settings(workdir, config)
    old_manifest = manifest_of(workdir)
    if _data_identity(old_manifest) != _data_identity(manifest):
        raise UserError(
            f"--data_dir: expected the data that the run in {workdir} was started with, found another preparation "
            "(vocabulary, seed, options or shards differ): give the same data, or start in a new --workdir"
        )


def check_same_settings(workdir: Path, config: Config) -> None:
    """Raise `UserError` where `config` differs from that of the run in `workdir` in what must not change under it."""
    before, now = dataclasses.asdict(read_config(workdir)), dataclasses.asdict(config)
    for name in FIXED:
        for path, old, new in _differences(name, _at(before, name), _at(now, name)):
            raise UserError(
                f"config.{path}: expected {old!r}, as the run in {workdir} was started with, found {new!r}: "
                "set it back, or start in a new --workdir"
            )


def keep(workdir: Path, config: Config, manifest: Manifest, data_dir: Path) -> None:
    """Write what a run needs besides its checkpoints. Safe to repeat."""
    try:
        (workdir / "tokenizer").mkdir(parents=True, exist_ok=True)
        for name in bert_tokenizer.NAMES:
            shutil.copyfile(data_dir / name, workdir / "tokenizer" / name)
        manifest.save(workdir)
        checksummed_json.write(workdir / CONFIG_FILE, dataclasses.asdict(config))  # last: it marks a run
    except OSError as error:
        raise UserError(
            f"--workdir: cannot write {error.filename} ({error.strerror}): free or choose another"
        ) from None


def copy(workdir: Path, directory: Path) -> None:
    """Copy what `keep` wrote into `directory`."""
    directory.mkdir(exist_ok=True)
    for name in (CONFIG_FILE, MANIFEST_FILE, TASK_FILE):
        if (workdir / name).exists():
            shutil.copyfile(workdir / name, directory / name)
    shutil.copytree(workdir / "tokenizer", directory / "tokenizer", dirs_exist_ok=True)


def complete_steps(workdir: Path) -> list[int]:
    """Steps of the checkpoints that are complete, ascending; another one was being written or removed when it ended."""
    directory = workdir / CHECKPOINTS
    steps = [int(path.name) for path in directory.glob("*") if path.name.isdigit() and checksums.is_published(path)]
    return sorted(steps)


def complete_step(workdir: Path, step: int | None) -> int:
    """`step`, or the latest one; raises `UserError` where its checkpoint is not complete."""
    check_path(workdir)
    whole = complete_steps(workdir)
    if not whole:
        raise UserError(
            f"--workdir: expected a run with a checkpoint, found none in {workdir / CHECKPOINTS}: train first"
        )
    if step is not None and step not in whole:
        raise UserError(f"--step: expected one of {whole}, found {step}")
    return whole[-1] if step is None else step


def kept(workdir: Path, name: str) -> Path:
    """The path of what `keep` wrote under `name`: in the run's directory, or else a copy in one of its checkpoints."""
    copies = (workdir / CHECKPOINTS).glob(f"*/run/{name}")
    return next((path for path in (workdir / name, *copies) if path.exists()), workdir / name)


def read_config(workdir: Path) -> Config:
    """The configuration of the run in `workdir`; raises `UserError` where there is none."""
    path = kept(workdir, CONFIG_FILE)
    try:
        return config_from_dict(checksummed_json.read(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"--workdir: expected a run in {workdir}, found no {CONFIG_FILE} there") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        if not (workdir / CHECKPOINTS).exists():
            raise UserError(
                f"--workdir: expected a run in {workdir}, found a {CONFIG_FILE} that is not as it was written by one"
            ) from None
        raise UserError(
            f"{path} is not as it was written ({type(error).__name__}): restore it from a copy, such as the one in "
            f"{workdir / CHECKPOINTS}/STEP/run"
        ) from None


def config_from_dict(document: dict[str, Any]) -> Config:
    """The inverse of `dataclasses.asdict`. A field that the document lacks, from an older version, has its default."""
    parts = {"model": ModelConfig, "data": DataConfig, "optimizer": OptimizerConfig, "mesh": MeshConfig}
    parts |= {"train": TrainConfig}
    return Config(**{name: parts[name](**value) if name in parts else value for name, value in document.items()})


def manifest_of(workdir: Path) -> Manifest:
    """The manifest of the data that the run in `workdir` was started with."""
    path = kept(workdir, MANIFEST_FILE)
    if not path.exists():
        raise UserError(f"--workdir: expected a run in {workdir}, found no {MANIFEST_FILE} there")
    return Manifest.load(path.parent)


def _data_identity(manifest: Manifest) -> Any:
    shards = {name: [shard.sha256 for shard in split.shards] for name, split in manifest.splits.items()}
    return manifest.vocabulary, manifest.layout, shards


def _at(document: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        document = document[part]
    return document


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict):
        return [entry for key in old for entry in _differences(f"{name}.{key}", old[key], new[key])]
    return [] if old == new else [(name, old, new)]
