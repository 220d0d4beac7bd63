"""A small prepared dataset of made-up ids, written in a moment: what the trainer's tests train on."""

from pathlib import Path

import numpy as np
from tokenizers import BertWordPieceTokenizer

from clinicalbert_jax.data import counter_rng, masking, tfrecord
from clinicalbert_jax.data.manifest import Manifest, Shard, Split, Vocabulary, sha256_of
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.tokenizer_files import bert_tokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = SPECIALS + [f"word{number}" for number in range(120)]
LENGTH, PREDICTIONS = 32, 5


def write(directory: Path, num_train: int = 200, num_other: int = 50, seed: int = 0, shards: int = 3) -> Path:
    """Write splits train, validation and test of padded pairs, and all that lies beside them; returns `directory`.

    Segment A counts upwards through the vocabulary. Segment B goes on where A ended, or, for a random next, does not.
    """
    directory.mkdir(parents=True)
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    BertWordPieceTokenizer(str(directory / "vocab.txt"), lowercase=True).save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "model_max_length": 512}\n'
    )
    layout = Layout("padded", LENGTH, PREDICTIONS)
    rng = np.random.default_rng(seed)
    splits = {}
    for name, count in (("train", num_train), ("validation", num_other), ("test", num_other)):
        written = []
        for number, size in enumerate(len(part) for part in np.array_split(np.arange(count), shards)):
            file = f"toy-{name}.tfrecord-{number:05d}-of-{shards:05d}"
            tfrecord.write_shard(directory / file, [_examples(rng, size)], layout.features())
            path = directory / file
            written.append(Shard(file, size, path.stat().st_size, sha256_of(path)))
        splits[name] = Split(tuple(written), count, count, 0, 0, 0, count, count, {"made up": count})
    Manifest(
        name="toy",
        version="1.0.0",
        project_version="0",
        vocabulary=Vocabulary(sha256_of(directory / "vocab.txt"), len(VOCABULARY), True),
        layout=layout,
        seed=seed,
        options={"pairing": "balanced", "whole_word_masking": False},
        categories=("made up",),
        drops={},
        splits=splits,
        files={name: sha256_of(directory / name) for name in bert_tokenizer.NAMES},
    ).save(directory)
    return directory


def _examples(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    first, words = len(SPECIALS), len(VOCABULARY) - len(SPECIALS)
    arrays = {
        name: np.zeros((count, feature.length), np.int64)
        for name, feature in Layout("padded", LENGTH, PREDICTIONS).features().items()
    }
    for row in range(count):
        lengths = rng.integers(5, 14, 2)
        label = int(rng.integers(2))
        start_a = rng.integers(words)
        start_b = rng.integers(words) if label else start_a + lengths[0]
        a, b = (
            (start + np.arange(length)) % words + first
            for start, length in zip((start_a, start_b), lengths, strict=True)
        )
        ids = np.concatenate([[2], a, [3], b, [3]])
        arrays["input_ids"][row, : len(ids)] = ids
        arrays["input_mask"][row, : len(ids)] = 1
        arrays["segment_ids"][row, len(a) + 2 : len(ids)] = 1
        arrays["next_sentence_labels"][row] = label
        arrays["patient_group"][row] = rng.integers(2**40)
    policy = masking.policy(VOCABULARY, PREDICTIONS)
    keys_N = counter_rng.fold(int(rng.integers(2**31)), np.arange(count))
    return arrays | masking.mask(keys_N, arrays["input_ids"], policy)._asdict()
