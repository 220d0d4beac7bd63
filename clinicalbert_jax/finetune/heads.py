"""The three heads of downstream tasks over BERT's encoder: one layer each, with their losses.

They are those of Hugging Face's `BertForTokenClassification`, `BertForSequenceClassification` and
`BertForQuestionAnswering`, whose logits and losses they reproduce.

Rows share packed rows (see `rows`): attention, positions, pooled vectors and losses are of each by itself.

Shape legend: B packed rows, K rows in one, L length, D `hidden_size`, C labels (2 for a span: start and end).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from clinicalbert_jax.config import Config, ModelConfig
from clinicalbert_jax.finetune.task import ONE_LABEL, REGRESSION, SEVERAL_LABELS
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.training.losses import Batch, Objective, Sums, cross_entropy, token_cross_entropy

ENCODER_PARTS = ("embeddings", "layers", "pooler")  # what fine-tuning keeps of a pre-trained model's parameters
# With 6 layers of 384, 16 rows of 128 took 0.50 s at once and 0.48 s by fours, 8 of 384 1.12 s and, by twos, 0.98 s
# (docs/lab_notebook.md). Pre-training gains nothing: each part would add up the gradient of the MLM head's decoder.
_POSITIONS_ON_A_CPU = 768


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
    """Float32 logits: B x K x C of a 'sequence' head, B x L x C of a 'token' or 'span' head."""
    encoder_key, head_key = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    inputs = batch["input_ids"], batch["segment_ids"], batch["sequence_ids"]
    if head == "sequence":
        x = bert.pooled(config, params, *inputs, batch["first_positions"], dtype=dtype, dropout_key=encoder_key)
    else:
        x = bert.encode(config, params, *inputs, dtype=dtype, dropout_key=encoder_key).hidden_BxLxD
    if head != "span":  # which has no dropout of its own there
        x = bert.dropout(x, config.hidden_dropout_prob, head_key)
    return x.astype(jnp.float32) @ params["task_head"]["kernel"] + params["task_head"]["bias"]


def objective(head: str, num_labels: int, problem_type: str = ONE_LABEL) -> Callable[[Config, Mesh], Objective]:
    """The objective of a head, for `train_step.build`. What its batches hold beside the inputs:

    'token': `labels` and `label_weights`, B x L. 'sequence': `first_positions`, `labels` (B x K x C of 0 and 1 for
    several labels; numbers for regression) and `label_weights`, B x K. 'span': `first_positions`, `start_positions`
    and `end_positions`, which count from them, and `label_weights`, B x K.
    """
    sequence = {ONE_LABEL: _label_sums, SEVERAL_LABELS: _multi_label_sums, REGRESSION: _regression_sums}[problem_type]
    sums_of = {"token": _label_sums, "sequence": sequence, "span": _span_sums}[head]

    def make(config: Config, _: Mesh) -> Objective:
        def sums(params: bert.Params, batch: Batch, dropout_key: jax.Array | None) -> Sums:
            dtype = jnp.dtype(config.train.dtype)
            return sums_of(logits(head, config.model, params, batch, dtype=dtype, dropout_key=dropout_key), batch)

        return Objective(
            init=lambda key: init(config.model, num_labels, key),
            weights=lambda batch: {"task_loss": batch["label_weights"].sum()},
            sums=sums,
            positions_on_a_cpu=_POSITIONS_ON_A_CPU,
        )

    return make


def _label_sums(logits: jax.Array, batch: Batch) -> Sums:
    """One label for each token (logits B x L x C) or each row (B x K x C)."""
    return _task(*cross_entropy(logits, batch["labels"], batch["label_weights"]))


def _multi_label_sums(logits_BxKxC: jax.Array, batch: Batch) -> Sums:
    """Every label a decision of its own; the mean over labels, as in PyTorch's `BCEWithLogitsLoss`."""
    labels_BxKxC, weights_BxK = batch["labels"], batch["label_weights"]
    losses_BxK = jnp.mean(jax.nn.softplus(logits_BxKxC) - labels_BxKxC * logits_BxKxC, axis=-1)
    hits_BxK = jnp.mean((logits_BxKxC > 0) == (labels_BxKxC > 0.5), axis=-1)
    return _task(jnp.sum(losses_BxK * weights_BxK), jnp.sum(hits_BxK * weights_BxK), jnp.sum(weights_BxK))


def _regression_sums(logits_BxKx1: jax.Array, batch: Batch) -> Sums:
    """Squared error, as PyTorch's `MSELoss`."""
    weights_BxK = batch["label_weights"]
    squared_BxK = (logits_BxKx1[..., 0] - batch["labels"]) ** 2
    return {"task_loss": (jnp.sum(squared_BxK * weights_BxK), jnp.sum(weights_BxK))}


def _span_sums(logits_BxLx2: jax.Array, batch: Batch) -> Sums:
    """The mean of the cross-entropies of start and end over all positions of the row. A hit has both right.

    Hugging Face's are over the padding of the row too.
    """
    weights_BxK, first_BxK = batch["label_weights"], batch["first_positions"]
    rows_1xKx1 = 1 + jnp.arange(weights_BxK.shape[1])[:, None]
    is_own_BxKxL = batch["sequence_ids"][:, None] == rows_1xKx1
    both = []
    for number, name in enumerate(("start_positions", "end_positions")):
        own_BxKxL = jnp.where(is_own_BxKxL, logits_BxLx2[:, None, :, number], bert.NEGATIVE)
        both.append(token_cross_entropy(own_BxKxL, first_BxK + batch[name]))
    (start_BxK, start_hits_BxK), (end_BxK, end_hits_BxK) = both
    loss = jnp.sum((start_BxK + end_BxK) / 2 * weights_BxK)
    return _task(loss, jnp.sum((start_hits_BxK & end_hits_BxK) * weights_BxK), jnp.sum(weights_BxK))


def _task(loss: jax.Array, hits: jax.Array, weight: jax.Array) -> Sums:
    return {"task_loss": (loss, weight), "task_accuracy": (hits, weight)}
