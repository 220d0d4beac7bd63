"""Batches from the shards of one split: random access, a pure function of (dataset, seed, step). Loads no JAX.

Shape legend: B global batch, R rows of it that this process reads; others as in `schema`.
"""

import contextlib
import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clinicalbert_jax.data import counter_rng, masking, shuffle
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.tfrecord import CorruptRecordError, Records, Shard
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.tokenizer_files import bert_tokenizer

Batch = dict[str, np.ndarray]

_TOKENS_PER_READ = 2**18
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
        if not sum(shard.num_examples for shard in shards):
            raise UserError(
                f"{data_dir}: expected examples in the {split} split, found none: prepare the data again, with more "
                "notes" + ("" if split == "train" else f" or a larger --{split}_fraction")
            )
        features = self.layout.features()
        _allow_open_files(len(shards))
        _keep_freed_memory()
        self._records = Records([Shard(data_dir / shard.file, features) for shard in shards])
        for opened, shard in zip(self._records.shards, shards, strict=True):
            size = opened.path.stat().st_size
            if (len(opened), size) != (shard.num_examples, shard.num_bytes):
                raise UserError(
                    f"{opened.path}: expected {shard.num_examples} records in {shard.num_bytes} bytes, as the manifest "
                    f"says, found {len(opened)} in {size}: restore the shard or prepare the data again"
                )
        self.num_examples = len(self._records)
        self._masking = None if self.layout.masked else _masking_policy(data_dir, self.manifest)

    @property
    def rows_per_read(self) -> int:
        """The best number of rows to read at a time: numpy's calls cost little, and its arrays stay in the cache."""
        return max(1, _TOKENS_PER_READ // self.layout.max_seq_length)

    def train_batches(self, seed: int, steps: Sequence[int], batch_size: int, rows_R: np.ndarray) -> list[Batch]:
        """Rows `rows_R` of the global batch of each of `steps`, as views into one array.

        Every epoch visits each example once, in its own order.
        """
        rows_N = (np.asarray(steps, np.int64)[:, None] * batch_size + rows_R).ravel()
        examples_N, epochs_N = self._order(seed, rows_N)
        rows = self._read(examples_N, seed, epochs_N)
        parts = [slice(start, start + len(rows_R)) for start in range(0, len(rows_N), len(rows_R))]
        return [{name: array[part] for name, array in rows.items()} for part in parts]

    def train_batch(self, seed: int, step: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        """Rows `rows_R` of the global batch of `step`."""
        return self.train_batches(seed, [step], batch_size, rows_R)[0]

    def eval_batch(self, number: int, batch_size: int, rows_R: np.ndarray) -> Batch:
        """Rows of the `number`-th batch in the order of the shards; past the end, rows of zero weight."""
        positions_R = number * batch_size + rows_R
        past_end_R = positions_R >= self.num_examples
        examples_R = np.where(past_end_R, 0, positions_R)
        batch = self._read(examples_R, self.manifest.seed, np.full_like(examples_R, _EVALUATION_EPOCH))
        for name in ("masked_lm_weights", "next_sentence_weights"):
            batch[name][past_end_R] = 0
        return batch

    def records(self, seed: int, step: int, batch_size: int) -> list[str]:
        """Names of the records in the global batch of `step`, as FILE:NUMBER."""
        examples_B, _ = self._order(seed, step * batch_size + np.arange(batch_size))
        located = map(self._records.locate, examples_B.tolist())
        return [f"{path.name}:{number}" for path, number in located]

    def _order(self, seed: int, rows_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Examples and epochs of rows of the whole training, counted from its start."""
        epochs_R, positions_R = np.divmod(rows_R, self.num_examples)
        blocks_R = positions_R // shuffle.BLOCK
        examples_R = np.empty_like(positions_R)
        for epoch, block in sorted(set(zip(epochs_R.tolist(), blocks_R.tolist(), strict=True))):
            here_R = (epochs_R == epoch) & (blocks_R == block)
            examples_R[here_R] = shuffle.permuted_block(self.num_examples, seed, epoch, block)[
                positions_R[here_R] % shuffle.BLOCK
            ]
        return examples_R, epochs_R

    def _read(self, examples_R: np.ndarray, seed: int, epochs_R: np.ndarray) -> Batch:
        """The examples in the given order; where they are unmasked, their masks depend on seed and epochs."""
        try:
            arrays = self._records.read(examples_R)
        except CorruptRecordError:
            if not self._skip_corrupt:
                raise
            arrays = self._read_one_by_one(examples_R)
        batch = _as_batch(arrays)
        if self._masking is not None:
            keys_R = counter_rng.fold(seed, epochs_R, examples_R)
            batch |= masking.mask(keys_R, batch["input_ids"], self._masking)._asdict()
        return batch

    def _read_one_by_one(self, examples_R: np.ndarray) -> Batch:
        """Each record by itself: a damaged one is recorded in `corrupt`, and its row stays zero."""
        arrays = {
            name: np.zeros((len(examples_R), feature.length), feature.dtype)
            for name, feature in self.layout.features().items()
        }
        for row in range(len(examples_R)):
            try:
                found = self._records.read(examples_R[row : row + 1])
            except CorruptRecordError as error:
                self.corrupt.add((Path(error.path).name, error.record))
            else:
                for name, array in found.items():
                    arrays[name][row] = array[0]
        return arrays


def _allow_open_files(more: int) -> None:
    """Raise the soft limit of open files by `more`, as far as permitted: each mapped shard keeps one file open, and the
    usual limit is 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = soft + more if hard == resource.RLIM_INFINITY else min(soft + more, hard)
        with contextlib.suppress(OSError, ValueError):  # a system with a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next batch instead of returning it to the system.

    Without it the loader needs 20 % more CPU time, for page faults. glibc keeps twice as much as the largest block that
    was ever freed, up to 32 MB (mallopt(3), M_MMAP_THRESHOLD).
    """
    np.empty(2**24, np.uint8)


def _as_batch(arrays: Batch) -> Batch:
    """The trainer's form of a batch: a padded example becomes a packed one with a single pair."""
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
    return masking.policy(
        list(bert_tokenizer.read(data_dir).tokens),
        manifest.layout.max_predictions_per_seq,
        whole_word=manifest.options["whole_word_masking"],
        google=manifest.options["pairing"] == "google",
    )
