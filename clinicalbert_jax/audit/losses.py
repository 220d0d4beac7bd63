"""Losses of a model on masked tokens of windows and sentences.

Each window is masked several times, by keys of (seed, patient and text, number): a model and its reference see the same
masks, and so would the patient's text on the other side. Keys by a window's number would not do: members come first, so
the same masks would fall to them at every split.
What is done is kept in files, so that a run which was stopped continues.

Shape legend: N rows, L length, P masked tokens a row, W windows, S sentences.
"""

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from clinicalbert_jax import cli
from clinicalbert_jax.audit.people import Sentence
from clinicalbert_jax.audit.texts import Windows
from clinicalbert_jax.data import counter_rng, masking
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.training import xla
from clinicalbert_jax.training.losses import token_cross_entropy

WINDOWS_OF_A_PART = 64  # one or two minutes of a BERT-base on two cores
_SHORTEST = 16
_SENTENCES_AT_ONCE = 4096  # rows of them made at a time
_TIMED, _TIMED_SECONDS = 5, 30.0  # batches of each shape that an estimate measures, or as many as fit into the time

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]
Shape = tuple[int, int]  # of a batch: length, masked tokens a row
Batches = Counter[Shape]  # how many of each


class Rows(NamedTuple):
    """What a model reads, and which tokens it is to predict. Padding has id `pad` of the scorer."""

    input_ids_NxL: Ints
    segment_ids_NxL: Ints
    lengths_N: Ints
    positions_NxP: Ints
    targets_NxP: Ints
    weights_NxP: npt.NDArray[np.floating]


class Scorer:
    """One model on the default device; raises `UserError` for a model without an MLM head."""

    def __init__(self, loaded: loading.Loaded, tokens: Sequence[str]) -> None:
        if "mlm_head" in loaded.fresh_heads:
            raise UserError(
                "--model, --reference: expected a model with an MLM head, found one without: give one pre-trained with "
                "it, such as a run or its export"
            )
        config = loaded.config
        self._params, self._longest = jax.device_put(loaded.params), config.max_position_embeddings
        self._cls, self._sep, self._mask = (tokens.index(token) for token in ("[CLS]", "[SEP]", "[MASK]"))

        @jax.jit
        def program(params: bert.Params, ids_BxL, segments_BxL, sequences_BxL, positions_BxP, targets_BxP):  # type: ignore[no-untyped-def]
            first_Bx1 = jnp.zeros((len(ids_BxL), 1), jnp.int32)
            outputs = bert.apply(config, params, ids_BxL, segments_BxL, sequences_BxL, positions_BxP, first_Bx1)
            return token_cross_entropy(outputs.mlm_logits_BxPxV, targets_BxP)[0]

        self._program = program

    def losses(self, rows: Rows) -> Floats:
        """The loss in nats of each row's masked tokens, N x P; 0 where a row has fewer.

        Raises `UserError` for a model whose losses are not finite: an AUC of such would be a number all the same.
        """
        found_NxP = np.zeros(rows.positions_NxP.shape)
        for chosen_B, arrays in _batches(rows, self._longest):
            loss_BxP = np.asarray(self._program(self._params, *arrays), np.float64)[: len(chosen_B)]
            if not np.isfinite(loss_BxP).all():
                raise UserError("--model or --reference: expected finite losses, found others: the weights are damaged")
            found_NxP[chosen_B] = loss_BxP
        return found_NxP * (rows.weights_NxP > 0)

    def of_windows(
        self, windows: Windows, policy: masking.Policy, maskings: int, seed: int, parts: Path, name: str
    ) -> Floats:
        """The mean loss of each window over all its masked tokens, W. Finished parts lie in `parts`."""
        order_W = np.argsort(windows.length_W, kind="stable")
        mean_W = np.zeros(len(order_W))
        starts = range(0, len(order_W), WINDOWS_OF_A_PART)
        bar = cli.progress_bar(starts, f"scoring with the {name}", unit="part")
        for number, start in enumerate(bar):
            chosen_W = order_W[start : start + WINDOWS_OF_A_PART]
            path = parts / f"{name}-{number:05d}.npz"
            if not path.exists():
                chosen_N, masking_N = np.repeat(chosen_W, maskings), np.tile(np.arange(maskings), len(chosen_W))
                keys_N = counter_rng.fold(seed, windows.key_W[chosen_N], masking_N)
                rows = self._masked(windows, chosen_N, policy, keys_N)
                sums, counts = (
                    of_N.sum(1).reshape(-1, maskings).sum(1) for of_N in (self.losses(rows), rows.weights_NxP > 0)
                )
                with atomic_output.file(path, flag="--output") as partial, partial.open("wb") as file:
                    np.savez(file, mean=sums / np.maximum(counts, 1))
            with np.load(path) as part:
                mean_W[chosen_W] = part["mean"]
        return mean_W

    def of_sentences(self, sentences: Sequence[Sentence], doing: str) -> Floats:
        """The pseudo-log-likelihood of the marked part of each sentence, S: each of its tokens masked in turn (Salazar
        et al. 2020).
        """
        parts = [(s, place) for s, one in enumerate(sentences) for place in range(one.begin, one.end)]
        scores_S = np.zeros(len(sentences))
        longest = max((len(one.ids) for one in sentences), default=0) + 2
        for start in cli.progress_bar(range(0, len(parts), _SENTENCES_AT_ONCE), doing, unit="part", leave=False):
            chunk = parts[start : start + _SENTENCES_AT_ONCE]
            ids_NxL = np.zeros((len(chunk), longest), np.int32)
            lengths_N = np.zeros(len(chunk), np.int32)
            positions_NxP, targets_NxP = np.zeros((len(chunk), 1), np.int32), np.zeros((len(chunk), 1), np.int32)
            for row, (s, place) in enumerate(chunk):
                whole = [self._cls, *sentences[s].ids, self._sep]
                targets_NxP[row], positions_NxP[row], lengths_N[row] = whole[place + 1], place + 1, len(whole)
                whole[place + 1] = self._mask
                ids_NxL[row, : len(whole)] = whole
            ones_NxP = np.ones_like(positions_NxP, np.float32)
            rows = Rows(ids_NxL, np.zeros_like(ids_NxL), lengths_N, positions_NxP, targets_NxP, ones_NxP)
            np.subtract.at(scores_S, [s for s, _ in chunk], self.losses(rows)[:, 0])
        return scores_S

    def batches_of_windows(self, windows: Windows, maskings: int, predictions: int) -> Batches:
        """The batches that `of_windows` computes."""
        lengths_W = np.sort(windows.length_W) + 3
        parts = [lengths_W[at : at + WINDOWS_OF_A_PART] for at in range(0, len(lengths_W), WINDOWS_OF_A_PART)]
        return self._batches_of([np.repeat(lengths_N, maskings) for lengths_N in parts], predictions)

    def batches_of_sentences(self, sentences: Sequence[Sentence]) -> Batches:
        """The batches that `of_sentences` computes."""
        lengths_N = np.repeat([len(one.ids) + 2 for one in sentences], [one.end - one.begin for one in sentences])
        chunks = [lengths_N[at : at + _SENTENCES_AT_ONCE] for at in range(0, len(lengths_N), _SENTENCES_AT_ONCE)]
        return self._batches_of(chunks, 1)

    def _batches_of(self, lengths: Iterable[Ints], predictions: int) -> Batches:
        return Counter((length, predictions) for one_N in lengths for _, length in _planned(one_N, self._longest))

    def seconds(self, batches: Batches) -> float:
        """How long batches will take, from the time of some of each shape, measured.

        A batch of short rows takes longer than one of as many tokens in long rows, since all have as many predictions.
        All shapes are measured in turn, so that what else the machine does meanwhile is spread over them.
        """
        arrays = {shape: _made_up(*shape, self._mask) for shape in batches}
        for of_shape in arrays.values():
            np.asarray(self._program(self._params, *of_shape))  # compiles
        taken: dict[Shape, list[float]] = {shape: [] for shape in batches}
        began = time.perf_counter()
        while arrays and len(next(iter(taken.values()))) < _TIMED and time.perf_counter() - began < _TIMED_SECONDS:
            for shape, of_shape in arrays.items():
                started = time.perf_counter()
                np.asarray(self._program(self._params, *of_shape))
                taken[shape].append(time.perf_counter() - started)
        return sum(count * statistics.mean(taken[shape]) for shape, count in batches.items())

    def _masked(self, windows: Windows, chosen: Ints, policy: masking.Policy, keys: counter_rng.Keys) -> Rows:
        """Windows as rows, as in training: two segments where the second follows the first."""
        longest = int(windows.length_W[chosen].max()) + 3
        pad = policy.unmaskable_ids[0]
        ids_NxL = np.full((len(chosen), longest), pad, np.int32)
        segments_NxL = np.zeros_like(ids_NxL)
        lengths_N = np.zeros(len(chosen), np.int32)
        for row, number in enumerate(chosen.tolist()):
            ids = windows.ids_T[windows.offset_W[number] : windows.offset_W[number + 1]].tolist()
            first, second = ids[: windows.first_W[number]], ids[windows.first_W[number] :]
            whole = [self._cls, *first, self._sep, *([*second, self._sep] if second else [])]
            ids_NxL[row, : len(whole)], lengths_N[row] = whole, len(whole)
            segments_NxL[row, len(first) + 2 : len(whole)] = 1
        masked = masking.mask(keys, ids_NxL, policy)
        return Rows(
            masked.input_ids,
            segments_NxL,
            lengths_N,
            masked.masked_lm_positions,
            masked.masked_lm_ids,
            masked.masked_lm_weights,
        )


class SentenceCount:
    """Stands in for a scorer of sentences: counts the batches that it would compute, and gives every sentence 0."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self.batches = scorer, Batches()

    def of_sentences(self, sentences: Sequence[Sentence], doing: str) -> Floats:
        """Zeros."""
        self.batches += self._scorer.batches_of_sentences(sentences)
        return np.zeros(len(sentences))


def padded_lengths(lengths_N: Ints, longest: int) -> Ints:
    """The length of the batch in which a row of a length is scored: few, so that few programs are compiled."""
    return np.clip(1 << np.ceil(np.log2(np.maximum(lengths_N, 1))).astype(np.int64), _SHORTEST, longest)


def _planned(lengths_N: Ints, longest: int) -> Iterator[tuple[Ints, int]]:
    """Numbers of the rows of each batch, and the batch's length."""
    order_N = np.argsort(lengths_N, kind="stable")
    start = 0
    while start < len(order_N):
        length = int(padded_lengths(lengths_N[order_N[start]], longest))
        chosen_B = order_N[start : start + _rows_of(length)]
        chosen_B = chosen_B[lengths_N[chosen_B] <= length]
        start += len(chosen_B)
        yield chosen_B, length


def _rows_of(length: int) -> int:
    return xla.rows_at_once(jax.default_backend(), length)


def _made_up(length: int, predictions: int, mask: int) -> tuple[npt.NDArray, ...]:
    """The arrays of a full batch."""
    count = _rows_of(length)
    ids_BxL, zeros_BxL = np.full((count, length), mask, np.int32), np.zeros((count, length), np.int32)
    positions_BxP = np.broadcast_to(np.arange(predictions, dtype=np.int32) % length, (count, predictions))
    return ids_BxL, zeros_BxL, zeros_BxL + 1, positions_BxP, np.zeros_like(positions_BxP)


def _batches(rows: Rows, longest: int) -> Iterator[tuple[Ints, tuple[npt.NDArray, ...]]]:
    """Numbers of the rows of a batch, and its arrays."""
    for chosen_B, length in _planned(rows.lengths_N, longest):
        count = _rows_of(length)
        width = min(length, rows.input_ids_NxL.shape[1])
        arrays = []
        for array, columns in ((rows.input_ids_NxL, width), (rows.segment_ids_NxL, width)):
            padded_BxL = np.zeros((count, length), np.int32)
            padded_BxL[: len(chosen_B), :columns] = array[chosen_B, :columns]
            arrays.append(padded_BxL)
        sequences_BxL = np.zeros((count, length), np.int32)
        sequences_BxL[: len(chosen_B)] = np.arange(length) < rows.lengths_N[chosen_B][:, None]
        arrays.append(sequences_BxL)
        for array in (rows.positions_NxP, rows.targets_NxP):
            padded_BxP = np.zeros((count, array.shape[1]), np.int32)
            padded_BxP[: len(chosen_B)] = array[chosen_B]
            arrays.append(padded_BxP)
        yield chosen_B, tuple(arrays)
