"""Model FLOPs utilization: the FLOPs of a training step, and the peak rates of devices. Loads no JAX.

Shape legend: L length, D `hidden_size`, F `intermediate_size`, P predictions, V `vocab_size`.
"""

from dataclasses import dataclass

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.data.schema import Layout


def train_flops_per_row(model: ModelConfig, layout: Layout) -> float:
    """FLOPs of one row, forward and backward: three times the forward's matrix products, two per multiply-add.

    Encoder, attention over the whole row, and the MLM head on the P masked positions; embeddings, norms, and what
    rematerialisation computes again are not counted (the convention of Chowdhery et al. 2022, appendix B), nor what
    the last layer would compute where no head reads it.
    """
    width, predictions = model.hidden_size, layout.max_predictions_per_seq
    head = predictions * (width * width + width * model.vocab_size)
    read = predictions + layout.max_sequences_per_row
    return train_flops_of_encoder(model, layout.max_seq_length, read) + 3 * 2 * head


def train_flops_of_encoder(model: ModelConfig, length: float, read: float | None = None) -> float:
    """Of these, the FLOPs of the encoder and its attention, for a row of `length` tokens.

    `read`: at how many positions the last layer's output is read; all by default.
    """
    width, inner = model.hidden_size, model.intermediate_size
    after_attention = width * width + 2 * width * inner
    per_token = 3 * width * width + after_attention + 2 * length * width
    unread = max(0.0, length - read) if read is not None else 0.0
    return 3 * 2 * (model.num_hidden_layers * length * per_token - unread * after_attention)


def positions_a_compilation(model: ModelConfig, device_kind: str, devices: int) -> float:
    """How many positions are trained in the time of compiling the train step once.

    A rough price: a step of 6 layers compiles in 8 s of a CPU's core, which computes 1e11 FLOPs in a second. Other
    devices are taken to reach a third of their peak.
    """
    flops = peak_flops(device_kind)
    per_second = flops / 3 * devices if flops else 1e11
    return 8 * per_second / (train_flops_of_encoder(model, 128) / 128)


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of a device, or None where it is not in the table, such as a CPU."""
    known = chip(device_kind)
    return known.peak_flops if known else None


@dataclass(frozen=True)
class Chip:
    """One device by the start of jax's `device_kind`. Rates are per second; None where the data sheet has none.

    `peak_flops`: dense bfloat16. `link_bytes`: of one link to a neighbour in one direction (TPU), or of all links to
    the devices of the same host (GPU).
    """

    kind: str
    peak_flops: float
    memory_bytes: float
    memory_bandwidth: float
    link_bytes: float | None


# TPUs: https://cloud.google.com/tpu/docs/system-architecture-tpu-vm, a page a generation; links as in "How To Scale
# Your Model" (https://jax-ml.github.io/scaling-book/tpus). GPUs: the SXM modules' data sheets unless a name says PCIe.
_CHIPS = (
    Chip("TPU v4", 275e12, 32 * 2**30, 1.23e12, 45e9),
    Chip("TPU v5 lite", 197e12, 16 * 2**30, 0.82e12, 45e9),
    Chip("TPU v5e", 197e12, 16 * 2**30, 0.82e12, 45e9),
    Chip("TPU v5p", 459e12, 95 * 2**30, 2.77e12, 90e9),
    Chip("TPU v5", 459e12, 95 * 2**30, 2.77e12, 90e9),
    Chip("TPU v6 lite", 918e12, 32 * 2**30, 1.64e12, 90e9),
    Chip("TPU v6e", 918e12, 32 * 2**30, 1.64e12, 90e9),
    Chip("NVIDIA B200", 2250e12, 180e9, 8.0e12, 900e9),
    Chip("NVIDIA H200", 989e12, 141e9, 4.8e12, 450e9),
    Chip("NVIDIA H100 PCIe", 756e12, 80e9, 2.0e12, None),
    Chip("NVIDIA H100", 989e12, 80e9, 3.35e12, 450e9),
    Chip("NVIDIA A100-PCIE-40GB", 312e12, 40e9, 1.56e12, None),
    Chip("NVIDIA A100", 312e12, 80e9, 2.04e12, 300e9),
    Chip("NVIDIA L4", 121e12, 24e9, 0.3e12, None),
    Chip("Tesla V100", 125e12, 32e9, 0.9e12, 150e9),
)


def chip(device_kind: str) -> Chip | None:
    """The chip of a device kind, or None where it is not in the table, such as a CPU."""
    return next((entry for entry in _CHIPS if device_kind.startswith(entry.kind)), None)
