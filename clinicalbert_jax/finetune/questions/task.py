"""Questions whose answer is a span of a context, however long: windows in, the likeliest spans out.

Shape legend: N rows (windows), E questions, l length of a row, T tokens of a context, W windows of a question.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers

from clinicalbert_jax.config import require
from clinicalbert_jax.data import counter_rng
from clinicalbert_jax.finetune.inputs import sliding_windows
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions import answer_spans, squad_files
from clinicalbert_jax.finetune.questions import scores as squad_scores
from clinicalbert_jax.finetune.questions.answer_spans import Answer, Answers
from clinicalbert_jax.finetune.questions.squad_files import Question
from clinicalbert_jax.finetune.rows import Rows, joined
from clinicalbert_jax.finetune.task import CountTable, RateTable, Scores, Task, TaskConfig, json_line
from clinicalbert_jax.report.table import Table


@dataclass
class QuestionsConfig(TaskConfig):
    """Settings of question answering over SQuAD 1.1 or, with `unanswerable`, 2.0 files.

    A question is truncated to `max_question_tokens`; a context that does not fit beside it is read in windows that
    begin `stride` tokens apart. In training a question keeps the windows that hold its answer, and of the others
    `negative_windows`, chosen by a hash (-1: all; one at least where none holds an answer). An answer has at most
    `max_answer_length` tokens; `n_best_size` starts and ends of a window are considered. With `unanswerable` no
    answer is given where [CLS] leads the best span of every window by more than `null_score_diff_threshold`.
    `patient_field`: the key of a paragraph that names its patient, '' where there is none.
    """

    kind: str = "questions"
    max_seq_length: int = 384
    unanswerable: bool = False
    stride: int = 128
    max_question_tokens: int = 64
    negative_windows: int = 2
    max_answer_length: int = 30
    n_best_size: int = 20
    null_score_diff_threshold: float = 0.0
    patient_field: str = ""
    pairs = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_question_tokens", "max_answer_length", "n_best_size"):
            require(getattr(self, name) >= 1, f"task.{name}", "at least 1", getattr(self, name))
        longest = self.max_question_tokens + 3
        require(self.max_seq_length > longest, "task.max_seq_length", f"more than {longest}", self.max_seq_length)
        room = self.max_seq_length - longest
        require(1 <= self.stride <= room, "task.stride", f"1 to {room}, what is left beside a question", self.stride)
        require(self.negative_windows >= -1, "task.negative_windows", "-1 (all) or more", self.negative_windows)

    def read(self, path: Path, reading: Reading, annotated: bool = True) -> list[Question]:
        """The questions of a SQuAD file, plain or gzipped; raises `UserError`."""
        return squad_files.read(path, reading, annotated, self.unanswerable, self.patient_field)

    def task(self, examples: Sequence[Question]) -> "Questions":
        """The task; questions have no labels to learn."""
        return Questions(self, ("start", "end"))


@dataclass
class Questions(Task, of=QuestionsConfig):
    """Question answering: a start and an end for every window, [CLS] for no answer in it."""

    config: QuestionsConfig
    head = "span"

    def rows(self, examples: Sequence[Question], tokenizer: tokenizers.Tokenizer, annotated: bool) -> Rows:
        """[CLS] question [SEP] window of the context [SEP], a row a window; not all windows of a question in training.

        The targets are where the first answer begins and ends: its tokens' positions in the row, or (0, 0) in a window
        that does not hold the whole answer.
        """
        # Many questions share a context, which is long: each is tokenized once.
        contexts = _tokenized((example.context for example in examples), tokenizer)
        questions = _tokenized((example.question for example in examples), tokenizer)
        input_ids, segment_ids, offsets, numbers, positions = [], [], [], [], []
        for number, example in enumerate(examples):
            question = questions[example.question].ids_T[: self.config.max_question_tokens]
            context = contexts[example.context]
            room = self.config.max_seq_length - len(question) - 3
            windows = sliding_windows.slices(len(context.ids_T), room, self.config.stride)
            answer = _tokens_of(example.answers[0], context) if annotated and example.answers else None
            for window in self._training_windows(example.id, windows, answer) if annotated else windows:
                ids_l, segments_l = joined(tokenizer, question, context.ids_T[window])
                input_ids.append(ids_l)
                segment_ids.append(segments_l)
                before = len(question) + 2
                offsets.append(np.pad(context.offsets_Tx2[window], ((before, 1), (0, 0))))
                numbers.append(number)
                shift = before - window.start
                held = answer is not None and _holds(window, answer)
                positions.append((answer[0] + shift, answer[1] + shift) if answer and held else (0, 0))
        targets = {}
        if annotated:
            starts_N, ends_N = np.array(positions, np.int32).reshape(-1, 2).T.copy()
            weights_N = np.ones(len(starts_N), np.float32)
            targets = {"start_positions": starts_N, "end_positions": ends_N, "label_weights": weights_N}
        return Rows(input_ids, segment_ids, np.array(numbers, np.int64), offsets, row_targets=targets)

    def decode(self, examples: Sequence[Question], rows: Rows, logits: Sequence[np.ndarray]) -> list[Answers]:
        """The likeliest spans of each question over all its windows."""
        ends_E = np.cumsum(np.bincount(rows.examples_N, minlength=len(examples)))
        threshold = self.config.null_score_diff_threshold if self.config.unanswerable else None
        answers = []
        for begin, end in zip([0, *ends_E], ends_E, strict=False):
            seen = ((logits[row], rows.offsets[row]) for row in range(begin, end))
            answers.append(answer_spans.best(seen, self.config.n_best_size, self.config.max_answer_length, threshold))
        return answers

    def score(self, examples: Sequence[Question], predictions: Sequence[Answers]) -> Scores:
        """Exact match and F1 by the official rules, where the answers given lie, and which questions missed what."""
        judged_Ex2 = self._judged(examples, [prediction.given for prediction in predictions])
        impossible_E = np.array([not example.answers for example in examples], bool)
        values = {"exact_match": judged_Ex2[:, 0].mean(), "f1": judged_Ex2[:, 1].mean()}
        made_of: dict[str, Sequence[int]] = dict.fromkeys(values, _right_and_wrong(judged_Ex2))
        tables: list[Table] = []
        if self.config.unanswerable:
            for name, those_E in (("answerable", ~impossible_E), ("unanswerable", impossible_E)):
                some = judged_Ex2[those_E] if those_E.any() else np.full((1, 2), np.nan)
                values |= {f"exact_match_{name}": some[:, 0].mean(), f"f1_{name}": some[:, 1].mean()}
                both = (*_right_and_wrong(judged_Ex2[those_E]), *_right_and_wrong(judged_Ex2[~those_E]))
                made_of |= dict.fromkeys((f"exact_match_{name}", f"f1_{name}"), both)
            tables.append(self._thresholds(examples, predictions, impossible_E, float(values["f1"])))
        tables.append(_positions(examples, predictions))
        errors: list[dict[str, Any]] = [
            {
                "id": example.id,
                "line": example.line,
                "annotated": [list(answer) for answer in example.answers],
                "given": [prediction.given.start, prediction.given.end],
                "exact_match": exact,
                "f1": round(f1, 6),
            }
            for example, prediction, (exact, f1) in zip(examples, predictions, judged_Ex2.tolist(), strict=True)
            if exact < 1
        ]
        counts_Ex2 = np.stack([judged_Ex2[:, 1], np.ones(len(examples))], axis=1)
        values = {name: float(value) for name, value in values.items()}
        return Scores(
            values,
            "f1",
            counts_Ex2,
            lambda sums_2: float(sums_2[0] / sums_2[1]),
            tables,
            errors=errors,
            made_of=made_of,
        )

    def record(self, example: Question, prediction: Answers, show_text: bool) -> dict[str, Any]:
        """The characters of the answer given."""
        margin = prediction.null_margin  # JSON has no infinity, the margin over no answer at all
        finite = margin if margin is not None and np.isfinite(margin) else None
        return {"id": example.id, **_characters(prediction.given), "null_margin": finite}

    def files(
        self, examples: Sequence[Question], predictions: Sequence[Answers], show_text: bool
    ) -> dict[str, Iterable[str]]:
        """JSON lines of the answers given, and of all that were considered.

        With `show_text` also the answers' text, as SQuAD's evaluation script and google-research/bert have them.
        """
        pairs = list(zip(examples, predictions, strict=True))
        n_best = [{"id": e.id, "n_best": [_characters(answer) for answer in p.n_best]} for e, p in pairs]
        files = super().files(examples, predictions, False) | {".nbest.jsonl": map(json_line, n_best)}
        if show_text:
            texts = {e.id: e.context[p.given.start : p.given.end] for e, p in pairs}
            n_best_texts = {
                e.id: [{"text": e.context[a.start : a.end], **_characters(a)} for a in p.n_best] for e, p in pairs
            }
            files |= {".json": [json_line(texts)], ".nbest.json": [json_line(n_best_texts)]}
        return files

    def _training_windows(self, id_: str, windows: list[slice], answer: tuple[int, int] | None) -> list[slice]:
        """The windows that hold the answer, and some of the others, in their order."""
        if self.config.negative_windows == -1:
            return windows
        holding_W = np.array([answer is not None and _holds(window, answer) for window in windows])
        most = self.config.negative_windows if holding_W.any() else max(1, self.config.negative_windows)
        question = int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "big")
        others = np.flatnonzero(~holding_W)
        chosen = others[np.argsort(counter_rng.fold(question, others), kind="stable")[:most]]
        return [windows[number] for number in sorted([*np.flatnonzero(holding_W), *chosen])]

    def _judged(self, examples: Sequence[Question], given: Iterable[Answer]) -> np.ndarray:
        """Ex2: exact match and F1."""
        judged = [
            squad_scores.judge(
                example.context[answer.start : answer.end],
                [example.context[start:end] for start, end in example.answers],
                self.config.unanswerable,
            )
            for example, answer in zip(examples, given, strict=True)
        ]
        return np.array(judged, np.float64).reshape(-1, 2)

    def _thresholds(
        self, examples: Sequence[Question], predictions: Sequence[Answers], impossible_E: np.ndarray, f1_used: float
    ) -> Table:
        best = [next((a for a in p.n_best if a.end > a.start), p.given) for p in predictions]
        margins_E = np.array([prediction.null_margin for prediction in predictions], np.float64)
        f1, threshold = squad_scores.best_threshold(margins_E, self._judged(examples, best)[:, 1], impossible_E)
        used = self.config.null_score_diff_threshold
        return RateTable(
            ("threshold", "F1"),
            [
                (f"{used:.3f}", f"{f1_used:.3f}"),
                (f"{threshold:.3f}", f"{f1:.3f}"),
            ],
            "Threshold of no answer (null_score_diff_threshold): the one used, and the best for these data",
            ("f1_answerable", "f1_answerable"),
        )


class _Tokenized(NamedTuple):
    """A text's tokens, int32 [T], and the characters each stands for, int32 [T, 2]."""

    ids_T: np.ndarray
    offsets_Tx2: np.ndarray


def _tokenized(texts: Iterable[str], tokenizer: tokenizers.Tokenizer) -> dict[str, _Tokenized]:
    tokenized = {}
    for text in texts:
        if text not in tokenized:
            encoded = tokenizer.encode(text, add_special_tokens=False)
            offsets_Tx2 = np.array(encoded.offsets, np.int32).reshape(-1, 2)
            tokenized[text] = _Tokenized(np.array(encoded.ids, np.int32), offsets_Tx2)
    return tokenized


def _tokens_of(answer: tuple[int, int], context: _Tokenized) -> tuple[int, int] | None:
    """The first and the last token that share a character with the answer; None where it is all white space."""
    first = int(np.searchsorted(context.offsets_Tx2[:, 1], answer[0], side="right"))
    last = int(np.searchsorted(context.offsets_Tx2[:, 0], answer[1], side="left")) - 1
    return (first, last) if first <= last else None


def _holds(window: slice, tokens: tuple[int, int]) -> bool:
    return window.start <= tokens[0] and tokens[1] < window.stop


def _positions(examples: Sequence[Question], predictions: Sequence[Answers]) -> Table:
    kinds: Counter[str] = Counter()
    for example, prediction in zip(examples, predictions, strict=True):
        start, end = prediction.given.start, prediction.given.end
        if start == end:
            kinds["no answer given" if example.answers else "no answer, correctly"] += 1
        elif not example.answers:
            kinds["an answer where there is none"] += 1
        elif (start, end) in example.answers:
            kinds["the annotated characters"] += 1
        else:
            overlaps = any(start < answer[1] and answer[0] < end for answer in example.answers)
            kinds["overlapping the annotated ones" if overlaps else "elsewhere"] += 1
    return CountTable(("position", "questions"), list(kinds.most_common()), "Where the answers given lie")


def _right_and_wrong(judged_Ex2: np.ndarray) -> tuple[int, ...]:
    right = int(judged_Ex2[:, 0].sum())
    return right, len(judged_Ex2) - right


def _characters(answer: Answer) -> dict[str, Any]:
    return {"start": answer.start, "end": answer.end, "probability": round(answer.probability, 6)}
