"""Splits of outcomes: by patient, as a pre-training dataset is, or as Huang et al. do; and the flow of the cohort."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.data import patients
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.tfrecord import Shard
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.outcomes.flow import Flow, SplitCounts
from data_prep import prepare
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading import salt_file
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig
from data_prep.synthetic import tables as synthetic
from tests.clinicalbert_jax.finetune.convert.outcomes import hand_made
from tests.clinicalbert_jax.finetune.convert.outcomes.converting import convert, excluded, ledger

SPLIT = ("60", "20", "20")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("database")
    synthetic.write(directory, synthetic.MIMIC_III, num_patients=70, seed=2)
    return directory


@pytest.fixture(scope="module")
def dataset(database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the same notes, with a split key and fractions of its own."""
    config = PrepConfig(
        source=SourceConfig(input=(str(database / "NOTEEVENTS.csv"),)),
        vocabulary=VocabularyConfig(train_vocab=True, vocab_size=500, do_lower_case=True),
        selection=SelectionConfig(validation_fraction=0.2, test_fraction=0.3, split_key="another key"),
        dupe_factor=1,
    )
    return prepare.run(config, tmp_path_factory.mktemp("dataset"), EngineConfig(num_workers=1))


def splits_of_patients(output: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in hand_made.records(output):
        found[record["split"]].add(record["patient"])
    return found


def test_no_test_patient_was_pretrained_on(database: Path, dataset: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(dataset)
    salt, _ = salt_file.load("", tmp_path)
    pretrained: set[int] = set()
    for shard in manifest.splits["train"].shards:
        opened = Shard(dataset / shard.file, manifest.layout.features())
        pretrained |= set(np.unique(opened.read(range(len(opened)))["patient_group"]).tolist())
    for corpus in ("mimic_readmission", "mimic_mortality", "mimic_icd"):
        output = convert(corpus, database, tmp_path / corpus, (), pretraining_data=str(dataset))
        of = splits_of_patients(output)
        assert set(of) == {"train", "validation", "test"}
        groups = {split: {patients.patient_group(one, salt) for one in them} for split, them in of.items()}
        assert not groups["test"] & pretrained
        assert not groups["validation"] & pretrained
        assert len(groups["train"] & pretrained) > 0.9 * len(groups["train"]), "a check that sees the patients"
    # Under the default rule some test patients were pre-trained on, so that the check can fail.
    default = splits_of_patients(convert("mimic_icd", database, tmp_path / "default", SPLIT))
    assert {patients.patient_group(one, salt) for one in default["test"]} & pretrained


@pytest.mark.parametrize(
    ("options", "extra", "match"),
    [
        ({"each_note_is_a_patient": True}, {}, "each note is a patient"),
        ({"split_key": None, "salt_hash": "0123"}, {}, "whose splits are not known"),
        ({}, {"formats": ["mimic_iv", "csv"]}, "found MIMIC-IV"),
    ],
)
def test_a_dataset_that_knows_other_patients_is_refused(
    database: Path, dataset: Path, tmp_path: Path, options: dict, extra: dict, match: str
) -> None:
    manifest = Manifest.load(dataset)
    changed = replace(manifest, options=manifest.options | options, extra=manifest.extra | extra)
    changed.save(tmp_path)
    with pytest.raises(UserError, match=match):
        convert("mimic_icd", database, tmp_path / "out", (), pretraining_data=str(tmp_path))
    assert not (tmp_path / "out").exists()


def test_patients_are_split_and_the_prevalence_is_kept(database: Path, tmp_path: Path) -> None:
    output = convert("mimic_readmission", database, tmp_path / "out", SPLIT)
    of = splits_of_patients(output)
    assert not of["train"] & of["test"]
    assert not of["train"] & of["validation"]
    assert not of["validation"] & of["test"]
    cohort = ledger(output)["cohort"]
    assert cohort["admissions"] == cohort["kept"] + sum(cohort["excluded"].values())
    labels = Counter(record["label"] for record in hand_made.records(output))
    assert sum(split["positives"] for split in cohort["splits"].values()) == labels["readmitted"]
    assert 0 < labels["readmitted"] < 0.5 * labels["not readmitted"]


def test_the_published_split_and_sampling_by_name(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"sampling": "balanced", "split_by": "admission"}
    output = convert("mimic_readmission", database, tmp_path / "out", SPLIT, **given)
    for split in ledger(output)["cohort"]["splits"].values():
        assert split["positives"] * 2 == split["admissions"]
    assert excluded(output)["left out by balanced sampling"] > 0
    of = splits_of_patients(output)
    several = len([one for one in set.union(*of.values()) if sum(one in them for them in of.values()) > 1])
    assert several > 0
    assert f"warning: {several} patients are in more than one split" in capsys.readouterr().err
    again = convert("mimic_readmission", database, tmp_path / "again", SPLIT, **given)
    assert (again / "train.jsonl").read_bytes() == (output / "train.jsonl").read_bytes()


def test_a_page_hides_small_counts_and_the_ledger_has_them() -> None:
    splits = {
        "train": SplitCounts(admissions=700, positives=99, patients=650, notes=800, rows=800),
        "test": SplitCounts(admissions=293, positives=7, patients=280, notes=300, rows=300),
    }
    flow = Flow("Cohort", "readmitted", 1000, {"newborn": 4, "died in hospital": 3}, splits)
    flow.check()
    page = flow.page()
    assert "&lt;11" in page
    assert "293" not in page or "286" not in page, "7 would follow from 293 and 286"
    for hidden in (">4<", ">3<", ">7<"):
        assert hidden not in page
    assert flow.document()["excluded"] == {"newborn": 4, "died in hospital": 3}
    with pytest.raises(AssertionError, match="not accounted for"):
        replace(flow, admissions=1001).check()
