"""The loader: each example once an epoch, the same batch whoever reads it, faults named by shard and record."""

import dataclasses
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.data import checksummed_json, counter_rng, tfrecord
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.prefetch import Prefetcher
from clinicalbert_jax.data.schema import BATCH_SHAPES
from clinicalbert_jax.data.shuffle import permute
from clinicalbert_jax.errors import UserError
from tests import toy_dataset

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=203)


def identity(batch: dict[str, np.ndarray]) -> list[int]:
    return batch["patient_group"][:, 0].tolist()  # random, 40 bits: names an example


@given(st.integers(1, 3000), st.integers(0, 2**40))
@settings(max_examples=60)
def test_permute_is_a_permutation(size: int, seed: int) -> None:
    places = np.arange(size)
    assert sorted(permute(places, size, counter_rng.fold(seed, np.zeros(size, np.int64)))) == list(range(size))


def test_permute_moves_everything_about() -> None:
    """Over many keys, every place receives every element about equally often."""
    size, keys = 7, 7000
    counts = np.zeros((size, size), int)
    for place in range(size):
        landed = permute(np.full(keys, place), size, counter_rng.fold(5, np.arange(keys)))
        counts[place] = np.bincount(landed, minlength=size)
    assert np.abs(counts - keys / size).max() < 5 * np.sqrt(keys / size)


def test_every_epoch_visits_each_example_once_in_its_own_order(data_dir: Path) -> None:
    dataset = Dataset(data_dir, "train")
    order = [i for step in range(2 * 203) for i in identity(dataset.train_batch(3, step, 1, np.arange(1)))]
    first, second = order[:203], order[203:]
    assert len(set(first)) == 203
    assert sorted(first) == sorted(second)
    assert first != second


def test_rows_are_the_same_whoever_reads_them(data_dir: Path) -> None:
    dataset = Dataset(data_dir, "train")
    whole = dataset.train_batch(1, 25, 16, np.arange(16))  # this batch reaches over the end of an epoch
    part = dataset.train_batch(1, 25, 16, np.array([3, 4, 11]))
    together = dataset.train_batches(1, range(24, 27), 16, np.arange(16))
    assert set(whole) == set(BATCH_SHAPES)
    for name, array in part.items():
        np.testing.assert_array_equal(array, whole[name][[3, 4, 11]])
        np.testing.assert_array_equal(together[1][name], whole[name])
    again = Dataset(data_dir, "train").train_batch(1, 25, 16, np.arange(16))
    assert identity(again) == identity(whole)
    assert identity(dataset.train_batch(2, 25, 16, np.arange(16))) != identity(whole), "another seed"


def test_evaluation_reads_each_example_once_in_order(data_dir: Path) -> None:
    dataset = Dataset(data_dir, "validation")
    batches = [dataset.eval_batch(number, 16, np.arange(16)) for number in range(4)]
    weights = np.concatenate([batch["next_sentence_weights"][:, 0] for batch in batches])
    assert weights.tolist() == [1.0] * 50 + [0.0] * 14
    assert not batches[-1]["masked_lm_weights"][2:].any()
    seen = [i for batch in batches for i in identity(batch)][:50]
    assert len(set(seen)) == 50
    stored = [i for shard in dataset._records.shards for i in shard.read(range(len(shard)))["patient_group"][:, 0]]
    assert seen == stored


def test_dynamic_masks_change_with_the_epoch_and_stay_in_evaluation(tmp_path: Path) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=16, shards=1)
    manifest = Manifest.load(data_dir)
    unmasked = dataclasses.replace(manifest.layout, masked=False)
    splits = {}
    for name, split in manifest.splits.items():
        path = data_dir / split.shards[0].file
        arrays = tfrecord.Shard(path, manifest.layout.features()).read(range(split.num_examples))
        rows_NxP = np.arange(split.num_examples)[:, None] + 0 * arrays["masked_lm_positions"]
        used_NxP = arrays["masked_lm_weights"] > 0
        positions = arrays["masked_lm_positions"][used_NxP]
        arrays["input_ids"][rows_NxP[used_NxP], positions] = arrays["masked_lm_ids"][used_NxP]
        tfrecord.write_shard(path, [arrays], unmasked.features())
        shards = (dataclasses.replace(split.shards[0], num_bytes=path.stat().st_size),)
        splits[name] = dataclasses.replace(split, shards=shards)
    dataclasses.replace(manifest, layout=unmasked, splits=splits).save(data_dir)

    training, evaluation = Dataset(data_dir, "train"), Dataset(data_dir, "validation")
    masks = {}
    for step in (0, 1):  # one epoch each
        batch = training.train_batch(0, step, 16, np.arange(16))
        masks[step] = dict(zip(identity(batch), batch["masked_lm_positions"].tolist(), strict=True))
    assert masks[0].keys() == masks[1].keys()
    changed = sum(masks[0][name] != masks[1][name] for name in masks[0])
    assert changed > 12
    first, second = (evaluation.eval_batch(0, 16, np.arange(16)) for _ in range(2))
    np.testing.assert_array_equal(first["input_ids"], second["input_ids"])
    assert (first["input_ids"] == toy_dataset.VOCABULARY.index("[MASK]")).any()


def test_a_flipped_byte_names_shard_and_record(tmp_path: Path) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=20, shards=1)
    path = data_dir / "toy-train.tfrecord-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(tfrecord.CorruptRecordError, match=r"record \d+ of .*toy-train.tfrecord-00000") as caught:
        Dataset(data_dir, "train").eval_batch(0, 20, np.arange(20))
    assert 8 <= caught.value.record <= 11


def test_a_wrong_split_and_a_wrong_count_are_one_clear_line(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--split: expected one of"):
        Dataset(data_dir, "valid")
    other = toy_dataset.write(tmp_path / "toy", num_train=20, shards=1)
    document = checksummed_json.read(other / "manifest.json")
    document["splits"]["train"]["shards"][0]["num_examples"] = 21
    checksummed_json.write(other / "manifest.json", document)
    with pytest.raises(UserError, match=r"expected 21 records in \d+ bytes, as the manifest says, found 20 in"):
        Dataset(other, "train")


def test_more_shards_than_the_limit_of_open_files(data_dir: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(data_dir)
    shard = manifest.splits["train"].shards[0]
    names = [f"shard-{number}" for number in range(80)]
    for name in names:
        for suffix in ("", tfrecord.INDEX_SUFFIX):
            (tmp_path / (name + suffix)).symlink_to(data_dir / (shard.file + suffix))
    many = tuple(dataclasses.replace(shard, file=name) for name in names)
    splits = {"train": dataclasses.replace(manifest.splits["train"], shards=many)}
    dataclasses.replace(manifest, splits=splits).save(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 40, hard))
    try:
        assert Dataset(tmp_path, "train").num_examples == 80 * shard.num_examples
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("together", [1, 2, 5])
def test_the_prefetcher_keeps_order_and_raises_in_turn(together: int) -> None:
    def load(numbers: Sequence[int]) -> list[int]:
        if 9 in numbers:
            raise UserError("nine")
        return [number * number for number in numbers]

    found = []
    with Prefetcher(load, range(5, 20), 3, together) as items, pytest.raises(UserError, match="nine"):
        for item in items:
            found.append(item)
    assert found == [25, 36, 49, 64][: 4 // together * together]
    assert list(Prefetcher(load, range(3), 2, together)) == [0, 1, 4]
