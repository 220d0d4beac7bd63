"""A model loaded once, then used: fill masks, score next sentences, embed.

Texts run in batches of similar length, padded to one of a few sizes, so that few shapes are compiled.

Shape legend: N texts, B batch, L length, P positions, V padded vocabulary, D `hidden_size`.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.training import xla

_SHORTEST = 16


class Prediction(NamedTuple):
    """What may stand at a [MASK], and its probability there."""

    text: str
    probability: float


class Row(NamedTuple):
    """A text as the model reads it."""

    ids: list[int]
    segment_ids: list[int]


class Inference:
    """One model on the default device. Every method may be called again and again; compiled shapes are kept."""

    def __init__(self, loaded: loading.Loaded, dtype: str = "float32", show_progress: bool = False) -> None:
        self.loaded, self.config, self.show_progress = loaded, loaded.config, show_progress
        settings = bert_tokenizer.read(loaded.tokenizer_dir)
        self.tokenizer = bert_tokenizer.build(settings)
        self.max_length = min(loaded.config.max_position_embeddings, settings.model_max_length or sys.maxsize)
        self._params = jax.device_put(loaded.params)
        config, activations = loaded.config, jnp.dtype(dtype)

        @jax.jit
        def encode(params: bert.Params, *rows_BxL: Any) -> bert.Encoded:
            return bert.encode(config, params, *rows_BxL, dtype=activations)

        @jax.jit
        def heads(params: bert.Params, positions_BxP: Any, ids_BxL: Any, segments_BxL: Any, sequences_BxL: Any) -> Any:
            first_Bx1 = jnp.zeros((len(positions_BxP), 1), jnp.int32)
            rows_BxL = ids_BxL, segments_BxL, sequences_BxL
            logits = bert.apply(config, params, *rows_BxL, positions_BxP, first_Bx1, dtype=activations)
            return bert.Outputs(*map(jax.nn.log_softmax, logits))

        self._encode, self._heads = encode, heads

    @classmethod
    def load(cls, source: str | Path, step: str | None = None, dtype: str = "float32") -> "Inference":
        """From a run's directory, an exported one, or any Hugging Face BERT; raises `UserError`."""
        return cls(loading.load(loading.find(source), step), dtype)

    def fill_mask(
        self, texts: Sequence[str], top_k: int = 5, candidates: Sequence[str] = ()
    ) -> list[list[list[Prediction]]]:
        """For each text, for each [MASK] in it, what may stand there, the likeliest first.

        Without `candidates` these are the `top_k` likeliest entries of the vocabulary. A candidate of several pieces
        is scored whole: it takes as many masks, filled from left to right, and its probability is the product of its
        pieces', given that so many pieces stand there. Other masks in the text stay masks.
        """
        self._require_head("mlm_head", "fill masks")
        rows = self._rows(texts)
        mask = _mask_id(self.tokenizer)
        places = [[place for place, piece in enumerate(row.ids) if piece == mask] for row in rows]
        for number, found in enumerate(places, start=1):
            if not found:
                raise UserError(f"text {number}: expected at least one [MASK], found none")
        if candidates:
            return self._fill_with(rows, places, candidates)
        results: list[list[list[Prediction]]] = [[] for _ in rows]
        for number, log_p_PxV in self._log_probabilities(rows, places):
            for log_p_V in log_p_PxV[:, : self.config.vocab_size]:
                best_K = np.argsort(-log_p_V, kind="stable")[:top_k].tolist()
                words = [self.tokenizer.id_to_token(i) or f"[{i}]" for i in best_K]
                results[number].append(
                    [Prediction(w, float(np.exp(log_p_V[i]))) for w, i in zip(words, best_K, strict=True)]
                )
        return results

    def next_sentence(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """The probability that the second text of each pair follows the first, float32 [N]."""
        self._require_head("nsp_head", "score next sentences")
        loading.require_segments(self.config, self.loaded.tokenizer_dir)
        rows = self._rows(pairs)
        probabilities_N = np.empty(len(rows), np.float32)
        for chosen, arrays_BxL in self._batches(rows):
            nowhere_Bx1 = np.zeros((len(arrays_BxL[0]), 1), np.int32)
            log_p_Bx1x2 = self._heads(self._params, nowhere_Bx1, *arrays_BxL).nsp_logits_BxKx2
            probabilities_N[chosen] = np.exp(np.asarray(log_p_Bx1x2))[: len(chosen), 0, 0]
        return probabilities_N

    def embed(self, texts: Sequence[str], pooling: str = "mean") -> tuple[np.ndarray, int]:
        """Vectors of the last layer, float32 [N, D], and how many texts were truncated to the model's length.

        `pooling` 'mean': over all tokens, specials included, as sentence-transformers does; 'cls': the first token.
        """
        longest = self.max_length
        rows = self._rows(texts, allow_long=True)
        truncated = sum(len(row.ids) > longest for row in rows)
        rows = [
            Row(r.ids[: longest - 1] + r.ids[-1:], r.segment_ids[:longest]) if len(r.ids) > longest else r for r in rows
        ]
        vectors_NxD = np.empty((len(rows), self.config.hidden_size), np.float32)
        for chosen, arrays_BxL in self._batches(rows):
            hidden_BxLxD = np.asarray(self._encode(self._params, *arrays_BxL).hidden_BxLxD, np.float32)[: len(chosen)]
            if pooling == "cls":
                vectors_NxD[chosen] = hidden_BxLxD[:, 0]
            else:
                present_BxLx1 = (arrays_BxL[2] != 0)[: len(chosen), :, None]
                vectors_NxD[chosen] = (hidden_BxLxD * present_BxLx1).sum(1) / present_BxLx1.sum(1)
        return vectors_NxD, truncated

    def _fill_with(
        self, rows: list[Row], places: list[list[int]], candidates: Sequence[str]
    ) -> list[list[list[Prediction]]]:
        pieces = [self.tokenizer.encode(candidate, add_special_tokens=False).ids for candidate in candidates]
        for number, ids in enumerate(pieces, start=1):
            if not ids:
                raise UserError(f"--candidates: expected words, found nothing in number {number}")
            if self.tokenizer.token_to_id("[UNK]") in ids:
                raise UserError(
                    f"--candidates: expected words of the vocabulary, found [UNK] in number {number}: drop it"
                )
        mask = _mask_id(self.tokenizer)
        slots = [(number, place) for number, found in enumerate(places) for place in found]
        scores = np.zeros((len(slots), len(candidates)))
        for done in range(max(map(len, pieces))):
            # All candidates that have a piece left take their next step together.
            taking = [(s, c) for s in range(len(slots)) for c, ids in enumerate(pieces) if len(ids) > done]
            filled = []
            for s, c in taking:
                (number, place), ids = slots[s], pieces[c]
                middle = ids[:done] + [mask] * (len(ids) - done)
                whole = rows[number].ids[:place] + middle + rows[number].ids[place + 1 :]
                self._require_length(len(whole), number)
                filled.append(Row(whole, [0] * len(whole)))
            steps = [[slots[s][1] + done] for s, _ in taking]
            for index, log_p_1xV in self._log_probabilities(filled, steps):
                s, c = taking[index]
                scores[s, c] += log_p_1xV[0, pieces[c][done]]
        results: list[list[list[Prediction]]] = [[] for _ in rows]
        for (number, _), scores_C in zip(slots, scores, strict=True):
            best = np.argsort(-scores_C, kind="stable").tolist()
            results[number].append([Prediction(candidates[c], float(np.exp(scores_C[c]))) for c in best])
        return results

    def _log_probabilities(self, rows: list[Row], places: list[list[int]]) -> Iterator[tuple[int, np.ndarray]]:
        # For each row, by number, the log-probabilities at its places, P x V.
        for chosen, arrays_BxL in self._batches(rows):
            most = _power_of_two(max(len(places[number]) for number in chosen))
            positions_BxP = np.zeros((len(arrays_BxL[0]), most), np.int32)
            for b, number in enumerate(chosen):
                positions_BxP[b, : len(places[number])] = places[number]
            log_p_BxPxV = np.asarray(self._heads(self._params, positions_BxP, *arrays_BxL).mlm_logits_BxPxV)
            for b, number in enumerate(chosen):
                yield number, log_p_BxPxV[b, : len(places[number])]

    def _batches(self, rows: list[Row]) -> Iterator[tuple[list[int], tuple[np.ndarray, ...]]]:
        # Numbers of the rows in a batch, and its input, segment and sequence ids; rows past the numbers are padding.
        order = sorted(range(len(rows)), key=lambda number: len(rows[number].ids), reverse=True)
        platform, chosen_of_batch, start = jax.default_backend(), [], 0
        while start < len(order):
            end = start + xla.rows_at_once(platform, self._padded(len(rows[order[start]].ids)))
            chosen_of_batch.append(order[start:end])
            start = end
        bar = cli.progress_bar(chosen_of_batch, unit="batch", leave=False) if self.show_progress else chosen_of_batch
        for chosen in bar:
            length = self._padded(len(rows[chosen[0]].ids))
            arrays_BxL = tuple(np.zeros((_power_of_two(len(chosen)), length), np.int32) for _ in range(3))
            for b, number in enumerate(chosen):
                size = len(rows[number].ids)
                arrays_BxL[0][b, :size], arrays_BxL[1][b, :size] = rows[number]
                arrays_BxL[2][b, :size] = 1
            yield chosen, arrays_BxL

    def _padded(self, longest: int) -> int:
        return min(max(_power_of_two(longest), _SHORTEST), max(longest, self.config.max_position_embeddings))

    def _rows(self, texts: Sequence[str] | Sequence[tuple[str, str]], allow_long: bool = False) -> list[Row]:
        encodings: list[Any] = self.tokenizer.encode_batch(list(texts))
        if not allow_long:
            for number, encoding in enumerate(encodings):
                self._require_length(len(encoding.ids), number)
        return [Row(encoding.ids, encoding.type_ids) for encoding in encodings]

    def _require_length(self, length: int, number: int) -> None:
        if length > self.max_length:
            raise UserError(
                f"text {number + 1}: expected at most {self.max_length} tokens, found {length}: shorten the text"
            )

    def _require_head(self, head: str, purpose: str) -> None:
        if head in self.loaded.fresh_heads:
            raise UserError(
                f"expected a model with an {head} to {purpose}, found one without: "
                "give one pre-trained with it, such as a run of run_pretrain.py or its export"
            )


def _mask_id(tokenizer: tokenizers.Tokenizer) -> int:
    mask = tokenizer.token_to_id("[MASK]")
    if mask is None:
        raise UserError("expected a vocabulary with [MASK], found one without: this model cannot fill masks")
    return mask


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
