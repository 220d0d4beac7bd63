"""On real public notes: google's published policy as its own script has it, full packed rows, and nothing lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.data.manifest import Manifest
from data_prep import prepare
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig


def prepared(shared_data: Path, output_dir: Path, source: str, salt_file: str = "", **changes: object) -> Manifest:
    config = PrepConfig(
        source=SourceConfig(
            input=(str(shared_data / source),), input_format="sentences" if source.endswith(".txt.gz") else "auto"
        ),
        vocabulary=VocabularyConfig(vocab_file=str(shared_data / "vocab" / "bert-base-cased" / "vocab.txt")),
        selection=SelectionConfig(validation_fraction=0, test_fraction=0, salt_file=salt_file),
        **changes,  # type: ignore[arg-type]
    )
    return Manifest.load(prepare.run(config, output_dir, EngineConfig(num_workers=1)))


@pytest.mark.parametrize(("length", "predictions"), [(128, 20), (512, 76)])
def test_google_policy_equals_the_reference(shared_data: Path, tmp_path: Path, length: int, predictions: int) -> None:
    reference = json.loads((shared_data / "reference" / "google_pairs.json").read_text())
    runs = [run for run in reference["runs"] if run["max_seq_length"] == length]

    def mean(name: str) -> float:
        return sum(run[name] for run in runs) / len(runs)

    # Which documents share a bucket depends on the salt, and with it the figures: averaged over three salts.
    dupe_factor, found = 2, []
    for number in range(3):
        salt = tmp_path / f"salt-{number}"
        salt.touch(mode=0o600)
        salt.write_text(f"the fixed salt number {number}")
        manifest = prepared(
            shared_data,
            tmp_path / str(number),
            "reference/sentences.txt.gz",
            str(salt),
            pairing="google",
            max_seq_length=length,
            max_predictions_per_seq=predictions,
            dupe_factor=dupe_factor,
        )
        train, statistics = manifest.splits["train"], manifest.extra["statistics"]["train"]
        assert train.num_notes == reference["notes"]
        masked = train.num_predictions / train.num_tokens
        found.append((train.num_pairs, statistics["random_next_fraction"], statistics["fill"], masked))
    pairs, random_next, fill, masked = np.mean(found, axis=0)
    assert pairs / dupe_factor == pytest.approx(mean("pairs") / reference["options"]["dupe_factor"], rel=0.02)
    assert random_next == pytest.approx(mean("random_next"), abs=0.01)
    assert fill == pytest.approx(mean("fill"), abs=0.01)
    assert masked == pytest.approx(mean("mask_rate"), abs=0.002)


def test_packed_rows_are_full_and_hold_every_piece(shared_data: Path, tmp_path: Path) -> None:
    manifest = prepared(
        shared_data, tmp_path, "mimic_iii/NOTEEVENTS.csv.gz", layout="packed", max_seq_length=512, dupe_factor=2
    )
    train, statistics = manifest.splits["train"], manifest.extra["statistics"]["train"]
    assert statistics["fill"] >= 0.95
    assert statistics["random_next_fraction"] == pytest.approx(0.5, abs=0.01)
    assert statistics["prediction_fraction"] == pytest.approx(0.15, abs=0.003)
    assert statistics["least_fraction_of_pieces_in_a_pass"] == 1
    assert manifest.extra["num_notes_read"] == train.num_notes + sum(manifest.drops.values()) == 1941
