"""The challenges' counts against a count of each that is written otherwise, and known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.finetune.entities import challenges
from clinicalbert_jax.finetune.entities import scores as entity_scores
from clinicalbert_jax.finetune.inputs.tags import Span

pytestmark = pytest.mark.fast

SPANS = st.builds(
    lambda start, length, label: Span(start, start + length, label),
    st.integers(0, 14),
    st.integers(1, 5),
    st.sampled_from("AB"),
)
DOCUMENTS = st.lists(st.tuples(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6)), min_size=1, max_size=4)


def apart(spans):
    """Those that overlap none before them, as the documents of the task are."""
    kept = []
    for span in sorted(spans):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def n2c2_by_removal(gold, found, lenient):
    """(right, counted, annotated) by the steps of the published script: mark what is matched, remove what matches it.

    Entities are told apart by what they are in memory, as its objects are.
    """
    gold, found = [list(span) for span in gold], [list(span) for span in found]

    def equal(one, other):
        characters = set(range(one[0], one[1])) & set(range(other[0], other[1]))
        return one[2] == other[2] and (bool(characters) if lenient else one[:2] == other[:2])

    left, matched = [id(one) for one in found], []
    for one in found:
        for other in gold:
            if equal(other, one):
                if id(other) not in matched:
                    matched.append(id(other))
                elif id(one) in left:
                    left.remove(id(one))
    right = sum(id(one) in left and any(equal(one, other) for other in gold) for one in found)
    return right, len(left), len(gold)


def rates_of(right, counted, annotated):
    precision, recall = (right / of if of else 0.0 for of in (counted, annotated))
    return precision, recall, 2 * right / (counted + annotated) if right else 0.0


@given(documents=DOCUMENTS)
def test_n2c2_2018_counts_as_its_script_does(documents):
    for lenient in (False, True):
        match = challenges.overlap_in_type if lenient else Span.__eq__
        ours = np.array([challenges.n2c2_2018(gold, found, match) for gold, found in documents])
        theirs = [n2c2_by_removal(gold, found, lenient) for gold, found in documents]
        assert ours[:, [0, 1, 3]].tolist() == [list(counts) for counts in theirs]
        assert tuple(challenges.micro(ours)) == pytest.approx(rates_of(*np.sum(theirs, axis=0)))
        assert tuple(challenges.macro(ours)) == pytest.approx(np.mean([rates_of(*c) for c in theirs], axis=0))


class FuzzyEnd:
    """An entity that equals another as i2b2 2014's relaxed mode has it, in sets as there."""

    def __init__(self, span):
        self.span = span

    def __hash__(self):
        return hash((self.span.start, self.span.label))

    def __eq__(self, other):
        return hash(self) == hash(other) and abs(self.span.end - other.span.end) <= 2


@given(documents=DOCUMENTS)
def test_i2b2_2014_relaxed_counts_as_its_sets_do(documents):
    documents = [(apart(gold), apart(found)) for gold, found in documents]
    ours = np.array([challenges.i2b2_2014_relaxed(gold, found) for gold, found in documents])
    rates, totals = [], np.zeros(3)
    for gold, found in documents:
        gold, found = set(map(FuzzyEnd, gold)), set(map(FuzzyEnd, found))
        right = len(gold & found)
        assert (len(found - gold), len(gold - found)) == (len(found) - right, len(gold) - right)
        rates.append(rates_of(right, len(found), len(gold))[:2])
        totals += (right, len(found), len(gold))
    assert tuple(challenges.micro(ours)) == pytest.approx(rates_of(*totals))
    precision, recall = np.mean(rates, axis=0)
    f1 = 2 * precision * recall / (precision + recall) if precision else 0.0
    assert tuple(challenges.macro(ours, f1_of_means=True)) == pytest.approx((precision, recall, f1))


@given(documents=DOCUMENTS)
def test_i2b2_2012_counts_characters_in_common_of_any_type(documents):
    for gold, found in documents:
        in_gold, in_found = ({c for span in side for c in range(span.start, span.end)} for side in (gold, found))
        right_found = [bool(in_gold & set(range(span.start, span.end))) for span in found]
        right_gold = [bool(in_found & set(range(span.start, span.end))) for span in gold]
        counts = (sum(right_found), len(found), sum(right_gold), len(gold))
        assert challenges.i2b2_2012_overlap(gold, found) == counts


@given(documents=DOCUMENTS)
def test_i2b2_2010_inexact_pairs_each_entity_once(documents):
    for gold, found in documents:
        free = np.ones(len(found), bool)
        for start, end, label in sorted(gold):
            lengths = [
                (other[1] - other[0]) * (other[2] == label) * (min(end, other[1]) > max(start, other[0]))
                for other in found
            ]
            best = int(np.argmax(np.append(np.where(free, lengths, 0), 0.5)))
            if best < len(found):
                free[best] = False
        right = int((~free).sum())
        assert challenges.i2b2_2010_inexact(gold, found) == (right, len(found), right, len(gold))


def test_the_rules_differ_as_documented():
    gold = [[Span(0, 10, "problem"), Span(20, 24, "test"), Span(30, 40, "problem")], []]
    # Two found in one annotated; one of another type; one whose end is 2 characters further; a second document.
    found = [
        [Span(0, 4, "problem"), Span(5, 10, "problem"), Span(20, 24, "problem"), Span(30, 42, "problem")],
        [Span(1, 2, "test")],
    ]
    scored = challenges.scores(gold, found)
    values, tables = scored.values, scored.tables
    shown = {row[0]: row[1:] for row in tables[0].rows}
    assert shown["n2c2 2018 strict"] == ("0.0%", "0.0%", "0.0%")
    assert shown["n2c2 2018 lenient"][:2] == ("50.0%", "66.7%")  # one of five is not counted
    assert shown["i2b2 2010 inexact"][:2] == ("40.0%", "66.7%")
    assert shown["i2b2 2012 overlap"][:2] == ("80.0%", "100.0%")
    assert shown["i2b2 2014 relaxed"][:2] == ("20.0%", "33.3%")
    assert shown["n2c2 2018 lenient, mean over documents"][:2] == ("33.3%", "33.3%")
    assert shown["i2b2 2014 relaxed, mean over documents"] == ("12.5%", "16.7%", "14.3%")
    assert values["n2c2_2018_lenient_f1"] == pytest.approx(4 / 7)
    assert values["problem/lenient_f1"] == pytest.approx(0.8)
    assert values["problem/inexact_f1"] == pytest.approx(4 / 6)
    assert values["test/lenient_f1"] == 0
    assert [row[0] for row in tables[1].rows] == ["problem", "test"]


@given(documents=DOCUMENTS)
def test_strict_is_what_seqeval_counts_and_types_add_up(documents):
    gold, found = ([apart(side) for side in sides] for sides in zip(*documents, strict=True))
    ids = [str(number) for number in range(len(gold))]
    scores = entity_scores.score(ids, gold, found, split_words=0)
    strict = challenges.micro(
        np.array([challenges.n2c2_2018(*pair, Span.__eq__) for pair in zip(gold, found, strict=True)])
    )
    assert tuple(strict) == pytest.approx([scores.values[name] for name in ("precision", "recall", "f1")])
    assert scores.values["n2c2_2018_lenient_recall"] >= scores.values["recall"]
    assert scores.values["i2b2_2012_overlap_recall"] >= scores.values["n2c2_2018_lenient_recall"]
