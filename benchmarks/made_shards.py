"""A prepared dataset of made-up ids, padded or packed, for measurements on machines without notes. Loads no JAX.

Shape legend: N pairs, R rows, T tokens of the stream that all pairs are taken from.
"""

from pathlib import Path

import numpy as np

from clinicalbert_jax.data import counter_rng, masking, tfrecord
from clinicalbert_jax.data.manifest import Manifest, Shard, Split, Vocabulary, sha256_of
from clinicalbert_jax.data.schema import Kind, Layout
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.examples import packing
from data_prep.examples.pairs import Pairs

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NUM_WORDS = 200  # that occur; the vocabulary has more entries


def layout(kind: Kind, length: int) -> Layout:
    """The capacities that `python -m data_prep` has by default."""
    return Layout(kind, length, max(1, round(0.15625 * length)), 8 if kind == "packed" else 1)


def write(directory: Path, layout: Layout, num_pairs: int, vocab_size: int = 30_522, seed: int = 0) -> Path:
    """Write splits train and validation; returns `directory`. The same seed and length give the same pairs.

    Ids count upwards. Segment B continues segment A, or, as a random next, starts elsewhere. More than half of the
    pairs are nearly as long as a row and the others of any length: three quarters of padded rows are not padding.
    """
    from tokenizers import BertWordPieceTokenizer

    directory.mkdir(parents=True)
    vocabulary = [*SPECIALS, *(f"word{number}" for number in range(vocab_size - len(SPECIALS)))]
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertWordPieceTokenizer(str(directory / "vocab.txt"), lowercase=True).save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}\n')
    splits = {
        name: _split(directory / f"made-{name}.tfrecord-00000-of-00001", layout, count, vocabulary, [seed, number])
        for number, (name, count) in enumerate((("train", num_pairs), ("validation", max(1, num_pairs // 10))))
    }
    Manifest(
        name="made",
        version="1.0.0",
        project_version="0",
        vocabulary=Vocabulary(sha256_of(directory / "vocab.txt"), len(vocabulary), True),
        layout=layout,
        seed=seed,
        options={"pairing": "balanced", "whole_word_masking": False},
        categories=("made up",),
        drops={},
        splits=splits,
        files={name: sha256_of(directory / name) for name in bert_tokenizer.NAMES},
    ).save(directory)
    return directory


def _split(path: Path, layout: Layout, num_pairs: int, vocabulary: list[str], seed: list[int]) -> Split:
    rng = np.random.default_rng(seed)
    room = layout.max_seq_length - 3
    ids_T = (np.arange(NUM_WORDS + 2 * room) % NUM_WORDS + len(SPECIALS)).astype(np.int32)
    nearly_full_N = rng.random(num_pairs) < 0.55
    size_N = np.where(
        nearly_full_N, rng.integers(round(0.9 * room), room + 1, num_pairs), rng.integers(2, room + 1, num_pairs)
    )
    a_size_N, label_N = rng.integers(1, size_N), rng.integers(0, 2, num_pairs)
    a_start_N = rng.integers(0, NUM_WORDS, num_pairs)
    b_start_N = np.where(label_N, rng.integers(0, NUM_WORDS, num_pairs), a_start_N + a_size_N)
    document_N = np.arange(num_pairs)
    pairs = Pairs(
        a_start_N, a_start_N + a_size_N, b_start_N, b_start_N + size_N - a_size_N, label_N, document_N, document_N
    )
    policy = masking.policy(vocabulary, layout.max_predictions_per_seq)
    placement = packing.one_a_row(num_pairs)
    if layout.kind == "packed":
        placement = packing.best_fit(pairs.sizes(), masking.num_predictions(size_N, policy), layout)
    rows_R = rng.permutation(placement.num_rows)
    specials = packing.Specials(0, 2, 3)
    arrays, pair_RxK = packing.rows(pairs, placement, rows_R, ids_T, layout, specials)
    arrays |= masking.mask(counter_rng.fold(*seed, rows_R), arrays["input_ids"], policy)._asdict()
    arrays |= {"note_category": np.zeros_like(pair_RxK), "patient_group": pair_RxK + 1}
    if layout.kind == "padded":
        arrays["input_mask"] = arrays["sequence_ids"]
    tfrecord.write_shard(path, [arrays], layout.features())
    shard = Shard(path.name, len(rows_R), path.stat().st_size, sha256_of(path))
    tokens, predictions = int((arrays["sequence_ids"] > 0).sum()), int(arrays["masked_lm_weights"].sum())
    return Split(
        (shard,),
        len(rows_R),
        num_pairs,
        tokens,
        predictions,
        int(label_N.sum()),
        num_pairs,
        num_pairs,
        {"made up": num_pairs},
    )
