"""The one table of weights between this project and Hugging Face's BERT, read in both directions.

Plain NumPy: neither JAX nor PyTorch is imported. Names on their side are those of `BertForPreTraining`; other
spellings of the same weights (`BertModel`'s, the 2018 PyTorch port's, google-research's TensorFlow checkpoints')
are translated to them first. Every name on both sides is accounted for: one that is missing or unknown is an error.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError

Tensors = dict[str, np.ndarray]
PARTS = ("encoder", "pooler", "mlm_head", "nsp_head")  # only the encoder is indispensable in a source
DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}

_WORDS = "bert.embeddings.word_embeddings.weight"
_BIAS = "cls.predictions.bias"
_TIED = {"cls.predictions.decoder.weight": _WORDS, "cls.predictions.decoder.bias": _BIAS}
PER_WORD = (_WORDS, _BIAS)  # those with a row for each entry of the vocabulary
_SETTING_OF_ROWS = {
    _WORDS: "vocab_size",
    _BIAS: "vocab_size",
    "bert.embeddings.position_embeddings.weight": "max_position_embeddings",
    "bert.embeddings.token_type_embeddings.weight": "type_vocab_size",
}
# Index tables that old versions of transformers saved among the weights, and the heads of fine-tuned models.
_NO_WEIGHTS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
_TASK_HEADS = ("classifier.", "qa_outputs.")


class Weight(NamedTuple):
    """One array: its path in our parameters, its name in theirs, the shape of theirs, and which part it is of.

    `transposed`: our kernels are in x out, PyTorch's out x in.
    """

    path: tuple[str, ...]
    name: str
    shape: tuple[int, ...]
    transposed: bool
    part: str


def table(config: ModelConfig) -> list[Weight]:
    """Every weight of a BERT with both heads, in the order in which data meets them."""
    width, inner = config.hidden_size, config.intermediate_size
    weights: list[Weight] = []

    def add(path: str, name: str, *shape: int, part: str = "encoder", transposed: bool = False) -> None:
        weights.append(Weight(tuple(path.split("/")), name, shape, transposed, part))

    def linear(path: str, name: str, fan_in: int, fan_out: int, part: str = "encoder") -> None:
        add(f"{path}/kernel", f"{name}.weight", fan_out, fan_in, part=part, transposed=True)
        add(f"{path}/bias", f"{name}.bias", fan_out, part=part)

    def layer_norm(path: str, name: str, part: str = "encoder") -> None:
        add(f"{path}/scale", f"{name}.weight", width, part=part)
        add(f"{path}/bias", f"{name}.bias", width, part=part)

    add("embeddings/word/embedding", _WORDS, config.vocab_size, width)
    positions, segments = config.max_position_embeddings, config.type_vocab_size
    add("embeddings/position/embedding", "bert.embeddings.position_embeddings.weight", positions, width)
    add("embeddings/token_type/embedding", "bert.embeddings.token_type_embeddings.weight", segments, width)
    layer_norm("embeddings/layer_norm", "bert.embeddings.LayerNorm")
    for number in range(config.num_hidden_layers):
        ours, theirs = f"layers/{number}", f"bert.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            linear(f"{ours}/attention/{part}", f"{theirs}.attention.self.{part}", width, width)
        linear(f"{ours}/attention/output", f"{theirs}.attention.output.dense", width, width)
        layer_norm(f"{ours}/attention/layer_norm", f"{theirs}.attention.output.LayerNorm")
        linear(f"{ours}/feed_forward/intermediate", f"{theirs}.intermediate.dense", width, inner)
        linear(f"{ours}/feed_forward/output", f"{theirs}.output.dense", inner, width)
        layer_norm(f"{ours}/feed_forward/layer_norm", f"{theirs}.output.LayerNorm")
    linear("pooler", "bert.pooler.dense", width, width, "pooler")
    linear("mlm_head/transform", "cls.predictions.transform.dense", width, width, "mlm_head")
    layer_norm("mlm_head/layer_norm", "cls.predictions.transform.LayerNorm", "mlm_head")
    add("mlm_head/output_bias", _BIAS, config.vocab_size, part="mlm_head")
    linear("nsp_head", "cls.seq_relationship", width, 2, "nsp_head")
    return weights


def to_huggingface(
    config: ModelConfig, params: Mapping[str, Any], *, dtype: str = "float32", parts: tuple[str, ...] = PARTS
) -> Tensors:
    """Our parameters under their names, without the padding rows of the vocabulary. Tied weights appear once."""
    flat = _flatten(params)
    weights = table(config)
    unknown = set(flat) - {weight.path for weight in weights}
    wanted = {weight.path for weight in weights if weight.part in parts}
    _require_same_names("parameters", set(flat) & wanted | unknown, wanted)
    tensors: Tensors = {}
    for weight in weights:
        if weight.part in parts:
            array = np.asarray(flat[weight.path])
            array = array.T if weight.transposed else array[: weight.shape[0]]
            _require_shape("/".join(weight.path), array.shape, weight.shape)
            tensors[weight.name] = np.ascontiguousarray(array, DTYPES[dtype])
    return tensors


def from_huggingface(
    config: ModelConfig, tensors: Mapping[str, np.ndarray], *, seed: int = 0
) -> tuple[dict[str, Any], list[str]]:
    """Their weights as our parameters (float32), and the names of the heads that they lack.

    `tensors` go by any of the spellings of `canonical`. A head that is absent altogether is initialised from `seed`
    and named ('pooler', 'mlm_head', 'nsp_head'); a head present in part, any other missing, unknown or
    misshapen weight, and a decoder that is not tied to the embeddings raise `UserError`.
    """
    theirs = canonical(tensors)
    weights = table(config)
    known = {weight.name for weight in weights}
    present = {weight.part for weight in weights if weight.name in theirs}
    fresh = [part for part in PARTS[1:] if part not in present]
    required = {weight.name for weight in weights if weight.part not in fresh}
    unknown = {name for name in theirs if name not in known and not name.startswith(_TASK_HEADS)}
    _require_same_names("weights", set(theirs) & known | unknown, required)
    generator = np.random.default_rng(seed)
    params: dict[str, Any] = {}
    for weight in weights:
        if weight.name in required:
            array = np.asarray(theirs[weight.name]).astype(np.float32)
            setting = _SETTING_OF_ROWS.get(weight.name)
            hint = f"; config.json says {setting}={weight.shape[0]}: set it to the rows that were trained"
            _require_shape(weight.name, array.shape, weight.shape, hint if setting else "")
            if not np.isfinite(array).all():
                raise UserError(
                    f"{weight.name}: expected finite numbers, found NaN or infinity: restore the weights from a copy, "
                    "or save them in float32 if they overflowed in float16"
                )
        else:
            array = _initial(weight, config, generator)
        array = np.ascontiguousarray(array.T) if weight.transposed else array
        if weight.name in PER_WORD:
            rows = config.padded_vocab_size - config.vocab_size
            array = np.pad(array, [(0, rows)] + [(0, 0)] * (array.ndim - 1))
        _insert(params, weight.path, array)
    return params, fresh


def canonical(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The same weights by the names of `BertForPreTraining`, each once, without what is no weight of the model.

    Raises `UserError` where the decoder is not tied to the embeddings.
    """
    renamed: Tensors = {}
    for name, array in tensors.items():
        if "/" in name or name in ("global_step", "output_bias", "output_weights"):
            if name.endswith(("/adam_m", "/adam_v", "global_step")):
                continue
            # google-research/bert: bert/encoder/layer_0/attention/self/query/kernel
            array = array.T if name.endswith("/kernel") else array
            name = re.sub(r"layer_(\d+)", r"layer.\1", name.replace("/", "."))
            name = re.sub(r"\.kernel$|\.output_weights$|(?<=_embeddings)$", ".weight", name)
            name = name.replace(".output_bias", ".bias")
        name = re.sub(r"\.gamma$", ".weight", name)
        name = re.sub(r"\.beta$", ".bias", name)
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        if name not in _NO_WEIGHTS:
            renamed[name] = array
    _merge_tied(renamed)
    return renamed


def _merge_tied(tensors: Tensors) -> None:
    for tied, original in _TIED.items():
        array = tensors.pop(tied, None)
        if array is None:
            continue
        if original not in tensors:
            tensors[original] = array
        elif not np.array_equal(array, tensors[original]):
            raise UserError(
                f"expected {tied} to equal {original}, as in every BERT, found other values: "
                "a model with an untied decoder cannot be imported"
            )


def _initial(weight: Weight, config: ModelConfig, generator: np.random.Generator) -> np.ndarray:
    if len(weight.shape) == 1:
        return np.full(weight.shape, weight.path[-1] == "scale", np.float32)
    # Truncated at two standard deviations, as in `model.init`: what falls outside is drawn again.
    values = generator.standard_normal(weight.shape, np.float32)
    while (outside := np.abs(values) > 2).any():
        values[outside] = generator.standard_normal(int(outside.sum()), np.float32)
    return values * np.float32(config.initializer_range)


def _require_same_names(what: str, found: set[Any], expected: set[Any]) -> None:
    def listing(names: set[Any]) -> str:
        shown = sorted("/".join(name) if isinstance(name, tuple) else name for name in names)
        return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")

    missing, unknown = expected - found, found - expected
    if missing or unknown:
        parts = [f"missing: {listing(missing)}"] if missing else []
        parts += [f"unknown: {listing(unknown)}"] if unknown else []
        raise UserError(
            f"expected the {what} of a BERT, found others ({'; '.join(parts)}): check what it was saved from"
        )


def _require_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...], hint: str = "") -> None:
    if found != expected:
        raise UserError(
            f"{name}: expected shape {expected} by its config, found {found}: the two do not belong together{hint}"
        )


def _flatten(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, (*path, key))
        else:
            flat[*path, key] = value
    return flat


def _insert(tree: dict[str, Any], path: tuple[str, ...], array: np.ndarray) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = array
