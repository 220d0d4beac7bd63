"""What kind of word a masked token is of: the classes by which masked-LM figures are broken down.

A token belongs to the word it is a piece of, as BERT's tokenizer cuts words: at white space and around punctuation,
so that '0.5' is three words and '325mg' is one.

Shape legend: L length.
"""

import re
from collections.abc import Sequence

import numpy as np

CLASSES = ("whole word", "multi-piece word", "number", "dose or unit", "abbreviation", "punctuation", "special")


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
    """The class of every token of a row, from its ids. Words already met are remembered."""

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

    def _mark_doses(self, kinds: list[str], first_pieces: list[int]) -> None:
        # A number belongs to the unit behind it, and so do the parts of '0.5 mg' and '5-10 mg'.
        for place, kind in enumerate(kinds):
            if kind != "dose or unit":
                continue
            before = place - 1
            while before >= 0:
                joins = kinds[before] == "punctuation" and self._entries[first_pieces[before]] in (".", ",", "-", "/")
                number_before = before > 0 and kinds[before - 1] == "number"
                if kinds[before] != "number" and not (joins and number_before):
                    break
                kinds[before] = "dose or unit"
                before -= 1

    def _kind(self, pieces: tuple[int, ...]) -> str:
        known = self._known.get(pieces)
        if known is None:
            known = self._known[pieces] = self._classify(pieces)
        return known

    def _classify(self, pieces: tuple[int, ...]) -> str:
        first = self._entries[pieces[0]]
        if len(pieces) == 1 and first.startswith("[") and first.endswith("]") and len(first) > 2:
            return "special"
        word = first + "".join(self._entries[piece][2:] for piece in pieces[1:])
        lower = word.lower()
        if not any(character.isalnum() for character in word):
            return "punctuation"
        if word.isdecimal():
            return "number"
        if lower in _UNITS or _DOSE.fullmatch(lower):
            return "dose or unit"
        if lower in _ABBREVIATIONS:
            return "abbreviation"
        return "whole word" if len(pieces) == 1 else "multi-piece word"
