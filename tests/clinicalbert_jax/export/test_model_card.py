"""The card says what is known of a run, and tells its reader what is not."""

import dataclasses
import json
from pathlib import Path

import pytest

from clinicalbert_jax.config import Config, ModelConfig
from clinicalbert_jax.data.manifest import Manifest, Shard, Split, Vocabulary
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.evaluate import heldout
from clinicalbert_jax.export import model_card
from clinicalbert_jax.runs import provenance

pytestmark = pytest.mark.fast


def manifest(**options: object) -> Manifest:
    def split(notes: dict[str, int], number: int) -> Split:
        shards = (Shard(f"f{number}", 3, 9, str(number)),)
        return Split(shards, 3, 1234, 56789, 10, 1, sum(notes.values()), 7, notes)

    return Manifest(
        name="notes",
        version="1.0.0",
        project_version="0",
        vocabulary=Vocabulary("0", 30, True),
        layout=Layout("padded", 128, 20),
        seed=0,
        options={"deid_policy": "keep", "pairing": "balanced", "masking": "static", "masked_lm_prob": 0.15} | options,
        categories=("Nursing", "ECG"),
        drops={"error": 4, "duplicate": 1_500},
        splits={"train": split({"Nursing": 2_000, "ECG": 5}, 0), "test": split({"Nursing": 9}, 1)},
    )


METRICS = [
    {"kind": "train", "step": 50, "steps_per_s": 0.5, "tokens_per_s": 36_000},
    {"kind": "validation", "step": 50, "mlm_loss": 6.0, "mlm_accuracy": 0.1, "nsp_accuracy": None},
    {"kind": "train", "step": 100, "steps_per_s": 0.5, "tokens_per_s": 36_000},
    {"kind": "validation", "step": 100, "mlm_loss": 5.0, "mlm_accuracy": 0.2, "nsp_accuracy": 0.6},
]
CONFIG = Config(model=ModelConfig(vocab_size=30))


def test_counts_recipe_and_compute() -> None:
    card = model_card.card(CONFIG, manifest(), 100, METRICS, None)
    assert "| Nursing | 2,000 | 9 |" in card
    assert "| ECG | 5 | 0 |" in card
    assert "error 4, duplicate 1,500" in card
    assert "0.06 hours of training steps over 7.2 million tokens" in card  # 2 x 100 s at 36,000 a second
    assert "at step 100" in card
    assert "| mlm_loss | 5.000 |" in card
    assert "uncased" in card
    assert "random weights" in card


def test_an_earlier_step_is_described_by_what_was_known_then() -> None:
    card = model_card.card(CONFIG, manifest(), 50, METRICS, None)
    assert "| mlm_loss | 6.000 |" in card
    assert "nsp_accuracy" not in card
    assert "3.6 million tokens" in card


def test_evaluation_takes_the_place_of_the_validation_figures() -> None:
    estimate = {"value": 4.5, "low": 4.25, "high": 4.75}
    row = {"mlm_loss": estimate, "mlm_accuracy": estimate | {"low": None, "high": None}, "predictions": 321}
    document = {
        "split": "test", "num_patients": 7, "num_predictions": 321, "num_pairs": 12, "unigram_entropy": 6.6,
        "models": [{"step": 100, "overall": row, "by_category": {"ECG": row}, "by_token_class": {"number": row}}],
    }  # fmt: skip
    card = model_card.card(CONFIG, manifest(), 100, METRICS, document)
    assert "| ECG | 321 | 4.500 [4.250, 4.750] | 4.500 |" in card
    assert "| number | 321 |" in card
    assert "6.600" in card
    assert "at step 100" not in card


def test_whether_the_notes_were_deidentified() -> None:
    unknown = model_card.card(CONFIG, manifest(input=["/data/own.csv"], input_format="auto"), 100, [], None)
    assert "state it here before you pass the model on" in unknown
    assert "/data/own.csv" not in unknown
    known = model_card.card(CONFIG, manifest(input=["NOTEEVENTS.csv.gz"], deid_policy="remove"), 100, [], None)
    assert "de-identified by its publishers" in known
    assert "were\nremoved" in known


def test_an_export_says_which_patients_were_held_out(tmp_path: Path) -> None:
    from clinicalbert_jax.pretrained.loading import Source

    source = Source(tmp_path, is_run=False)
    assert "does not say" in heldout.warnings_of(source, manifest())[0]

    def warnings(config: Config, trained_on: Manifest) -> list[str]:
        document = provenance.provenance(config, trained_on, 100)
        (tmp_path / provenance.FILE_NAME).write_text(json.dumps(document))
        return heldout.warnings_of(source, manifest())

    assert warnings(CONFIG, manifest()) == []
    other = manifest()
    other.splits["test"] = other.splits["train"]
    assert "another preparation" in warnings(CONFIG, other)[0]
    assert "started from some/clinical-bert" in warnings(started("some/clinical-bert"), manifest())[0]


def test_a_directory_is_named_without_where_it_lay() -> None:
    card = model_card.card(started("/home/someone/bert-base-cased"), manifest(), 100, METRICS, None)
    assert "| started from | `bert-base-cased` |" in card
    assert "someone" not in card


def started(init_from: str) -> Config:
    return dataclasses.replace(CONFIG, init_from=init_from)
