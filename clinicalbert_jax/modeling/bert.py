"""BERT after Devlin et al. (2019): embeddings, post-layer-norm encoder, pooler, MLM and NSP heads.

The modules are NNX; callers see pure functions of a nested dict of arrays: `init`, `encode`, `apply`.
Float parameters are float32. `dtype` is that of the activations and matrix products; layer norm, softmax and
logits are float32 always. Every row may hold several sequences (sentence pairs), numbered 1, 2, ... by
`sequence_ids` with 0 for padding: position ids restart at each, and attention stays inside each. A padded
example is a row of one sequence.

Shape legend: B batch, L length, D `hidden_size`, F `intermediate_size`, H heads, K head size (in attention)
or sequences a row (in `apply`), P predictions, V padded vocabulary.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.modeling.attention import at_positions, attention
from clinicalbert_jax.modeling.dropout import dropout

Params = dict[str, Any]  # nested, of arrays; every key is a string, a layer's being its number
Attend = Callable[..., jax.Array]  # `attention.attention` with the batch's sequences

NEGATIVE = -1e9  # the logit of vocabulary rows that exist only as padding


class Encoded(NamedTuple):
    """`hidden_BxLxD` of the last layer; `pooled_BxD` of each row's first token; `layers` on request.

    `layers` holds the embeddings' output and that of every layer, each B x L x D, or is empty.
    """

    hidden_BxLxD: jax.Array
    pooled_BxD: jax.Array
    layers: tuple[jax.Array, ...]


class Outputs(NamedTuple):
    """Float32 logits of both heads. NSP's second class is 'random next' (label 1)."""

    mlm_logits_BxPxV: jax.Array
    nsp_logits_BxKx2: jax.Array


def init(config: ModelConfig, key: jax.Array) -> Params:
    """New parameters, drawn from `key` as the original does: truncated normal weights, zero biases."""
    bert = Bert(config, jnp.float32, _keys(key))
    return _string_keys(nnx.to_pure_dict(nnx.state(bert, nnx.Param)))


def encode(
    config: ModelConfig,
    params: Params,
    input_ids_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    sequence_ids_BxL: jax.Array,
    *,
    dtype: DTypeLike = jnp.float32,
    dropout_key: jax.Array | None = None,
    implementation: str = "xla",
    remat: bool = False,
    all_layers: bool = False,
    packed: bool = True,
) -> Encoded:
    """The encoder alone; of `params` it needs embeddings, layers and pooler. No `dropout_key`: no dropout.

    `implementation`: of attention, as `attention.resolve` found it. `remat`: recompute activations, see `apply`.
    `packed` False promises that every row is one sequence and then padding.
    """
    encoder: Encoder = _bind(Encoder, config, params, dtype)
    attend = functools.partial(
        attention, sequence_ids_BxL=sequence_ids_BxL, implementation=implementation, packed=packed
    )
    layers = encoder.layers_of(input_ids_BxL, segment_ids_BxL, sequence_ids_BxL, attend, dropout_key, remat)
    pooled_BxD = encoder.pool(layers[-1][:, 0])
    return Encoded(layers[-1], pooled_BxD, tuple(layers) if all_layers else ())


def pooled(
    config: ModelConfig,
    params: Params,
    input_ids_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    sequence_ids_BxL: jax.Array,
    first_positions_BxK: jax.Array,
    *,
    dtype: DTypeLike = jnp.float32,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """The pooled vectors, B x K x D, of the sequences that start at these positions; else as `encode`."""
    encoder: Encoder = _bind(Encoder, config, params, dtype)
    attend = functools.partial(attention, sequence_ids_BxL=sequence_ids_BxL)
    rows = input_ids_BxL, segment_ids_BxL, sequence_ids_BxL
    return encoder.pool(encoder.layers_of(*rows, attend, dropout_key, remat=False, read_BxR=first_positions_BxK)[-1])


def apply(
    config: ModelConfig,
    params: Params,
    input_ids_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    sequence_ids_BxL: jax.Array,
    masked_lm_positions_BxP: jax.Array,
    next_sentence_positions_BxK: jax.Array,
    *,
    dtype: DTypeLike = jnp.float32,
    dropout_key: jax.Array | None = None,
    implementation: str = "xla",
    remat: bool = False,
) -> Outputs:
    """Both heads, each at the given positions only. No `dropout_key`: no dropout.

    Rows that can hold one pair (`next_sentence_positions_BxK` of K = 1) hold one sequence, and then padding.
    `implementation`: of attention, as `attention.resolve` found it. `remat`: of each layer keep for the gradient its
    input and the products with weights; the rest, scores and activations, is computed again.
    """
    bert: Bert = _bind(Bert, config, params, dtype)
    attend = functools.partial(
        attention,
        sequence_ids_BxL=sequence_ids_BxL,
        implementation=implementation,
        packed=next_sentence_positions_BxK.shape[1] > 1,
    )
    read_BxR = jnp.concatenate([masked_lm_positions_BxP, next_sentence_positions_BxK], axis=1)
    rows = input_ids_BxL, segment_ids_BxL, sequence_ids_BxL
    hidden_BxRxD = bert.layers_of(*rows, attend, dropout_key, remat, read_BxR)[-1]
    masked_BxPxD, first_BxKxD = jnp.split(hidden_BxRxD, [masked_lm_positions_BxP.shape[1]], axis=1)
    return Outputs(bert.mlm(masked_BxPxD), bert.nsp(bert.pool(first_BxKxD)))


def position_ids(sequence_ids_BxL: jax.Array) -> jax.Array:
    """Positions counted from the start of each sequence, B x L; padding counts on from the last one."""
    index_1xL = jnp.arange(sequence_ids_BxL.shape[1], dtype=jnp.int32)[None]
    before_BxL = jnp.pad(sequence_ids_BxL[:, :-1], ((0, 0), (1, 0)))
    is_start_BxL = (sequence_ids_BxL != before_BxL) & (sequence_ids_BxL != 0)
    return index_1xL - jax.lax.cummax(jnp.where(is_start_BxL, index_1xL, 0), axis=1)


class Encoder(nnx.Module):
    """Embeddings, layers and pooler: what Hugging Face calls `BertModel`."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, dtype, rngs)
        self.layers = nnx.List([Layer(config, dtype, rngs) for _ in range(config.num_hidden_layers)])
        self.pooler = _linear(config, config.hidden_size, config.hidden_size, dtype, rngs)

    def layers_of(
        self,
        input_ids_BxL: jax.Array,
        segment_ids_BxL: jax.Array,
        sequence_ids_BxL: jax.Array,
        attend: Attend,
        dropout_key: jax.Array | None,
        remat: bool,
        read_BxR: jax.Array | None = None,
    ) -> list[jax.Array]:
        """The embeddings' output, then each layer's; the last one's at the positions `read_BxR` alone, B x R x D."""
        outputs = [self.embeddings(input_ids_BxL, segment_ids_BxL, sequence_ids_BxL, _fold(dropout_key, 0))]
        for number, layer in enumerate(self.layers, start=1):
            is_last = number == len(self.layers)
            run: Callable[..., jax.Array] = functools.partial(
                layer, attend=attend, read_BxR=read_BxR if is_last else None
            )
            if remat:
                run = jax.checkpoint(run, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
            outputs.append(run(outputs[-1], dropout_key=_fold(dropout_key, number)))
        return outputs

    def pool(self, first_D: jax.Array) -> jax.Array:
        """The pooled vector of the hidden states (... x D) of [CLS] tokens."""
        return jnp.tanh(self.pooler(first_D))


class Bert(Encoder):
    """The encoder with both pre-training heads: Hugging Face's `BertForPreTraining`."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(config, dtype, rngs)
        self.mlm_head = MlmHead(config, dtype, rngs)
        self.nsp_head = _linear(config, config.hidden_size, 2, dtype, rngs)

    def mlm(self, hidden_BxPxD: jax.Array) -> jax.Array:
        """Float32 logits over the vocabulary, B x P x V."""
        return self.mlm_head(hidden_BxPxD, self.embeddings.word.embedding[...])

    def nsp(self, pooled_BxKxD: jax.Array) -> jax.Array:
        """Float32 logits, B x K x 2."""
        return self.nsp_head(pooled_BxKxD).astype(jnp.float32)


class Embeddings(nnx.Module):
    """Sum of word, position and segment embeddings, normalised."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        width, normal = config.hidden_size, _normal(config)

        def padded_rows(key: jax.Array, shape: tuple[int, int], dtype: DTypeLike, *_: Any) -> jax.Array:
            return normal(key, shape, dtype).at[config.vocab_size :].set(0)

        self.word = nnx.Embed(config.padded_vocab_size, width, embedding_init=padded_rows, rngs=rngs)
        self.position = nnx.Embed(config.max_position_embeddings, width, embedding_init=normal, rngs=rngs)
        self.token_type = nnx.Embed(config.type_vocab_size, width, embedding_init=normal, rngs=rngs)
        self.layer_norm = _layer_norm(config, rngs)
        self.rate, self.dtype = config.hidden_dropout_prob, dtype

    def __call__(
        self,
        input_ids_BxL: jax.Array,
        segment_ids_BxL: jax.Array,
        sequence_ids_BxL: jax.Array,
        dropout_key: jax.Array | None,
    ) -> jax.Array:
        """B x L x D in `dtype`."""
        x_BxLxD = self.word(input_ids_BxL) + self.token_type(segment_ids_BxL)
        x_BxLxD = self.layer_norm(x_BxLxD + self.position(position_ids(sequence_ids_BxL)))
        return dropout(x_BxLxD.astype(self.dtype), self.rate, dropout_key)


class Layer(nnx.Module):
    """One transformer layer: attention, then feed-forward, each added to its input and then normalised."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        self.attention = SelfAttention(config, dtype, rngs)
        self.feed_forward = FeedForward(config, dtype, rngs)

    def __call__(
        self, x_BxLxD: jax.Array, attend: Attend, dropout_key: jax.Array | None, read_BxR: jax.Array | None = None
    ) -> jax.Array:
        """From B x L x D to B x L x D, or to B x R x D where only the positions `read_BxR` are read."""
        x_BxLxD = self.attention(x_BxLxD, attend, _fold(dropout_key, 0), _fold(dropout_key, 1), read_BxR)
        return self.feed_forward(x_BxLxD, _fold(dropout_key, 2))


class SelfAttention(nnx.Module):
    """Multi-head attention with its residual connection and layer norm."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query = _linear(config, width, width, dtype, rngs)
        self.key = _linear(config, width, width, dtype, rngs)
        self.value = _linear(config, width, width, dtype, rngs)
        self.output = _linear(config, width, width, dtype, rngs)
        self.layer_norm = _layer_norm(config, rngs)
        self.heads = config.num_attention_heads
        self.hidden_rate, self.attention_rate = (
            config.hidden_dropout_prob,
            config.attention_probs_dropout_prob,
        )
        self.dtype = dtype

    def __call__(
        self,
        x_BxLxD: jax.Array,
        attend: Attend,
        attention_key: jax.Array | None,
        hidden_key: jax.Array | None,
        read_BxR: jax.Array | None,
    ) -> jax.Array:
        """From B x L x D to B x L x D or B x R x D."""
        mixed_BxLxHxK = attend(
            *self.projections(x_BxLxD), read_BxR=read_BxR, dropout_rate=self.attention_rate, dropout_key=attention_key
        )
        if read_BxR is not None:
            # Positions meet in attention alone: what follows is computed where it is read.
            x_BxLxD = at_positions(x_BxLxD, read_BxR)
        added_BxLxD = dropout(self.output(mixed_BxLxHxK.reshape(x_BxLxD.shape)), self.hidden_rate, hidden_key)
        return self.layer_norm(x_BxLxD + added_BxLxD).astype(self.dtype)

    def projections(self, x_BxLxD: jax.Array) -> tuple[jax.Array, ...]:
        """Query, key and value, each B x L x H x K, by one matrix product."""
        # Stored separately, since LAMB scales each array by its own norm; used as one.
        parts = (self.query, self.key, self.value)
        kernel_Dx3D = jnp.concatenate([part.kernel[...] for part in parts], axis=1).astype(self.dtype)
        bias_3D = jnp.concatenate([part.bias[...] for part in parts]).astype(self.dtype)  # type: ignore[index]
        joint_BxLx3D = _product(x_BxLxD, kernel_Dx3D) + bias_3D
        shape_BxLxHxK = *x_BxLxD.shape[:2], self.heads, -1
        return tuple(part_BxLxD.reshape(shape_BxLxHxK) for part_BxLxD in jnp.split(joint_BxLx3D, 3, axis=-1))


class FeedForward(nnx.Module):
    """Two dense layers with their residual connection and layer norm."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        self.intermediate = _linear(config, config.hidden_size, config.intermediate_size, dtype, rngs)
        self.output = _linear(config, config.intermediate_size, config.hidden_size, dtype, rngs)
        self.layer_norm = _layer_norm(config, rngs)
        self.activation, self.rate, self.dtype = config.hidden_act, config.hidden_dropout_prob, dtype

    def __call__(self, x_BxLxD: jax.Array, dropout_key: jax.Array | None) -> jax.Array:
        """From B x L x D to B x L x D."""
        inner_BxLxF = _activate(self.activation, self.intermediate(x_BxLxD))
        added_BxLxD = dropout(self.output(inner_BxLxF), self.rate, dropout_key)
        return self.layer_norm(x_BxLxD + added_BxLxD).astype(self.dtype)


class Linear(nnx.Linear):
    """A dense layer over the last axis."""

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """From ... x D to ... x its width."""
        if self.dtype != jnp.float32:
            return super().__call__(inputs, out_sharding)
        return _product(inputs, self.kernel[...]) + self.bias[...]  # type: ignore[index]


def _product(x_BxLxD: jax.Array, kernel_DxE: jax.Array) -> jax.Array:
    if x_BxLxD.dtype != jnp.float32:
        return x_BxLxD @ kernel_DxE
    # Of more than two axes, the CPU's compiler computes the kernel's gradient by a transposed copy, at half the speed.
    # An accelerator would copy to another layout.
    flat_NxD = x_BxLxD.reshape(-1, x_BxLxD.shape[-1])
    return (flat_NxD @ kernel_DxE).reshape(*x_BxLxD.shape[:-1], -1)


class MlmHead(nnx.Module):
    """Dense, activation, layer norm, then the word embeddings as decoder, with a bias of their own."""

    def __init__(self, config: ModelConfig, dtype: DTypeLike, rngs: nnx.Rngs):
        self.transform = _linear(config, config.hidden_size, config.hidden_size, dtype, rngs)
        self.layer_norm = _layer_norm(config, rngs)
        self.output_bias = nnx.Param(jnp.zeros(config.padded_vocab_size, jnp.float32))
        self.activation, self.dtype, self.vocab_size = config.hidden_act, dtype, config.vocab_size

    def __call__(self, hidden_BxPxD: jax.Array, word_VxD: jax.Array) -> jax.Array:
        """Float32 logits, B x P x V; padded rows of V are masked out."""
        x_BxPxD = self.layer_norm(_activate(self.activation, self.transform(hidden_BxPxD)))
        x_NxD = x_BxPxD.reshape(-1, x_BxPxD.shape[-1])
        logits_NxV = jnp.einsum(
            "nd,vd->nv",
            x_NxD.astype(self.dtype),
            word_VxD.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
        logits_BxPxV = logits_NxV.reshape(*x_BxPxD.shape[:2], -1)
        is_word_V = jnp.arange(len(word_VxD)) < self.vocab_size
        return jnp.where(is_word_V, logits_BxPxV + self.output_bias[...], NEGATIVE)


def _linear(config: ModelConfig, fan_in: int, fan_out: int, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Linear:
    return Linear(fan_in, fan_out, dtype=dtype, kernel_init=_normal(config), rngs=rngs)


def _layer_norm(config: ModelConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # Two passes: the variance as E[x^2] - E[x]^2 loses precision that parity with other BERTs needs.
    return nnx.LayerNorm(
        config.hidden_size,
        epsilon=config.layer_norm_eps,
        dtype=jnp.float32,
        use_fast_variance=False,
        rngs=rngs,
    )


def _normal(config: ModelConfig) -> jax.nn.initializers.Initializer:
    return jax.nn.initializers.truncated_normal(config.initializer_range)


def _activate(name: str, x: jax.Array) -> jax.Array:
    if name == "relu":
        return jax.nn.relu(x)
    if name == "gelu" and x.dtype == jnp.float32:
        # As PyTorch has it. JAX computes erfc, for its digits far below 0 where little is left, at twice the time.
        return x * (0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5)))
    return jax.nn.gelu(x, approximate=name != "gelu")


def _fold(key: jax.Array | None, number: int) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, number)


class _Keys:
    """A key for each parameter in turn, as `nnx.Rngs(params=key)` has them.

    To trace the count of `nnx.Rngs` took most of the time that building the modules took.
    """

    def __init__(self, key: jax.Array):
        self._keys = (jax.random.fold_in(key, number) for number in itertools.count())

    def params(self) -> jax.Array:
        return next(self._keys)


def _keys(key: jax.Array) -> nnx.Rngs:
    return cast(nnx.Rngs, _Keys(key))


def _bind(kind: type[Encoder], config: ModelConfig, params: Params, dtype: DTypeLike) -> Any:
    graph, names = _graph(kind, dataclasses.astuple(config), jnp.dtype(dtype))
    numbered = {int(number): layer for number, layer in params["layers"].items()}
    return nnx.merge(graph, {name: params[name] for name in names} | {"layers": numbered})


@functools.cache
def _graph(kind: type[Encoder], config: tuple[Any, ...], dtype: jnp.dtype) -> tuple[Any, tuple[str, ...]]:
    # The modules' structure without their arrays, built once: merging it with arrays is cheap.
    abstract = nnx.eval_shape(lambda: kind(ModelConfig(*config), dtype, _keys(jax.random.key(0))))
    graph, state = nnx.split(abstract, nnx.Param)
    return graph, tuple(state)


def _string_keys(tree: Any) -> Any:
    return {str(key): _string_keys(value) for key, value in tree.items()} if isinstance(tree, dict) else tree
