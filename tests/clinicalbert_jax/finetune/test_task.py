"""What tasks share: documents as the unit of resampling, what is printed, and where results may be written."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks import finetune
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import command, result_page, run
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions.squad_files import Question
from clinicalbert_jax.finetune.similarity.task import Pair

pytestmark = pytest.mark.fast


def test_examples_of_a_patient_or_a_context_are_one_document() -> None:
    pairs = [Pair(str(n), n, patient, ("a", "b"), 0) for n, patient in enumerate(("p", "p", "q", "", ""))]
    assert [pair.document for pair in pairs] == ["p", "p", "q", "3", "4"]
    questions = [Question(str(n), n, "", "who", context, ()) for n, context in enumerate("xxy")]
    assert [question.document for question in questions] == ["x", "x", "y"]


def test_intervals_are_those_of_independent_documents_not_of_their_copies() -> None:
    """Twenty-five equal examples of a document tell no more than one: a fifth of the width would claim they do."""
    generator = np.random.default_rng(0)
    right_D = generator.random((2, 40)) < [[0.8], [0.6]]
    widths = []
    for copies in (1, 25):
        examples = [Pair(f"{d}.{n}", 1, f"d{d}", ("a", "b"), 0) for d in range(40) for n in range(copies)]
        first, second = (np.stack([np.repeat(of, copies), np.ones(40 * copies)], axis=1) for of in right_D)
        found = finetune._difference(examples, lambda sums_2: float(sums_2[0] / sums_2[1]), first, second)
        assert found["value"] == pytest.approx(right_D[0].mean() - right_D[1].mean())
        widths.append(found["high"] - found["low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_scores_are_printed_without_those_of_labels() -> None:
    value = {"values": [0.5], "mean": 0.5, "deviation": None}
    scores = {"test": {"f1": value, "zyxquarrel/f1": value}}
    intervals = {"test": {"value": 0.5, "low": 0.25, "high": 0.75, "documents": 7}}
    results = {"scores": scores, "num_examples": {"test": 7}, "seeds": [0], "main": "f1", "intervals": intervals}
    shown = result_page.text(results)
    assert "f1" in shown
    assert "95 % interval over documents [0.250, 0.750]" in shown
    assert "zyxquarrel" not in shown


def test_patients_are_in_one_split_and_lookalikes_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    def data(*patients: str) -> run.Data:
        of_splits = zip(("train", "validation"), patients, strict=True)
        examples = {split: [Pair("1", 1, patient, ("a", "b"), 0)] for split, patient in of_splits}
        return run.Data({split: Path(split) for split in examples}, examples, Counter())

    run.check_patients(data("7", "8"))
    assert capsys.readouterr().out == ""
    run.check_patients(data("7", "007"))
    assert "1 patients differ from another only by leading zeros" in capsys.readouterr().out
    with pytest.raises(UserError, match="expected no patient in both, found 1"):
        run.check_patients(data("7", "7"))


def test_records_of_training_among_those_evaluated_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    def pairs(*texts: str) -> list[Pair]:
        return [Pair(str(number), 1, "", (text, "b"), 0) for number, text in enumerate(texts)]

    data = run.Data({}, {"train": pairs("zyx", "c"), "validation": pairs("d", "zyx"), "test": pairs("e")}, Counter())
    run.warn_of_copies(data)
    expected = "warning: 1 of 2 records of --validation are also in --train, word for word\n"
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(("workdir", "expected"), [("gs://bucket/run", "found a URL"), ("taken", "others' results")])
def test_results_are_written_neither_over_others_nor_to_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workdir: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "results.json").write_text("{}")
    options = {"model": "bert", "train": "a.tsv", "validation": "a.tsv"}
    with pytest.raises(UserError, match=expected):
        command.run(command.Options(config=FinetuneConfig(), workdir=workdir, reading=Reading(), **options))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken" / "results.json").read_text() == "{}"
