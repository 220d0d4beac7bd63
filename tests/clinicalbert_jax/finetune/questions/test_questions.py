"""Questions: SQuAD files to windows, logits to answers, answers to scores."""

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions import answer_spans
from clinicalbert_jax.finetune.questions.answer_spans import Answer, Answers
from clinicalbert_jax.finetune.questions.squad_files import Question
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.finetune.rows import Rows
from tests.clinicalbert_jax.finetune.small_tokenizer import small_tokenizer

SECRET = "metastatic"  # a word of the records that no message may show
CONTEXT = f"Admitted for chest pain. A {SECRET} lesion was found in the left lung."
SMALL = {"max_seq_length": 20, "max_question_tokens": 6, "stride": 4}  # windows of 11 pieces or more


def qa(id_: Any, *answers: str, **others: Any) -> dict[str, Any]:
    found = [{"text": answer, "answer_start": CONTEXT.index(answer)} for answer in answers]
    return {"id": id_, "question": f"Where was the {SECRET} lesion?", "answers": found} | others


def squad(*qas: Any, **paragraph: Any) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "x", "paragraphs": [{"context": CONTEXT, "qas": qas} | paragraph]}]}


def write(path: Path, document: Any, indent: int | None = None) -> Path:
    path.write_text(json.dumps(document, indent=indent), encoding="utf-8")
    return path


def question(context: str, *answers: tuple[int, int], id_: str = "q", asked: str = "who") -> Question:
    return Question(id_, 1, "", asked, context, answers)


# --- files


@pytest.mark.fast
def test_questions_are_read_with_their_answers_lines_and_patients(tmp_path: Path) -> None:
    document = squad(qa(7, "left lung", "lung"), qa("b", "chest pain", is_impossible=False), patient=12)
    config = QuestionsConfig(patient_field="patient")
    one_line = config.read(write(tmp_path / "a.json", document), Reading())
    assert [(q.id, q.line, q.patient) for q in one_line] == [("7", 1, "12"), ("b", 1, "12")]
    assert [[q.context[s:e] for s, e in q.answers] for q in one_line] == [["left lung", "lung"], ["chest pain"]]
    many_lines = config.read(write(tmp_path / "b.json", document, indent=1), Reading())
    lines = (tmp_path / "b.json").read_text().splitlines()
    assert [lines[q.line - 1].strip() for q in many_lines] == ['"id": 7,', '"id": "b",']
    (tmp_path / "a.json.gz").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    assert config.read(tmp_path / "a.json.gz", Reading()) == one_line
    assert SECRET not in repr(one_line)


@pytest.mark.fast
def test_questions_without_an_answer_are_those_of_squad_2(tmp_path: Path) -> None:
    plausible = [{"text": "lung", "answer_start": CONTEXT.index("lung")}]
    path = write(tmp_path / "a.json", squad(qa("a", "lung"), qa("b", is_impossible=True, plausible_answers=plausible)))
    answerable, impossible = QuestionsConfig(unanswerable=True).read(path, Reading())
    assert answerable.answers
    assert impossible.answers == ()
    with pytest.raises(UserError, match=r"data\[0\].paragraphs\[0\].qas\[1\]: .*unanswerable=True"):
        QuestionsConfig().read(path, Reading())
    # To a finished model, questions come as they are.
    assert len(QuestionsConfig().read(path, Reading(), annotated=False)) == 2


START = CONTEXT.index("lung")
BAD: dict[str, Any] = {
    "an answer that is elsewhere": qa("x", answers=[{"text": "lung", "answer_start": START + 1}]),
    "an answer past the end": qa("x", answers=[{"text": "lung", "answer_start": len(CONTEXT)}]),
    "an answer from the end": qa("x", answers=[{"text": "lung", "answer_start": START - len(CONTEXT)}]),
    "an answer with other letters": qa("x", answers=[{"text": "Lung", "answer_start": START}]),
    "an answer without a place": qa("x", answers=[{"text": "lung"}]),
    "an empty answer": qa("x", answers=[{"text": "", "answer_start": 3}]),
    "no answer": qa("x"),
    "no list of answers": qa("x", answers={"text": "lung"}),
    "an answer where there is none": qa("x", "lung", is_impossible=True),
    "an id twice": qa("a", "lung"),
    "no id": {"question": SECRET, "answers": []},
    "no question": qa("x", "lung", question=" "),
    "no object": SECRET,
}


@pytest.mark.fast
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_bad_question_is_told_or_left_out(tmp_path: Path, bad: Any, unanswerable: bool) -> None:
    path = write(tmp_path / "a.json", squad(qa("a", "lung"), bad, qa("c", "lung")), indent=1)
    config = QuestionsConfig(unanswerable=unanswerable)
    with pytest.raises(UserError) as caught:
        config.read(path, Reading())
    message = str(caught.value)
    assert message.startswith(f"{path}, line ")
    assert SECRET not in message
    assert "lung" not in message.lower()
    if "id" in bad and bad["id"] == "x":
        lines = [line.strip() for line in path.read_text().splitlines()]
        line = lines.index('"id": "x",') + 1
        assert f"line {line}: " in message
    if "an earlier record" not in message:
        assert "data[0].paragraphs[0].qas[1]: expected" in message
    skipping = Reading("skip")
    assert [q.id for q in config.read(path, skipping)] == ["a", "c"]
    assert skipping.counts == {str(path): 1}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "line 1: expected JSON"),
        ('{"data": [\n{"paragraphs": ' + SECRET, "line 2: expected JSON"),
        (f'["{SECRET}"]', "layout of SQuAD"),
        ('{"data": []}', "at least one record"),
        ('{"data": [{"paragraphs": []}]}', "at least one record"),
        ('{"data": [{"title": "x"}]}', r"data\[0\]: expected a list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"context": "x"}]}]}', r"paragraphs\[0\]: expected a list 'qas'"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=expected) as caught:
        QuestionsConfig().read(path, Reading())
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    with pytest.raises(UserError):
        QuestionsConfig().read(path, Reading("skip"))


@pytest.mark.fast
def test_settings_that_make_no_sense_are_refused() -> None:
    for name, value in (
        ("kind", "entities"),
        ("max_seq_length", 67),
        ("stride", 318),
        ("stride", 0),
        ("negative_windows", -2),
        ("n_best_size", 0),
        ("unanswerable", 1),
    ):
        with pytest.raises(UserError, match=f"config.task.{name}: expected"):
            QuestionsConfig(**{name: value})


# --- rows

letters = st.text("ab c.", min_size=1, max_size=80).filter(str.strip)


@pytest.mark.fast
@given(letters, letters, st.integers(1, 11))
def test_windows_are_those_of_the_tokenizer(asked: str, context: str, stride: int) -> None:
    """Its own way of cutting a pair says the overlap where ours says the distance."""
    tokenizer = small_tokenizer()
    config = QuestionsConfig(**SMALL | {"stride": stride})
    rows = config.task([]).rows([question(context, asked=asked)], tokenizer, annotated=False)
    ids = tokenizer.encode(asked, add_special_tokens=False).ids[:6]
    # As words of one letter, what is left of a question makes the same pieces again.
    shown = " ".join(tokenizer.id_to_token(i).removeprefix("##") for i in ids)
    plain = tokenizer.encode(shown, add_special_tokens=False).ids
    room = 20 - len(ids) - 3
    tokenizer.enable_truncation(20, stride=room - stride, strategy="only_second")
    first = tokenizer.encode(shown, context)
    expected = [first, *first.overflowing]
    assert len(rows) == len(expected)
    for row, encoding in enumerate(expected):
        assert [plain[place] for place in range(len(ids))] == encoding.ids[1 : len(ids) + 1]
        assert rows.input_ids[row].tolist() == [encoding.ids[0], *ids, *encoding.ids[len(ids) + 1 :]]
        assert rows.segment_ids[row].tolist() == encoding.type_ids
        in_context = np.array(encoding.sequence_ids) == 1  # None for special tokens
        np.testing.assert_array_equal(rows.offsets[row], np.where(in_context[:, None], encoding.offsets, 0))


@st.composite
def answered(draw: st.DrawFn) -> Question:
    """A question whose answer begins and ends at pieces of its context, which are letters here."""
    context = draw(letters)
    places = [place for place, letter in enumerate(context) if letter != " "]
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(places) - 1)] * 2)))
    last = min(last, first + draw(st.integers(0, 6)))
    return question(context, (places[first], places[last] + 1))


def pointed(rows: Rows) -> list[np.ndarray]:
    """Logits that point at the targets of rows."""
    logits = []
    for ids, *places in zip(
        rows.input_ids, rows.row_targets["start_positions"], rows.row_targets["end_positions"], strict=True
    ):
        logits_lx2 = np.zeros((len(ids), 2), np.float32)
        logits_lx2[places, [0, 1]] = 5.0
        logits.append(logits_lx2)
    return logits


@pytest.mark.fast
@given(answered(), st.integers(1, 11))
def test_targets_lead_back_to_the_answer(asked: Question, stride: int) -> None:
    config = QuestionsConfig(**SMALL | {"stride": stride, "negative_windows": -1})
    task, tokenizer = config.task([]), small_tokenizer()
    rows = task.rows([asked], tokenizer, annotated=True)
    assert len(rows) == len(task.rows([asked], tokenizer, annotated=False))
    starts_N, ends_N = rows.row_targets["start_positions"], rows.row_targets["end_positions"]
    held_N = starts_N > 0
    assert ((ends_N > 0) == held_N).all()
    (answer,) = asked.answers
    for row in np.flatnonzero(held_N):
        assert (rows.offsets[row][starts_N[row], 0], rows.offsets[row][ends_N[row], 1]) == answer
    # A window that does not hold it lacks a piece of it.
    length = len(tokenizer.encode(asked.context[slice(*answer)], add_special_tokens=False).ids)
    for row in np.flatnonzero(~held_N):
        begins_l, ends_l = rows.offsets[row].T
        assert ((ends_l > answer[0]) & (begins_l < answer[1])).sum() < length
    if held_N.any():
        (prediction,) = task.decode([asked], rows, pointed(rows))
        assert (prediction.given.start, prediction.given.end) == answer


@pytest.mark.fast
def test_training_keeps_the_windows_of_the_answer_and_some_others() -> None:
    tokenizer, context = small_tokenizer(), "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3
    answer = (context.index("y"), context.index("y") + 1)
    asked = [question(context, answer, id_=f"q{n}") for n in range(30)] + [question(context, id_="none")]

    def kept(number: int, unanswerable: bool = True) -> tuple[Rows, list[int]]:
        config = QuestionsConfig(**SMALL | {"negative_windows": number, "unanswerable": unanswerable})
        rows = config.task([]).rows(asked, tokenizer, annotated=True)
        return rows, np.bincount(rows.examples_N).tolist()

    _, every = kept(-1)
    rows, two = kept(2)
    held_N = rows.row_targets["start_positions"] > 0
    holding = int(held_N[rows.examples_N == 0].sum())
    assert 1 <= holding < every[0] - 4
    assert two == [holding + 2] * 30 + [2]
    assert kept(0)[1] == [holding] * 30 + [1]
    # Chosen by the question's id alone: not the same for all, the same every time, and in the context's order.
    begins = [tuple(rows.offsets[row][-2, 0] for row in np.flatnonzero(rows.examples_N == n)) for n in range(30)]
    assert len(set(begins)) > 10
    assert all(list(begin) == sorted(begin) for begin in begins)
    again, _ = kept(2)
    for name in ("input_ids", "offsets"):
        for ours, theirs in zip(getattr(rows, name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


# --- answers


def windows_of(generator: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two overlapping windows over one context, with random logits."""
    offsets_lx2 = np.array([[0, 0]] * 3 + [[n * 2, n * 2 + 1] for n in range(12)] + [[0, 0]])
    windows = [np.r_[0:10, 15], np.r_[0:3, 6:16]]
    return [(generator.normal(0, 2, (len(rows), 2)), offsets_lx2[rows]) for rows in windows]


@pytest.mark.fast
def test_the_answers_are_the_best_spans_of_all_windows() -> None:
    for seed in range(300):
        windows = windows_of(np.random.default_rng(seed))
        expected: dict[tuple[int, int], float] = {}
        for logits, offsets in windows:
            for s, e in itertools.product(range(len(logits)), repeat=2):
                if 0 <= e - s < 4 and offsets[s, 1] and offsets[e, 1]:
                    span = int(offsets[s, 0]), int(offsets[e, 1])
                    expected[span] = max(expected.get(span, -np.inf), logits[s, 0] + logits[e, 1] - logits[0].sum())
        ranked = sorted(expected, key=lambda span: -expected[span])
        found = answer_spans.best(windows, 100, 4, None)
        assert [(a.start, a.end) for a in found.n_best] == ranked
        assert found.given == found.n_best[0]
        assert sum(a.probability for a in found.n_best) == pytest.approx(1)
        scores = np.array([expected[span] for span in ranked])
        np.testing.assert_allclose([a.score for a in found.n_best], scores)
        ratio = found.n_best[0].probability / found.n_best[1].probability
        assert ratio == pytest.approx(np.exp(scores[0] - scores[1]))
        # No answer, where it leads by more than the threshold.
        margin = -scores[0]
        for threshold in (margin - 0.1, margin + 0.1):
            found = answer_spans.best(windows, 100, 4, threshold)
            assert found.null_margin == pytest.approx(margin)
            assert (found.given.start == found.given.end) == (margin > threshold)
            assert len(found.n_best) == len(ranked) + 1
        # Few candidates: the best start and the best end of a window, if they make a span.
        few = answer_spans.best(windows, 1, 12, None)
        assert len(few.n_best) == 1


@pytest.mark.fast
@pytest.mark.parametrize("threshold", [None, 0.0])
def test_a_constant_added_to_the_logits_of_a_window_changes_no_answer(threshold: float | None) -> None:
    """The loss of a window is a softmax over it, so that training leaves such a constant open."""
    for seed in range(50):
        windows = windows_of(np.random.default_rng(seed))
        shifted = [
            (logits + np.array([3.0 * number, -1.0]), offsets) for number, (logits, offsets) in enumerate(windows)
        ]
        expected, found = (answer_spans.best(those, 20, 4, threshold) for those in (windows, shifted))
        assert [(a.start, a.end) for a in found.n_best] == [(a.start, a.end) for a in expected.n_best]
        assert (found.given.start, found.given.end) == (expected.given.start, expected.given.end)
        np.testing.assert_allclose([a.score for a in found.n_best], [a.score for a in expected.n_best], atol=1e-9)


@pytest.mark.fast
def test_answers_are_ranked_by_their_probability_over_windows_of_which_one_at_most_holds_the_answer() -> None:
    """Bayes' rule, a window at a time: it holds the span and all others hold nothing; or none holds an answer."""
    generator = np.random.default_rng(0)
    tokens, count, most = 5, 4, 3
    logits = [generator.normal(0, 2, (tokens + 1, 2)) for _ in range(count)]
    offsets = [np.array([(0, 0)] + [(t, t + 1) for t in range(w * tokens, (w + 1) * tokens)]) for w in range(count)]
    in_window = [np.exp(x - np.log(np.exp(x).sum(0))) for x in logits]  # of a start and of an end at each token
    nothing = [p[0].prod() for p in in_window]
    joint = {(0, 0): np.prod(nothing)}
    for w, p in enumerate(in_window):
        others = np.prod([nothing[v] for v in range(count) if v != w])
        for s, e in itertools.combinations_with_replacement(range(tokens), 2):
            if e - s < most:
                joint[w * tokens + s, w * tokens + e + 1] = p[1 + s, 0] * p[1 + e, 1] * others
    found = answer_spans.best(zip(logits, offsets, strict=True), 1000, most, 0.0)
    assert [(a.start, a.end) for a in found.n_best] == sorted(joint, key=lambda span: -joint[span])
    expected = np.array(sorted(joint.values(), reverse=True)) / sum(joint.values())
    np.testing.assert_allclose([a.probability for a in found.n_best], expected)


@pytest.mark.fast
@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_context_without_a_piece_has_no_answer(tmp_path: Path, unanswerable: bool) -> None:
    task = QuestionsConfig(**SMALL, unanswerable=unanswerable).task([])
    asked = [question("\u200b", id_="q"), question("\u200b\u200b", id_="r")]  # letters that the tokenizer drops
    rows = task.rows(asked, small_tokenizer(), annotated=False)
    assert [len(ids) for ids in rows.input_ids] == [6, 6]
    predictions = task.decode(asked, rows, [np.zeros((6, 2), np.float32)] * 2)
    assert [(p.given.start, p.given.end, p.given.probability) for p in predictions] == [(0, 0, 1)] * 2
    if unanswerable:
        assert task.score(asked, predictions).values["f1"] == 1
    for path in task.write(tmp_path / "x", asked, predictions, show_text=True):
        assert "Infinity" not in path.read_text()


def judged(unanswerable: bool = True) -> tuple[Any, list[Question], list[Answers]]:
    task = QuestionsConfig(unanswerable=unanswerable).task([])
    lung = CONTEXT.index("left lung")
    asked = [
        question(CONTEXT, (lung, lung + 9), id_="right"),
        question(CONTEXT, (lung, lung + 9), (lung + 5, lung + 9), id_="near"),
        question(CONTEXT, (lung, lung + 9), id_="far"),
        question(CONTEXT, (lung, lung + 9), id_="none given"),
        question(CONTEXT, id_="none"),
        question(CONTEXT, id_="some given"),
    ]
    given = [(lung, lung + 9), (lung - 4, lung + 9), (0, 8), (0, 0), (0, 0), (0, 8)]
    margins = [-1.0, -2.0, -3.0, 1.5, 2.0, -2.5]
    predictions = []
    for (start, end), margin in zip(given, margins, strict=True):
        n_best = (Answer(start, end, 3.0, 0.75), Answer(0, 5, 1.0, 0.25))
        predictions.append(Answers(n_best[0], n_best, margin))
    return task, asked, predictions


@pytest.mark.fast
def test_scores_are_means_over_questions_and_follow_from_sums() -> None:
    task, asked, predictions = judged()
    scores = task.score(asked, predictions)
    # 'the left lung' is 'left lung' after normalization.
    assert scores.values["f1"] == scores.values["exact_match"] == pytest.approx(3 / 6)
    assert scores.values["f1_answerable"] == pytest.approx(2 / 4)
    assert scores.values["exact_match_unanswerable"] == pytest.approx(1 / 2)
    assert scores.of_sums(scores.counts_ExM.sum(0)) == pytest.approx(scores.values[scores.main])
    assert [error["id"] for error in scores.errors] == ["far", "none given", "some given"]
    assert dict(scores.tables[1].rows) == {
        "the annotated characters": 1,
        "overlapping the annotated ones": 1,
        "elsewhere": 1,
        "no answer given": 1,
        "no answer, correctly": 1,
        "an answer where there is none": 1,
    }
    assert SECRET not in repr(scores)
    task, asked, predictions = judged(unanswerable=False)
    values = task.score(asked[:3], predictions[:3]).values
    assert values == {"exact_match": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3)}


@pytest.mark.fast
def test_answers_are_written_without_text_unless_it_may_be_shown(tmp_path: Path) -> None:
    task, asked, predictions = judged()
    paths = task.write(tmp_path / "dev", asked, predictions, show_text=False)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [path.name for path in paths] == ["dev.jsonl", "dev.nbest.jsonl"]
    records = [json.loads(line) for line in paths[0].read_text().splitlines()]
    assert [(r["id"], r["start"], r["end"]) for r in records] == [
        (q.id, p.given.start, p.given.end) for q, p in zip(asked, predictions, strict=True)
    ]
    n_best = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert [a["probability"] for a in n_best[0]["n_best"]] == [0.75, 0.25]
    assert not any(word in path.read_text() for path in paths for word in ("lung", "Admitted"))
    paths = task.write(tmp_path / "shown", asked, predictions, show_text=True)
    assert [path.name for path in paths[2:]] == ["shown.json", "shown.nbest.json"]
    official = json.loads(paths[2].read_text())
    assert official["right"] == "left lung"
    assert official["none"] == ""
    assert list(official) == [q.id for q in asked]
    assert json.loads(paths[3].read_text())["right"][1]["text"] == "Admit"


def test_real_questions_keep_their_answers_through_windows(shared_data: Path) -> None:
    """Of COVID-QA, logits that point at the targets give the annotated words of nearly every question back."""
    config = QuestionsConfig(
        max_seq_length=128, stride=61, negative_windows=-1, max_answer_length=100, patient_field="document_id"
    )
    asked = config.read(shared_data / "qa" / "covid_qa" / "dev.json", Reading())
    assert len(asked) == 174
    assert len({q.patient for q in asked}) == 12
    asked = [q for q in asked if q.patient == asked[0].patient]
    task, tokenizer = config.task(asked), small_tokenizer("the", "of", "and", "protein", "cells")
    rows = task.rows(asked, tokenizer, annotated=True)
    scores = task.score(asked, task.decode(asked, rows, pointed(rows)))
    held = np.unique(rows.examples_N[rows.row_targets["start_positions"] > 0])
    assert scores.values["exact_match"] == pytest.approx(len(held) / len(asked), abs=0.05)
