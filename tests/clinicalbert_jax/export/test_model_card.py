"""The card says what is known of a run, and tells its reader what is not."""

import dataclasses
import json
from pathlib import Path

import pytest

from clinicalbert_jax.config import Config, ModelConfig
from clinicalbert_jax.data.manifest import Manifest, Shard, Split, Vocabulary
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.evaluate import heldout
from clinicalbert_jax.export import model_card
from clinicalbert_jax.runs import provenance

pytestmark = pytest.mark.fast


def manifest(extra: dict | None = None, **options: object) -> Manifest:
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
        splits={"train": split({"Nursing": 2_000, "ECG": 50, "a|b": 5}, 0), "test": split({"Nursing": 30}, 1)},
        extra=extra or {"formats": ["mimic_iii"], "min_patients_of_a_category": 20},
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
    assert "| notes | 2,055 | 30 |" in card
    assert "| Nursing | 2,030 |" in card
    assert "| a\\|b | \\<11 |" in card
    assert "error \\<11" in card
    assert "| patients | \\<11 | \\<11 |" in card
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
    groups = {"by_category": {"Nursing": row, "a|b": row}, "by_token_class": {"number": row}}
    document = {
        "split": "test", "num_patients": 7, "num_predictions": 321, "num_pairs": 12, "unigram_entropy": 6.6,
        "models": [{"step": 100, "overall": row, **groups}],
    }  # fmt: skip
    card = model_card.card(CONFIG, manifest(), 100, METRICS, document)
    assert "| Nursing | 321 | 4.500 \\[4.250, 4.750\\] | 4.500 |" in card
    assert "| number | 321 |" in card
    assert "| a\\|b | 321" not in card  # it would tell how many notes there are
    assert "On the <11 patients of the test split" in card
    assert "6.600" in card
    assert "at step 100" not in card


def test_scores_are_where_a_hub_looks_for_them() -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    card = huggingface_hub.ModelCard(model_card.card(CONFIG, manifest(), 100, METRICS, None))
    found = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert found == {"mlm_loss": 5.0, "mlm_accuracy": 0.2, "nsp_accuracy": 0.6}
    assert (card.data.pipeline_tag, card.data.base_model) == ("fill-mask", None)
    assert card.data.eval_results[0].dataset_split == "validation"
    none = huggingface_hub.ModelCard(model_card.card(started("hf://someone/bert"), manifest(), 100, [], None))
    assert (none.data.eval_results, none.data.base_model) == (None, "someone/bert")


def test_no_deidentification_is_claimed() -> None:
    for extra in ({"formats": ["mimic_iii"]}, {"formats": ["csv"]}, {"x": 1}):
        given = manifest(extra, input=["/data/mimic/NOTEEVENTS.csv.gz"], input_format="auto", deid_policy="remove")
        card = model_card.card(CONFIG, given, 100, [], None)
        assert "Whether the notes were de-identified is not known" in card
        assert "were\nremoved" in card
        assert "/data/mimic" not in card
        assert ("columns of MIMIC-III" in card) == (extra.get("formats") == ["mimic_iii"])


def test_invented_notes_are_said_to_be() -> None:
    card = model_card.card(CONFIG, manifest({"formats": ["mimic_iii", "invented"]}), 100, [], None)
    assert "The notes are invented" in card
    assert "not known" not in card


def test_categories_whose_patients_were_not_counted_are_not_named() -> None:
    card = model_card.card(CONFIG, manifest({"formats": []}), 100, [], None)
    assert "Nursing" not in card
    assert "Categories of notes: not shown." in card


def test_an_export_says_which_patients_were_held_out(tmp_path: Path) -> None:
    from clinicalbert_jax.pretrained.loading import Source

    source = Source(tmp_path, is_run=False)
    assert "does not say" in heldout.warnings_of(source, manifest())[0]

    def warnings(config: Config, trained_on: Manifest) -> list[str]:
        provenance.write(tmp_path, config, trained_on, 100)
        return heldout.warnings_of(source, manifest())

    assert warnings(CONFIG, manifest()) == []
    other = manifest()
    other.splits["test"] = other.splits["train"]
    assert "another preparation" in warnings(CONFIG, other)[0]
    assert "started from some/clinical-bert" in warnings(started("some/clinical-bert"), manifest())[0]
    path = tmp_path / provenance.FILE_NAME
    assert "shards_sha256" in path.read_text() and "Nursing" not in path.read_text()
    path.write_text(path.read_text().replace("1.0.0", "1.0.1"))
    with pytest.raises(UserError, match="not as it was written"):
        heldout.warnings_of(source, manifest())
    # An earlier version listed the shards, without a checksum.
    for shards, expected in ((["0", "1"], 0), (["0", "2"], 1)):
        path.write_text(json.dumps({"step": 1, "data": "notes 1.0.0", "shards": shards, "started_from": ""}))
        assert len(heldout.warnings_of(source, manifest())) == expected


def test_a_directory_is_named_without_where_it_lay() -> None:
    card = model_card.card(started("/home/someone/bert-base-cased"), manifest(), 100, METRICS, None)
    assert "| started from | bert-base-cased |" in card
    assert "someone" not in card


def started(init_from: str) -> Config:
    return dataclasses.replace(CONFIG, init_from=init_from)
