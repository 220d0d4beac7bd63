"""Classification: files to documents, documents to rows, logits to decisions and scores."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import finetuned_model, heads
from clinicalbert_jax.finetune.classification.task import ClassificationConfig, Document
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.task import Task
from clinicalbert_jax.modeling import bert
from tests.clinicalbert_jax.finetune.small_tokenizer import small_tokenizer

SECRET = "metastatic"  # a word of the records that no message may show


def documents(*labels: tuple[str, ...], text: str = "chest pain") -> list[Document]:
    return [Document(f"d{n}", n + 2, "", text, "", given) for n, given in enumerate(labels)]


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# --- files


@pytest.mark.fast
def test_tables_and_json_lines_hold_the_same(tmp_path: Path) -> None:
    rows = [("7", 'a "quoted", text\nof two lines', "yes"), ("8", "née", "no")]
    table = 'id,text,label\n7,"a ""quoted"", text\nof two lines",yes\n\n8,née,no\n'
    lines = "".join(json.dumps(dict(zip(("id", "text", "label"), row, strict=True))) + "\n" for row in rows)
    files = [
        write(tmp_path / "a.csv", "\ufeff" + table),
        write(tmp_path / "a.tsv", table.replace(",", "\t").replace('""\t text', '"", text')),
        write(tmp_path / "a.jsonl", lines),
        tmp_path / "a.csv.gz",
        tmp_path / "a.jsonl.gz",
    ]
    files[3].write_bytes(gzip.compress(table.encode()))
    files[4].write_bytes(gzip.compress(lines.encode()))
    for path in files:
        read = ClassificationConfig().read(path, Reading())
        assert [(one.id, one.text, *one.labels) for one in read] == rows
        assert [one.line for one in read] == ([1, 2] if ".jsonl" in path.name else [2, 5])


@pytest.mark.fast
def test_several_labels_pairs_patients_and_missing_ids(tmp_path: Path) -> None:
    several = ClassificationConfig(multi_label=True, label_column="codes", patient_column="who")
    table = write(tmp_path / "a.csv", "text,codes,who\none,401.9; 250.00;401.9,p1\ntwo,,p2\n")
    lines = write(
        tmp_path / "a.jsonl", '{"text": "one", "codes": ["b", 3], "who": 7}\n\n{"text": "two", "codes": [], "who": 8}'
    )
    read = several.read(table, Reading())
    assert [(one.id, one.labels, one.patient) for one in read] == [
        ("line-2", ("250.00", "401.9"), "p1"),
        ("line-3", (), "p2"),
    ]
    assert [(one.id, one.labels, one.patient) for one in several.read(lines, Reading())] == [
        ("line-1", ("3", "b"), "7"),
        ("line-3", (), "8"),
    ]
    mednli = ClassificationConfig(
        text_column="sentence1", text_b_column="sentence2", label_column="gold_label", id_column="pairID"
    )
    record = {"pairID": "x", "sentence1": "one", "sentence2": "two", "gold_label": "neutral", "sentence1_parse": ""}
    (pair,) = mednli.read(write(tmp_path / "b.jsonl", json.dumps(record)), Reading())
    assert pair == Document("x", 1, "", "one", "two", ("neutral",))


@pytest.mark.fast
def test_a_file_to_predict_on_needs_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n1,one\n")
    (document,) = ClassificationConfig().read(path, Reading(), annotated=False)
    assert document.labels == ()
    with pytest.raises(UserError, match="'label'"):
        ClassificationConfig().read(path, Reading())


BAD = {
    "no text": ("a.csv", f"id,text,label\n1,{SECRET},x\n2,  ,x\n", 3),
    "no label": ("a.csv", f"id,text,label\n1,{SECRET},\n", 2),
    "an id twice": ("a.csv", f"id,text,label\n1,{SECRET},x\n1,b,x\n", 3),
    "a field too many": ("a.csv", f"id,text,label\n1,{SECRET},b,x\n2,b,x\n", 2),
    "an open quotation mark": ("a.csv", f'id,text,label\n1,a,x\n2,"{SECRET},x\n3,b,y\n', 3),
    "a quotation mark inside": ("a.csv", f'id,text,label\n1,"a" {SECRET},x\n2,b,x\n', 2),
    "not UTF-8": ("a.csv", f"id,text,label\n1,{SECRET}\udcff,x\n2,b,x\n", 2),
    "text for a label": ("a.csv", f"id,text,label\n1,b,{SECRET * 50}\n2,b,x\n", 2),
    "no JSON": ("a.jsonl", f'{{"text": "a", "label": "x"}}\n{{"text": "{SECRET}", "label"\n', 2),
    "no object": ("a.jsonl", f'["{SECRET}"]\n{{"text": "a", "label": "x"}}', 1),
    "no such field": ("a.jsonl", f'{{"text": "{SECRET}"}}\n{{"text": "a", "label": "x"}}', 1),
    "a number for a text": ("a.jsonl", '{"text": 5, "label": "x"}\n{"text": "a", "label": "x"}', 1),
    "a list for a label": ("a.jsonl", f'{{"text": "{SECRET}", "label": ["x"]}}\n{{"text": "a", "label": "x"}}', 1),
    "half a character": ("a.jsonl", f'{{"text": "{SECRET}\\ud800", "label": "x"}}\n{{"text": "a", "label": "x"}}', 1),
}


@pytest.mark.fast
@pytest.mark.parametrize(("name", "content", "line"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_told_by_file_and_line_or_left_out(tmp_path: Path, name: str, content: str, line: int) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        ClassificationConfig().read(path, Reading())
    assert f"{path}, line {line}: expected" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
    skipping = Reading("skip")
    try:
        kept = ClassificationConfig().read(path, skipping)
    except UserError as error:  # nothing else is there
        assert "found none that can be used" in str(error)
        kept = []
    assert sum(skipping.counts.values()) == 1
    assert not any(SECRET in one.text and one.line == line for one in kept)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "", "found none"),
        ("a.jsonl", "\n", "found none"),
        ("a.csv", "id,text,label\n", "found none"),
        ("a.csv", f"{SECRET},b\nc,d\n", "'text' among the 2"),
        ("a.csv", "text,label,text\na,b,c\n", "found several"),
        ("a.parquet", "", ".csv, .tsv, .jsonl"),
        ("a.csv.gz", "no gzip", "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, name: str, content: str, expected: str) -> None:
    path = write(tmp_path / name, content)
    for policy in ("stop", "skip"):
        with pytest.raises(UserError, match=expected) as caught:
            ClassificationConfig().read(path, Reading(policy))
        assert str(path) in str(caught.value)
        assert SECRET not in str(caught.value)
    with pytest.raises(UserError, match="found none at"):
        ClassificationConfig().read(tmp_path / "missing.csv", Reading())


@pytest.mark.fast
def test_settings_that_make_no_sense_are_refused() -> None:
    for settings in (
        {"kind": "entities"},
        {"max_seq_length": 4},
        {"stride": 127},
        {"pooling": "median"},
        {"class_weights": "inverse"},
        {"main": "auroc"},
        {"threshold": 1.0},
        {"text_column": ""},
        {"multi_label": True, "pooling": "readmission"},
        {"multi_label": True, "class_weights": "balanced"},
        {"multi_label": True, "positive_label": "x"},
        {"multi_label": "yes"},
    ):
        with pytest.raises(UserError, match=f"config.task.{list(settings)[-1]}: expected"):
            ClassificationConfig(**settings)


# --- labels


@pytest.mark.fast
def test_labels_are_those_of_training_and_others_are_told() -> None:
    config = ClassificationConfig()
    task = config.task(documents(("b",), ("a",), ("c",), ("a",)))
    assert task.labels == ("a", "b", "c")
    unseen = documents(("a",), ("z",))
    with pytest.raises(UserError, match=r"dev.csv, line 3: expected labels seen in training \(3\), found another"):
        task.check_labels(unseen, Path("dev.csv"), Reading())
    skipping = Reading("skip")
    assert task.check_labels(unseen, Path("dev.csv"), skipping) == unseen[:1]
    assert skipping.counts == {"dev.csv": 1}
    with pytest.raises(UserError, match="found 1 in 2 examples"):
        config.task(documents(("a",), ("a",)))
    with pytest.raises(UserError, match="found 0 in 2 examples"):
        ClassificationConfig(multi_label=True).task(documents((), ()))


@pytest.mark.fast
def test_of_two_labels_the_positive_one_comes_second() -> None:
    examples = documents(("case",), ("control",))
    assert ClassificationConfig().task(examples).labels == ("case", "control")
    assert ClassificationConfig(positive_label="case").task(examples).labels == ("control", "case")
    with pytest.raises(UserError, match="positive_label"):
        ClassificationConfig(positive_label="cases").task(examples)
    with pytest.raises(UserError, match="binary"):
        ClassificationConfig(pooling="readmission").task_with_labels(("a", "b", "c"))


# --- rows


@pytest.mark.fast
def test_rows_are_what_the_tokenizer_makes_of_short_texts_and_pairs() -> None:
    tokenizer = small_tokenizer("chest", "pain", "no", "fever", ".")
    examples = [
        Document("1", 1, "", "Chest pain, no fever.", "", ("a",)),
        Document("2", 2, "", "chest pain", "no fevers.", ("b",)),
    ]
    rows = ClassificationConfig().task(examples).rows(examples, tokenizer, annotated=True)
    for ids, segments, example in zip(rows.input_ids, rows.segment_ids, examples, strict=True):
        texts = [example.text] + ([example.text_b] if example.text_b else [])
        expected = tokenizer.encode(*texts)
        assert ids.tolist() == expected.ids
        assert segments.tolist() == expected.type_ids
        assert ids.dtype == segments.dtype == np.int32
    assert rows.row_targets["labels"].tolist() == [0, 1]


@pytest.mark.fast
def test_a_long_document_is_whole_in_prediction_and_labelled_in_every_chunk_in_training() -> None:
    tokenizer = small_tokenizer("x")
    examples = [
        Document("1", 1, "", "x " * 95, "", ("b",)),
        Document("2", 2, "", "x", "", ("a",)),
        Document("3", 3, "", "abcd" * 9, "", ("b",)),
    ]
    task = ClassificationConfig(max_seq_length=12, max_training_chunks=3).task(examples)
    whole = task.rows(examples, tokenizer, annotated=False)
    assert np.bincount(whole.examples_N).tolist() == [10, 1, 4]
    assert not whole.row_targets
    assert max(map(len, whole.input_ids)) == 12
    text = np.concatenate([ids[1:-1] for ids, n in zip(whole.input_ids, whole.examples_N, strict=True) if n == 2])
    assert text.tolist() == tokenizer.encode(examples[2].text, add_special_tokens=False).ids
    training = task.rows(examples, tokenizer, annotated=True)
    assert np.bincount(training.examples_N).tolist() == [3, 1, 3]
    assert training.row_targets["labels"].tolist() == [1, 1, 1, 0, 1, 1, 1]
    assert training.row_targets["labels"].dtype == np.int32


@pytest.mark.fast
def test_targets_of_several_labels_are_ones_and_zeros() -> None:
    examples = documents(("c", "a"), (), ("b",))
    rows = ClassificationConfig(multi_label=True).task(examples).rows(examples, small_tokenizer(), annotated=True)
    assert rows.row_targets["labels"].tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert rows.row_targets["labels"].dtype == rows.row_targets["label_weights"].dtype == np.float32


def random_weights(config: ModelConfig, task: Task, seed: int = 0) -> bert.Params:
    return heads.init(config, len(task.labels), jax.random.key(seed))


def test_several_labels_begin_at_their_share_of_the_training_data() -> None:
    config = ModelConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    examples = documents(("a",), *[("a", "b")] * 2, *[()] * 95)
    several, one = ClassificationConfig(multi_label=True).task(examples), ClassificationConfig().task(examples[:3])
    bias_C = np.asarray(finetuned_model.start(random_weights(config, several), None, several)["task_head"]["bias"])
    np.testing.assert_allclose(1 / (1 + np.exp(-bias_C)), [4 / 100, 3 / 100], rtol=1e-5)  # one more of either kind
    assert not np.asarray(finetuned_model.start(random_weights(config, one), None, one)["task_head"]["bias"]).any()


@pytest.mark.parametrize("fresh", [False, True])
def test_the_pooler_is_the_pretrained_one_unless_it_is_to_begin_anew(fresh: bool) -> None:
    config = ModelConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    task = ClassificationConfig(fresh_pooler=fresh).task(documents(("a",), ("b",)))
    pretrained, anew = random_weights(config, task, seed=1), random_weights(config, task)
    started = finetuned_model.start(anew, pretrained, task)
    for part, expected in (("layers", pretrained), ("pooler", anew if fresh else pretrained), ("task_head", anew)):
        jax.tree.map(np.testing.assert_array_equal, started[part], expected[part])
    kernel = started["pooler"]["kernel"]
    assert not np.array_equal(kernel, (pretrained if fresh else anew)["pooler"]["kernel"])


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    given = ["a"] * 7 + ["b"] * 2 + ["c"]
    examples = documents(*((label,) for label in given))
    task = ClassificationConfig(class_weights="balanced").task(examples)
    weights_N = task.rows(examples, small_tokenizer(), annotated=True).row_targets["label_weights"]
    expected = compute("balanced", classes=np.array(["a", "b", "c"]), y=np.array(given))
    np.testing.assert_allclose(weights_N, np.repeat(expected, [7, 2, 1]), rtol=1e-6)


# --- decisions and scores


def decided(config: ClassificationConfig, seed: int, size: int = 40) -> tuple[Any, list[Document], list[Any]]:
    """A task, random documents of 1 to 4 chunks, and what is decided about them from random logits."""
    generator = np.random.default_rng(seed)
    labels = ("a", "b", "c", "d")[: 2 if config.pooling == "readmission" else 4]
    if config.multi_label:
        given = [tuple(label for label in labels if generator.random() < 0.4) for _ in range(size)]
    else:
        given = [(labels[generator.integers(len(labels))],) for _ in range(size)]
    texts = ["x " * int(generator.integers(1, 40)) for _ in given]
    examples = [Document(f"d{n}", n, "", t, "", g) for n, (t, g) in enumerate(zip(texts, given, strict=True))]
    task = config.task_with_labels(labels)
    rows = task.rows(examples, small_tokenizer("x"), annotated=False)
    logits = list(generator.normal(0, 2, (len(rows), len(labels))).astype(np.float32))
    return task, examples, task.decode(examples, rows, logits)


CONFIGS = [
    ClassificationConfig(max_seq_length=12, main=main, multi_label=multi_label)
    for main in ("accuracy", "macro_f1", "micro_f1")
    for multi_label in (False, True)
] + [ClassificationConfig(max_seq_length=12, pooling="readmission")]


@pytest.mark.fast
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.main}-{c.multi_label}-{c.pooling}")
def test_scores_follow_from_sums_and_truth_scores_one(config: ClassificationConfig) -> None:
    task, examples, predictions = decided(config, seed=1)
    scores = task.score(examples, predictions)
    assert scores.of_sums(scores.counts_ExM.sum(0)) == pytest.approx(scores.values[scores.main], abs=1e-6)
    assert 0 < scores.values[scores.main] < 1
    assert all(0 <= value <= 1 for value in scores.values.values())
    wrong = {error["id"] for error in scores.errors}
    assert scores.values["accuracy"] == pytest.approx(1 - len(wrong) / len(examples))
    # As annotated: nothing is wrong.
    right = [p._replace(labels=e.labels) for e, p in zip(examples, predictions, strict=True)]
    perfect = task.score(examples, right)
    assert perfect.values["macro_f1"] == perfect.values["micro_f1"] == perfect.values["accuracy"] == 1
    assert perfect.errors == []


def test_scores_equal_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task, examples, predictions = decided(ClassificationConfig(max_seq_length=12), seed=2)
    truth, given = [e.labels[0] for e in examples], [p.labels[0] for p in predictions]
    values = task.score(examples, predictions).values
    probabilities_ExC = np.stack([p.probabilities_C for p in predictions])
    np.testing.assert_allclose(probabilities_ExC.sum(1), 1)
    assert values["macro_f1"] == pytest.approx(metrics.f1_score(truth, given, average="macro"))
    assert values["accuracy"] == pytest.approx(metrics.accuracy_score(truth, given))
    area = metrics.roc_auc_score(truth, probabilities_ExC, multi_class="ovr", labels=task.labels)
    assert values["auroc"] == pytest.approx(area)

    task, examples, predictions = decided(ClassificationConfig(max_seq_length=12, multi_label=True), seed=3)
    truth_ExC = np.array([[label in e.labels for label in task.labels] for e in examples])
    given_ExC = np.array([[label in p.labels for label in task.labels] for p in predictions])
    probabilities_ExC = np.stack([p.probabilities_C for p in predictions])
    values = task.score(examples, predictions).values
    for average in ("micro", "macro"):
        assert values[f"{average}_f1"] == pytest.approx(metrics.f1_score(truth_ExC, given_ExC, average=average))
        suffix = "_micro" if average == "micro" else ""
        area = metrics.roc_auc_score(truth_ExC, probabilities_ExC, average=average)
        assert values[f"auroc{suffix}"] == pytest.approx(area)
        area = metrics.average_precision_score(truth_ExC, probabilities_ExC, average=average)
        assert values[f"auprc{suffix}"] == pytest.approx(area)
    assert values["accuracy"] == pytest.approx(metrics.accuracy_score(truth_ExC, given_ExC))


@pytest.mark.fast
def test_a_binary_outcome_is_scored_for_the_positive_label() -> None:
    task, examples, predictions = decided(ClassificationConfig(max_seq_length=12, pooling="readmission"), seed=4)
    scores = task.score(examples, predictions)
    right = sum(e.labels == p.labels == ("b",) for e, p in zip(examples, predictions, strict=True))
    assert scores.values["recall"] == pytest.approx(right / sum(e.labels == ("b",) for e in examples))
    assert {"auroc", "auprc", "recall_at_precision_80", "expected_calibration_error", "f1"} <= scores.values.keys()
    by_label, confusion = scores.tables
    assert confusion.rows[1][2] == right
    assert sum(int(cell) for row in confusion.rows for cell in row[1:]) == len(examples)
    assert [row[0] for row in by_label.rows] == ["a", "b"]
    for curve in scores.curves.values():
        assert all(0 <= x <= 1 and 0 <= y <= 1 for points in curve.values() for x, y in points)
    # A higher threshold gives the outcome to fewer.
    strict = ClassificationConfig(max_seq_length=12, pooling="readmission", threshold=0.7)
    _, _, fewer = decided(strict, seed=4)
    given = [[p.labels == ("b",) for p in some] for some in (predictions, fewer)]
    assert 0 < sum(given[1]) < sum(given[0])
    assert all(p.probabilities_C[1] >= 0.7 for p in fewer if p.labels == ("b",))


@pytest.mark.fast
def test_a_file_with_one_kind_of_document_is_scored_as_far_as_it_can_be() -> None:
    task = ClassificationConfig().task_with_labels(("a", "b"))
    examples = documents(("a",), ("a",))
    rows = task.rows(examples, small_tokenizer(), annotated=False)
    predictions = task.decode(examples, rows, [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    values = task.score(examples, predictions).values
    assert values["accuracy"] == 0.5
    assert np.isnan(values["auroc"])
    assert task.decode([], rows, []) == []


@pytest.mark.fast
def test_predictions_are_written_without_their_text_unless_it_may_be_shown(tmp_path: Path) -> None:
    task, examples, predictions = decided(ClassificationConfig(max_seq_length=12), seed=5)
    examples = [Document(e.id, e.line, "", f"{SECRET} {e.text}", "", e.labels) for e in examples]
    (path,) = task.write(tmp_path / "test", examples, predictions, show_text=False)
    assert path.parent == tmp_path
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["id"], r["label"]) for r in records] == [
        (e.id, p.labels[0]) for e, p in zip(examples, predictions, strict=True)
    ]
    assert all(max(r["probabilities"], key=r["probabilities"].get) == r["label"] for r in records)
    assert SECRET not in path.read_text()
    assert SECRET not in repr(task.score(examples, predictions)) + repr(examples)
    (path,) = task.write(tmp_path / "shown", examples, predictions, show_text=True)
    assert path.read_text().count(SECRET) == len(examples)


def test_specialties_of_real_notes_are_read(shared_data: Path) -> None:
    config = ClassificationConfig()
    directory = shared_data / "classification" / "mtsamples_specialty"
    train = config.read(directory / "train.csv.gz", Reading())
    dev = config.read(directory / "dev.csv.gz", Reading())
    task = config.task(train)
    assert (len(train), len(dev), len(task.labels)) == (1253, 167, 26)
    assert Counter(label for one in train for label in one.labels).most_common(1)[0][1] == 257
    assert task.check_labels(dev, directory / "dev.csv.gz", Reading()) == dev


@pytest.mark.fast
def test_rows_of_a_group_are_joined_or_kept_apart(tmp_path: Path) -> None:
    records = [{"stay": "7", "text": text, "label": "x"} for text in ("chest pain", "pain", "chest " * 9)]
    records.append({"stay": "8", "text": "pain", "label": "y"})
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    tokenizer, rows = small_tokenizer("chest", "pain"), {}
    for how in ("joined", "apart"):
        config = ClassificationConfig(max_seq_length=10, group_column="stay", group_rows=how)
        examples = config.read(path, Reading())
        assert [(one.id, *one.labels) for one in examples] == [("7", "x"), ("8", "y")]
        rows[how] = config.task(examples).rows(examples, tokenizer, annotated=False)
    tokens = {how: [tokenizer.decode(ids.tolist()) for ids in rows[how].input_ids] for how in rows}
    assert tokens["joined"] == ["chest pain pain" + " chest" * 5, "chest chest chest chest", "pain"]
    assert tokens["apart"] == ["chest pain", "pain", "chest" + " chest" * 7, "chest", "pain"]
    assert rows["joined"].examples_N.tolist() == [0, 0, 1]
    assert rows["apart"].examples_N.tolist() == [0, 0, 0, 0, 1]
