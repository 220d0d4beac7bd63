"""The three heads of downstream tasks over BERT's encoder: one layer each, with their losses.

They are those of Hugging Face's `BertForTokenClassification`, `BertForSequenceClassification` and
`BertForQuestionAnswering`, whose logits and losses they reproduce.

Shape legend: B batch, L length, D `hidden_size`, C labels (2 for a span: start and end).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from clinicalbert_jax.config import Config, ModelConfig
from clinicalbert_jax.finetune.task import ONE_LABEL, REGRESSION, SEVERAL_LABELS
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.training.losses import Batch, Objective, Sums, cross_entropy

ENCODER_PARTS = ("embeddings", "layers", "pooler")  # what fine-tuning keeps of a pre-trained model's parameters


def init(config: ModelConfig, num_labels: int, key: jax.Array) -> bert.Params:
    """The encoder's parameters and `task_head`'s, drawn from `key`."""
    params = bert.init(config, key)
    normal = jax.nn.initializers.truncated_normal(config.initializer_range)
    kernel_DxC = normal(jax.random.fold_in(key, 1), (config.hidden_size, num_labels), jnp.float32)
    head = {"kernel": kernel_DxC, "bias": jnp.zeros(num_labels, jnp.float32)}
    return {part: params[part] for part in ENCODER_PARTS} | {"task_head": head}


def logits(
    head: str,
    config: ModelConfig,
    params: bert.Params,
    batch: Batch,
    *,
    dtype: DTypeLike = jnp.float32,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Float32 logits: B x C of a 'sequence' head, B x L x C of a 'token' or 'span' head."""
    encoder_key, head_key = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    inputs = batch["input_ids"], batch["segment_ids"], batch["sequence_ids"]
    encoded = bert.encode(config, params, *inputs, dtype=dtype, dropout_key=encoder_key, packed=False)
    x = encoded.pooled_BxD if head == "sequence" else encoded.hidden_BxLxD
    if head != "span":  # which has no dropout of its own there
        x = bert.dropout(x, config.hidden_dropout_prob, head_key)
    return x.astype(jnp.float32) @ params["task_head"]["kernel"] + params["task_head"]["bias"]


def objective(head: str, num_labels: int, problem_type: str = ONE_LABEL) -> Callable[[Config, Mesh], Objective]:
    """The objective of a head, for `train_step.build`. What its batches hold beside the inputs:

    'token': `labels` and `label_weights`, B x L. 'sequence': `labels`, B (B x C of 0 and 1 for several labels; numbers
    for regression) and `label_weights`, B. 'span': `start_positions`, `end_positions` and `label_weights`, B.
    """
    sequence = {ONE_LABEL: _label_sums, SEVERAL_LABELS: _multi_label_sums, REGRESSION: _regression_sums}[problem_type]
    sums_of = {"token": _label_sums, "sequence": sequence, "span": _span_sums}[head]

    def make(config: Config, _: Mesh) -> Objective:
        def sums(params: bert.Params, batch: Batch, dropout_key: jax.Array | None) -> Sums:
            dtype = jnp.dtype(config.train.dtype)
            if head == "span":
                params = _without_gradient_of_padding(params)
            return sums_of(logits(head, config.model, params, batch, dtype=dtype, dropout_key=dropout_key), batch)

        return Objective(
            init=lambda key: init(config.model, num_labels, key),
            weights=lambda batch: {"task_loss": batch["label_weights"].sum()},
            sums=sums,
        )

    return make


def _without_gradient_of_padding(params: bert.Params) -> bert.Params:
    # Padding takes part in a span's loss, and [PAD], entry 0, is the one word that PyTorch's embeddings do not train.
    embeddings = params["embeddings"]
    words_VxD = embeddings["word"]["embedding"]
    words_VxD = words_VxD.at[0].set(jax.lax.stop_gradient(words_VxD[0]))
    return params | {"embeddings": embeddings | {"word": {"embedding": words_VxD}}}


def _label_sums(logits: jax.Array, batch: Batch) -> Sums:
    """One label for each token (logits B x L x C) or each row (B x C)."""
    return _task(*cross_entropy(logits, batch["labels"], batch["label_weights"]))


def _multi_label_sums(logits_BxC: jax.Array, batch: Batch) -> Sums:
    """Every label a decision of its own; the mean over labels, as in PyTorch's `BCEWithLogitsLoss`."""
    labels_BxC, weights_B = batch["labels"], batch["label_weights"]
    losses_B = jnp.mean(jax.nn.softplus(logits_BxC) - labels_BxC * logits_BxC, axis=-1)
    hits_B = jnp.mean((logits_BxC > 0) == (labels_BxC > 0.5), axis=-1)
    return _task(jnp.sum(losses_B * weights_B), jnp.sum(hits_B * weights_B), jnp.sum(weights_B))


def _regression_sums(logits_Bx1: jax.Array, batch: Batch) -> Sums:
    """Squared error, as PyTorch's `MSELoss`."""
    weights_B = batch["label_weights"]
    squared_B = (logits_Bx1[:, 0] - batch["labels"]) ** 2
    return {"task_loss": (jnp.sum(squared_B * weights_B), jnp.sum(weights_B))}


def _span_sums(logits_BxLx2: jax.Array, batch: Batch) -> Sums:
    """The mean of the cross-entropies of start and end over all positions of the row, padding included (as theirs).

    A hit has both right.
    """
    weights_B = batch["label_weights"]
    start, _, weight = cross_entropy(logits_BxLx2[..., 0], batch["start_positions"], weights_B)
    end, _, _ = cross_entropy(logits_BxLx2[..., 1], batch["end_positions"], weights_B)
    found_Bx2 = jnp.argmax(logits_BxLx2, axis=1)
    right_B = (found_Bx2[:, 0] == batch["start_positions"]) & (found_Bx2[:, 1] == batch["end_positions"])
    return _task((start + end) / 2, jnp.sum(right_B * weights_B), weight)


def _task(loss: jax.Array, hits: jax.Array, weight: jax.Array) -> Sums:
    return {"task_loss": (loss, weight), "task_accuracy": (hits, weight)}
