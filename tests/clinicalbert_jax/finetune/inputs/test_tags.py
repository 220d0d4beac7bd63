"""Tags and spans: round trips, what breaks a scheme, and seqeval as the judge of every sequence."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.finetune.entities import scores as entity_scores
from clinicalbert_jax.finetune.inputs import tags
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.task import rates

ALL = {scheme: tags.all_tags(["Drug", "Adverse-Effect", "a b"], scheme) for scheme in tags.SCHEMES}


@st.composite
def word_spans(draw):
    cuts = draw(st.lists(st.integers(0, 30), unique=True, max_size=12).map(sorted))
    chosen = [pair for pair in pairwise(cuts) if draw(st.booleans())]
    return [Span(start, end, draw(st.sampled_from(["Drug", "Adverse-Effect"]))) for start, end in chosen]


@pytest.mark.fast
@pytest.mark.parametrize("scheme", tags.SCHEMES)
@given(found=word_spans())
def test_spans_come_back_from_their_tags(scheme, found):
    written = tags.of_spans(found, 31, scheme)
    assert tags.spans(written, scheme) == found
    assert tags.first_break(written, scheme) is None
    assert all(tags.is_tag(tag) for tag in written)
    assert tags.types(written) == {span.label for span in found}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("scheme", "sequence", "place"),
    [
        ("IOB2", "O I-X", 1),
        ("IOB2", "I-X", 0),
        ("IOB2", "B-X I-Y", 1),
        ("IOB2", "B-X O I-X", 2),
        ("IOB2", "B-X E-X", 1),
        ("IOB2", "O S-X", 1),
        ("IOBES", "B-X O", 0),
        ("IOBES", "B-X", 0),
        ("IOBES", "O B-X I-X", 1),
        ("IOBES", "B-X E-Y", 0),
        ("IOBES", "S-X I-X", 1),
        ("IOBES", "O E-X", 1),
        ("IOBES", "B-X I-X E-X E-X", 3),
    ],
)
def test_a_broken_sequence_is_told_by_its_first_wrong_tag(scheme, sequence, place):
    found, problem = tags.first_break(sequence.split(), scheme)
    assert found == place
    assert "-X" not in problem
    assert "-Y" not in problem


@pytest.mark.fast
@pytest.mark.parametrize("text", ["", "o", "B-", "B- ", "X-Y", "M-X", "B-\tX", "BX", "the"])
def test_what_is_no_tag(text):
    assert not tags.is_tag(text)


def rewritten(*sequences):
    return [" ".join(one) for one in tags.normalized([sequence.split() for sequence in sequences])]


@pytest.mark.fast
def test_iob1_is_rewritten_and_iob2_with_one_mistake_is_not():
    iob1 = ["O O", "I-X I-X B-X I-X O", "O I-Y I-X"]
    assert rewritten(*iob1) == ["O O", "B-X I-X B-X I-X O", "O B-Y B-X"]
    assert rewritten(*iob1, "O B-X") == [*iob1, "O B-X"]
    assert rewritten("O", "O O") == ["O", "O O"]


@pytest.mark.fast
def test_bilou_is_rewritten_as_iobes():
    assert rewritten("B-X I-X L-X U-Y O") == ["B-X I-X E-X S-Y O"]
    assert rewritten("B-X L-X S-Y") == ["B-X L-X S-Y"]  # of two schemes at once: neither


@pytest.mark.fast
def test_tags_without_a_type_get_one_unless_others_have_it():
    assert rewritten("B I O", "B B") == ["B-Entity I-Entity O", "B-Entity B-Entity"]
    assert rewritten("O I I", "I O") == ["O B-Entity I-Entity", "B-Entity O"]  # IOB1 as well
    assert rewritten("B L U") == ["B-Entity E-Entity S-Entity"]
    assert rewritten("B-X I", "B-X O") == ["B-X I", "B-X O"]
    assert "with a type" in tags.first_break(["B-X", "I"], "IOB2")[1]


@pytest.mark.fast
@given(found=word_spans())
def test_the_same_entities_are_read_from_every_scheme(found):
    iobes, iob2 = (tags.of_spans(found, 31, scheme) for scheme in ("IOBES", "IOB2"))
    bilou = [{"E": "L", "S": "U"}.get(tag[0], tag[0]) + tag[1:] for tag in iobes]
    follows = [before[1:] == tag[1:] for before, tag in zip(["O", *iob2], iob2, strict=False)]
    iob1 = ["I" + tag[1:] if tag[0] == "B" and not same else tag for tag, same in zip(iob2, follows, strict=True)]
    for written, scheme in ((iobes, "IOBES"), (bilou, "IOBES"), (iob2, "IOB2"), (iob1, "IOB2")):
        (normal,) = tags.normalized([written])
        assert tags.spans(normal, tags.best_scheme([normal])) == found, scheme


@pytest.mark.fast
def test_the_scheme_is_the_one_that_most_sequences_keep_to():
    assert tags.best_scheme([["B-X", "I-X"], ["O"]]) == "IOB2"
    assert tags.best_scheme([["B-X", "I-X"], ["S-X"]]) == "IOBES"
    assert tags.best_scheme([["B-X", "I-X"], ["B-X", "O"], ["S-X"]]) == "IOB2"
    assert tags.best_scheme([["B-X", "E-X"], ["B-X", "O"], ["S-X"]]) == "IOBES"


@pytest.mark.parametrize("scheme", tags.SCHEMES)
def test_scores_are_seqevals_strict_ones_on_random_sequences(scheme):
    from seqeval import scheme as schemes
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.metrics.v1 import precision_recall_fscore_support

    generator = np.random.default_rng(0)
    for case in range(1000):
        lengths = generator.integers(1, 12, generator.integers(1, 5))
        # Few types and many inside tags: most sequences break the scheme, in every way there is.
        among = ALL[scheme][: 1 + (len(ALL[scheme]) - 1) // 3 * int(generator.integers(1, 4))]
        gold = [[str(tag) for tag in generator.choice(among, n)] for n in lengths]
        kept = generator.random(lengths.sum()) < generator.random()
        guess = iter(generator.choice(among, lengths.sum()).tolist())
        same = iter(kept)
        ours = [[tag if next(same) else next(guess) for tag in sentence] for sentence in gold]

        gold_spans = [tags.spans(sentence, scheme) for sentence in gold]
        our_spans = [tags.spans(sentence, scheme) for sentence in ours]
        options = {"mode": "strict", "scheme": getattr(schemes, scheme), "zero_division": 0}
        scores = entity_scores.score([str(n) for n in range(len(gold))], gold_spans, our_spans, 0)
        for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert scores.values[name] == pytest.approx(function(gold, ours, **options), abs=1e-12), case
            if any(map(len, gold_spans + our_spans)):  # else it has no class to take the mean of
                macro = function(gold, ours, average="macro", **options)
                assert scores.values[f"macro_{name}"] == pytest.approx(macro, abs=1e-12), case
        by_type = entity_scores.by_type(gold_spans, our_spans)
        if by_type:
            theirs = precision_recall_fscore_support(
                gold, ours, average=None, scheme=getattr(schemes, scheme), zero_division=0
            )
            by_label = [rates(*counts) for counts in by_type.values()]
            np.testing.assert_allclose(np.array(by_label), np.stack(theirs[:3], -1), atol=1e-12)
            assert [annotated for _, _, annotated in by_type.values()] == list(theirs[3])
