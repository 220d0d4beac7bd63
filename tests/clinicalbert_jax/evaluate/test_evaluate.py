"""Held-out figures: equal to an independent evaluation in PyTorch, with intervals that cover what they should."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.data import tfrecord
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.evaluate import heldout, per_token, summary
from clinicalbert_jax.evaluate.bootstrap import PatientSums, ratios, sums_by_patient
from clinicalbert_jax.evaluate.token_classes import CLASSES, TokenClasses
from clinicalbert_jax.pretrained import huggingface, loading
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from tests import toy_dataset, toy_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("evaluate") / "data")


@pytest.fixture(scope="module")
def run(data_dir: Path) -> Path:
    return toy_run.write(data_dir.parent / "run", data_dir)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    loaded = loading.load(loading.find_run(run))
    directory = run.parent / "exported"
    directory.mkdir()
    huggingface.write_directory(directory, loaded.config, loaded.params, loaded.tokenizer_dir)
    return directory


def command(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "clinicalbert_jax.evaluate", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_equals_an_independent_evaluation_in_pytorch(exported: Path, data_dir: Path) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    model = transformers.BertForPreTraining.from_pretrained(exported).eval()
    manifest = Manifest.load(data_dir)
    losses, hits, nsp_losses, nsp_hits = [], [], [], []
    for shard in manifest.splits["test"].shards:
        rows = tfrecord.Shard(data_dir / shard.file, manifest.layout.features()).read(np.arange(shard.num_examples))
        tensors = {name: torch.tensor(array) for name, array in rows.items()}
        with torch.no_grad():
            outputs = model(
                tensors["input_ids"],
                attention_mask=tensors["input_mask"],
                token_type_ids=tensors["segment_ids"],
            )
        log_p = outputs.prediction_logits.log_softmax(-1)
        for b, p in zip(*np.nonzero(rows["masked_lm_weights"]), strict=True):
            token_log_p, target = log_p[b, rows["masked_lm_positions"][b, p]], int(rows["masked_lm_ids"][b, p])
            losses.append(-float(token_log_p[target]))
            hits.append(int(token_log_p.argmax()) == target)
        nsp_log_p, labels = outputs.seq_relationship_logits.log_softmax(-1), rows["next_sentence_labels"][:, 0]
        nsp_losses += [-float(nsp_log_p[b, label]) for b, label in enumerate(labels)]
        nsp_hits += [int(nsp_log_p[b].argmax()) == label for b, label in enumerate(labels)]
    document = heldout.evaluate([loading.find(exported)], data_dir, manifest)
    overall = document["models"][0]["overall"]
    for name, values in (
        ("mlm_loss", losses), ("mlm_accuracy", hits), ("nsp_loss", nsp_losses), ("nsp_accuracy", nsp_hits)
    ):  # fmt: skip
        assert overall[name]["value"] == pytest.approx(np.mean(values), abs=1e-4), name
    assert overall["mlm_perplexity"]["value"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    assert document["num_predictions"] == len(losses)
    assert document["num_pairs"] == len(nsp_losses)


def test_command_writes_a_table_and_json(run: Path, exported: Path, data_dir: Path) -> None:
    done = command(f"--workdir={run}", f"--data_dir={data_dir}", "--split=validation")
    assert done.returncode == 0, done.stderr
    assert "MLM loss (nats)" in done.stdout
    assert "unigram entropy" in done.stdout
    document = json.loads((run / "evaluation_validation.json").read_text())
    assert document["warnings"] == []
    overall, rows = document["models"][0]["overall"], document["models"][0]["by_token_class"]
    assert overall["mlm_loss"]["low"] < overall["mlm_loss"]["value"] < overall["mlm_loss"]["high"]
    total = sum(row["predictions"] * row["mlm_loss"]["value"] for row in rows.values())
    assert total / document["num_predictions"] == pytest.approx(overall["mlm_loss"]["value"], rel=1e-9)

    output = exported.parent / "pair.json"
    done = command(f"--data_dir={data_dir}", f"--output={output}", run, exported)
    assert done.returncode == 0, done.stderr
    assert "may have been trained on these very patients" in done.stdout
    difference = json.loads(output.read_text())["difference"]
    assert all(abs(value) < 1e-6 for row in difference.values() for value in row.values())


def test_an_output_replaces_nothing_but_its_own(
    run: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heldout, "evaluate", lambda *_: pytest.fail("refused before the work begins"))

    def refused(output: Path, overwrite: bool) -> str:
        before = output.read_bytes()
        options = heldout.Options(workdir=str(run), data_dir=str(data_dir), output=str(output), overwrite=overwrite)
        with pytest.raises(UserError) as caught:
            heldout.run(options)
        assert output.read_bytes() == before
        return str(caught.value)

    (tmp_path / "notes.json").write_text("{}")
    assert "--overwrite to replace it" in refused(tmp_path / "notes.json", False)
    for path in (data_dir / "manifest.json", run / "config.json", next(run.glob("checkpoints/*/checksums.json"))):
        assert "is or holds an input of this command" in refused(path, True)


@pytest.mark.fast
def test_the_text_says_what_is_resampled(data_dir: Path) -> None:
    manifest = Manifest.load(data_dir)
    zeros = np.zeros(4, int)
    targets = per_token.Targets(zeros, np.arange(4), zeros, zeros, zeros[:0], zeros[:0], 4)
    scores = per_token.Scores(zeros + 1.0, zeros, zeros[:0], zeros[:0])
    for options, unit in (({}, "patients"), ({"each_note_is_a_patient": True}, "documents")):
        document = {
            "data": "toy",
            "split": "test",
            "num_predictions": 4,
            "num_pairs": 0,
            "num_patients": 4,
            "resampling_unit": heldout.unit(dataclasses.replace(manifest, options=options)),
            "unigram_entropy": 0.0,
            "models": [{"source": "m", "step": None} | summary.figures(targets, scores, ["a"], with_nsp=False)],
            "warnings": [],
        }
        text = summary.table(document)
        assert f"4 {unit}" in text
        assert f"95 % interval, {unit} resampled" in text
        assert "whole word" in text


def test_mistakes_are_refused(run: Path, exported: Path, data_dir: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(data_dir)
    shutil.copytree(exported, tmp_path / "other")
    settings = bert_tokenizer.read(exported)
    words = settings.entries
    for changes, message in (
        ({"entries": (*words[:20], words[21], words[20], *words[22:])}, "two vocabularies cannot be compared"),
        ({"strip_accents": False}, "with strip_accents True"),
    ):
        bert_tokenizer.write(tmp_path / "other", dataclasses.replace(settings, **changes))
        with pytest.raises(UserError, match=message):
            heldout.check_fits(loading.find(tmp_path / "other"), data_dir, manifest)
    longer = dataclasses.replace(manifest, layout=dataclasses.replace(manifest.layout, max_seq_length=64))
    with pytest.raises(UserError, match="for rows of 64 tokens"):
        heldout.check_fits(loading.find(exported), data_dir, longer)
    for arguments in ((), (f"--workdir={run}", run, run), (f"--workdir={tmp_path}",)):
        done = command(f"--data_dir={data_dir}", *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.fast
def test_paired_difference_is_far_narrower_than_the_figures_it_is_of() -> None:
    generator = np.random.default_rng(0)
    patients_N = np.repeat(np.arange(40), 25)
    hard_N = generator.normal(5, 2, 40)[patients_N]  # patients differ much, the two models little
    zeros_N, alone_M = np.zeros(1000, int), np.arange(40)
    targets = per_token.Targets(zeros_N, patients_N, zeros_N, zeros_N, alone_M, alone_M * 0, 40)
    first, second = (
        per_token.Scores(hard_N + shift + generator.normal(0, 0.5, 1000), zeros_N, alone_M * 0.0, alone_M * 0)
        for shift in (0, -0.2)
    )
    loss = summary.figures(targets, first, ["a"])["overall"]["mlm_loss"]
    paired = summary.difference(targets, first, second)["mlm_loss"]
    assert paired["value"] == pytest.approx(-0.2, abs=0.06)
    assert paired["low"] < -0.2 + 0.06 < 0 > paired["high"]
    assert loss["high"] - loss["low"] > 10 * (paired["high"] - paired["low"])


@pytest.mark.fast
def test_intervals_cover_the_truth_when_patients_are_clusters() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        patients_N = np.repeat(np.arange(60), 20)
        values_N = generator.normal(0, 1, 60)[patients_N] + generator.normal(0, 1, 1200)
        estimate = ratios(sums_by_patient(patients_N, 60, values_N, patients_N * 0, 1), seed=trial)[0]
        assert estimate.value == pytest.approx(values_N.mean())
        covered += estimate.low <= 0 <= estimate.high
    # A percentile bootstrap over 60 patients covers 94 %, four deviations either way; over items it would cover 35 %.
    assert 0.88 <= covered / 300 <= 0.995


@pytest.mark.fast
def test_one_patient_gives_no_interval() -> None:
    tops = np.array([[4.0, 1.0], [0.0, 2.0]])
    alone, both = ratios(PatientSums(tops, np.array([[2.0, 1.0], [0.0, 1.0]])))
    assert alone.value == 2
    assert math.isnan(alone.low)
    assert both.value == 1.5
    assert (both.low, both.high) == (1, 2)


@pytest.mark.fast
def test_unigram_entropy_of_known_counts() -> None:
    ids = np.array([3, 3, 5, 9])
    zeros = np.zeros(4, int)
    targets = per_token.Targets(ids, zeros, zeros, zeros, zeros[:1], zeros[:1], 1)
    assert summary.unigram_entropy(targets) == pytest.approx(1.5 * math.log(2))


@pytest.mark.fast
def test_token_classes_of_a_sentence() -> None:
    sentence = [
        ("[CLS]", "special"), ("pt", "abbreviation"), ("given", "whole_word"), ("ce", "multi_token_word"),
        ("##ft", "multi_token_word"), ("##riaxone", "multi_token_word"), ("0", "dose_or_unit"), (".", "dose_or_unit"),
        ("5", "dose_or_unit"), ("mg", "dose_or_unit"), (",", "punctuation"), ("325", "dose_or_unit"),
        ("##mg", "dose_or_unit"), ("on", "whole_word"), ("12", "number"), ("/", "punctuation"), ("3", "number"),
        (".", "punctuation"), ("S", "abbreviation"), ("##OB", "abbreviation"), ("[SEP]", "special"),
    ]  # fmt: skip
    entries = sorted({piece for piece, _ in sentence})
    ids = np.array([entries.index(piece) for piece, _ in sentence])
    found = [CLASSES[number] for number in TokenClasses(entries).of_row(ids)]
    assert list(zip((piece for piece, _ in sentence), found, strict=True)) == sentence
