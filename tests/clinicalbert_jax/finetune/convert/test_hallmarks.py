"""The Hallmarks of Cancer corpus becomes sentences with labels, an abstract on one side only."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.convert import archives, common
from clinicalbert_jax.finetune.convert.corpora import hallmarks
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.inputs.reading import Reading


@pytest.mark.fast
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", []),
        ("NULL", []),
        ("Resisting cell death--Apoptosis", ["Resisting cell death"]),
        ("Inducing angiogenesis--", ["Inducing angiogenesis"]),
        ("B--x--y ANDA--z", ["A", "B"]),
        ("B--x-- AND A--z ANDB", ["A", "B"]),
        # 'and' in a name does not part it, nor do capitals inside a word.
        ("Genomic instability and mutation--DNA damage", ["Genomic instability and mutation"]),
        ("A--BRAND", ["A"]),
    ],
)
def test_a_label_is_where_its_path_begins(labels: str, expected: list[str]) -> None:
    assert hallmarks.hallmarks(labels) == expected


@pytest.mark.fast
@pytest.mark.parametrize(
    "change", [{"pmid": " "}, {"sentences": ["secret"]}, {"sentence_labels": "ab"}, {"sentences": ["secret", ""]}]
)
def test_an_abstract_that_cannot_be_used_is_told_or_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    good = {"pmid": "1", "sentences": ["secret", "b"], "sentence_labels": ["", "A--x"]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | {"pmid": "2"} | change) + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: expected") as caught:
        list(hallmarks.read(archives.members(path, Ledger()), Ledger()))
    assert "secret" not in str(caught.value)
    ledger = Ledger(Reading("skip"))
    assert len(list(hallmarks.read(archives.members(path, ledger), ledger))) == 2
    ledger.check()
    assert ledger["abstracts"].refusals == [{"reason": "bad record", "file": str(path), "line": 2}]


def test_the_command_writes_files_that_classification_reads(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "classification" / "hallmarks_of_cancer" / "train.jsonl.gz"
    command = [sys.executable, "-m", "clinicalbert_jax.finetune.convert", "--corpus=hallmarks", f"--input={source}"]
    command.append(f"--output_dir={tmp_path / 'hoc'}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    config = ClassificationConfig(multi_label=True, label_column="labels", patient_column="patient")
    sides = [config.read(tmp_path / "hoc" / "labels" / f"{side}.jsonl", Reading()) for side in common.SPLITS]
    assert sum(map(len, sides)) == 12201
    abstracts = [{sentence.patient for sentence in side} for side in sides]
    assert sum(map(len, abstracts)) == len(set.union(*abstracts)) == 1301
    assert [round(len(some) / 1301, 1) for some in abstracts] == [0.7, 0.1, 0.2]
    counts = Counter(label for side in sides for sentence in side for label in sentence.labels)
    assert len(counts) == len(config.task(sides[0]).labels) == 10
    assert counts["Avoiding immune destruction"] == 159
    assert f"records of task 1: train {len(sides[0]):,}, validation" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "--output_dir: expected a new directory" in again.stderr
