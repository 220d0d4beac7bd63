"""The long forms of the audit's tests: nothing is found where nothing was memorised, all of it where all was, and a
reference helps.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from clinicalbert_jax.audit import command, epsilon, exposure, findings, losses, planted, texts
from clinicalbert_jax.audit.command import Options
from clinicalbert_jax.data import masking
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import DEFAULT_SPLIT_KEY
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import provenance
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.canaries import secrets
from data_prep.canaries.private_file import Content
from data_prep.prepare import EngineConfig, run
from data_prep.reading.selection import SelectionConfig
from data_prep.wordpiece.tokenizer import Tokenizer
from tests.clinicalbert_jax.audit import memorised

pytestmark = pytest.mark.soak

SPLITS = 200


@pytest.mark.parametrize("steps", [1, 600])
def test_over_random_splits_the_interval_holds_one_half(tmp_path: Path, steps: int) -> None:
    """Of a model that saw one batch of other notes, and of one that learned other notes of the kind."""
    other = memorised.prepared(tmp_path, "other", seed=1)
    loaded = loading.load(loading.find(memorised.trained(other, tmp_path / "run", steps)))
    notes, vocabulary = tmp_path / "notes.csv", tmp_path / "vocab.txt"
    memorised.write_notes(notes, seed=2)
    tokenizer = Tokenizer(bert_tokenizer.read(other))
    scorer, policy = losses.Scorer(loaded, tokenizer.vocabulary), masking.policy(list(tokenizer.vocabulary), 8)
    held, values = 0, []
    for number in range(SPLITS):
        selection = SelectionConfig(
            validation_fraction=0.0, test_fraction=0.5, split_key=f"{DEFAULT_SPLIT_KEY} {number}"
        )
        config = dataclasses.replace(
            memorised.config_of(notes, vocabulary),
            selection=selection,
            dupe_factor=3,
            version=f"1.0.{number}",
            seed=number,
        )
        data = run(config, tmp_path / "split", EngineConfig(num_workers=1))
        windows = texts.read(data, Manifest.load(data), tokenizer, 1000, 4, 0)
        parts = tmp_path / f"parts{number}"
        parts.mkdir()
        loss_W = scorer.of_windows(windows, policy, 2, 0, parts, "model")
        found = findings.membership_findings(windows, loss_W, None, ())["attacks"]["loss"]["patient"]["all_text"]["auc"]
        held += found["low"] <= 0.5 <= found["high"]
        values.append(found["value"])
    error = np.std(values) / np.sqrt(SPLITS)
    print(
        f"{steps} steps on other notes: the interval holds 0.5 in {held} of {SPLITS}; "
        f"mean AUC {np.mean(values):.4f}, standard error {error:.4f}"
    )
    assert 0.92 <= held / SPLITS <= 0.98
    assert abs(np.mean(values) - 0.5) < 4 * error


@pytest.mark.parametrize("steps", [1, 600])
def test_a_model_of_other_notes_knows_no_canary(tmp_path: Path, steps: int) -> None:
    """Secrets that were planted in other data are as unknown as those left out."""
    other = memorised.prepared(tmp_path, "other", seed=1)
    loaded = loading.load(loading.find(memorised.trained(other, tmp_path / "run", steps)))
    tokenizer = Tokenizer(bert_tokenizer.read(other))
    drawn = secrets.draw(1000, secrets.NUMBER, 5)
    content = Content(
        secrets.NUMBER, "", "0" * 64, tuple(dataclasses.replace(one, num_places=one.repeats) for one in drawn)
    )
    scores_C, alternatives_CxA = planted.scores(
        content.candidates, content, tokenizer, losses.Scorer(loaded, tokenizer.vocabulary)
    )
    bits_C = exposure.exposures(scores_C, alternatives_CxA).bits_C
    planted_C = np.array([one.is_planted for one in drawn])
    print(f"{steps} steps: {bits_C[planted_C].mean():.2f} bits planted, {bits_C[~planted_C].mean():.2f} left out")
    assert stats.ks_2samp(bits_C[planted_C], bits_C[~planted_C]).pvalue > 0.01
    assert epsilon.lower_bound(scores_C, planted_C, planted.DELTA).epsilon < 0.5


def test_after_200_passes_patients_and_secrets_are_known(tmp_path: Path) -> None:
    data = memorised.prepared(tmp_path, "notes", canaries=140)
    model = memorised.trained(data, tmp_path / "run", memorised.steps_of(data, passes=200))
    document = audited(model, data, tmp_path / "out", canaries=str(tmp_path / "notes.json"))
    auc = document["membership"]["attacks"]["loss"]["patient"]["own_text"]["auc"]
    by_repeats = {row["repeats"]: row["planted"] for row in document["canaries"]["by_repeats"]}
    medians = {repeats: found["median"] for repeats, found in by_repeats.items()}
    print(f"AUC {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]; median exposure by repeats {medians}")
    assert auc["value"] > 0.95
    assert medians[64] > document["canaries"]["ceiling_bits"] - 1
    once, some, many = (by_repeats[repeats]["mean"] for repeats in (1, 4, 16))
    assert once + 1 < some <= many, "exposure rises with repeats"


def test_a_reference_helps_against_a_continued_model(tmp_path: Path) -> None:
    """A model of other notes, continued on the members: against the model it started from it is told at least as well
    as by its losses alone.
    """
    base = memorised.trained(memorised.prepared(tmp_path, "other", seed=1), tmp_path / "base", 600)
    data = memorised.prepared(tmp_path, "notes", seed=2)
    model = memorised.trained(data, tmp_path / "run", memorised.steps_of(data, passes=20), init_from=base)
    document = audited(model, data, tmp_path / "out", reference=str(base))
    loss, ratio = (document["membership"]["attacks"][name]["patient"]["all_text"]["auc"] for name in ("loss", "ratio"))
    print(f"AUC by loss {loss['value']:.3f}, by ratio {ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]")
    assert ratio["value"] >= loss["value"]
    assert ratio["low"] > 0.5


def audited(model: Path, data: Path, output: Path, **options: str) -> dict:
    command.run(Options(model=str(model), data_dir=str(data), output=str(output), **options))
    return provenance.read_json(output / command.JSON_FILE)
