"""On real public notes: google's published policy as its own script has it, full packed rows, and nothing lost."""

import json
from pathlib import Path

import pytest

from clinicalbert_jax.data.manifest import Manifest
from data_prep import prepare
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig


def prepared(shared_data: Path, output_dir: Path, source: str, **changes: object) -> Manifest:
    config = PrepConfig(
        source=SourceConfig(
            input=(str(shared_data / source),), input_format="sentences" if source.endswith(".txt.gz") else "auto"
        ),
        vocabulary=VocabularyConfig(vocab_file=str(shared_data / "vocab" / "bert-base-cased" / "vocab.txt")),
        selection=SelectionConfig(validation_fraction=0, test_fraction=0),
        **changes,  # type: ignore[arg-type]
    )
    return Manifest.load(prepare.run(config, output_dir, EngineConfig(num_workers=1)))


@pytest.mark.parametrize(("length", "predictions"), [(128, 20), (512, 76)])
def test_google_policy_equals_the_reference(shared_data: Path, tmp_path: Path, length: int, predictions: int) -> None:
    reference = json.loads((shared_data / "reference" / "google_pairs.json").read_text())
    runs = [run for run in reference["runs"] if run["max_seq_length"] == length]

    def mean(name: str) -> float:
        return sum(run[name] for run in runs) / len(runs)

    manifest = prepared(
        shared_data,
        tmp_path,
        "reference/sentences.txt.gz",
        pairing="google",
        max_seq_length=length,
        max_predictions_per_seq=predictions,
        dupe_factor=reference["options"]["dupe_factor"],
    )
    train, statistics = manifest.splits["train"], manifest.extra["statistics"]["train"]
    assert train.num_notes == reference["notes"]
    assert train.num_pairs == pytest.approx(mean("pairs"), rel=0.02)
    assert statistics["random_next_share"] == pytest.approx(mean("random_next"), abs=0.01)
    assert statistics["fill"] == pytest.approx(mean("fill"), abs=0.01)
    assert train.num_predictions / train.num_tokens == pytest.approx(mean("mask_rate"), abs=0.002)


def test_packed_rows_are_full_and_hold_every_piece(shared_data: Path, tmp_path: Path) -> None:
    manifest = prepared(
        shared_data, tmp_path, "mimic_iii/NOTEEVENTS.csv.gz", layout="packed", max_seq_length=512, dupe_factor=2
    )
    train, statistics = manifest.splits["train"], manifest.extra["statistics"]["train"]
    assert statistics["fill"] >= 0.95
    assert statistics["random_next_share"] == pytest.approx(0.5, abs=0.01)
    assert statistics["prediction_share"] == pytest.approx(0.15, abs=0.003)
    assert statistics["least_share_of_pieces_in_a_pass"] == 1
    assert manifest.extra["num_notes_read"] == train.num_notes + sum(manifest.drops.values()) == 1941
