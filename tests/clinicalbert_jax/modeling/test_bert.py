"""The model equals the BERT of PyTorch; padding and other pairs in a row change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import weight_names
from clinicalbert_jax.training import mfu

CONFIG = ModelConfig(
    vocab_size=301,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=40,
    max_position_embeddings=64,
)
LENGTH = 32
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # input, segment and sequence ids


def random_params(config: ModelConfig = CONFIG) -> bert.Params:
    """Weights wide enough for sharp attention, and nothing at 0 or 1, where an exchanged bias would go unnoticed."""
    generator = np.random.default_rng(0)
    tensors = {w.name: 0.3 * generator.standard_normal(w.shape, np.float32) for w in weight_names.table(config)}
    tensors |= {name: 1 + array for name, array in tensors.items() if name.endswith("LayerNorm.weight")}
    return weight_names.from_huggingface(config, tensors)[0]


def random_rows(lengths: list[int], seed: int = 0) -> Rows:
    """Padded rows, the second half of each in the second segment."""
    lengths_Bx1 = np.array(lengths)[:, None]
    sequence_ids_BxL = (np.arange(LENGTH) < lengths_Bx1).astype(np.int32)
    segment_ids_BxL = (np.arange(LENGTH) >= lengths_Bx1 // 2) * sequence_ids_BxL
    ids_BxL = np.random.default_rng(seed).integers(1, CONFIG.vocab_size, sequence_ids_BxL.shape)
    return ids_BxL * sequence_ids_BxL, segment_ids_BxL, sequence_ids_BxL


PARAMS = random_params()
POSITIONS_P = np.array([1, 3, 4])


@jax.jit
def encode(params: bert.Params, *rows: jax.Array) -> bert.Encoded:
    return bert.encode(CONFIG, params, *rows, all_layers=True)


@jax.jit
def apply_at(params: bert.Params, *rows_and_positions: jax.Array) -> bert.Outputs:
    return bert.apply(CONFIG, params, *rows_and_positions)


def apply(params: bert.Params, *rows: np.ndarray) -> bert.Outputs:
    batch = len(rows[0])
    return apply_at(params, *rows, np.broadcast_to(POSITIONS_P, (batch, 3)), np.zeros((batch, 1), int))


@pytest.mark.parametrize(("activation", "layers"), [("gelu", 11), ("gelu_new", 1), ("relu", 1)])
def test_every_layer_and_head_equals_pytorch(activation: str, layers: int) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    config = dataclasses.replace(CONFIG, hidden_act=activation, num_hidden_layers=layers)
    params, fields = random_params(config), dataclasses.asdict(config)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**fields)).eval()
    state = {name: torch.tensor(array) for name, array in weight_names.to_huggingface(config, params).items()}
    result = theirs.load_state_dict(state, strict=False)
    assert set(result.missing_keys) == {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert not result.unexpected_keys

    rows = random_rows([LENGTH, 17, 2])
    ids, segments, mask = (torch.tensor(row, dtype=torch.long) for row in rows)
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask, token_type_ids=segments, output_hidden_states=True)
        pooled = theirs.bert(ids, attention_mask=mask, token_type_ids=segments).pooler_output
    encoded = jax.jit(lambda *rows: bert.encode(config, params, *rows, all_layers=True))(*rows)
    assert len(encoded.layers) == len(expected.hidden_states) == layers + 1
    for ours, layer in zip(encoded.layers, expected.hidden_states, strict=True):
        np.testing.assert_allclose(ours, layer.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(encoded.pooled_BxD, pooled.numpy(), atol=1e-4, rtol=0)

    everywhere_BxL = np.broadcast_to(np.arange(LENGTH), rows[0].shape)
    outputs = jax.jit(lambda *rows: bert.apply(config, params, *rows, everywhere_BxL, np.zeros((3, 1), int)))(*rows)
    logits_BxLxV = outputs.mlm_logits_BxPxV
    np.testing.assert_allclose(logits_BxLxV[..., :301], expected.prediction_logits.numpy(), atol=1e-4, rtol=0)
    np.testing.assert_allclose(
        outputs.nsp_logits_BxKx2[:, 0], expected.seq_relationship_logits.numpy(), atol=1e-4, rtol=0
    )
    assert np.asarray(logits_BxLxV[..., 301:]).max() == bert.NEGATIVE


def packed_into_one(padded: Rows, lengths: list[int]) -> tuple[Rows, np.ndarray]:
    """The same sequences in one row, and where each starts."""
    starts_K = np.cumsum([0, *lengths[:-1]])
    packed = tuple(np.zeros((1, LENGTH), np.int32) for _ in range(3))
    for number, (start, length) in enumerate(zip(starts_K, lengths, strict=True)):
        for whole, row in zip(packed, padded, strict=True):
            whole[0, start : start + length] = row[number, :length]
        packed[2][0, start : start + length] = number + 1
    return packed, starts_K


@pytest.mark.fast
def test_packed_rows_give_what_padded_ones_give() -> None:
    lengths = [14, 3, 11]
    padded = random_rows(lengths)
    packed, starts_K = packed_into_one(padded, lengths)
    alone_BxLxD = encode(PARAMS, *padded).hidden_BxLxD
    together_1xLxD = encode(PARAMS, *packed).hidden_BxLxD
    for number, (start, length) in enumerate(zip(starts_K, lengths, strict=True)):
        np.testing.assert_allclose(
            together_1xLxD[0, start : start + length], alone_BxLxD[number, :length], atol=2e-5, rtol=0
        )


@pytest.mark.fast
def test_the_last_layer_is_computed_where_it_is_read_alone() -> None:
    rows = random_rows([LENGTH, 17, 5])
    first_3x1 = np.zeros((3, 1), int)
    pooled = jax.jit(lambda *rows: bert.pooled(CONFIG, PARAMS, *rows, first_3x1))
    np.testing.assert_allclose(pooled(*rows)[:, 0], encode(PARAMS, *rows).pooled_BxD, atol=1e-5, rtol=0)

    whole = jax.jit(lambda *rows: bert.encode(CONFIG, PARAMS, *rows, packed=False).hidden_BxLxD)
    found = [function.lower(*rows).compile().cost_analysis()["flops"] for function in (whole, pooled)]
    trained = [mfu.train_flops_of_encoder(CONFIG, LENGTH, read) for read in (None, 1)]
    num_rows, passes = 3, 3  # a forward pass is a third of training
    assert found[0] - found[1] > num_rows * (trained[0] - trained[1]) / passes, "the products that are saved, and more"


@pytest.mark.fast
def test_packed_rows_give_the_outputs_and_gradients_of_padded_ones() -> None:
    lengths = [14, 3, 11]
    padded = random_rows(lengths)
    packed, starts_K = packed_into_one(padded, lengths)
    labels_K, classes_K = np.array([7, 200, 33]), np.array([0, 1, 1])

    @jax.jit
    def heads(params: bert.Params, rows: Rows, masked: np.ndarray, first: np.ndarray) -> tuple:
        def loss(params: bert.Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            outputs = bert.apply(CONFIG, params, *rows, masked, first)
            mlm_KxV, nsp_Kx2 = outputs.mlm_logits_BxPxV.reshape(3, -1), outputs.nsp_logits_BxKx2.reshape(3, 2)
            log_p_K = jax.nn.log_softmax(mlm_KxV)[np.arange(3), labels_K]
            return -(log_p_K + jax.nn.log_softmax(nsp_Kx2)[np.arange(3), classes_K]).mean(), (mlm_KxV, nsp_Kx2)

        return jax.value_and_grad(loss, has_aux=True)(params)

    together = heads(PARAMS, packed, starts_K[None] + 1, starts_K[None])
    alone = heads(PARAMS, padded, np.ones((3, 1), int), np.zeros((3, 1), int))
    assert optax.tree.norm(alone[1]) > 1
    for found, expected in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.fast
def test_rematerialisation_keeps_less_and_changes_nothing() -> None:
    rows = random_rows([LENGTH, 17, 2, 30])
    positions_BxP, first_Bx1 = np.broadcast_to(POSITIONS_P, (4, 3)), np.zeros((4, 1), int)

    def loss(params: bert.Params, remat: bool) -> jax.Array:
        outputs = bert.apply(
            CONFIG, params, *rows, positions_BxP, first_Bx1, dropout_key=jax.random.key(0), remat=remat
        )
        return jax.nn.log_softmax(outputs.mlm_logits_BxPxV)[..., 3].sum() + outputs.nsp_logits_BxKx2[..., 0].sum()

    def kept(remat: bool) -> int:
        """Numbers that the backward pass takes from the forward one."""
        backward = jax.eval_shape(lambda params: jax.vjp(functools.partial(loss, remat=remat), params)[1], PARAMS)
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert kept(True) < 0.5 * kept(False)
    gradient = jax.jit(jax.value_and_grad(loss), static_argnames="remat")
    again, expected = gradient(PARAMS, remat=True), gradient(PARAMS, remat=False)
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * (1 + np.abs(theirs).max()))


@pytest.mark.fast
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(6, LENGTH), min_size=2, max_size=2), seed=st.integers(0, 99))
def test_what_stands_in_the_padding_changes_nothing(lengths: list[int], seed: int) -> None:
    ids, segments, sequences = random_rows(lengths, seed)
    noise = np.random.default_rng(seed + 1).integers(0, 301, ids.shape) * (1 - sequences)
    clean, noisy = encode(PARAMS, ids, segments, sequences), encode(PARAMS, ids + noise, segments, sequences)
    np.testing.assert_array_equal(clean.hidden_BxLxD * sequences[..., None], noisy.hidden_BxLxD * sequences[..., None])
    np.testing.assert_array_equal(clean.pooled_BxD, noisy.pooled_BxD)


@pytest.mark.fast
@settings(max_examples=10)
@given(order=st.permutations(range(4)))
def test_a_permutation_of_the_batch_permutes_the_outputs(order: list[int]) -> None:
    rows = random_rows([5, 32, 20, 9])
    straight, permuted = apply(PARAMS, *rows), apply(PARAMS, *(row[order] for row in rows))
    np.testing.assert_allclose(
        straight.mlm_logits_BxPxV[np.array(order)], permuted.mlm_logits_BxPxV, rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(straight.nsp_logits_BxKx2[np.array(order)], permuted.nsp_logits_BxKx2, atol=1e-5)


@pytest.mark.fast
def test_swapped_segments_change_the_next_sentence_logits() -> None:
    ids, segments, sequences = random_rows([20])
    straight, swapped = apply(PARAMS, ids, segments, sequences), apply(PARAMS, ids, sequences - segments, sequences)
    assert np.abs(straight.nsp_logits_BxKx2 - swapped.nsp_logits_BxKx2).max() > 1e-3


@pytest.mark.fast
def test_position_ids_restart_at_each_sequence() -> None:
    sequences = np.array([[1, 1, 1, 2, 3, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0]])
    expected = [[0, 1, 2, 0, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]]
    np.testing.assert_array_equal(bert.position_ids(jnp.array(sequences)), expected)


@pytest.mark.fast
def test_a_token_out_of_reach_has_no_gradient() -> None:
    ids, segments, _ = random_rows([LENGTH])
    sequences = np.repeat([[1, 2, 0]], [10, 12, 10], axis=1)

    def first_sequence(word_1xLxD: jax.Array) -> jax.Array:
        # Each token is given a row of the table to itself, so that its gradient can be told apart.
        params = PARAMS | {"embeddings": PARAMS["embeddings"] | {"word": {"embedding": word_1xLxD[0]}}}
        hidden_1xLxD = encode(params, np.arange(LENGTH)[None], segments, sequences).hidden_BxLxD
        return jnp.sum(hidden_1xLxD[0, :10] ** 3)

    words_1xLxD = PARAMS["embeddings"]["word"]["embedding"][ids]
    gradient_LxD = jax.grad(first_sequence)(words_1xLxD)[0]
    assert (np.abs(gradient_LxD[:10]).max(axis=1) > 1e-4).all()
    assert not np.asarray(gradient_LxD[10:]).any()


@pytest.mark.fast
def test_padding_rows_of_the_vocabulary_start_at_zero_and_stay_there() -> None:
    params = bert.init(CONFIG, jax.random.key(0))
    words_VxD = params["embeddings"]["word"]["embedding"]
    assert words_VxD.shape[0] == 384
    assert not np.asarray(words_VxD[301:]).any()
    assert 0.85 * 0.02 < words_VxD[:301].std() < 0.91 * 0.02

    def loss(params: bert.Params) -> jax.Array:
        return -jax.nn.log_softmax(apply(params, *random_rows([20])).mlm_logits_BxPxV)[..., 7].sum()

    gradient = jax.grad(loss)(params)
    assert not np.asarray(gradient["embeddings"]["word"]["embedding"][301:]).any()
    assert not np.asarray(gradient["mlm_head"]["output_bias"][301:]).any()
    assert np.asarray(gradient["mlm_head"]["output_bias"][:301]).all()


@pytest.mark.fast
def test_init_is_a_function_of_its_key() -> None:
    config = ModelConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    one, same, other = (jax.jit(lambda k: bert.init(config, k))(jax.random.key(seed)) for seed in (1, 1, 2))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, same))
    assert not np.array_equal(one["pooler"]["kernel"], other["pooler"]["kernel"])
    layers = one["layers"]
    assert not np.array_equal(layers["0"]["attention"]["query"]["kernel"], layers["1"]["attention"]["query"]["kernel"])


@pytest.mark.fast
@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("axis", ["even", "odd"])
def test_dropout_keeps_its_share_and_the_mean(rate: float, axis: str) -> None:
    shape = {"even": (200, 501), "odd": (201, 501)}[axis]
    dropped = np.asarray(bert.dropout(jnp.ones(shape), rate, jax.random.key(0)))
    zero = dropped == 0
    assert abs(zero.mean() - rate) < 0.01
    np.testing.assert_allclose(dropped[~zero], 1 / (1 - round(rate * 2**16) / 2**16), rtol=1e-6)
    # Two rows share their draws, and are as independent as any two.
    assert zero.shape == shape
    assert abs((zero[:100] & zero[-100:]).mean() - rate**2) < 0.01
    assert abs((zero[:99] & zero[101:200]).mean() - rate**2) < 0.01
    assert abs((zero[:-1] & zero[1:]).mean() - rate**2) < 0.01


def test_dropout_acts_at_every_place_with_keys_of_its_own() -> None:
    rows = random_rows([LENGTH] * 2)

    def run(hidden: float, attention: float, key: int | None) -> np.ndarray:
        fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
        config = ModelConfig(**(fields | {"hidden_dropout_prob": hidden, "attention_probs_dropout_prob": attention}))
        dropout_key = None if key is None else jax.random.key(key)
        return np.asarray(bert.encode(config, PARAMS, *rows, dropout_key=dropout_key).hidden_BxLxD)

    plain = run(0, 0, None)
    np.testing.assert_array_equal(run(0.1, 0.1, None), plain)
    np.testing.assert_array_equal(run(0, 0, 1), plain)
    for hidden, attention in ((0.1, 0), (0, 0.1)):
        once = run(hidden, attention, 1)
        np.testing.assert_array_equal(once, run(hidden, attention, 1))
        assert np.abs(once - plain).max() > 1e-3
        assert np.abs(once - run(hidden, attention, 2)).max() > 1e-3


@pytest.mark.fast
def test_bfloat16_stays_near_float32_and_returns_float32() -> None:
    rows = random_rows([20, 7])
    positions = np.broadcast_to(POSITIONS_P, (2, 3))
    zeros = np.zeros((2, 1), int)
    narrow = jax.jit(lambda p: bert.apply(CONFIG, p, *rows, positions, zeros, dtype=jnp.bfloat16))(PARAMS)
    exact = apply(PARAMS, *rows)
    assert narrow.mlm_logits_BxPxV.dtype == narrow.nsp_logits_BxKx2.dtype == jnp.float32
    np.testing.assert_allclose(narrow.mlm_logits_BxPxV[..., :301], exact.mlm_logits_BxPxV[..., :301], atol=0.6)
    encoded = jax.eval_shape(lambda p: bert.encode(CONFIG, p, *rows, dtype=jnp.bfloat16, all_layers=True), PARAMS)
    assert {layer.dtype for layer in encoded.layers} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_inside_shard_map_are_those_outside(dtype: type) -> None:
    rows = random_rows([5, 32, 20, 9, 12, 31, 32, 2])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = jax.P("data"), jax.P()

    def loss(params: bert.Params, *rows: jax.Array) -> jax.Array:
        positions = jnp.ones((len(rows[0]), 1), jnp.int32)
        outputs = bert.apply(CONFIG, params, *rows, positions, positions * 0, dtype=dtype)
        return jax.nn.log_softmax(outputs.mlm_logits_BxPxV)[..., 3].sum() + outputs.nsp_logits_BxKx2[..., 0].sum()

    gradient = jax.grad(loss)
    sharded = jax.shard_map(
        lambda params, *rows: jax.lax.psum(gradient(params, *rows), "data"),
        mesh=mesh,
        in_specs=(whole, split, split, split),
        out_specs=whole,
        check_vma=False,
    )
    inside, outside = jax.jit(sharded)(PARAMS, *rows), jax.jit(gradient)(PARAMS, *rows)
    tolerance = 1e-4 if dtype == jnp.float32 else 0.1
    for ours, expected in zip(jax.tree.leaves(inside), jax.tree.leaves(outside), strict=True):
        np.testing.assert_allclose(ours, expected, atol=tolerance * (1 + np.abs(expected).max()))
