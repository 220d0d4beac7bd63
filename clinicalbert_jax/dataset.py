"""Batches from the shards of one split: random access, a pure function of (dataset, seed, step). Loads no JAX.

Shape legend: B global batch, R rows of it that this process reads; others as in `schema`.
"""

import contextlib
import functools
import resource
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np

from clinicalbert_jax import masking, random_bits
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.manifest import Manifest
from clinicalbert_jax.tfrecord import CorruptRecordError, Shard, read_records

Batch = dict[str, np.ndarray]
Item = TypeVar("Item")

_FEISTEL_ROUNDS = 6
_BLOCK = 16_384  # places permuted at a time
_EVALUATION_EPOCH = 2**32  # where the examples are unmasked, evaluation masks each in one and the same way


class Dataset:
    """One split of a prepared dataset.

    A batch is a dict of the arrays in `schema.BATCH_SHAPES`, whatever the layout on disk. Raises `UserError` for a
    split or a shard that does not exist or has changed, and `tfrecord.CorruptRecordError` for a damaged record, when
    it is read; with `skip_corrupt` such a record is a row of padding without weight instead.
    """

    def __init__(self, data_dir: Path, split: str, skip_corrupt: bool = False) -> None:
        self.manifest = Manifest.load(data_dir)
        self.corrupt: set[tuple[str, int]] = set()  # the damaged records met so far, by file and number
        self._skip_corrupt = skip_corrupt
        self.layout = self.manifest.layout
        if split not in self.manifest.splits:
            raise UserError(f"--split: expected one of {tuple(self.manifest.splits)} of {data_dir}, found {split}")
        shards = self.manifest.splits[split].shards
        features = self.layout.features()
        _allow_open_files(len(shards))
        _keep_freed_memory()
        self._shards = [Shard(data_dir / shard.file, features) for shard in shards]
        for opened, shard in zip(self._shards, shards, strict=True):
            size = opened.path.stat().st_size
            if (len(opened), size) != (shard.num_examples, shard.num_bytes):
                raise UserError(
                    f"{opened.path}: expected {shard.num_examples} records in {shard.num_bytes} bytes, as the manifest "
                    f"says, found {len(opened)} in {size}: restore the shard or prepare the data again"
                )
        sizes = [len(shard) for shard in self._shards]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._starts = self._ends - sizes
        self.num_examples = sum(sizes)
        if self.num_examples == 0:
            raise UserError(f"{data_dir}: expected examples in split {split}, found none: prepare more notes")
        self._masking = None if self.layout.masked else _masking_policy(data_dir, self.manifest)

    def train_batch(self, seed: int, step: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        """Rows `rows_R` of the global batch of `step`. Every epoch visits each example once, in an order of its own."""
        examples_R, epochs_R = self._order(seed, step, batch_size, rows_R)
        return self._read(examples_R, seed, epochs_R)

    def eval_batch(self, number: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        """Rows of the `number`-th batch in the order of the shards; past the end, rows of zero weight."""
        places_R = number * batch_size + rows_R
        beyond_R = places_R >= self.num_examples
        examples_R = np.where(beyond_R, 0, places_R)
        batch = self._read(examples_R, self.manifest.seed, np.full_like(examples_R, _EVALUATION_EPOCH))
        for name in ("masked_lm_weights", "next_sentence_weights"):
            batch[name][beyond_R] = 0
        return batch

    def records(self, seed: int, step: int, batch_size: int) -> list[str]:
        """Names of the records in the global batch of `step`, as FILE:NUMBER."""
        examples_B, _ = self._order(seed, step, batch_size, np.arange(batch_size))
        shards_B = np.searchsorted(self._ends, examples_B, side="right")
        numbers_B = examples_B - self._starts[shards_B]
        return [f"{self._shards[shard].path.name}:{number}" for shard, number in zip(shards_B, numbers_B, strict=True)]

    def _order(self, seed: int, step: int, batch_size: int, rows_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Examples and epochs of rows `rows_R` in the global batch of `step`."""
        epochs_R, places_R = np.divmod(np.int64(step) * batch_size + rows_R, self.num_examples)
        blocks_R = places_R // _BLOCK
        examples_R = np.empty_like(places_R)
        for epoch, block in sorted(set(zip(epochs_R.tolist(), blocks_R.tolist(), strict=True))):
            here_R = (epochs_R == epoch) & (blocks_R == block)
            examples_R[here_R] = _permuted_block(self.num_examples, seed, epoch, block)[places_R[here_R] % _BLOCK]
        return examples_R, epochs_R

    def _read(self, examples_R: np.ndarray, seed: int, epochs_R: np.ndarray) -> Batch:
        """The examples in the given order; seed and epochs are what masks depend on where the examples are unmasked."""
        shards_R = np.searchsorted(self._ends, examples_R, side="right")
        numbers_R = examples_R - self._starts[shards_R]
        try:
            arrays = read_records(self._shards, shards_R, numbers_R)
        except CorruptRecordError:
            if not self._skip_corrupt:
                raise
            arrays = self._read_one_by_one(shards_R, numbers_R)
        batch = _as_batch(arrays)
        if self._masking is not None:
            keys_R = random_bits.fold(seed, epochs_R, examples_R)
            batch |= masking.mask(keys_R, batch["input_ids"], self._masking)._asdict()
        return batch

    def _read_one_by_one(self, shards_R: np.ndarray, numbers_R: np.ndarray) -> Batch:
        """Each record by itself: a damaged one is noted, and its row is left empty."""
        arrays = {
            name: np.zeros((len(numbers_R), feature.length), feature.dtype)
            for name, feature in self.layout.features().items()
        }
        for row, (shard, number) in enumerate(zip(shards_R.tolist(), numbers_R.tolist(), strict=True)):
            try:
                found = self._shards[shard].read([number])
            except CorruptRecordError as error:
                self.corrupt.add((self._shards[shard].path.name, error.record))
            else:
                for name, array in found.items():
                    arrays[name][row] = array[0]
        return arrays


def _allow_open_files(more: int) -> None:
    """Raise the soft limit of open files by `more`, as far as permitted: a mapped shard holds one open, and the usual
    limit is 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + more if hard == resource.RLIM_INFINITY else min(soft + more, hard)
        with contextlib.suppress(OSError, ValueError):  # a system with a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@functools.lru_cache(maxsize=16)
def _permuted_block(size: int, seed: int, epoch: int, block: int) -> np.ndarray:
    """Where a block of places goes in an epoch: a few batches at a time cost little more than one."""
    places = np.arange(block * _BLOCK, min((block + 1) * _BLOCK, size))
    return permute(places, size, random_bits.fold(seed, epoch))


def _keep_freed_memory() -> None:
    """Have the C library keep a few megabytes that were freed, instead of giving them back after every batch.

    Fetching them anew page by page took half of the time of decoding. glibc keeps twice as much as the largest block
    that was ever freed, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD).
    """
    np.empty(2**24, np.uint8)


def permute(places: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Where each of `places` in [0, size) goes under the permutation that its key selects; holds no table.

    A Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002: fewer than four walks on average).
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    half_mask = np.uint64((1 << half_bits) - 1)
    shift = np.uint64(half_bits)
    result = places.astype(np.uint64)
    outside = np.ones(result.shape, bool)
    keys = np.broadcast_to(keys, result.shape)
    while outside.any():
        left, right = result[outside] >> shift, result[outside] & half_mask
        for number in range(_FEISTEL_ROUNDS):
            left, right = right, left ^ (random_bits.fold(number, keys[outside], right) & half_mask)
        result[outside] = (left << shift) | right
        outside = result >= size
    return result.astype(np.int64)


class Prefetcher(Generic[Item]):
    """Iterates over `load(number)` for each of `numbers`, in order, a few ahead in threads.

    Use as a context, or to its end: leaving drops what was loaded ahead. An exception of `load` is raised at its turn.
    """

    def __init__(self, load: Callable[[int], Item], numbers: Sequence[int], num_threads: int) -> None:
        self._load = load
        self._numbers = iter(numbers)
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="loader")
        self._ahead: list[Future[Item]] = []
        for _ in range(2 * num_threads):
            self._submit()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if not self._ahead:
            self._executor.shutdown()
            raise StopIteration
        item = self._ahead.pop(0).result()
        self._submit()
        return item

    def __enter__(self) -> "Prefetcher[Item]":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _submit(self) -> None:
        number = next(self._numbers, None)
        if number is not None:
            self._ahead.append(self._executor.submit(self._load, number))


def _as_batch(arrays: Batch) -> Batch:
    """The trainer's one form: a padded example becomes a packed one that holds a single pair."""
    batch = {
        name: array if array.dtype == np.float32 else array.astype(_integers(name), copy=False)
        for name, array in arrays.items()
    }
    if "sequence_ids" not in batch:
        batch["sequence_ids"] = batch.pop("input_mask")
        batch["next_sentence_positions"] = np.zeros_like(batch["next_sentence_labels"])
        batch["next_sentence_weights"] = batch["sequence_ids"][:, :1].astype(np.float32)  # 0 in a row of padding
    return batch


def _integers(name: str) -> type[np.signedinteger]:
    return np.int64 if name == "patient_group" else np.int32


def _masking_policy(data_dir: Path, manifest: Manifest) -> masking.Policy:
    vocabulary = (data_dir / "vocab.txt").read_text(encoding="utf-8").split("\n")[: manifest.vocabulary.size]
    return masking.policy(
        vocabulary,
        manifest.layout.max_predictions_per_seq,
        whole_word=manifest.options["whole_word_masking"],
        google=manifest.options["pairing"] == "google",
    )
