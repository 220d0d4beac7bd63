"""Relations: marked and blinded pairs, rows around both spans, scikit-learn's scores, everything bad in a file."""

import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.inputs.words import WordTokenizer
from clinicalbert_jax.finetune.relations import marking
from clinicalbert_jax.finetune.relations import scores as relation_scores
from clinicalbert_jax.finetune.relations.task import Pair, RelationsConfig
from tests.clinicalbert_jax.finetune import toy_tokenizer

TOKENIZER = toy_tokenizer.make()
CUTTER = WordTokenizer(TOKENIZER)
TEXT = "severe fever after taking aspirin"
HEAD, TAIL = Span(26, 33, "DRUG"), Span(7, 12, "EFFECT")
RECORD = {
    "id": "a",
    "text": TEXT,
    "head": {"start": 26, "end": 33, "type": "DRUG"},
    "tail": {"start": 7, "end": 12, "type": "EFFECT"},
    "label": "ADE",
}


def read(tmp_path, content, name="data.jsonl", policy="stop", annotated=True):
    (tmp_path / name).write_text(content, encoding="utf-8")
    bad = Reading(policy)
    return RelationsConfig().read(tmp_path / name, bad, annotated), bad


def pieces_of(row, tokenizer=TOKENIZER):
    return [tokenizer.id_to_token(int(id_)) for id_ in row]


def one_row(pair: Pair, tokenizer=TOKENIZER, **settings):
    task = RelationsConfig(**settings).task_with_labels(("none", "ADE"))
    rows = task.rows([pair], tokenizer, annotated=False)
    return pieces_of(rows.input_ids[0], tokenizer), rows.offsets[0]


@pytest.mark.fast
def test_pairs_of_a_text_are_one_document():
    pairs = [Pair(id_, 1, patient, TEXT, HEAD, TAIL) for id_, patient in (("a", ""), ("b", ""), ("c", "p1"))]
    assert pairs[0].document == pairs[1].document != pairs[2].document == "p1"


@pytest.mark.fast
def test_markers_stand_around_head_and_tail():
    pieces, offsets = one_row(Pair("a", 1, "", TEXT, HEAD, TAIL))
    expected = "[CLS] severe [unused3] fever [unused4] after taking [unused1] aspirin [unused2] [SEP]"
    assert pieces == expected.split()
    assert offsets[[1, 3, 8]].tolist() == [[0, 6], [7, 12], [26, 33]]
    assert not offsets[[0, 2, 4, 7, 9, 10]].any()


@pytest.mark.fast
def test_a_vocabulary_without_unused_entries_has_punctuation_as_markers_or_none():
    pair = Pair("a", 1, "", TEXT, HEAD, TAIL)
    pieces, _ = one_row(pair, toy_tokenizer.make(unused=3))
    assert " ".join(pieces) == "[CLS] severe # fever # after taking @ aspirin @ [SEP]"
    with pytest.raises(UserError, match=r"config\.task\.mark: expected four \[unused...\] entries or '@' and '#'"):
        one_row(pair, toy_tokenizer.make(unused=3, without="@"))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ((0, 5), (0, 13), "[unused3] [unused1] liver [unused2] failure [unused4]"),
        ((0, 13), (6, 13), "[unused1] liver [unused3] failure [unused4] [unused2]"),
        ((0, 13), (0, 13), "[unused1] [unused3] liver failure [unused4] [unused2]"),
        ((0, 5), (6, 13), "[unused1] liver [unused2] [unused3] failure [unused4]"),
        ((0, 7), (3, 13), "[unused1] l ##i ##v [unused3] e ##r f [unused2] a ##i ##l ##u ##r ##e [unused4]"),
    ],
)
def test_markers_of_nested_equal_and_overlapping_spans(head, tail, expected):
    pair = Pair("a", 1, "", "liver failure", Span(*head, "A"), Span(*tail, "B"))
    assert one_row(pair)[0][1:-1] == expected.split()


@pytest.mark.fast
def test_blinding_hides_what_the_spans_say():
    pieces, _ = one_row(
        Pair("a", 1, "", "liver failure after aspirin", Span(20, 27, "A"), Span(0, 13, "B")), mark="blinding"
    )
    assert " ".join(pieces[1:-1]) == "@ b $ after @ a $"
    overlapping = Pair("a", 1, "", "severe liver failure", Span(7, 12, "A"), Span(7, 20, "B"))
    assert " ".join(one_row(overlapping, mark="blinding")[0][1:-1]) == "severe @ a - b $"
    same = one_row(Pair("a", 1, "", "fever after xyz", Span(12, 15, "A"), Span(0, 5, "B")), mark="blinding")[0]
    assert same == pieces


@st.composite
def long_pairs(draw):
    text = " ".join(draw(st.lists(st.sampled_from("abcdefghijk"), min_size=20, max_size=90)))
    spans = []
    for _ in range(2):
        start = 2 * draw(st.integers(0, (len(text) - 1) // 2))
        spans.append(Span(start, min(len(text), start + 2 * draw(st.integers(0, 3)) + 1), "A"))
    return Pair("p", 1, "", text, *spans)


@pytest.mark.fast
@given(long_pairs(), st.integers(16, 60))
def test_a_row_holds_both_spans_whole_and_what_is_nearest(pair, length):
    pieces, offsets = one_row(pair, max_seq_length=length)
    assert len(pieces) == min(length, len(pair.text.split()) + 4 + 2)
    read = [tuple(pair) for pair in offsets.tolist() if pair[1]]
    assert read == sorted(read)
    for span, first, last in ((pair.head, "[unused1]", "[unused2]"), (pair.tail, "[unused3]", "[unused4]")):
        inside = [place for place in offsets[pieces.index(first) : pieces.index(last)].tolist() if place[1]]
        assert (inside[0][0], inside[-1][1]) == span[:2]
        assert len(inside) == len(pair.text[span.start : span.end].split())
    low, high = min(pair.head.start, pair.tail.start), max(pair.head.end, pair.tail.end)
    if len(pair.text[low:high].split()) + 4 <= length - 2:  # nothing is left out between them
        assert read == [(n, n + 1) for n in range(read[0][0], read[-1][1], 2)]
    task = RelationsConfig(max_seq_length=length).task_with_labels(("none", "ADE"))
    rows = task.rows([pair], TOKENIZER, annotated=False)
    unread = task.decode([pair], rows, [np.zeros(2)])[0].unread
    gap = any(later[0] - earlier[1] > 1 for earlier, later in pairwise(read))
    whole = len(read) == len(pair.text.split())
    assert unread == ("" if whole else "between the spans" if gap else "around the spans")


@pytest.mark.fast
def test_context_is_as_long_on_either_side():
    text = " ".join("abcdefghijklmnopqrstuvwxyz")
    pair = Pair("p", 1, "", text, Span(24, 25, "A"), Span(28, 29, "B"))
    pieces, _ = one_row(pair, max_seq_length=16)
    assert " ".join(pieces) == "[CLS] i j k l [unused1] m [unused2] n [unused3] o [unused4] p q r [SEP]"
    far = Pair("p", 1, "", text, Span(0, 1, "A"), Span(50, 51, "B"))
    expected = "[CLS] [unused1] a [unused2] b c d e v w x y [unused3] z [unused4] [SEP]"
    assert one_row(far, max_seq_length=16)[0] == expected.split()


@pytest.mark.fast
def test_a_span_around_the_other_is_held_whole():
    text = " ".join("abcdefghijklmnopqrstuvwxyz")
    pair = Pair("p", 1, "", text, Span(20, 39, "A"), Span(22, 23, "B"))
    expected = "[CLS] [unused1] k [unused3] l [unused4] m n o p q r s t [unused2] [SEP]"
    assert " ".join(one_row(pair, max_seq_length=16)[0]) == expected


@pytest.mark.fast
def test_spans_longer_than_a_row_are_refused():
    pair = Pair("p7", 9, "", "a " * 20, Span(0, 30, "A"), Span(31, 33, "B"))
    with pytest.raises(UserError, match=r"pair on line 9 of its file.* raise config.task.max_seq_length"):
        one_row(pair, max_seq_length=16)


@pytest.mark.fast
def test_records_are_read_and_predictions_written(tmp_path):
    other = RECORD | {"id": 2, "label": "none", "patient": 5, "head": RECORD["head"] | {"text": "aspirin"}}
    pairs, _ = read(tmp_path, json.dumps(RECORD) + "\n\n" + json.dumps(other) + "\n")
    assert [(p.id, p.line, p.patient, p.label) for p in pairs] == [("a", 1, "", "ADE"), ("2", 3, "5", "none")]
    assert (pairs[0].head, pairs[0].tail) == (HEAD, TAIL)
    assert read(tmp_path, json.dumps([RECORD, other]), "b.json")[0][1].head == HEAD
    assert (
        read(tmp_path, json.dumps({k: v for k, v in RECORD.items() if k != "label"}), annotated=False)[0][0].label == ""
    )
    task = RelationsConfig().task(pairs)
    assert task.labels == ("none", "ADE")
    assert task.positives == ("ADE",)
    rows = task.rows(pairs, TOKENIZER, annotated=True)
    assert rows.row_targets["labels"].tolist() == [1, 0]
    assert rows.row_targets["label_weights"].tolist() == [1, 1]
    predictions = task.decode(pairs, rows, [np.array([0.0, 1.0]), np.array([3.0, 3.0])])
    assert predictions[0].probabilities == pytest.approx((0.26894142, 0.73105858))
    written = task.write(tmp_path / "out", pairs, predictions, show_text=True)
    again = RelationsConfig().read(written[0], Reading())
    assert [(p.text, p.head, p.tail, p.label) for p in again] == [(p.text, p.head, p.tail, p.label) for p in pairs]
    hidden = task.write(tmp_path / "hidden", pairs, predictions, show_text=False)[0]
    assert not any(word in hidden.read_text() for word in TEXT.split())


def variant(name, **changes):
    return RECORD | {"id": "b", "text": "secret " + TEXT, name: RECORD[name] | changes}


BAD = [
    ("{", "one JSON object"),
    ({k: v for k, v in RECORD.items() if k != "label"}, "a field named 'label'"),
    ({k: v for k, v in RECORD.items() if k != "tail"}, "a field named 'tail'"),
    (RECORD, "an earlier record"),
    (variant("head", end=99), "a head inside its text of 40 characters, found characters 26 to 99"),
    (variant("tail", start=-1), "a tail inside its text"),
    (variant("tail", start=12), "a tail inside its text"),
    (variant("tail", type=[]), "a name in the field 'type'"),
    (variant("tail", text="liver"), "another text"),
    (RECORD | {"id": "b", "head": [26, 33]}, "a head with 'start', 'end', 'type'"),
    (RECORD | {"id": "b", "label": ["x"]}, "a name in the field 'label'"),
    (RECORD | {"id": "b", "text": ""}, "a text"),
]


@pytest.mark.fast
@pytest.mark.parametrize(("record", "words"), BAD)
def test_a_bad_record_is_named_or_left_out(tmp_path, record, words):
    content = json.dumps(RECORD) + "\n" + (record if isinstance(record, str) else json.dumps(record)) + "\n"
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    assert "data.jsonl, line 2: " in str(error.value)
    assert words in str(error.value)
    assert "secret" not in str(error.value)
    kept, bad = read(tmp_path, content, policy="skip")
    assert len(kept) == 1
    assert bad.counts == {str(tmp_path / "data.jsonl"): 1}


@pytest.mark.fast
def test_files_and_labels_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(UserError, match="at least one record"):
        read(tmp_path, "")
    with pytest.raises(UserError, match=r"expected a file ending in .*finetune.convert"):
        read(tmp_path, "secret", "data.tsv")
    pairs = [Pair(str(n), n, "", TEXT, HEAD, TAIL, label) for n, label in enumerate(("no", "ADE", "x"), start=1)]
    with pytest.raises(UserError, match="two labels or more, found one label in 1 pairs"):
        RelationsConfig().task(pairs[:1])
    with pytest.raises(UserError, match="negative_label: expected one of the 2 training labels, found 'none'"):
        RelationsConfig().task(pairs[:2])
    config = RelationsConfig(negative_label="no")
    task = config.task(pairs[:2])
    assert task.labels == ("no", "ADE")
    assert RelationsConfig(negative_label="").task(pairs).positives == ("ADE", "no", "x")
    with pytest.raises(UserError, match=r"dev.jsonl, line 3: expected labels seen in training"):
        task.check_labels(pairs, tmp_path / "dev.jsonl", Reading())
    bad = Reading("skip")
    assert task.check_labels(pairs, tmp_path / "dev.jsonl", bad) == pairs[:2]
    assert bad.counts.total() == 1


@pytest.mark.fast
@pytest.mark.parametrize(
    "setting", [{"kind": "x"}, {"max_seq_length": 8}, {"mark": "bold"}, {"negative_label": 0}, {"mark": ""}]
)
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(UserError, match=rf"config\.task\.{next(iter(setting))}: expected"):
        RelationsConfig(**setting)


def test_scores_are_scikit_learns_on_random_labels():
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    generator = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rates without a denominator
        for case in range(1000):
            labels = ["none", "a", "b", "c"][: generator.integers(2, 5)]
            size = int(generator.integers(1, 30))
            gold = generator.choice(labels, size).tolist()
            found = np.where(generator.random(size) < generator.random(), gold, generator.choice(labels, size)).tolist()
            scores = relation_scores.score(gold, found, labels, labels[1:])
            for average, prefix in (("micro", ""), ("macro", "macro_")):
                theirs = precision_recall_fscore_support(
                    gold, found, labels=labels[1:], average=average, zero_division=0
                )
                for name, value in zip(("precision", "recall", "f1"), theirs, strict=False):
                    assert scores.values[prefix + name] == pytest.approx(value, abs=1e-12), case
            theirs = precision_recall_fscore_support(gold, found, labels=labels[1:], average=None, zero_division=0)
            ours = [
                [scores.values[f"{label}/{name}"] for label in labels[1:]] for name in ("precision", "recall", "f1")
            ]
            np.testing.assert_allclose(ours, theirs[:3], atol=1e-12)
            matrix = [row[1:] for row in scores.tables[1].rows]
            assert matrix == [tuple(row) for row in confusion_matrix(gold, found, labels=labels).tolist()]


@pytest.mark.fast
def test_counts_add_up_to_the_main_score_and_errors_name_the_pair():
    task = RelationsConfig().task_with_labels(("none", "a", "b"))
    generator = np.random.default_rng(0)
    pairs = [
        Pair(str(n), n, "", TEXT, HEAD, TAIL, label)
        for n, label in enumerate(generator.choice(task.labels, 50).tolist())
    ]
    rows = task.rows(pairs, TOKENIZER, annotated=True)
    predictions = task.decode(pairs, rows, list(generator.normal(size=(50, 3))))
    scores = task.score(pairs, predictions)
    assert scores.counts_ExM.shape == (50, 3)
    assert scores.of_sums(scores.counts_ExM.sum(0)) == scores.values[scores.main] > 0
    wrong = [pair.id for pair, found in zip(pairs, predictions, strict=True) if pair.label != found.label]
    assert [error["id"] for error in scores.errors] == wrong
    assert scores.errors[0]["head"] == {"start": 26, "end": 33, "type": "DRUG"}
    assert len(scores.tables) == 2  # nothing was left unread


@pytest.mark.fast
def test_the_markers_are_the_first_four_unused_entries():
    entries = ["[PAD]", "[unused1]", "a", "[unused2]", "@", "[unused3]", "#", "[unused4]", "[unused5]"]
    found = marking.marks(entries, CUTTER)
    assert found == tuple(TOKENIZER.token_to_id(f"[unused{n}]") for n in (1, 2, 3, 4))
