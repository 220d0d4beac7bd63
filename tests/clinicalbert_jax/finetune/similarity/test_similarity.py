"""Similarity: files to pairs, pairs to rows, and the scores of SciPy."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax import predict
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.export import write_run
from clinicalbert_jax.finetune import command
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.similarity.task import Pair, SimilarityConfig
from tests.clinicalbert_jax.finetune import toy_bert
from tests.clinicalbert_jax.finetune.small_tokenizer import small_tokenizer

SECRET = "metastatic"


def pairs(*scores: float) -> list[Pair]:
    return [Pair(str(n), n, "", ("chest pain", "no pain"), score) for n, score in enumerate(scores, start=1)]


@pytest.mark.fast
def test_tables_and_json_lines_hold_the_same(tmp_path: Path) -> None:
    table = "sentence1\tsentence2\tscore\nchest pain\tpain in chest\t4.5\nfever\tcough\t0\n"
    lines = [{"sentence1": "chest pain", "sentence2": "pain in chest", "score": 4.5}]
    lines.append({"sentence1": "fever", "sentence2": "cough", "score": 0})
    contents = {"a.tsv": table, "a.csv": table.replace("\t", ","), "a.jsonl": "\n".join(map(json.dumps, lines))}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        read = SimilarityConfig().read(tmp_path / name, Reading())
        assert [(pair.texts, pair.score) for pair in read] == [
            (("chest pain", "pain in chest"), 4.5),
            (("fever", "cough"), 0.0),
        ]
    plain = SimilarityConfig().read(tmp_path / "a.tsv", Reading(), annotated=False)
    assert np.isnan([pair.score for pair in plain]).all()


@pytest.mark.fast
@pytest.mark.parametrize("score", ["", "high", "nan", "inf", SECRET])
def test_a_score_that_is_no_number_is_a_bad_record(tmp_path: Path, score: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"sentence1\tsentence2\tscore\na\tb\t1\n{SECRET}\tb\t{score}\n")
    with pytest.raises(UserError, match=r"a\.tsv, line 3: expected a number in the field 'score'") as caught:
        SimilarityConfig().read(path, Reading())
    assert SECRET not in str(caught.value)


@pytest.mark.fast
def test_rows_are_those_of_the_tokenizer_and_the_longer_sentence_is_truncated() -> None:
    tokenizer = small_tokenizer("chest", "pain", "no", "x")
    task = SimilarityConfig(max_seq_length=11).task(pairs(1, 2))
    rows = task.rows(pairs(1, 2), tokenizer, annotated=True)
    expected = tokenizer.encode("chest pain", "no pain")
    assert (rows.input_ids[0].tolist(), rows.segment_ids[0].tolist()) == (expected.ids, expected.type_ids)
    assert rows.row_targets["labels"].tolist() == [1, 2]
    for texts, lengths in ((("x " * 3, "x " * 9), (3, 5)), (("x " * 9, "x " * 2), (6, 2)), (("x " * 9,) * 2, (4, 4))):
        (segments,) = task.rows([Pair("1", 1, "", texts, 0)], tokenizer, annotated=False).segment_ids
        assert (len(segments) - segments.sum() - 2, segments.sum() - 1) == lengths


@pytest.mark.fast
def test_scores_are_scipys_and_follow_from_sums() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    for _ in range(20):
        gold = generator.integers(0, 11, 30) / 2  # with ties
        found = (gold + generator.normal(0, 2, 30)).round(1)
        task = SimilarityConfig().task(pairs(*gold))
        scores = task.score(pairs(*gold), found.tolist())
        assert scores.values["pearson"] == pytest.approx(stats.pearsonr(gold, found)[0])
        assert scores.values["spearman"] == pytest.approx(stats.spearmanr(gold, found)[0])
        assert scores.values["mse"] == pytest.approx(np.mean((gold - found) ** 2))
        assert scores.of_sums(scores.counts_ExM.sum(0)) == scores.values[scores.main]
        assert len(scores.errors) == (abs(gold - found) > 1).sum()
        assert task.initial_bias_C == pytest.approx(gold.mean())
    assert np.isnan(task.score(pairs(1, 2), [3.0, 3.0]).values["pearson"])


def test_it_is_trained_exported_and_used_like_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The score depends on one word: learned, exported to PyTorch with its label, predicted with."""
    transformers = pytest.importorskip("transformers")
    one_device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one_device)  # faster than eight simulated ones
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(32):
        first, second = generator.choice(["aspirin", "fever"], 2)
        rows.append(f"the patient had {first}\tthe patient was given {second}\t{4.0 if second == 'aspirin' else 1.0}\n")
    for name in ("train.tsv", "dev.tsv"):
        (tmp_path / name).write_text("sentence1\tsentence2\tscore\n" + "".join(rows))
    config = FinetuneConfig(SimilarityConfig(max_seq_length=32), max_steps=20, evaluations_per_epoch=0.1)
    config.optimizer.learning_rate = 4e-3
    files = {"train": str(tmp_path / "train.tsv"), "validation": str(tmp_path / "dev.tsv")}
    run = tmp_path / "run" / "seed-0"
    options = {"config": config, "model": str(toy_bert.write(tmp_path)), "workdir": str(tmp_path / "run")}
    assert command.run(command.Options(**options, **files, reading=Reading())) == 0
    scores = json.loads((tmp_path / "run" / "results.json").read_text())["scores"]["validation"]
    assert scores["pearson"]["mean"] > 0.8
    assert {"pearson", "spearman", "mse"} == scores.keys()
    export_options = write_run.Options(workdir=str(run), output_dir=str(tmp_path / "model"), verify=True)
    assert write_run.export(export_options) == 0  # the logits are PyTorch's
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert (theirs.config.id2label, theirs.config.problem_type) == ({0: "similarity"}, "regression")
    export, output = str(tmp_path / "model"), str(tmp_path / "found")
    predict.main(predict.Options(model=export, input=files["validation"], output=output, reading=Reading()))
    for changes, expected in (
        ({}, "exists: give another name, or --overwrite"),
        ({"output": str(tmp_path / "notes"), "input": str(tmp_path / "notes.jsonl"), "overwrite": True}, "an input of"),
        ({"output": "gs://bucket/x"}, "found a URL"),
    ):
        (tmp_path / "notes.jsonl").write_text(json.dumps({"sentence1": SECRET, "sentence2": "fever"}))
        options = {"model": str(run), "input": files["validation"], "output": output} | changes
        with pytest.raises(UserError, match=expected):
            predict.main(predict.Options(**options, reading=Reading()))
        assert SECRET in (tmp_path / "notes.jsonl").read_text()
    assert not Path("gs:").exists()
    found = [json.loads(line)["score"] for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert np.corrcoef(found, [float(row.split("\t")[2]) for row in rows])[0, 1] > 0.8
