"""Where nothing was memorised nothing is found, and repeated secrets are known whole: the long forms of the audit's
tests.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.audit import command, findings, losses, texts
from clinicalbert_jax.audit.command import Options
from clinicalbert_jax.data import masking
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import DEFAULT_SPLIT_KEY
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.tokenizer_files import bert_tokenizer
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
    print(f"{steps} steps on other notes: the interval holds 0.5 in {held} of {SPLITS}; mean AUC {np.mean(values):.3f}")
    assert 0.92 <= held / SPLITS <= 0.98


def test_secrets_repeated_64_times_are_known_whole(tmp_path: Path) -> None:
    data = memorised.prepared(tmp_path, "notes", canaries=140)
    model = memorised.trained(data, tmp_path / "run", 4000)
    options = Options(
        model=str(model), data_dir=str(data), output=str(tmp_path / "out"), canaries=str(tmp_path / "notes.json")
    )
    command.run(options)
    document = command.provenance.read_json(tmp_path / "out" / "audit.json")
    (most,) = (row for row in document["canaries"]["by_repeats"] if row["repeats"] == 64)
    assert most["planted"]["median"] > document["canaries"]["ceiling_bits"] - 1
    assert document["membership"]["attacks"]["loss"]["patient"]["own_text"]["auc"]["value"] > 0.95
