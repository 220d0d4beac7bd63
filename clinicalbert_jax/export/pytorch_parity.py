"""Whether PyTorch reads an exported directory as the model that was exported. Needs PyTorch and transformers."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import torch
import transformers

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import loading, weight_names

OUTPUT_TOLERANCE = 1e-4
_LENGTH = 64


@dataclass(frozen=True)
class Comparison:
    """Largest absolute differences, by tensor (of the weights as written) and by output (in float32)."""

    tensors: dict[str, float]
    outputs: dict[str, float]

    @property
    def equal(self) -> bool:
        """No tensor differs at all, and no output by more than rounding explains."""
        return not any(self.tensors.values()) and all(value <= OUTPUT_TOLERANCE for value in self.outputs.values())

    def report(self) -> str:
        """A table, the outputs in the order of the computation; of the tensors those that differ."""
        different = {name: value for name, value in self.tensors.items() if value}
        lines = [f"{'largest difference from PyTorch':48}"]
        lines += [f"  {name:40} {value:.2e}" for name, value in (self.outputs | different).items()]
        lines.append(f"  {len(self.tensors)} tensors: {len(different)} differ")
        verdict = "equal" if self.equal else "NOT EQUAL"
        return "\n".join([*lines, f"{verdict} (outputs within {OUTPUT_TOLERANCE:g}, tensors bit for bit)"])


def compare(directory: Path, loaded: loading.Loaded, dtype: str) -> Comparison:
    """PyTorch's model in `directory` against ours, on random rows with padding and both segments.

    Both compute in float32; the weights are those exported, rounded to `dtype` as they were written.
    """
    config = loaded.config
    document = transformers.AutoConfig.from_pretrained(directory)
    architecture = document.architectures[0]
    theirs, info = getattr(transformers, architecture).from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True, attn_implementation="eager"
    )
    theirs.eval()
    parts = weight_names.PARTS if architecture == "BertForPreTraining" else ("encoder", "pooler")
    exported = weight_names.to_huggingface(config, loaded.params, dtype=dtype, parts=parts)
    prefix = "" if architecture == "BertForPreTraining" else "bert."
    state = {prefix + name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    tensors = {name: float(np.abs(state[name] - array.astype(np.float32)).max()) for name, array in exported.items()}
    tensors |= {
        name: float("inf") for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in info[kind]
    }

    rows = _rows(config)
    rounded = {name: array.astype(np.float32) for name, array in exported.items()}
    params, _ = weight_names.from_huggingface(config, rounded)
    return Comparison(tensors, _output_differences(loaded, params, theirs, rows))


def _output_differences(
    loaded: loading.Loaded, params: bert.Params, theirs: "torch.nn.Module", rows: tuple[np.ndarray, ...]
) -> dict[str, float]:
    config = loaded.config
    ids, segments, mask = (torch.tensor(row) for row in rows)
    inputs = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}
    encoder = theirs.bert if hasattr(theirs, "bert") else theirs
    with torch.no_grad():
        expected = encoder(**inputs, output_hidden_states=True)
        heads = theirs(**inputs) if hasattr(theirs, "cls") else None
    batch, length = rows[0].shape
    positions_BxL = np.broadcast_to(np.arange(length), (batch, length))
    # The default on accelerators rounds the factors of float32 products.
    with jax.default_matmul_precision("highest"):
        encoded = jax.jit(lambda p, *r: bert.encode(config, p, *r, all_layers=True))(params, *rows)
        outputs = jax.jit(lambda p, *r: bert.apply(config, p, *r))(
            params, *rows, positions_BxL, np.zeros((batch, 1), int)
        )
    pairs = {"embeddings": (encoded.layers[0], expected.hidden_states[0])}
    for number in range(1, config.num_hidden_layers + 1):
        pairs[f"layer {number}"] = encoded.layers[number], expected.hidden_states[number]
    pairs["pooler"] = encoded.pooled_BxD, expected.pooler_output
    if heads is not None:
        pairs["MLM logits"] = outputs.mlm_logits_BxPxV[..., : config.vocab_size], heads.prediction_logits
        pairs["NSP logits"] = outputs.nsp_logits_BxKx2[:, 0], heads.seq_relationship_logits
    return {name: float(np.abs(np.asarray(a) - b.numpy()).max()) for name, (a, b) in pairs.items()}


def _rows(config: ModelConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    length = min(_LENGTH, config.max_position_embeddings)
    lengths_Bx1 = np.array([[length], [length // 2], [length // 3 + 1], [2]])
    mask_BxL = (np.arange(length) < lengths_Bx1).astype(np.int64)
    segments_BxL = (np.arange(length) >= lengths_Bx1 // 2) * mask_BxL % config.type_vocab_size
    return generator.integers(0, config.vocab_size, mask_BxL.shape) * mask_BxL, segments_BxL, mask_BxL
