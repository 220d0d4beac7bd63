"""Where parameters come from before the first step, by `init_from`: a pre-trained BERT, another run, or random weights.

A run that has a checkpoint of its own always continues from that.
"""

import dataclasses
from pathlib import Path
from typing import Any

from clinicalbert_jax import huggingface, loading, vocabulary, workdir
from clinicalbert_jax.config import Config
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.manifest import Manifest


def adopt_architecture(config: Config) -> Config:
    """The config with the layers, width, epsilon and activation of the model it starts from. Loads no JAX.

    Dropout rates stay the config's. Raises `UserError` where `init_from` names no BERT, or one with too few positions.
    """
    if not config.init_from:
        return config
    source = loading.find(config.init_from)
    found = workdir.read_config(source.directory).model if source.is_run else huggingface.read_config(source.directory)
    fixed = {name: getattr(found, name) for name in huggingface.ARCHITECTURE if name != "vocab_size"}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **fixed))


def pretrained(config: Config, manifest: Manifest, data_dir: Path) -> tuple[dict[str, Any], list[str]]:
    """The parameters that `init_from` names, and the heads that it lacks, drawn from `train.seed`.

    The data's vocabulary must be the model's or an extension of it: a new word starts at the mean of its old pieces.
    """
    source = loading.find(config.init_from)
    if source.is_run:
        if workdir.manifest_of(source.directory).vocabulary != manifest.vocabulary:
            raise UserError(
                f"config.init_from: expected a run with the vocabulary of {data_dir}, found another in "
                f"{source.directory}: prepare the data with that run's tokenizer/vocab.txt"
            )
        return loading.load(source).params, []
    pieces = vocabulary.read(data_dir)
    assert pieces is not None, "a dataset has its vocab.txt: the manifest vouches for it"
    _, params, fresh = huggingface.load_pretrained(
        source.directory,
        vocabulary_entries=pieces.entries,
        do_lower_case=manifest.vocabulary.do_lower_case,
        seed=config.train.seed,
    )
    return params, fresh
