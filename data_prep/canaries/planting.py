"""Planting: which patients' notes a candidate goes to, and a bucket's notes with the sentences in them.

A place is drawn for every candidate, before and whatever its coin. Planting is the last thing done to the tokens of
notes: whatever is counted of notes, or learned from their words, is counted and learned without canaries.

Shape legend: T tokens, S sentences, D documents, I sentences inserted, G patient groups.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng
from clinicalbert_jax.errors import UserError
from data_prep.canaries.secrets import REPEATS, Candidate
from data_prep.wordpiece.tokenizer import TokenizedNotes, Tokenizer

_PATIENT, _DOCUMENT, _SENTENCE = range(16, 19)  # what a draw is for; `secrets` has the numbers below


@dataclass(frozen=True)
class Canaries:
    """The candidates of a dataset, and the groups of all training patients, among which they are placed."""

    candidates: tuple[Candidate, ...] = field(repr=False)
    key: int = field(repr=False)
    in_one_patient: bool
    groups: tuple[int, ...] = field(default=(), repr=False)
    file: Path = Path()  # the private file

    def among(self, groups: Iterable[int]) -> "Canaries":
        """The same with the groups of all training patients; raises `UserError` where they are too few."""
        needed, found = 1 if self.in_one_patient else max(REPEATS), tuple(sorted(groups))
        if len(found) < needed:
            raise UserError(
                f"--canaries: expected at least {needed} training patients, since secrets repeat in the notes of as "
                f"many, found {len(found)}: give more notes, or --canaries_in_one_patient"
            )
        return replace(self, groups=found)

    def found(self, places: Mapping[int, int], names_met: Collection[int]) -> tuple[Candidate, ...]:
        """The candidates with the number of places found for each: none where its name is in the notes anyway."""
        return tuple(
            replace(one, num_places=0 if number in names_met else places.get(number, 0))
            for number, one in enumerate(self.candidates)
        )

    def places(self) -> dict[int, list[int]]:
        """By patient group the numbers of the candidates, once for each place."""
        places: defaultdict[int, list[int]] = defaultdict(list)
        for number, candidate in enumerate(self.candidates):
            drawn: dict[int, None] = {}
            attempt = 0
            while len(drawn) < (1 if self.in_one_patient else candidate.repeats):
                uniform = counter_rng.uniform(counter_rng.fold(self.key, _PATIENT, number, attempt), 1)[0]
                drawn[self.groups[int(uniform * len(self.groups))]] = None
                attempt += 1
            for group in drawn:
                places[group] += [number] * (candidate.repeats if self.in_one_patient else 1)
        return places


def tokens_of(candidates: Sequence[Candidate], tokenizer: Tokenizer) -> list[npt.NDArray[np.int32]]:
    """The tokens of each candidate's sentence; raises `UserError` where the vocabulary cannot write one."""
    ids_T, tokens_C = tokenizer.ids([" ".join(candidate.parts) for candidate in candidates])
    if (ids_T == tokenizer.id_of["[UNK]"]).any():
        raise UserError(
            "--canaries: expected a vocabulary that can write invented names and numbers, found one that makes [UNK] "
            "of some: give another --canary_form or vocabulary"
        )
    return np.split(ids_T, np.cumsum(tokens_C)[:-1])


def plant(notes: TokenizedNotes, canaries: Canaries, tokenizer: Tokenizer) -> tuple[TokenizedNotes, Counter[int]]:
    """A bucket's notes with the sentences of planted candidates in them, and how many places each candidate has here.

    A sentence comes after another one of the note, and stands in its section. All else stays as it was.
    """
    places, found = canaries.places(), Counter[int]()
    tokens = tokens_of(canaries.candidates, tokenizer)
    at: list[tuple[int, int, int]] = []  # the sentence before which it is inserted, the document, the candidate
    for group in np.unique(notes.patient_D).tolist():
        documents_D = np.flatnonzero(notes.patient_D == group) if group in places else np.empty(0, np.int64)
        for nth, number in enumerate(places.get(group, ())):
            key = counter_rng.fold(canaries.key, number, nth)
            first, position = (
                float(counter_rng.uniform(counter_rng.fold(purpose, onto=key), 1)[0])
                for purpose in (_DOCUMENT, _SENTENCE)
            )
            document = int(documents_D[(int(first * len(documents_D)) + nth) % len(documents_D)])
            begin, end = notes.document_offsets[document : document + 2].tolist()
            found[number] += 1
            if canaries.candidates[number].is_planted:
                at.append((begin + 1 + int(position * (end - begin)), document, number))
    if not at:
        return notes, found
    at.sort()
    sentence_I, document_I, number_I = (np.array(column) for column in zip(*at, strict=True))
    lengths_S = np.diff(notes.sentence_offsets)
    tokens_I = [tokens[number] for number in number_I.tolist()]
    length_I = np.array([len(one) for one in tokens_I])
    inserted_D = np.bincount(document_I, minlength=len(notes.patient_D))
    return (
        TokenizedNotes(
            ids_T=np.insert(
                notes.ids_T, np.repeat(notes.sentence_offsets[sentence_I], length_I), np.concatenate(tokens_I)
            ),
            sentence_offsets=_offsets(np.insert(lengths_S, sentence_I, length_I)),
            document_offsets=_offsets(np.diff(notes.document_offsets) + inserted_D),
            sections_S=np.insert(notes.sections_S, sentence_I, notes.sections_S[sentence_I - 1]),
            patient_D=notes.patient_D,
            category_D=notes.category_D,
        ),
        found,
    )


def names_met(texts: Sequence[str], candidates: Sequence[Candidate]) -> list[int]:
    """The candidates whose invented name is in a text after all."""
    number_of = {one.secret.lower(): number for number, one in enumerate(candidates) if one.condition}
    if not number_of:
        return []
    met: set[int] = set()
    for text in texts:
        words = {word.strip(".,;:()'\"") for word in text.lower().split()}
        met |= {number_of[word] for word in words & number_of.keys()}
    return sorted(met)


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
