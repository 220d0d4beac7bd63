"""What a page of fine-tuning shows: no label of few patients, and no count that a reader could solve it for."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from clinicalbert_jax.finetune import export, page_scores, result_page, run
from clinicalbert_jax.finetune.classification.task import ClassificationConfig, Decision, Document
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.entities import documents as entity_documents
from clinicalbert_jax.finetune.entities.task import EntitiesConfig, Tagged
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.questions.answer_spans import Answer, Answers
from clinicalbert_jax.finetune.questions.squad_files import Question
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.finetune.relations import task as relations
from clinicalbert_jax.finetune.relations.candidates import Pair
from clinicalbert_jax.finetune.relations.task import RelationsConfig
from clinicalbert_jax.finetune.similarity.task import Pair as SentencePair
from clinicalbert_jax.finetune.similarity.task import SimilarityConfig
from clinicalbert_jax.finetune.task import Scores, Task
from clinicalbert_jax.report.suppression import FEW, OTHER, SOME

pytestmark = pytest.mark.fast

Data = tuple[Task, list[Any], list[Any]]
LABELS = ("ant", "bee", "cat", "dog", "eel")


Sum = Mapping[str, float]  # of counts by name, weighted


class Reader:
    """Someone who knows all that the page shows as linear constraints on counts, and solves for one of them."""

    def __init__(self, true: Mapping[str, int], most: int) -> None:
        self.true, self.most = true, most
        self.number = {name: n for n, name in enumerate(true)}
        self.rows: list[np.ndarray] = []
        self.least: list[float] = []
        self.greatest: list[float] = []

    def knows(self, of: Sum, least: float, greatest: float) -> None:
        """A sum lies between these."""
        row = np.zeros(len(self.number))
        for name, weight in of.items():
            row[self.number[name]] = weight
        assert least - 1e-6 <= row @ list(self.true.values()) <= greatest + 1e-6, "the page shows what is not so"
        self.rows.append(row)
        self.least.append(least - 1e-6)
        self.greatest.append(greatest + 1e-6)

    def sees(self, cell: Any, *of: Sum) -> None:
        """A cell of a table that is a sum of these."""
        if cell != "–":
            low, high = {FEW: (1, 10), SOME: (11, self.most)}.get(cell, (cell, cell))
            self.knows(total(*of), low, high)

    def sees_rate(self, value: float, part: Sum, whole: Sum) -> None:
        """A rate with three decimals."""
        if not math.isnan(value):
            low, high = round(value, 3) - 0.00051, round(value, 3) + 0.00051
            if any(self.true[name] for name in whole):
                self.knows(total(part, {name: -low * weight for name, weight in whole.items()}), 0, math.inf)
                self.knows(total(part, {name: -high * weight for name, weight in whole.items()}), -math.inf, 0)

    def can_be(self, name: str) -> set[int]:
        """The least and the greatest value that a count can have."""
        objective, ends = np.zeros(len(self.number)), set()
        limits = LinearConstraint(
            np.reshape(self.rows, (-1, len(objective))), np.array(self.least), np.array(self.greatest)
        )
        bounds = Bounds(np.zeros(len(objective)), np.full(len(objective), float(self.most)))
        for sign in (1, -1):
            objective[self.number[name]] = sign
            found = milp(objective, integrality=np.ones(len(objective)), bounds=bounds, constraints=limits)
            assert found.x is not None, found.message
            ends.add(round(found.x[self.number[name]]))
        return ends


def total(*sums: Sum) -> dict[str, float]:
    """Sums as one."""
    return {name: sum(one.get(name, 0) for one in sums) for one in sums for name in one}


def rng_of(seed: int) -> tuple[np.random.Generator, int, list[float], float]:
    """Numbers of labels and examples, how frequent labels are, and how often they are found wrongly."""
    generator = np.random.default_rng(seed)
    num_labels = int(generator.integers(2, len(LABELS) + 1))
    frequency = generator.dirichlet(np.full(num_labels, 1.5))
    return (
        generator,
        int(generator.choice([40, 90, 200, 400])),
        list(frequency),
        float(generator.choice([0.02, 0.1, 0.3])),
    )


def drawn(seed: int) -> tuple[list[str], list[str], tuple[str, ...], np.random.Generator]:
    """Labels annotated and found, one for each example."""
    generator, count, frequency, wrong = rng_of(seed)
    labels = LABELS[: len(frequency)]
    gold = [str(label) for label in generator.choice(labels, count, p=frequency)]
    found = [str(generator.choice(labels)) if generator.random() < wrong else label for label in gold]
    return gold, found, labels, generator


def classified(seed: int) -> Data:
    gold, found, labels, generator = drawn(seed)
    task = ClassificationConfig(main="accuracy").task_with_labels(labels)
    examples = [Document(str(n), n, "", "text", "", (label,)) for n, label in enumerate(gold)]
    decisions = []
    for label in found:
        logits_C = generator.random(len(labels))
        logits_C[labels.index(label)] = 1.5
        decisions.append(Decision((label,), logits_C / logits_C.sum()))
    return task, examples, decisions


def several(seed: int) -> Data:
    generator, count, frequency, wrong = rng_of(seed)
    labels = LABELS[: len(frequency)]
    truth_ExC = generator.random((count, len(labels))) < frequency
    decided_ExC = truth_ExC ^ (generator.random(truth_ExC.shape) < wrong)
    task = ClassificationConfig(multi_label=True, main="micro_f1").task_with_labels(labels)

    def of(given_C: np.ndarray) -> tuple[str, ...]:
        return tuple(label for label, given in zip(labels, given_C, strict=True) if given)

    examples = [Document(str(n), n, "", "text", "", of(truth_C)) for n, truth_C in enumerate(truth_ExC)]
    probabilities_ExC = np.where(decided_ExC, 0.5, 0.0) + 0.4 * generator.random(truth_ExC.shape)
    return task, examples, [Decision(of(d), p) for d, p in zip(decided_ExC, probabilities_ExC, strict=True)]


def related(seed: int) -> Data:
    gold, found, labels, _ = drawn(seed)
    labels = ("none", *labels[1:])
    gold, found = ([label.replace("ant", "none") for label in side] for side in (gold, found))
    ends = Span(0, 1, "drug"), Span(2, 3, "effect")
    examples = [Pair(str(n), n, "", "a b", *ends, label) for n, label in enumerate(gold)]
    task = RelationsConfig().task_with_labels(labels)
    return task, examples, [relations.Decision(label, (1.0,) * len(labels), "") for label in found]


def tagged(seed: int) -> Data:
    """Two entities at most in each document, some missed, some spurious, of a wrong type or with a wrong end."""
    gold, found, labels, generator = drawn(seed)
    examples, predictions = [], []
    for n, (one, other) in enumerate(zip(gold, found, strict=True)):
        annotated = () if generator.random() < 0.1 else (Span(0, 5, one),)
        end = 4 if generator.random() < 0.05 else 5
        spans = () if generator.random() < 0.1 else (Span(0, end, other),)
        examples.append(entity_documents.Document(str(n), n, "", "words", annotated))
        predictions.append(Tagged(spans, ((0, 5),)))
    tags = ("O", *(f"{prefix}-{label}" for label in labels for prefix in "BI"))
    return EntitiesConfig(scheme="IOB2").task_with_labels(tags), examples, predictions


KINDS = ("missed", "wrong type", "wrong boundary", "wrong type and boundary")


def reading(data: Data, scores: Scores) -> Reader:
    """Who has read the page of `data` with these scores; what is true is counted here anew."""
    task, examples, predictions = data
    names = task.names
    true: dict[str, int] = {}
    of: dict[str, list[Sum]] = {}  # right, wrong and missed of each label
    pairs = []
    if isinstance(examples[0], Document):
        pairs = [(set(e.labels), set(p.labels)) for e, p in zip(examples, predictions, strict=True)]
    elif isinstance(examples[0], Pair):
        pairs = [({e.label}, {p.label}) for e, p in zip(examples, predictions, strict=True)]
    else:
        pairs = [(set(e.entities), set(p.entities)) for e, p in zip(examples, predictions, strict=True)]
    links: list[tuple[Sum, int]] = []
    if scores.values.keys() & {"n2c2_2018_strict_f1", "n2c2_2018_micro_f1"}:
        for label in names:
            given = [[{one for one in side if getattr(one, "label", one) == label} for side in pair] for pair in pairs]
            true |= {
                f"right {label}": sum(len(a & b) for a, b in given),
                f"wrong {label}": sum(len(b - a) for a, b in given),
                f"missed {label}": sum(len(a - b) for a, b in given),
            }
            of[label] = [{f"{part} {label}": 1.0} for part in ("right", "wrong", "missed")]
            if isinstance(examples[0], Document):
                true[f"absent {label}"] = len(pairs) - sum(
                    true[f"{part} {label}"] for part in ("right", "wrong", "missed")
                )
                links.append((total(*of[label], {f"absent {label}": 1.0}), len(pairs)))
    else:
        cells = {(a, b): sum(pair == ({a}, {b}) for pair in pairs) for a in task.labels for b in task.labels}
        true = {f"{a}>{b}": count for (a, b), count in cells.items()}
        links = [(dict.fromkeys(true, 1.0), len(pairs))]
        for label in names:
            of[label] = [
                {f"{label}>{label}": 1.0},
                {f"{a}>{label}": 1.0 for a in task.labels if a != label},
                {f"{label}>{b}": 1.0 for b in task.labels if b != label},
            ]
    reader = Reader(true, 2 * len(pairs))
    for link, count in links:
        reader.knows(link, count, count)

    def rates(prefix: str, right: Sum, wrong: Sum, missed: Sum) -> None:
        whole = {name: weight / 2 for name, weight in total(wrong, missed).items()}
        for name, of_rate in (("precision", wrong), ("recall", missed), ("f1", whole)):
            reader.sees_rate(scores.values.get(prefix + name, math.nan), right, total(right, of_rate))

    everything = [total(*(parts[n] for parts in of.values())) for n in range(3)]
    for label in names:
        rates(f"{label}/", *of[label])
    if "accuracy" not in scores.values:
        rates("", *everything)
    elif scores.values.keys() >= {"precision"}:
        rates("", *of[names[1]])
    if "n2c2_2018_micro_f1" not in scores.values:
        reader.sees_rate(scores.values.get("accuracy", math.nan), everything[0], dict.fromkeys(true, 1.0))
    halves = {name: weight / 2 for name, weight in total(*everything[1:]).items()}
    reader.sees_rate(scores.values.get("micro_f1", math.nan), everything[0], total(everything[0], halves))
    for rule in ("strict_precision", "strict_recall"):
        part = everything[1 if rule.endswith("precision") else 2]
        value = scores.values.get(f"n2c2_2018_{rule}", math.nan)
        reader.sees_rate(value, everything[0], total(everything[0], part))
    for table in scores.tables:
        for row in table.rows:
            right, wrong, missed = of.get(str(row[0]), everything if row[0] == "micro average" else [{}] * 3)
            if table.header[1:4] == ("right", "found", "annotated") and row[0] != "macro average":
                reader.sees(row[1], right)
                reader.sees(row[2], right, wrong)
                reader.sees(row[3], right, missed)
            elif table.header[1:3] == ("annotated", "given") and table.caption == "By label":
                reader.sees(row[1], right, missed)
                reader.sees(row[2], right, wrong)
                for value, part in zip(row[3:5], (wrong, missed), strict=True):
                    reader.sees_rate(math.nan if value == "–" else float(value), right, total(right, part))
            elif "annotated" in table.caption.lower() and "(rows)" in table.caption:
                for label, cell in zip(table.header[1:], row[1:], strict=True):
                    reader.sees(cell, {f"{row[0]}>{label}": 1.0})
    return reader


@pytest.mark.parametrize("draw", [classified, several, related, tagged])
def test_no_hidden_count_can_be_solved_for(draw: Any) -> None:
    """Of random data; the page is read as one reads it, and each small count must have two possible values."""
    num_hidden = 0
    for seed in (*range(10), 132, 157):
        task, examples, predictions = draw(seed)
        names = page_scores.pooled(patients_of(task, examples))
        scores = page_scores.of(task, examples, predictions, task.score(examples, predictions))
        if scores.is_pooled:
            task, examples, predictions = task.renamed(examples, predictions, names)
        reader = reading((task, examples, predictions), scores)
        small = [name for name, count in reader.true.items() if 0 < count < 11]
        num_hidden += len(small)
        told = [name for name in small if len(reader.can_be(name)) == 1]
        assert not told, (seed, told, reader.true)
    assert num_hidden > 20


def patients_of(task: Task, examples: Sequence[Any]) -> dict[str, set[str]]:
    """The documents of each label, counted anew."""
    return {name: {one.document for one in examples if name in set(task.names_in(one))} for name in task.names}


def answered(count: int, wrong: int) -> Data:
    """Questions each of a context of its own, the first `wrong` answered elsewhere."""
    examples = [Question(str(n), n, "", "who", f"{n} she fell", ((0, 1),)) for n in range(count)]
    given = [Answer(4, 8, 1, 1) if n < wrong else Answer(0, 1, 1, 1) for n in range(count)]
    return QuestionsConfig().task(examples), examples, [Answers(one, (one,), None) for one in given]


def similar(count: int, _: int) -> Data:
    examples = [SentencePair(str(n), n, "", ("a", "b"), n % 5) for n in range(count)]
    return SimilarityConfig().task(examples), examples, [n % 4 + 0.5 for n in range(count)]


def shown(data: Data) -> Scores:
    task, examples, predictions = data
    return page_scores.of(task, examples, predictions, task.score(examples, predictions))


def hidden(scores: Scores) -> set[str]:
    return {name for name, value in scores.values.items() if math.isnan(value)}


def given(*counts: tuple[str, str, int]) -> Data:
    """So many documents of each annotated and given label."""
    pairs = [(one, other) for one, other, count in counts for _ in range(count)]
    labels = tuple(dict.fromkeys(label for pair in pairs for label in pair))
    examples = [Document(str(n), n, "", "text", "", (one,)) for n, (one, _) in enumerate(pairs)]
    decisions = [Decision((other,), np.where(np.array(labels) == other, 0.9, 0.1)) for _, other in pairs]
    return ClassificationConfig().task_with_labels(labels), examples, decisions


def test_where_there_is_nothing_small_all_is_shown_as_it_is() -> None:
    for data in (
        given(("a", "a", 40), ("a", "b", 11), ("b", "b", 30), ("b", "a", 12)),
        answered(40, 20),
        similar(11, 0),
    ):
        task, examples, predictions = data
        exact = task.score(examples, predictions)
        page = shown(data)
        assert page.values == exact.values
        assert [(table.header, list(table.rows)) for table in page.tables] == [
            (table.header, list(table.rows)) for table in exact.tables
        ]
        assert page.curves == exact.curves


def test_known_answers() -> None:
    assert {"exact_match", "f1"} <= hidden(shown(answered(40, 10)))
    assert hidden(shown(similar(10, 0))) == {"pearson", "spearman", "mse"}  # ten patients
    # Ten are missed, so the score over both labels is hidden too; the matrix has two counts from which none follows.
    few = shown(given(("a", "a", 100), ("a", "b", 5), ("b", "b", 100), ("b", "a", 5)))
    assert {"accuracy", "macro_f1", "micro_f1", "precision", "recall", "f1"} <= hidden(few)
    assert math.isnan(few.of_sums(few.counts_ExM.sum(0)))  # and its interval
    assert all(row[1:] == ("–",) * (len(row) - 1) for row in few.tables[0].rows)
    # Fifteen are missed, ten and five: their sum may be shown, but no rate of one label or of the two.
    some = shown(given(("a", "a", 100), ("a", "b", 5), ("b", "b", 100), ("b", "a", 10)))
    assert {"accuracy", "micro_f1"}.isdisjoint(hidden(some))
    assert {"macro_f1", "precision", "recall", "f1"} <= hidden(some)
    # Twelve of a are missed and its rates shown: 1 and 11 would be all that the matrix could hide.
    cells = {"aa": 50, "ab": 11, "ac": 1, "ba": 11, "bb": 50, "bc": 20, "ca": 11, "cb": 11, "cc": 50}
    scores = shown(given(*((one, other, count) for (one, other), count in cells.items())))
    assert not hidden(scores)
    assert [table.caption for table in scores.tables] == ["By label"]


def test_a_page_names_no_label_of_few_patients(tmp_path: Path) -> None:
    """Nineteen patients have one label, one has another in thirty documents: both are 'other', with the next label."""
    counts = [("common", "common", 60), ("common", "next", 20), ("next", "next", 30), ("next", "common", 12)]
    task, examples, predictions = given(*counts, ("zyxrare", "zyxrare", 19), ("zyxone", "zyxone", 30))
    examples = [replace(one, patient="p") if one.labels == ("zyxone",) else one for one in examples]
    data = task, examples, predictions
    assert set(page_scores.pooled(patients_of(task, examples)).values()) == {"common", "next", OTHER}
    scores = shown(data)
    assert scores.is_pooled
    assert [row[:3] for row in scores.tables[0].rows] == [("common", 80, 72), ("next", 42, 50), (OTHER, 49, 49)]
    page = page_of(data, scores, tmp_path)
    assert "common" in page
    assert "zyx" not in page
    # Of too few patients altogether, no label is named and no score shown.
    data = given(("common", "common", 60), ("zyxrare", "zyxrare", 19))
    scores = shown(data)
    assert hidden(scores) == set(scores.values)
    assert not scores.tables
    assert "zyx" not in page_of(data, scores, tmp_path)


def page_of(data: Data, scores: Scores, workdir: Path) -> str:
    """The page of an experiment with one split."""
    split, seeds = run.Data({"validation": Path("v")}, {"validation": data[1]}, Counter()), {0: {"validation": scores}}
    summary = run.summary(FinetuneConfig(), split, {"validation": range(len(data[1]))}, seeds)  # type: ignore[arg-type]
    return result_page.page("x", FinetuneConfig(), summary, seeds, workdir)


def test_settings_name_no_label() -> None:
    settings = page_scores.without_labels({"task": {"negative_label": "zyx", "candidates": ("zyx",), "stride": 3}})
    assert settings == {"task": {"stride": 3}}


def test_the_card_of_an_export_names_no_label(tmp_path: Path) -> None:
    """Nor scores of one: how many patients have a label is not known where a model is exported."""
    scores = {"f1": 0.5, "zyx/f1": 0.25}
    record = {"kind": "validation", "step": 3, "time": 0, "score": 0.5, **scores}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    config = RelationsConfig(candidates=(("zyx", "zyx", 9, True),))
    model = SimpleNamespace(task=config.task_with_labels(("none", "zyx")), step=3)
    card = export._card(model, tmp_path, False)  # type: ignore[arg-type]
    assert "| f1 | 0.500 |" in card
    assert "2 labels" in card
    assert "zyx" not in card
