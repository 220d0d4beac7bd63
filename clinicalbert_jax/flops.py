"""Floating-point operations of a training step, and what a device could do: the two sides of MFU. Loads no JAX.

Shape legend: L length, D `hidden_size`, F `intermediate_size`, P predictions, V `vocab_size`.
"""

from clinicalbert_jax.chips import chip
from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.schema import Layout


def train_flops_per_row(model: ModelConfig, layout: Layout) -> float:
    """FLOPs of one row, forward and backward: three times the forward's matrix products, two per multiply-add.

    Encoder, attention over the whole row, and the MLM head on the P masked positions; embeddings, norms, and what
    rematerialisation computes again are not counted (the convention of Chowdhery et al. 2022, appendix B).
    """
    width, predictions = model.hidden_size, layout.max_predictions_per_seq
    head = predictions * (width * width + width * model.vocab_size)
    return train_flops_of_encoder(model, layout.max_seq_length) + 3 * 2 * head


def train_flops_of_encoder(model: ModelConfig, length: float) -> float:
    """Of these, the part of the encoder and its attention, for a row of `length` tokens."""
    width, inner = model.hidden_size, model.intermediate_size
    per_token = 4 * width * width + 2 * width * inner + 2 * length * width
    return 3 * 2 * model.num_hidden_layers * length * per_token


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of a device, or None where it has no data sheet here, a CPU for one."""
    known = chip(device_kind)
    return known.peak_flops if known else None
