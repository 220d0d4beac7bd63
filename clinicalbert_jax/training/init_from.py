"""The parameters before the first step, by `init_from`: a pre-trained BERT, another run, or random weights.

A run that has a checkpoint of its own always continues from that.
"""

import dataclasses
from pathlib import Path
from typing import Any

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.pretrained import huggingface, loading
from clinicalbert_jax.runs import provenance, workdir
from clinicalbert_jax.tokenizer_files import bert_tokenizer


def adopt_architecture(config: Config, manifest: Manifest, data_dir: Path, run: Path) -> Config:
    """The config with the layers, width, epsilon and activation of the model it starts from. Loads no JAX.

    Dropout rates stay the config's. A run that has started no longer needs its source. Raises `UserError`
    where `init_from` names no BERT, or one that cannot take the data: another tokenizer, too few positions.
    """
    if not config.init_from:
        return config
    if _has_started(run):
        found = workdir.read_config(run).model
    else:
        source = loading.find(config.init_from)
        _check_tokenizer(source, data_dir)
        if not config.allow_other_splits:
            _check_splits(source, manifest, data_dir)
        loading.check_rows(source, manifest.layout.max_seq_length, pairs=True)
        found = loading.config_of(source)
        if config.init_optimizer:
            _check_optimizer(source, config)
    fixed = {name: getattr(found, name) for name in huggingface.ARCHITECTURE if name != "vocab_size"}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **fixed))


def manifest_to_keep(config: Config, manifest: Manifest, run: Path) -> Manifest:
    """The data's manifest, with a mark where the model that training starts from was trained on planted canaries.

    A run that has started no longer needs its source, and keeps its mark.
    """
    if not config.init_from:
        return manifest
    if _has_started(run):
        is_marked = provenance.STARTED_FROM_CANARIES in workdir.manifest_of(run).extra
    else:
        is_marked = provenance.has_canaries(loading.find(config.init_from).directory)
    mark = {provenance.STARTED_FROM_CANARIES: True} if is_marked else {}
    return dataclasses.replace(manifest, extra=manifest.extra | mark)


def pretrained(config: Config, manifest: Manifest, data_dir: Path) -> tuple[dict[str, Any], list[str]]:
    """The parameters that `init_from` names, and the names of the heads that were drawn from `train.seed` instead.

    The data's vocabulary must be the model's or an extension of it: a new word starts at the mean of its former tokens.
    """
    source = loading.find(config.init_from)
    if source.is_run:
        _check_tokenizer(source, data_dir)
        return loading.load(source).params, []
    tokenizer = bert_tokenizer.read(data_dir)
    _, params, fresh = huggingface.load_pretrained(source.directory, tokenizer=tokenizer, seed=config.train.seed)
    return params, fresh


def optimizer_state(config: Config, abstract: Any) -> Any:
    """The moments of the optimizer of the run that `init_from` names, sharded as `abstract`; its schedule at 0."""
    from clinicalbert_jax.runs import checkpoint
    from clinicalbert_jax.training import optimizer

    restored = checkpoint.restore_optimizer(loading.find(config.init_from).directory, abstract)
    return optimizer.at_start_of_schedule(restored)


def _has_started(run: Path) -> bool:
    return any((run / workdir.CHECKPOINTS).glob("[0-9]*"))


def _check_optimizer(source: loading.Source, config: Config) -> None:
    found = workdir.read_config(source.directory).optimizer.name if source.is_run else "no run, hence none"
    if found != config.optimizer.name:
        raise UserError(
            f"config.init_optimizer: expected a run with the optimizer {config.optimizer.name}, found {found} in "
            f"{source.directory}: drop the setting to start with new moments"
        )


def _check_tokenizer(source: loading.Source, data_dir: Path) -> None:
    ours, theirs = bert_tokenizer.read(data_dir), loading.tokenizer_of(source)
    if not source.is_run:
        huggingface.origins_of_words(source.directory, ours)
    elif theirs is None or theirs.tokens != ours.tokens or [*theirs.differences(ours)]:
        raise UserError(
            f"config.init_from: expected a run with the vocabulary of {data_dir}, found another tokenizer in "
            f"{source.directory}: prepare the data with --vocab_file=RUN/tokenizer, that run's"
        )


def _check_splits(source: loading.Source, manifest: Manifest, data_dir: Path) -> None:
    """Raise `UserError` where a model of ours may have been trained on patients whom these data hold out."""
    if source.is_run:
        trained_on = workdir.read_config(source.directory), workdir.manifest_of(source.directory)
        known = provenance.provenance(*trained_on, step=0)
    elif not (known := provenance.read(source.directory)):
        return
    there, here = known.get("split_rule"), provenance.split_rule_of(manifest)
    if there != here:
        raise UserError(
            f"config.init_from: expected a model trained on data split as those in {data_dir} ({_shown(here)}), found "
            f"{_shown(there)} in {source.directory}: prepare the data with that key and those fractions, or set "
            "config.allow_other_splits=True, after which no figure is of held-out patients"
        )


def _shown(split_rule: dict[str, Any] | None) -> str:
    if split_rule is None:
        return "no record of the splits"
    names = {"key": "split_key"}
    return ", ".join(f"--{names.get(name, name)}={value}" for name, value in split_rule.items())
