import dataclasses
import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from data_prep.reading import selection, sources, spill
from data_prep.reading.selection import DigestSet, SelectionConfig
from data_prep.reading.sources import Source, SourceConfig
from data_prep.reading.spill import Bucket, Note

# Hashes of patients decide on splits for ever: a changed value would put test patients into training data.
SALT = b"clinicalbert_jax"
FROZEN_SPLITS = {"train": 1785, "test": 111, "validation": 104}
FROZEN_BUCKETS = [436, 707, 797]
FROZEN_GROUPS = [159689630509174, 164006238487011, 190341648075761]

any_text = st.text(st.characters(codec=None))  # lone surrogates, as JSON can hold them, included


def note(text, patient="1", category="Echo", row="1", time="2150"):
    return Note(row, patient, time, category, text)


def selected(stream, **settings):
    drops = Counter()
    return [n.text for n in selection.select(stream, SelectionConfig(**settings), drops)], dict(drops)


@pytest.mark.fast
def test_selection_counts_what_it_drops():
    stream = [
        note("A  b."),
        note(" \n"),
        note("A\nb. "),
        note("A b"),
        note("A b.", patient="2"),
        note("C", category="Nursing"),
    ]
    assert selected(stream) == (["A  b.", "A b", "C"], {"empty": 1, "exact duplicate": 2})
    assert selected(stream, categories=("nursing ",)) == (["C"], {"other category": 5})


def test_excluded_patients(tmp_path):
    (tmp_path / "out.txt").write_text("2\n 3 \n\n")
    stream = [note("a", "1"), note("b", "2"), note("c", "3")]
    assert selected(stream, exclude_patients=str(tmp_path / "out.txt")) == (["a"], {"excluded patient": 2})
    with pytest.raises(UserError, match="--exclude_patients"):
        selected(stream, exclude_patients=str(tmp_path / "no.txt"))


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": -0.1},
        {"test_fraction": 1.0},
        {"validation_fraction": 0.5, "test_fraction": 0.5},
        {"bucket_megabytes": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError):
        SelectionConfig(**settings)


@given(st.lists(st.integers(0, 300)))
def test_digest_set_is_a_set(numbers):
    """Against Python's own, on digests that share prefixes and hold each other's bytes astride."""
    digests, known = DigestSet(), set()
    for number in numbers:
        digest = bytes([0, number % 2]) + bytes([number % 3] * 13) + bytes([number // 60])
        assert digests.add(digest) == (digest not in known)
        known.add(digest)


def test_split_and_bucket_of_a_patient_never_change():
    rule = SelectionConfig().split_rule
    groups = [patients.patient_group(patient, SALT) for patient in ("0", "1", "10006")]
    buckets = [patients.bucket_of(patient, 1000, SALT) for patient in ("0", "1", "10006")]
    splits = Counter(rule.split_of(str(patient)) for patient in range(2000))
    assert (splits, buckets, groups) == (FROZEN_SPLITS, FROZEN_BUCKETS, FROZEN_GROUPS)


def test_splits_have_their_share_and_buckets_are_even():
    rule = SelectionConfig(validation_fraction=0.1, test_fraction=0.2).split_rule
    people = [str(number) for number in range(20_000)]
    splits = Counter(map(rule.split_of, people))
    assert abs(splits["validation"] - 2000) < 4 * 42  # four standard deviations
    assert abs(splits["test"] - 4000) < 4 * 57
    of_train = [patient for patient in people if rule.split_of(patient) == "train"]
    buckets = Counter(patients.bucket_of(patient, 10, SALT) for patient in of_train)
    assert max(buckets.values()) < 1.1 * min(buckets.values())


def test_the_salt_changes_groups_and_buckets_and_the_key_changes_splits():
    people = [str(number) for number in range(1000)]
    for hashed in (patients.patient_group, lambda patient, salt: patients.bucket_of(patient, 1 << 40, salt)):
        assert not {hashed(one, SALT) for one in people} & {hashed(one, b"another") for one in people}
    assert all(0 <= patients.patient_group(one, SALT) < 2**48 for one in people)
    other = SelectionConfig(split_key="ours").split_rule
    assert [other.split_of(one) for one in people] != [SelectionConfig().split_rule.split_of(one) for one in people]


def test_number_of_buckets_follows_from_the_size_of_the_input_alone():
    config = SelectionConfig(validation_fraction=0.1, test_fraction=0.0, bucket_megabytes=1)
    files = [Source("a.csv", 0, "mimic_iii", 15 << 20), Source("b.csv", 1, "mimic_iii", 5 << 20)]
    counts = Counter(bucket.split for bucket in spill.plan_buckets(files, config))
    assert counts == {"train": 18, "validation": 2}
    assert len(spill.plan_buckets([Source("a.csv", 0, "csv", 0)], config)) == 2  # never none


@given(st.lists(st.builds(Note, any_text, any_text, any_text, any_text, any_text)))
def test_a_bucket_is_read_as_written_and_sorted(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("bucket") / "x.notes"
    path.write_bytes(b"".join(map(spill.encode_note, written)))
    loaded = spill.load_bucket(path)
    key = [(n.patient_id, n.time, len(n.row_id), n.row_id, n.text, n.category) for n in loaded]
    assert Counter(loaded) == Counter(written)
    assert [k[:4] for k in key] == sorted(k[:4] for k in key)


def test_order_within_a_bucket_does_not_depend_on_the_order_of_writing(tmp_path):
    written = [note(f"{row}", str(row % 3), row=str(row), time=str(row % 2)) for row in range(40)]
    contents = []
    for seed in range(3):
        random.Random(seed).shuffle(written)
        (tmp_path / "x.notes").write_bytes(b"".join(map(spill.encode_note, written)))
        contents.append(spill.load_bucket(tmp_path / "x.notes"))
    assert contents[0] == contents[1] == contents[2]
    assert [n.row_id for n in contents[0] if n.patient_id == "0"][:3] == ["0", "6", "12"]  # by number, not as text


def test_a_bucket_without_patients_is_empty(tmp_path):
    assert spill.load_bucket(tmp_path / Bucket("test", 3, 4).file_name) == []


def spilled(path, directory, **settings):
    source_config, config = SourceConfig((str(path),)), SelectionConfig(**settings)
    files = sources.resolve(source_config)
    buckets = spill.plan_buckets(files, config)
    directory.mkdir(exist_ok=True)
    report = spill.spill(files, source_config, config, SALT, buckets, directory)
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}
    return report, [spill.load_bucket(directory / bucket.file_name) for bucket in buckets], buckets, digests


def test_development_notes_are_all_written_or_counted(shared_data, tmp_path):
    path = shared_data / "mimic_iii" / "NOTEEVENTS.csv.gz"
    report, contents, buckets, digests = spilled(path, tmp_path / "a", bucket_megabytes=0.5)
    assert report.num_read == 1941 == sum(map(len, contents)) + report.drops.total()
    assert report.drops == {"marked as error": 5, "empty": 1, "exact duplicate": 7}
    assert {s: c.total() for s, c in report.kept.items()} == {
        s: sum(len(c) for c, b in zip(contents, buckets, strict=True) if b.split == s) for s in spill.SPLITS
    }
    patients = [{n.patient_id for n in content} for content in contents]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 926 - 1  # one had but the empty note
    # A killed run's files are written anew, not appended to.
    assert spilled(path, tmp_path / "a", bucket_megabytes=0.5)[3] == digests


def test_memory_held_back_is_bounded_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "_BUFFER_BYTES", 100)
    lines = "".join(f'{{"who": {number % 7}, "body": "Note {number}."}}\n' for number in range(300))
    (tmp_path / "n.jsonl").write_text(lines)
    config = SourceConfig((str(tmp_path / "n.jsonl"),), text_column="body", patient_column="who")
    files = sources.resolve(config)
    buckets = spill.plan_buckets(files, SelectionConfig())
    (tmp_path / "work").mkdir()
    report = spill.spill(files, config, SelectionConfig(), SALT, buckets, tmp_path / "work")
    assert report.num_read == sum(len(spill.load_bucket(tmp_path / "work" / b.file_name)) for b in buckets) == 300


def test_an_input_without_a_note_to_keep_is_refused(tmp_path):
    (tmp_path / "n.jsonl").write_text('{"who": 1, "body": " "}\n{\n')
    config = SourceConfig((str(tmp_path / "n.jsonl"),), text_column="body", patient_column="who")
    files = sources.resolve(config)
    with pytest.raises(UserError, match="--input: 1 of 2 rows are malformed"):
        spill.spill(files, config, SelectionConfig(), SALT, spill.plan_buckets(files, SelectionConfig()), tmp_path)
    config = dataclasses.replace(config, max_malformed_fraction=0.5)
    with pytest.raises(UserError, match=r"among 2 .*1 malformed row, 1 empty|1 empty, 1 malformed row"):
        spill.spill(files, config, SelectionConfig(), SALT, spill.plan_buckets(files, SelectionConfig()), tmp_path)


def test_undecodable_notes_are_counted(tmp_path):
    (tmp_path / "n.jsonl").write_bytes(b'{"who": 1, "body": "caf\xe9"}\n{"who": 1, "body": "tea"}\n')
    config = SourceConfig((str(tmp_path / "n.jsonl"),), text_column="body", patient_column="who")
    files = sources.resolve(config)
    report = spill.spill(files, config, SelectionConfig(), SALT, spill.plan_buckets(files, SelectionConfig()), tmp_path)
    assert (report.num_undecodable, report.num_read) == (1, 2)
    assert report.notices(SelectionConfig())[0].startswith("warning: 1 notes hold undecodable bytes")


def test_identifiers_that_look_alike_are_warned_of_without_showing_them(tmp_path):
    people = ["0123", "123", "ab7", "AB7", "Ab7", "5"]
    lines = "".join(f'{{"who": "{who}", "body": "Note {number}."}}\n' for number, who in enumerate(people * 2))
    (tmp_path / "n.jsonl").write_text(lines)
    config = SourceConfig((str(tmp_path / "n.jsonl"),), text_column="body", patient_column="who")
    files = sources.resolve(config)
    report = spill.spill(files, config, SelectionConfig(), SALT, spill.plan_buckets(files, SelectionConfig()), tmp_path)
    (warning,) = report.notices(SelectionConfig())
    assert warning.startswith("warning: 3 patients' identifiers differ from another one only by leading zeros or case")
    assert not any(who in warning for who in people if who != "5")


def spilled_directory(directory, **settings):
    config = SourceConfig((str(directory),), patient_column="directory", **settings)
    files = sources.resolve(config)
    buckets = spill.plan_buckets(files, SelectionConfig())
    return spill.spill(files, config, SelectionConfig(), SALT, buckets, directory.parent)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le"])
def test_a_directory_of_notes_in_another_encoding_is_refused(tmp_path, encoding):
    for number in range(20):
        (tmp_path / "d" / str(number)).mkdir(parents=True)
        (tmp_path / "d" / str(number) / "a.txt").write_bytes(f"m\xfcde {number}".encode(encoding))
    with pytest.raises(UserError, match=r"--input: 20 of 20 notes hold undecodable bytes.*--encoding"):
        spilled_directory(tmp_path / "d")
    assert spilled_directory(tmp_path / "d", max_malformed_fraction=1.0).num_undecodable == 20
    report = spilled_directory(tmp_path / "d", encoding=encoding)
    assert (report.num_undecodable, report.num_read) == (0, 20)


def test_files_without_rows_are_counted(tmp_path):
    (tmp_path / "a.csv").write_text("who,body\n1,tea\n")
    (tmp_path / "b.csv").write_text("who,body\n")
    config = SourceConfig((str(tmp_path / "*.csv"),), text_column="body", patient_column="who")
    files = sources.resolve(config)
    report = spill.spill(files, config, SelectionConfig(), SALT, spill.plan_buckets(files, SelectionConfig()), tmp_path)
    assert report.notices(SelectionConfig()) == ["warning: 1 files of --input have no rows"]
