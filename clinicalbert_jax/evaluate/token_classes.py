"""The classes by which masked-LM figures are broken down: the kind of word that a token belongs to.

Words are those of BERT's tokenizer, split at white space and around punctuation: '0.5' is three words, '325mg' is one.

Shape legend: L length.
"""

import re
from collections.abc import Sequence

import numpy as np

CLASSES = ("whole_word", "multi_token_word", "number", "dose_or_unit", "abbreviation", "punctuation", "special")


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_UNITS = _words(
    """mg mcg ug g gm gram grams kg kgs lb lbs ml cc l liter liters dl mmol meq mosm mmhg cm mm inch inches iu unit
    units tablet tablets tab tabs capsule capsules cap caps puff puffs drop drops gtt gtts hour hours hr hrs min
    mins minute minutes day days week weeks month months year years bpm french fr gauge degrees percent"""
)
_ABBREVIATIONS = _words(
    """abd approx bid bilat bmi bp bun cabg cad cbc chf cns copd cpr cr csf ct cta cv cva cxr dka dm dob dr dvt dx
    ecg eeg ekg ent er etoh fhx fx gerd gi gu hct heent hgb hiv hpi hr htn hx icu im inr iv jvd labs lad lle llq ln
    los lue luq mca meds mi mri mrsa msk neg neuro npo nsaid nstemi od op pe perrl plt pmh pna po pre prn psh pt pta
    ptt pts qd qhs qid rbc rca rle rlq ros rr rrr rue ruq rx sob sp stemi sx tah tia tid tsh tx uop uri uti vs wbc
    wnl yo"""
)
_DOSE = re.compile(r"\d+(" + "|".join(sorted(_UNITS, key=len, reverse=True)) + ")")


class TokenClasses:
    """The class of every token of a row, from its ids. Known words are cached."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = list(entries)
        self._continues = np.array([entry.startswith("##") and len(entry) > 2 for entry in entries])
        self._known: dict[tuple[int, ...], str] = {}

    def of_row(self, ids_L: np.ndarray) -> np.ndarray:
        """For each token, its index in `CLASSES`: int [L]. `ids_L` are those before masking."""
        starts = np.flatnonzero(~self._continues[ids_L])
        if len(starts) == 0 or starts[0] != 0:
            starts = np.concatenate([[0], starts])
        ends = [*starts[1:].tolist(), len(ids_L)]
        kinds = [self._kind(tuple(ids_L[s:e].tolist())) for s, e in zip(starts.tolist(), ends, strict=True)]
        self._mark_doses(kinds, [int(ids_L[s]) for s in starts])
        classes_W = np.array([CLASSES.index(kind) for kind in kinds])
        return np.repeat(classes_W, np.diff([*starts, len(ids_L)]))

    def _mark_doses(self, kinds: list[str], first_tokens: list[int]) -> None:
        # A number belongs to the unit after it, and so do the parts of '0.5 mg' and '5-10 mg'.
        for position, kind in enumerate(kinds):
            if kind != "dose_or_unit":
                continue
            before = position - 1
            while before >= 0:
                joins = kinds[before] == "punctuation" and self._entries[first_tokens[before]] in (".", ",", "-", "/")
                number_before = before > 0 and kinds[before - 1] == "number"
                if kinds[before] != "number" and not (joins and number_before):
                    break
                kinds[before] = "dose_or_unit"
                before -= 1

    def _kind(self, tokens: tuple[int, ...]) -> str:
        known = self._known.get(tokens)
        if known is None:
            known = self._known[tokens] = self._classify(tokens)
        return known

    def _classify(self, tokens: tuple[int, ...]) -> str:
        first = self._entries[tokens[0]]
        if len(tokens) == 1 and first.startswith("[") and first.endswith("]") and len(first) > 2:
            return "special"
        word = first + "".join(self._entries[token][2:] for token in tokens[1:])
        lower = word.lower()
        if not any(character.isalnum() for character in word):
            return "punctuation"
        if word.isdecimal():
            return "number"
        if lower in _UNITS or _DOSE.fullmatch(lower):
            return "dose_or_unit"
        if lower in _ABBREVIATIONS:
            return "abbreviation"
        return "whole_word" if len(tokens) == 1 else "multi_token_word"
