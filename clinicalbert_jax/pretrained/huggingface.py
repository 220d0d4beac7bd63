"""Directories of pre-trained BERTs, in and out: `config.json`, the weights in their several file forms, `vocab.txt`.

Imports neither JAX nor PyTorch, except that a `pytorch_model.bin` is read by PyTorch and a google-research
checkpoint by TensorFlow, where installed.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns, safe_names
from clinicalbert_jax.pretrained import extend_vocabulary, weight_names
from clinicalbert_jax.runs import provenance, workdir
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import Settings

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
HUB = "hf://"  # before the name of a model on the Hugging Face hub

# The fields of a config that the weights fix. Dropout rates are not among them: they are the training's to choose.
ARCHITECTURE = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
    "layer_norm_eps",
)


class Classifier(NamedTuple):
    """The head of a fine-tuned model: its Hugging Face class, its layer's name, in x out kernel, and the labels."""

    architecture: str  # 'BertForTokenClassification', ...
    name: str  # 'classifier', or 'qa_outputs'
    kernel: np.ndarray
    bias: np.ndarray
    id2label: dict[int, str]
    problem_type: str | None = None


def load_pretrained(
    source: str | Path,
    *,
    tokenizer: Settings | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """A pre-trained BERT from a directory, or from the Hugging Face hub: see `find`.

    `tokenizer` is the data's, where there are data: the model's must be the same, or the data's vocabulary an extension
    of it, and then the new rows start at the mean of their old tokens.

    Returns the fields of `ModelConfig` that the model fixes, its parameters (float32 NumPy arrays in a nested dict, the
    vocabulary padded), and the names of the heads that it lacks, which were drawn from `seed`. Raises `UserError` where
    the source is not a BERT, is damaged, or does not fit the data.
    """
    directory = find(source)
    architecture = read_config(directory)
    overrides = {name: getattr(architecture, name) for name in ARCHITECTURE}
    tensors = weight_names.canonical(read_tensors(directory))
    if tokenizer is not None:
        rows = origins_of_words(directory, tokenizer)
        for name in weight_names.PER_WORD:
            if rows is not None and name in tensors:
                tensors[name] = extend_vocabulary.grown(tensors[name].astype(np.float32), rows)
        overrides["vocab_size"] = len(tokenizer.tokens)
    params, fresh = weight_names.from_huggingface(ModelConfig(**overrides), tensors, seed=seed)
    return overrides, params, fresh


def is_on_hub(source: str | Path) -> bool:
    """Whether `source` is the name of a model on the Hugging Face hub, hf://NAME."""
    return str(source).startswith(HUB)


def find(source: str | Path) -> Path:
    """The directory of a model: `source`, or the local copy of hf://NAME[@REVISION]. No other name is fetched."""
    if not is_on_hub(source):
        path = patterns.expanded(source)
        if not path.is_dir():
            raise UserError(
                f"expected the directory of a BERT, found none at {source} (a model of the Hugging Face hub is named "
                f"{HUB}NAME or {HUB}NAME@REVISION)"
            )
        return path
    name, _, revision = str(source).removeprefix(HUB).partition("@")
    from huggingface_hub import snapshot_download

    def copy(*patterns: str) -> Path:
        files = [CONFIG_FILE, "*token*.json", "vocab.txt", *patterns]
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=files))

    try:
        directory = copy("model*.safetensors*")
        return directory if list(directory.glob("model*.safetensors")) else copy("pytorch_model*.bin*")
    except Exception as error:  # the hub's, the network's, the disk's
        raise UserError(
            f"{source} cannot be fetched from the Hugging Face hub ({type(error).__name__}): check its name and "
            f"the network, or give the path of a directory with {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from None


def is_export(directory: Path) -> bool:
    """Whether a directory is a model that `export` wrote, which --overwrite may replace."""
    ours = any((directory / name).exists() for name in (provenance.FILE_NAME, workdir.TASK_FILE))
    holds_others = any(path.is_dir() for path in directory.iterdir())  # such as a run that was started in it
    return ours and (directory / CONFIG_FILE).exists() and not holds_others


def read_config(directory: Path) -> ModelConfig:
    """The `ModelConfig` of a model's directory; raises `UserError` where it is not that of a BERT."""
    names = (CONFIG_FILE, "bert_config.json")
    path = next((directory / name for name in names if (directory / name).exists()), None)
    if path is None:
        raise UserError(f"expected a model's {CONFIG_FILE} in {directory}, found none")
    try:
        document = json.loads(path.read_text("utf-8-sig"))
        # Old files name no type. A RoBERTa has the same weights, but other positions.
        classes = document.get("architectures") or ()
        kind = document.get("model_type") or ("bert" if all(str(one).startswith("Bert") for one in classes) else "")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): restore it from a copy") from None
    if kind != "bert" or "num_hidden_layers" not in document:
        raise UserError(
            f"expected a BERT in {directory}, found another architecture: give one whose {path.name} says "
            "model_type bert"
        )
    found = document.get("position_embedding_type") or "absolute"
    if found != "absolute" or document.get("is_decoder") or document.get("add_cross_attention"):
        raise UserError(f"expected an encoder with absolute positions in {path}, found a variant of BERT that is not")
    fields = {name: document[name] for name in ModelConfig.__dataclass_fields__ if name in document}
    try:
        return ModelConfig(**({"vocab_size": 30522} | fields))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_tokenizer(directory: Path, config: ModelConfig) -> Settings | None:
    """The settings of a model's tokenizer, None where its directory holds no tokenizer.

    Raises `UserError` where it has more tokens than the model's embedding table has rows.
    """
    if not bert_tokenizer.exist(directory):
        return None
    settings = bert_tokenizer.read(directory)
    if len(settings.tokens) > config.vocab_size:
        raise UserError(
            f"{directory}: expected at most {config.vocab_size} tokens, the vocab_size of the model's {CONFIG_FILE}, "
            f"found {len(settings.tokens)} in the files of its tokenizer: the two do not belong together"
        )
    return settings


def origins_of_words(directory: Path, tokenizer: Settings) -> list[list[int]] | None:
    """Which of the model's rows each token of the data starts from; None: the same, one for one.

    Raises `UserError` where the data's tokenizer is neither the model's nor one with an extended vocabulary.
    """
    config = read_config(directory)
    theirs, tokens = read_tokenizer(directory, config), tokenizer.tokens
    if theirs is None:
        if config.vocab_size != len(tokens):
            raise UserError(
                f"expected a vocabulary of {config.vocab_size} entries, the model's, found {len(tokens)} in the data "
                f"(and {directory} holds no vocab.txt to compare): prepare the data with the model's vocabulary"
            )
        return None
    for name, expected, found in theirs.differences(tokenizer):
        raise UserError(
            f"expected data tokenized as by the model in {directory}, with {name} {expected}, found {found}: prepare "
            f"the data with --vocab_file={directory}"
        )
    unchanged = theirs.tokens == tokens and config.vocab_size == len(tokens)
    return None if unchanged else extend_vocabulary.origins(theirs.tokens, tokens)


def read_tensors(directory: Path) -> weight_names.Tensors:
    """Every array in a model's weight files, by the names found there."""
    for stem, read in (("model", _read_safetensors), ("pytorch_model", _read_pytorch)):
        suffix = ".safetensors" if stem == "model" else ".bin"
        single, index = directory / f"{stem}{suffix}", directory / f"{stem}{suffix}.index.json"
        if single.exists():
            return read(single)
        if index.exists():
            return {name: array for file in _shards(index) for name, array in read(file).items()}
    checkpoints = sorted(directory.glob("*.ckpt*.index"))
    if checkpoints:
        return _read_tensorflow(checkpoints[-1].with_suffix(""))
    raise UserError(
        f"expected {WEIGHTS_FILE}, pytorch_model.bin or a google-research *.ckpt in {directory}, found none of them"
    )


def write_directory(
    directory: Path,
    config: ModelConfig,
    params: Mapping[str, Any],
    tokenizer: Path,
    *,
    dtype: str = "float32",
    parts: tuple[str, ...] = weight_names.PARTS,
    classifier: Classifier | None = None,
) -> None:
    """Write a model so that transformers' `from_pretrained(directory)` loads it; `directory` exists and is empty.

    `params` hold every part; `parts` says which are written: all of them for `BertForPreTraining`, ('encoder',
    'pooler') for `BertModel`, and with a `classifier` those that its class has. `tokenizer` is the directory of
    the tokenizer, whose files are written complete.
    """
    tensors = weight_names.to_huggingface(config, params, dtype=dtype, parts=parts)
    architecture = "BertForPreTraining"
    if classifier is not None:
        architecture = classifier.architecture
        kernel = np.ascontiguousarray(classifier.kernel.T, weight_names.DTYPES[dtype])
        bias = np.ascontiguousarray(classifier.bias, weight_names.DTYPES[dtype])
        tensors |= {f"{classifier.name}.weight": kernel, f"{classifier.name}.bias": bias}
    elif "mlm_head" not in parts:
        architecture = "BertModel"
        tensors = {name.removeprefix("bert."): array for name, array in tensors.items()}
    settings = read_tokenizer(tokenizer, config)
    if settings is None:
        raise UserError(f"expected a tokenizer of {config.vocab_size} tokens in {tokenizer}, found none")
    document = _config_document(config, architecture, dtype, settings.entries.index("[PAD]"), classifier)
    (directory / CONFIG_FILE).write_text(json.dumps(document, indent=2) + "\n")
    try:
        save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    except SafetensorError as error:
        raise UserError(
            f"{directory / WEIGHTS_FILE} cannot be written ({type(error).__name__}): check that the disk has "
            f"{sum(array.nbytes for array in tensors.values()) / 1e9:.1f} GB free"
        ) from None
    longest = min(config.max_position_embeddings, settings.model_max_length or config.max_position_embeddings)
    bert_tokenizer.write(directory, dataclasses.replace(settings, model_max_length=longest))


def _config_document(
    config: ModelConfig, architecture: str, dtype: str, pad_token_id: int, classifier: Classifier | None
) -> dict[str, Any]:
    document: dict[str, Any] = {"architectures": [architecture], "model_type": "bert", "dtype": dtype}
    document |= {name: getattr(config, name) for name in ModelConfig.__dataclass_fields__}
    document |= {"pad_token_id": pad_token_id, "position_embedding_type": "absolute"}
    if classifier is not None:
        labels = {str(number): label for number, label in sorted(classifier.id2label.items())}
        document |= {"id2label": labels, "label2id": {label: int(number) for number, label in labels.items()}}
        document |= {"problem_type": classifier.problem_type} if classifier.problem_type else {}
    return document


def _shards(index: Path) -> list[Path]:
    try:
        found = json.loads(index.read_text("utf-8-sig"))["weight_map"].values()
        names = sorted({safe_names.check(name, index) for name in found})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} cannot be read ({type(error).__name__}): restore it from a copy") from None
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise UserError(f"{index} names {len(names)} files, {len(missing)} of which are missing: {missing[0]}")
    return [index.parent / name for name in names]


def _read_safetensors(path: Path) -> weight_names.Tensors:
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except Exception as error:  # of safetensors, of NumPy for a type that it lacks, of the file system
        raise UserError(f"{path} is damaged ({type(error).__name__}): restore it from a copy") from None


def _read_pytorch(path: Path) -> weight_names.Tensors:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"expected {WEIGHTS_FILE} in {path.parent}, found {path.name}, which only PyTorch reads: "
            "install PyTorch here, or convert the model where it is installed"
        ) from None

    def is_weights(value: Any) -> bool:
        return isinstance(value, Mapping) and bool(value) and all(map(torch.is_tensor, value.values()))

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        # A training script's own file holds the weights under a name, beside the state of its optimizer.
        wrapped = found.values() if isinstance(found, Mapping) else ()
        inner = [value for value in wrapped if is_weights(value) and any("word_embeddings" in name for name in value)]
        weights = [found] if is_weights(found) else inner
        tensors = {
            name.removeprefix("module."): (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
            for name, tensor in (weights[0] if len(weights) == 1 else {}).items()
        }
    except Exception as error:  # PyTorch documents no closed set
        raise UserError(
            f"{path} is damaged, or holds more than weights ({type(error).__name__}): restore it from a copy, or save "
            "the model's state_dict() alone"
        ) from None
    if not tensors:
        raise UserError(
            f"{path}: expected the weights of a BERT, found {len(weights)} sets of weights: save the model's "
            "state_dict() alone"
        )
    return tensors


def _read_tensorflow(prefix: Path) -> weight_names.Tensors:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ImportError:
        raise UserError(
            f"found a TensorFlow checkpoint, {prefix.name}, which only TensorFlow reads: "
            "install TensorFlow here, or convert the model where it is installed"
        ) from None
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except Exception as error:  # TensorFlow documents no closed set
        raise UserError(f"{prefix} is damaged ({type(error).__name__}): restore it from a copy") from None
