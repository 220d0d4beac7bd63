"""Any model that the commands accept: a run's directory, an exported one, a Hugging Face BERT.

Finding one reads a few small files and loads no JAX, so that a mistake is answered at once; loading it does the rest.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.pretrained import huggingface
from clinicalbert_jax.runs import object_store, workdir
from clinicalbert_jax.tokenizer_files.settings import Settings

BEST = "best"

_MOST_PADDING = 128  # rows of an embedding table beyond the tokens: tables are padded to a multiple of it, or of less


class Source(NamedTuple):
    """Where a model lies. `is_run`: as a checkpoint of our own, in a run's directory."""

    directory: Path
    is_run: bool


class Loaded(NamedTuple):
    """A model in memory; `params` are float32 NumPy arrays. `fresh_heads` were absent and hold random weights."""

    config: ModelConfig
    params: dict[str, Any]
    tokenizer_dir: Path
    fresh_heads: tuple[str, ...]
    step: int | None  # of the run that it comes from


def find(source: str | Path) -> Source:
    """Locate a model; raises `UserError` where there is none that could be loaded."""
    if not huggingface.is_on_hub(source):
        path = object_store.run(str(source))
        if (path / workdir.CHECKPOINTS).is_dir():
            return find_run(path)
    found = Source(huggingface.find(source), is_run=False)
    tokenizer_of(found)
    return found


def find_run(path: str | Path) -> Source:
    """Locate a run; raises `UserError` where there is none with a checkpoint."""
    directory = object_store.run(str(path))
    workdir.read_config(directory)
    if not (directory / workdir.CHECKPOINTS).is_dir():
        raise UserError(f"--workdir: expected a run with checkpoints in {directory}, found none: train first")
    return Source(directory, is_run=True)


def config_of(source: Source) -> ModelConfig:
    """The model's configuration, read without its weights."""
    return workdir.read_config(source.directory).model if source.is_run else huggingface.read_config(source.directory)


def tokenizer_of(source: Source) -> Settings | None:
    """The model's tokenizer, None where it comes with none; raises `UserError` where the two do not fit."""
    directory = workdir.kept(source.directory, "tokenizer") if source.is_run else source.directory
    return huggingface.read_tokenizer(directory, config_of(source))


def check_rows(source: Source, length: int, pairs: bool) -> None:
    """Raise `UserError` where a model cannot take rows of `length` tokens, or `pairs` of texts."""
    config, tokenizer = config_of(source), tokenizer_of(source)
    require_segments(config, source.directory, pairs)
    limits = {"max_position_embeddings": config.max_position_embeddings}
    if tokenizer is not None and tokenizer.model_max_length is not None:
        limits["model_max_length"] = tokenizer.model_max_length
    name = min(limits, key=limits.__getitem__)
    if length > limits[name]:
        raise UserError(
            f"expected a model for rows of {length} tokens, found {name}={limits[name]} in {source.directory}: prepare "
            "or set shorter rows, or give another model"
        )


def require_segments(config: ModelConfig, where: Path | str, pairs: bool = True) -> None:
    """Raise `UserError` where a model that is to read `pairs` of texts cannot tell the second from the first."""
    if pairs and config.type_vocab_size < 2:
        raise UserError(
            f"expected a model with two segment types, to read pairs of texts, found type_vocab_size="
            f"{config.type_vocab_size} in {where}: give another model"
        )


def check_step(step: str | None) -> None:
    """Raise `UserError` unless `step` is a number, 'best', or None for the latest."""
    if step not in (None, BEST) and not (step or "").isdecimal():
        raise UserError(f"--step: expected the number of a checkpoint or '{BEST}', found {step!r}")


def load(source: Source, step: str | None = None) -> Loaded:
    """Read the model; `step` chooses among a run's checkpoints: see `check_step`."""
    if source.is_run:
        from clinicalbert_jax.runs import checkpoint  # brings JAX and orbax

        number = checkpoint_number(source.directory, step)
        config, params, tokenizer_dir, found = checkpoint.restore_params(source.directory, number)
        return Loaded(config.model, params, tokenizer_dir, (), found)
    check_step(step)
    if step is not None:
        raise UserError(f"--step: expected a run's directory to choose a checkpoint from, found {source.directory}")
    overrides, params, fresh = huggingface.load_pretrained(source.directory)
    tokenizer = tokenizer_of(source)
    if tokenizer is not None and overrides["vocab_size"] - len(tokenizer.tokens) >= _MOST_PADDING:
        print(
            f"warning: {source.directory}: the embedding table has {overrides['vocab_size']:,} rows, the tokenizer "
            f"{len(tokenizer.tokens):,} tokens: make sure that it is this model's and whole",
            file=sys.stderr,
        )
    return Loaded(ModelConfig(**overrides), params, source.directory, tuple(fresh), None)


def checkpoint_number(run: Path, step: str | None) -> int | None:
    """Which checkpoint `step` chooses, None: the latest; see `check_step`."""
    check_step(step)
    if step != BEST:
        return None if step is None else int(step)
    if (best := best_step(run)) is None:
        raise UserError(
            f"--step={BEST}: expected a checkpoint of {run} with a validation score that is defined, found none: give "
            "its number"
        )
    return best


def best_step(run: Path) -> int | None:
    """Of the complete checkpoints, the one with the best score by validation; None where no score is defined.

    Of equals it is the latest, as is kept.
    """
    from clinicalbert_jax.runs import metrics_log

    scores = {
        record["step"]: record["score"]
        for record in metrics_log.read(run)
        if record["kind"] == "validation" and record["score"] is not None and isinstance(record["step"], int)
    }
    kept = [step for step in workdir.complete_steps(run) if step in scores]
    return max(kept, key=lambda step: (scores[step], step), default=None)
