"""Files of strangers: dialects of CSV, byte-order marks, malformed rows, identifiers, and no text in messages."""

import json
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig, Document
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.finetune.relations.task import Pair, RelationsConfig
from clinicalbert_jax.finetune.similarity.task import SimilarityConfig
from clinicalbert_jax.finetune.task import TaskConfig

pytestmark = pytest.mark.fast

SECRET = "zyxquarrel"


def written(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding, "surrogateescape"))
    return path


def texts(path: Path, **options: object) -> list[tuple[str, ...]]:
    return [(one.text, *one.labels) for one in ClassificationConfig().read(path, Reading(**options))]


HEAD = {"start": 0, "end": 1, "type": "A"}
PAIR = {"text": "ab", "label": "x", "patient": "WHO", "head": HEAD, "tail": HEAD}
ANSWERS = [{"text": "a", "answer_start": 0}]
PARAGRAPH = {"patient": "WHO", "context": "ab", "qas": [{"id": 1, "question": "a", "answers": ANSWERS}]}
COLUMNS = {"id": 1, "context": "ab", "question": "a", "answers": {"text": ["a"], "answer_start": [0]}, "patient": "WHO"}
CLASSIFICATION, QUESTIONS = ClassificationConfig(patient_column="patient"), QuestionsConfig(patient_field="patient")
SIMILARITY = SimilarityConfig(patient_column="patient")

# A file for every reader, with patient WHO.
FILES: dict[str, tuple[TaskConfig, str, str]] = {
    "table": (CLASSIFICATION, "a.csv", "text,label,patient\na,x,WHO\n"),
    "pairs": (SIMILARITY, "a.tsv", "sentence1\tsentence2\tscore\tpatient\na\tb\t1\tWHO\n"),
    "lines": (CLASSIFICATION, "a.jsonl", '{"text": "a", "label": "x", "patient": "WHO"}'),
    "squad": (QUESTIONS, "a.json", json.dumps({"data": [{"paragraphs": [PARAGRAPH]}]})),
    "datasets": (QUESTIONS, "a.jsonl", json.dumps(COLUMNS)),
    "conll": (EntitiesConfig(), "a.tsv", "# patient = WHO\na\tB-X\n"),
    "entities": (EntitiesConfig(), "a.jsonl", '{"text": "a", "entities": [], "patient": "WHO"}'),
    "array": (EntitiesConfig(), "a.json", '[{"text": "a", "entities": [], "patient": "WHO"}]'),
    "relations": (RelationsConfig(), "a.jsonl", json.dumps(PAIR)),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_reader_knows_a_patient_in_any_spelling_and_a_byte_order_mark(tmp_path: Path, kind: str) -> None:
    config, name, content = FILES[kind]
    found = set()
    for spelling in ("123", " 123.0", "123.00 ", "\ufeff123"):
        path = written(tmp_path / name, "\ufeff" + content.replace("WHO", spelling))
        found |= {one.patient for one in config.read(path, Reading())}
    assert found == {"123"}
    with pytest.raises(UserError, match="expected the identifier of a patient"):
        config.read(written(tmp_path / name, content.replace("WHO", "NULL")), Reading())


def test_quotation_marks_that_are_text_are_refused_or_read_as_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tsv", f'text\tlabel\n"{SECRET}\t0\nFever\t1\nNo pain"\t1\nCough\t0\n')
    with pytest.raises(UserError, match="--csv_quoting=none") as caught:
        texts(path)
    assert SECRET not in str(caught.value)
    assert texts(path, csv_quoting="none") == [
        (f'"{SECRET}', "0"), ("Fever", "1"), ('No pain"', "1"), ("Cough", "0")
    ]  # fmt: skip
    assert texts(path, csv_quoting="doubled")[0] == (f"{SECRET}\t0\nFever\t1\nNo pain", "1")
    notes = written(tmp_path / "b.csv", 'text,label\n"Fever, cough.\nNo pain, no rash.",1\n')
    assert texts(notes) == [("Fever, cough.\nNo pain, no rash.", "1")]  # a note, not rows


@pytest.mark.parametrize(
    ("content", "encoding", "options"),
    [
        ('text,label\n"a \\"b\\", c",x\n"d, e",y\n', "utf-8", {"csv_escape": "backslash"}),
        ('text;label\na "b", c;x\nd, e;y\n', "utf-8", {"csv_delimiter": ";"}),
        ('text,label\n"a ""b"", c",x\n"d, e",y\n', "utf-16", {"encoding": "utf-16"}),
    ],
)
def test_a_refusal_names_the_option_that_reads_the_file(
    tmp_path: Path, content: str, encoding: str, options: dict[str, str]
) -> None:
    path = written(tmp_path / "a.csv", content, encoding)
    with pytest.raises(UserError) as caught:
        texts(path)
    (name,) = options
    assert f"--{name}" in str(caught.value)
    assert texts(path, **options) == [('a "b", c', "x"), ("d, e", "y")]


def test_many_malformed_rows_end_with_their_cause_and_few_are_skipped(tmp_path: Path) -> None:
    good = "".join(f"a,{n % 2}\n" for n in range(300))
    broken = f'"{SECRET} \\"said\\" this",1\n'
    path = written(tmp_path / "a.csv", "text,label\n" + good + broken * 4)
    with pytest.raises(
        UserError, match=r"4 of 304 records .*--csv_escape=backslash.*--max_malformed_fraction"
    ) as caught:
        texts(path, on_bad_record="skip")
    assert SECRET not in str(caught.value)
    assert len(texts(path, on_bad_record="skip", max_malformed_fraction=0.02)) == 300
    assert len(texts(path, csv_escape="backslash")) == 304
    few = written(tmp_path / "b.csv", "text,label\n" + good + broken * 3)
    assert len(texts(few, on_bad_record="skip")) == 300


def test_rows_of_a_group_are_one_document(tmp_path: Path) -> None:
    config = ClassificationConfig(group_column="admission", patient_column="who")
    table = "who,admission,text,label\n1,7,first,yes\n2,8,other,no\n1.0,7.0,second,yes\n"
    read = config.read(written(tmp_path / "a.csv", table), Reading())
    assert read == [
        Document("7", 2, "1", "first\nsecond", "", ("yes",)),
        Document("8", 3, "2", "other", "", ("no",)),
    ]
    path = written(tmp_path / "b.csv", table + f"1,7,{SECRET},no\n")
    with pytest.raises(UserError, match="line 5: expected the labels and the patient of the earlier rows") as caught:
        config.read(path, Reading())
    assert SECRET not in str(caught.value)
    assert len(config.read(path, Reading("skip"))) == 2
    for missing in ("NaN", "NULL", ""):
        path = written(tmp_path / "c.csv", table + f"3,{missing},{SECRET},no\n")
        with pytest.raises(UserError, match="line 5: expected the identifier of the document"):
            config.read(path, Reading())
    floats = "".join(f'{{"who": {who}, "admission": {who}.0, "text": "a", "label": "x"}}\n' for who in (1, 2, 2))
    assert [one.id for one in config.read(written(tmp_path / "d.jsonl", floats), Reading())] == ["1", "2"]


def test_answers_as_columns_are_those_of_squad(tmp_path: Path) -> None:
    record = {"id": "a", "context": "left lung", "question": "where"}
    lines = [record | {"answers": {"text": ["lung", "left lung"], "answer_start": [5, 0]}}]
    lines.append(record | {"id": "b", "answers": {"text": [], "answer_start": []}})
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    read = QuestionsConfig(unanswerable=True).read(path, Reading())
    assert [(one.id, one.line, one.answers) for one in read] == [("a", 1, ((5, 9), (0, 9))), ("b", 2, ())]
    with pytest.raises(UserError, match=r"line 2: expected an answer, .*unanswerable"):
        QuestionsConfig().read(path, Reading())
    uneven = written(tmp_path / "b.jsonl", json.dumps(record | {"answers": {"text": ["lung"], "answer_start": []}}))
    with pytest.raises(UserError, match="of one length"):
        QuestionsConfig().read(uneven, Reading())


def test_labels_that_are_text_are_refused_without_quoting_them() -> None:
    notes = [f"{SECRET} {n}" for n in range(20)]
    sentence = (
        f"{SECRET} came with cough and fever on the first day of the week and was sent home on the next day after that"
    )
    for labels in (notes, [sentence, "no"] * 20):
        with pytest.raises(UserError, match="looks like text") as caught:
            ClassificationConfig().task([Document(str(n), n, "", "a", "", (label,)) for n, label in enumerate(labels)])
        assert SECRET not in str(caught.value)
        pairs = [Pair(str(n), n, "", "a", None, None, label) for n, label in enumerate(labels)]  # type: ignore[arg-type]
        with pytest.raises(UserError, match="looks like text") as caught:
            RelationsConfig(negative_label="").task(pairs)
        assert SECRET not in str(caught.value)
    codes = [Document(str(n), n, "", "a", "", tuple(f"{(n * k) % 90}.{k}" for k in range(9))) for n in range(100)]
    assert len(ClassificationConfig(multi_label=True).task(codes).labels) > 100


@pytest.mark.parametrize("missing", ["NaN", "nan", "<NA>", "NULL", "\\N"])
def test_a_missing_value_is_no_label(tmp_path: Path, missing: str) -> None:
    path = written(tmp_path / "a.csv", f"text,label\na,None\nb,NA\nc,{missing}\n")
    with pytest.raises(UserError, match="line 4: expected a name in the field 'label', found a missing value"):
        texts(path)
    assert texts(path, on_bad_record="skip") == [("a", "None"), ("b", "NA")]


@pytest.mark.parametrize("kind", FILES)
def test_utf_16_without_a_mark_is_refused_by_every_reader(tmp_path: Path, kind: str) -> None:
    config, name, content = FILES[kind]
    path = written(tmp_path / name, content.replace("WHO", "1"), "utf-16-le")
    with pytest.raises(UserError):
        config.read(path, Reading())
    with pytest.raises(UserError):
        config.read(path, Reading(), annotated=False)
    assert config.read(path, Reading(encoding="utf-16-le"))
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        path = written(tmp_path / name, "\ufeff" + content.replace("WHO", "1"), encoding)
        assert [one.patient for one in config.read(path, Reading(encoding=encoding.replace("-", "_")))] == ["1"]
