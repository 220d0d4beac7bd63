"""The command from notes to a dataset: what it writes, that nothing is lost, and how it starts, stops and refuses."""

import csv
import dataclasses
import errno
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.data.tfrecord import Shard
from clinicalbert_jax.errors import UserError
from data_prep import prepare, publishing
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig
from data_prep.sharding.shards import Built
from data_prep.sharding.work_directory import Work
from data_prep.synthetic import write

ROOT = Path(__file__).parents[2]
NUM_NOTES = 500
VARYING = {"run.json", "data_card.md", "data_card.html"}  # hold time and memory


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with NOTEEVENTS.csv and a small vocab.txt."""
    directory = tmp_path_factory.mktemp("corpus")
    write.write(directory / "NOTEEVENTS.csv", NUM_NOTES, seed=3)
    trained = config(directory, vocabulary=VocabularyConfig(train_vocab=True, vocab_size=600, do_lower_case=False))
    dataset = prepare.run(dataclasses.replace(trained, dupe_factor=1), directory / "trained", EngineConfig())
    shutil.copy(dataset / "vocab.txt", directory)
    return directory


@pytest.fixture(scope="module")
def dataset(corpus: Path) -> Path:
    """The dataset of one worker."""
    return prepare.run(config(corpus), corpus / "one", EngineConfig(num_workers=1))


def config(corpus: Path, **changes: Any) -> PrepConfig:
    settings = {
        "source": SourceConfig(input=(str(corpus / "NOTEEVENTS.csv"),)),
        "vocabulary": VocabularyConfig(vocab_file=str(corpus / "vocab.txt")),
        "selection": SelectionConfig(validation_fraction=0.2, test_fraction=0.2, bucket_megabytes=0.1),
        "dupe_factor": 2,
    }
    return PrepConfig(**settings | changes)


def command(corpus: Path, output_dir: Path, *flags: str) -> list[str]:
    """The command line of `config(corpus)`."""
    given = {
        "input": corpus / "NOTEEVENTS.csv",
        "vocab_file": corpus / "vocab.txt",
        "output_dir": output_dir,
        "validation_fraction": 0.2,
        "test_fraction": 0.2,
        "bucket_megabytes": 0.1,
        "dupe_factor": 2,
    }
    return [sys.executable, "-m", "data_prep", *(f"--{name}={value}" for name, value in given.items()), *flags]


def contents(dataset: Path) -> dict[str, str]:
    return {file.name: sha256_of(file) for file in sorted(dataset.iterdir()) if file.name not in VARYING}


def examples(dataset: Path, split: str) -> Iterator[dict[str, np.ndarray]]:
    manifest = Manifest.load(dataset)
    for shard in manifest.splits[split].shards:
        opened = Shard(dataset / shard.file, manifest.layout.features())
        assert len(opened) == shard.num_examples
        assert sha256_of(dataset / shard.file) == shard.sha256
        yield opened.read(range(len(opened)))


def all_examples(dataset: Path, split: str) -> dict[str, np.ndarray]:
    parts = list(examples(dataset, split))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_nothing_is_lost(dataset: Path) -> None:
    manifest = Manifest.load(dataset)
    written = sum(split.num_notes for split in manifest.splits.values())
    assert manifest.extra["num_notes_read"] == NUM_NOTES == written + sum(manifest.drops.values())
    for name, split in manifest.splits.items():
        assert manifest.extra["statistics"][name]["least_fraction_of_pieces_in_a_pass"] == 1
        assert split.num_notes == sum(split.notes_by_category.values())
    assert len(manifest.splits["train"].shards) > 2


def keys_of(document: Any) -> Iterator[str]:
    """Every key of a JSON document but names of files and categories."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            if not key.endswith("_by_category") and key != "files":
                yield from keys_of(value)
    elif isinstance(document, list):
        for value in document:
            yield from keys_of(value)


def test_every_key_is_in_snake_case(dataset: Path) -> None:
    keys = [key for name in ("manifest.json", "run.json") for key in keys_of(json.loads((dataset / name).read_text()))]
    assert len(keys) > 100
    assert [key for key in keys if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", key)] == []


def test_counts_are_those_of_the_examples(dataset: Path) -> None:
    manifest = Manifest.load(dataset)
    patients: list[set[int]] = []
    for name, split in manifest.splits.items():
        read = all_examples(dataset, name)
        assert len(read["input_ids"]) == split.num_examples == split.num_pairs
        assert read["input_mask"].sum() == split.num_tokens
        assert read["masked_lm_weights"].sum() == split.num_predictions
        assert read["next_sentence_labels"].sum() == split.num_random_next
        assert split.num_random_next / split.num_pairs == pytest.approx(0.5, abs=0.01)
        assert split.num_predictions / (split.num_tokens - 3 * split.num_pairs) == pytest.approx(0.15, abs=0.003)
        patients.append(set(read["patient_group"].ravel().tolist()))
        assert len(patients[-1]) == split.num_patients
    assert len(set.union(*patients)) == sum(map(len, patients))  # no patient in two splits


def test_one_and_two_workers_write_the_same_bytes(corpus: Path, dataset: Path) -> None:
    two = prepare.run(config(corpus), corpus / "two", EngineConfig(num_workers=2))
    assert contents(two) == contents(dataset)
    assert not (corpus / "two" / "_work").exists()


def test_kill_and_rerun_ends_in_the_same_bytes(corpus: Path, dataset: Path) -> None:
    output_dir = corpus / "killed"
    moments = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command(corpus, output_dir), cwd=ROOT, stdout=-3, stderr=-3, start_new_session=True)
        time.sleep(moments.uniform(0.7, 2.0))
        process.kill()
        process.wait()
    finished = subprocess.run(command(corpus, output_dir), cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout.splitlines()[-1] == str(output_dir / "clinical_notes" / "1.0.0")
    assert contents(output_dir / "clinical_notes" / "1.0.0") == contents(dataset)
    assert not (output_dir / "_work").exists()


def test_a_finished_bucket_is_not_built_again(corpus: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output_dir = corpus / "partly"
    calls = []
    build = prepare.local.shards.build

    def fails_at_the_third(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return build(*arguments)

    monkeypatch.setattr(prepare.local.shards, "build", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        prepare.run(config(corpus), output_dir, EngineConfig(num_workers=1))
    finished = prepare.run(config(corpus), output_dir, EngineConfig(num_workers=1))
    num_buckets = sum(len(split.shards) for split in Manifest.load(finished).splits.values())
    assert len(calls) == num_buckets + 1
    assert contents(finished) == contents(dataset)


def test_sigterm_stops_in_order(corpus: Path) -> None:
    arguments = command(corpus, corpus / "stopped", "--dupe_factor=60")
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2.5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "error: interrupted"
    assert "--discard_work removes it" in errors.splitlines()[-2]
    assert "Traceback" not in errors


def test_another_option_is_refused(corpus: Path, dataset: Path) -> None:
    changed = config(corpus, max_seq_length=64)
    with pytest.raises(UserError, match=r"--max_seq_length was 128, is 64.*--overwrite"):
        prepare.run(changed, corpus / "one", EngineConfig())
    (dataset / "run").mkdir()
    with pytest.raises(UserError, match="holds directories beside a dataset, such as a run: move them"):
        prepare.run(changed, corpus / "one", EngineConfig(), overwrite=True)
    (dataset / "run").rmdir()
    before = contents(dataset)
    assert prepare.run(config(corpus), corpus / "one", EngineConfig()) == dataset
    assert contents(dataset) == before


def test_a_mended_mistake_is_not_refused(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run that finished nothing left behind is in nobody's way."""
    one = EngineConfig(num_workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
        with pytest.raises(UserError, match="a smaller --dupe_factor"):
            prepare.run(config(corpus), tmp_path / "out", one)
    whole = synthetic_gzip(tmp_path)
    changed = config(corpus, dupe_factor=1, source=SourceConfig(input=(str(tmp_path / "notes.csv.gz"),)))
    (tmp_path / "notes.csv.gz").write_bytes(whole[:-1000])
    with pytest.raises(UserError, match="damaged"):
        prepare.run(changed, tmp_path / "out", one)
    (tmp_path / "notes.csv.gz").write_bytes(whole)
    assert Manifest.load(prepare.run(changed, tmp_path / "out", one)).extra["num_notes_read"] == 50


def synthetic_gzip(directory: Path) -> bytes:
    write.write(directory / "whole.csv.gz", 50, seed=0)
    return (directory / "whole.csv.gz").read_bytes()


def test_other_patients_to_exclude_are_refused(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    """The same file name with other contents must not pass for the dataset that is there."""
    listed = tmp_path / "patients.txt"
    selection = dataclasses.replace(config(corpus).selection, exclude_patients=str(listed), expect_excluded=0)
    excluding = config(corpus, dupe_factor=1, selection=selection)
    listed.write_text("1\n2\n")
    done = prepare.run(excluding, tmp_path / "out", EngineConfig(num_workers=1))
    listed.write_text("\ufeff2\r\n1.0\r\n")  # the same patients
    assert prepare.run(excluding, tmp_path / "out", EngineConfig(num_workers=1)) == done
    listed.write_text("1\n3\n")
    with pytest.raises(UserError, match=r"content of --exclude_patients has changed"):
        prepare.run(excluding, tmp_path / "out", EngineConfig(num_workers=1))
    listed.write_text("1\n2\n")
    (done.parent / "1.0.0.private.json").unlink()  # it cannot be known who was excluded
    with pytest.raises(UserError, match="content of --exclude_patients has changed"):
        prepare.run(excluding, tmp_path / "out", EngineConfig(num_workers=1))


def test_excluded_text_that_no_note_holds_is_an_error(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And the same command continues where that is said to be right."""
    tests = tmp_path / "tests.txt"
    tests.write_text(" ".join(f"word{number}" for number in range(50)))
    wanted = config(corpus, dupe_factor=1, exclude_text=(str(tests),))
    one = EngineConfig(num_workers=1)
    with pytest.raises(UserError, match="expected notes that hold text of these files, found none"):
        prepare.run(wanted, tmp_path / "out", one)
    allowed = dataclasses.replace(wanted, selection=dataclasses.replace(wanted.selection, expect_excluded=0))
    without = prepare.run(allowed, tmp_path / "out", one)
    assert "continuing" in capfd.readouterr().err
    with (corpus / "NOTEEVENTS.csv").open(newline="") as file:
        tests.write_text(max((row["TEXT"] for row in csv.DictReader(file)), key=len))
    held = Manifest.load(prepare.run(wanted, tmp_path / "other", one)).drops["holds_text_of_exclude_text"]
    assert f"--exclude_text: {held:,} notes hold text of it" in capfd.readouterr().err
    assert held > 0
    assert "holds_text_of_exclude_text" not in Manifest.load(without).drops


def test_invented_notes_say_that_they_are(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    assert Manifest.load(dataset).extra["formats"] == ["mimic_iii", "invented"]
    text = (corpus / "NOTEEVENTS.csv").read_text()
    (tmp_path / "NOTEEVENTS.csv").write_text(text.replace("CLINICALBERT_JAX_SYNTHETIC", "OTHER", 1))
    both = (str(tmp_path / "NOTEEVENTS.csv"), str(corpus / "NOTEEVENTS.csv"))
    mixed = config(corpus, dupe_factor=1, source=SourceConfig(input=both))
    assert Manifest.load(prepare.run(mixed, tmp_path / "out", EngineConfig())).extra["formats"] == ["mimic_iii"]


def test_two_runs_at_once_are_refused(corpus: Path, tmp_path: Path) -> None:
    with Work(tmp_path / "_work").alone(), pytest.raises(UserError, match="in use by another process"):
        prepare.run(config(corpus), tmp_path, EngineConfig(num_workers=1))


def test_notes_edited_in_place_are_not_taken_for_the_old(corpus: Path, tmp_path: Path) -> None:
    """Same name, same size, same times, same command: the content alone differs."""
    notes = tmp_path / "NOTEEVENTS.csv"
    shutil.copy(corpus / "NOTEEVENTS.csv", notes)
    wanted = config(corpus, dupe_factor=1, source=SourceConfig(input=(str(notes),)))
    one = EngineConfig(num_workers=1)
    dataset = prepare.run(wanted, tmp_path / "out", one)
    before, status = contents(dataset), notes.stat()
    assert prepare.run(wanted, tmp_path / "out", one) == dataset
    notes.write_text(notes.read_text().replace("patient", "XXXXXXX"))
    os.utime(notes, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert notes.stat().st_size == status.st_size
    with pytest.raises(UserError, match=r"content of --input has changed \(entry 1 of 1\).*--version.*--overwrite"):
        prepare.run(wanted, tmp_path / "out", one)
    assert contents(dataset) == before
    assert prepare.run(wanted, tmp_path / "out", one, overwrite=True) == dataset
    assert contents(dataset) != before
    assert sorted(path.name for path in (tmp_path / "out").rglob(".*")) == []


def test_an_input_that_changes_while_it_is_read_is_an_error(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    shutil.copy(corpus / "NOTEEVENTS.csv", notes)
    spill_all = prepare.spill.spill

    wanted = config(corpus, source=SourceConfig(input=(str(notes),)))
    for change in (
        lambda: (notes / "NOTEEVENTS.csv").touch(),
        lambda: shutil.copy(corpus / "NOTEEVENTS.csv", notes / "more.csv"),
        lambda: (notes / "more.csv").unlink(),
    ):
        monkeypatch.setattr(prepare.spill, "spill", lambda *arguments: (spill_all(*arguments), change())[0])  # noqa: B023
        with pytest.raises(UserError, match=r"--input: .* changed while it was read"):
            prepare.run(wanted, tmp_path / "out", EngineConfig(num_workers=1))
        assert not (tmp_path / "out/_work").exists()


@pytest.mark.parametrize("error", [UserError("bad input"), ZeroDivisionError()])
def test_no_text_of_notes_is_left_where_a_rerun_cannot_continue(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*arguments: Any) -> Any:
        assert list((tmp_path / "_work/spill").iterdir())
        raise error

    monkeypatch.setattr(prepare.local.shards, "build", fails)
    with pytest.raises(type(error)):
        prepare.run(config(corpus), tmp_path, EngineConfig(num_workers=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full"), MemoryError()])
def test_text_of_notes_stays_where_the_same_command_continues(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    def fails(*arguments: Any) -> Any:
        raise error

    one, work = EngineConfig(num_workers=1), tmp_path / "_work"
    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(prepare.local.shards, "build", fails)
        prepare.run(config(corpus), tmp_path, one)
    assert "--discard_work removes it" in capsys.readouterr().err
    assert work.stat().st_mode & 0o777 == 0o700
    assert list((work / "spill").iterdir())
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):  # a command with other options removes it
        patched.setattr(prepare, "_prepare", lambda *arguments: 1 / len(list((work / "spill").iterdir())))
        prepare.run(config(corpus, seed=9), tmp_path, one)
    assert "--seed was 0, is 9" in capsys.readouterr().err
    assert not work.exists()


def test_discard_work_removes_what_is_unfinished(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "_work/spill").mkdir(parents=True)
    (tmp_path / "_work/spill/notes").write_text("text")
    done = subprocess.run([*command(corpus, tmp_path), "--discard_work"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"removed {tmp_path / '_work'}\n")
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed_in_the_working_directory(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out/_work").mkdir(parents=True)
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out/_work/fingerprint.json.tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="expected no links"):
        prepare.run(config(corpus), tmp_path / "out", EngineConfig(num_workers=1))
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize("output", ["gs://bucket/x", "notes/out", "notes"])
def test_nothing_is_written_to_a_url_or_among_the_notes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    (tmp_path / "notes").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--output_dir: expected a (local path, found a URL|directory outside of)"):
        prepare.run(config(corpus, source=SourceConfig(input=(str(tmp_path / "notes"),))), output, EngineConfig())
    assert [path.name for path in tmp_path.rglob("*")] == ["notes"]


def test_what_a_run_killed_at_its_end_left_is_removed(corpus: Path, dataset: Path) -> None:
    left = corpus / "one" / "_work"
    (left / "spill").mkdir(parents=True)
    assert prepare.run(config(corpus), corpus / "one", EngineConfig()) == dataset
    assert not left.exists()


def salted(corpus: Path, salt_file: Path, **selection: Any) -> PrepConfig:
    of_corpus = dataclasses.replace(config(corpus).selection, salt_file=str(salt_file), **selection)
    return config(corpus, dupe_factor=1, selection=of_corpus)


def patients_by_split(dataset: Path) -> dict[str, tuple[int, int]]:
    return {name: (split.num_notes, split.num_patients) for name, split in Manifest.load(dataset).splits.items()}


def test_a_dataset_tells_nothing_of_the_salt(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    """Two salts give other groups and buckets, and the same splits, manifest and fingerprint."""
    one_worker, documents = EngineConfig(num_workers=1), []
    for name in ("one", "other"):
        written = prepare.run(salted(corpus, tmp_path / name), tmp_path / f"{name}_out", one_worker)
        manifest = Manifest.load(written)
        documents.append((manifest.options, manifest.extra["fingerprint"], patients_by_split(written)))
        secret = (tmp_path / name).read_bytes().strip()
        assert not any(secret in file.read_bytes() for file in written.iterdir())
    assert documents[0] == documents[1]
    written = [tmp_path / f"{name}_out" / "clinical_notes" / "1.0.0" for name in ("one", "other")]
    groups = [set(all_examples(path, "train")["patient_group"].ravel().tolist()) for path in written]
    assert not groups[0] & groups[1]
    assert not any("salt" in key for key in documents[0][0])
    with pytest.raises(UserError, match="content of --salt_file has changed"):
        prepare.run(salted(corpus, tmp_path / "other"), tmp_path / "one_out", one_worker)


def test_work_begun_with_another_salt_is_not_continued(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_worker = EngineConfig(num_workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "publish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare.run(salted(corpus, tmp_path / "one"), tmp_path / "out", one_worker)
    assert (tmp_path / "out" / "_work" / "private.json").stat().st_mode & 0o777 == 0o600
    prepare.run(salted(corpus, tmp_path / "other"), tmp_path / "out", one_worker)
    assert "the content of --salt_file has changed" in capsys.readouterr().err


def test_only_the_owner_may_read(corpus: Path, tmp_path: Path) -> None:
    subprocess.run(command(corpus, tmp_path / "out", "--dupe_factor=1"), cwd=ROOT, capture_output=True, check=True)
    written = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert len(written) > 10
    assert not any(path.stat().st_mode & 0o077 for path in written)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("pairing", ["balanced", "hard", "google"])
@pytest.mark.parametrize("masking", ["static", "dynamic"])
def test_every_combination(corpus: Path, tmp_path: Path, layout: str, pairing: str, masking: str) -> None:
    wanted = config(
        corpus, layout=layout, pairing=pairing, masking=masking, whole_word_masking=pairing == "hard", dupe_factor=1
    )
    manifest = Manifest.load(prepare.run(wanted, tmp_path, EngineConfig(num_workers=1)))
    read = all_examples(tmp_path / "clinical_notes" / "1.0.0", "train")
    assert ("masked_lm_ids" in read) == (masking == "static")
    weights = read.get("next_sentence_weights", np.ones_like(read["next_sentence_labels"]))
    assert weights.sum() == manifest.splits["train"].num_pairs
    fill = manifest.extra["statistics"]["train"]["fill"]
    assert fill > (0.9 if layout == "packed" else 0.5)
    if pairing != "google":
        assert manifest.extra["statistics"]["train"]["least_fraction_of_pieces_in_a_pass"] == 1


def test_the_disk_must_have_room(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(UserError, match=r"expected about 0\.0 GB of free disk"):
        prepare.run(config(corpus), tmp_path, EngineConfig())


@pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")  # by TFDS 4.9, of protobuf 6
def test_tfds_opens_the_dataset(dataset: Path) -> None:
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(str(dataset)).info
    manifest = Manifest.load(dataset)
    assert {name: split.num_examples for name, split in info.splits.items()} == {
        name: split.num_examples for name, split in manifest.splits.items()
    }
    for name, split in manifest.splits.items():
        assert info.splits[name].shard_lengths == [shard.num_examples for shard in split.shards]
    assert {name: feature.shape[0] for name, feature in info.features.items()} == {
        name: feature.length for name, feature in manifest.layout.features().items()
    }


def test_beam_writes_the_same_bytes_fetches_nothing_and_logs_no_note(
    corpus: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install '.[beam]'")
    from apache_beam.runners.portability.prism_runner import PrismRunner

    fetched: list[Any] = []
    monkeypatch.setattr(PrismRunner, "run_pipeline", lambda *arguments: fetched.append(arguments))
    with caplog.at_level(logging.DEBUG):
        on_beam = prepare.run(config(corpus), corpus / "beam", EngineConfig("beam"))
    assert contents(on_beam) == contents(dataset)
    assert not fetched
    logged = [record for record in caplog.records if record.name.startswith("apache_beam")]
    assert not logged, logged[0].name


def test_categories_of_few_patients_are_one(corpus: Path, dataset: Path) -> None:
    with (corpus / "NOTEEVENTS.csv").open(newline="") as file:
        patients: dict[str, set[str]] = {}
        for row in csv.DictReader(file):
            if row["ISERROR"] != "1" and row["TEXT"].strip():
                patients.setdefault(row["CATEGORY"].strip(), set()).add(row["SUBJECT_ID"])
    rare = {category for category, of in patients.items() if len(of) < 20}
    manifest = Manifest.load(dataset)
    assert rare
    assert set(manifest.categories) == patients.keys() - rare | {"other"}
    for split in manifest.splits.values():
        assert set(split.notes_by_category) <= set(manifest.categories)
        assert sum(split.notes_by_category.values()) == split.num_notes
    found = all_examples(dataset, "train")["note_category"]
    assert (found == manifest.categories.index("other")).any()


def test_mistakes_with_beam_are_one_line(corpus: Path, dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install '.[beam]'")
    with pytest.raises(UserError, match=r"--beam_options: .*NoSuchRunner"):
        prepare.run(config(corpus), tmp_path, EngineConfig("beam", beam_options=("--runner=NoSuchRunner",)))
    nothing = dataclasses.replace(config(corpus).selection, categories=("none",))
    with pytest.raises(UserError, match=r"--categories: .* none of number 1 of the 1 named"):
        prepare.run(config(corpus, selection=nothing), tmp_path, EngineConfig("beam"))
    (tmp_path / "opted_out.txt").write_text("nobody-1\n")
    nobody = dataclasses.replace(config(corpus).selection, exclude_patients=str(tmp_path / "opted_out.txt"))
    with pytest.raises(UserError, match="--exclude_patients: 0 of 1 met"):
        prepare.run(config(corpus, selection=nobody), tmp_path, EngineConfig("beam"))
    # What the mistake left behind is in nobody's way.
    (category, *_) = Manifest.load(dataset).categories
    some = dataclasses.replace(config(corpus).selection, categories=(f"{category.upper()} ",))
    prepare.run(config(corpus, selection=some), tmp_path, EngineConfig("beam"))


def without_text(corpus: Path, directory: Path) -> list[str]:
    lines = (corpus / "NOTEEVENTS.csv").read_text().splitlines(keepends=True)
    (directory / "in.csv").write_text(lines[0].replace("TEXT", "TXT") + "".join(lines[1:]))
    return [f"--input={directory / 'in.csv'}"]


def without_mask(corpus: Path, directory: Path) -> list[str]:
    (directory / "vocab.txt").write_text((corpus / "vocab.txt").read_text().replace("[MASK]\n", ""))
    return [f"--vocab_file={directory / 'vocab.txt'}"]


def cut_gzip(corpus: Path, directory: Path) -> list[str]:
    (directory / "NOTEEVENTS.csv.gz").write_bytes(synthetic_gzip(directory)[:-1000])
    return [f"--input={directory / 'NOTEEVENTS.csv.gz'}"]


MISTAKES: dict[str, tuple[Any, str]] = {
    "missing file": (lambda c, d: [f"--input={d / 'none.csv'}"], "--input entry 2 of 2: expected a file or directory"),
    "no TEXT": (without_text, "TEXT"),
    "no [MASK]": (without_mask, "[MASK]"),
    "no vocabulary": (lambda c, d: ["--vocab_file="], "--vocab_file"),
    "casing": (lambda c, d: ["--do_lower_case"], "do_lower_case"),
    "misspelt flag": (lambda c, d: ["--max_seq_len=128"], "max_seq_len"),
    "ill-typed flag": (lambda c, d: ["--max_seq_length=long"], "max_seq_length"),
    "wrong value": (lambda c, d: ["--dupe_factor=0"], "--dupe_factor: expected 1 to 1000, found 0"),
    "unknown pairing": (lambda c, d: ["--pairing=mixed"], "pairing"),
    "stray word": (lambda c, d: ["NOTEEVENTS.csv"], "a word that belongs to none"),
    "nowhere to write": (lambda c, d: ["--output_dir=/proc/none"], "--output_dir"),
    "cut gzip": (cut_gzip, "--input entry 2 of 2: expected a whole gzip file"),
    "no output": (lambda c, d: ["--output_dir="], "--output_dir: expected a value"),
    "no workers": (lambda c, d: ["--num_workers=0"], "--num_workers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(corpus: Path, tmp_path: Path, mistake: str) -> None:
    flags, expected = MISTAKES[mistake]
    arguments = command(corpus, tmp_path / "out", *flags(corpus, tmp_path))
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert expected in last
    assert "Traceback" not in result.stderr
    assert not result.stdout


@pytest.mark.fast
def test_a_vocabulary_that_does_not_fit_the_notes_is_said() -> None:
    def notices(*counts: tuple[int, int]) -> list[str]:
        return prepare._unknown_notices([Built("train", 0, num_pieces=n, num_unknown_pieces=u) for n, u in counts])

    assert notices() == notices((0, 0)) == notices((100, 0), (100, 10)) == []
    (line,) = notices((100, 100), (100, 50))
    assert line.startswith("warning: 75% of the tokens are [UNK]: check that --vocab_file")
