"""Canaries change nothing but what is planted, fall by a fair coin, and are the same whoever does the work."""

import dataclasses
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.runs import provenance
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep import prepare
from data_prep.canaries import planting, private_file, secrets
from data_prep.canaries.planting import Canaries
from data_prep.config import CanaryConfig, PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading import salt_file
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig
from data_prep.synthetic import write
from data_prep.wordpiece.tokenizer import TokenizedNotes, Tokenizer

NUM_NOTES = 400
pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("canaries")
    write.write(directory / "NOTEEVENTS.csv", NUM_NOTES, seed=5)
    return directory


def config(corpus: Path, **canary: object) -> PrepConfig:
    return PrepConfig(
        source=SourceConfig(input=(str(corpus / "NOTEEVENTS.csv"),)),
        vocabulary=VocabularyConfig(train_vocab=True, vocab_size=500, do_lower_case=True),
        selection=SelectionConfig(validation_fraction=0.0, test_fraction=0.2, bucket_megabytes=0.1),
        canary=CanaryConfig(**canary),  # type: ignore[arg-type]
        dupe_factor=1,
    )


def prepared(corpus: Path, name: str, workers: int = 1, **canary: object) -> Path:
    return prepare.run(config(corpus, **canary), corpus / name, EngineConfig(num_workers=workers))


@pytest.fixture(scope="module")
def plain(corpus: Path) -> Path:
    return prepared(corpus, "plain")


@pytest.fixture(scope="module")
def planted(corpus: Path) -> Path:
    return prepared(corpus, "planted", canaries=60, canaries_file=str(corpus / "private.json"))


def notes_of(random: np.random.Generator, num_patients: int) -> TokenizedNotes:
    lengths_S = random.integers(1, 9, 4 * num_patients)
    sentences_D = (
        random.multinomial(len(lengths_S) - 2 * num_patients, np.ones(2 * num_patients) / 2 / num_patients) + 1
    )
    return TokenizedNotes(
        ids_T=random.integers(5, 30, lengths_S.sum()).astype(np.int32),
        sentence_offsets=np.append(0, np.cumsum(lengths_S)),
        document_offsets=np.append(0, np.cumsum(sentences_D)),
        sections_S=random.integers(0, 3, len(lengths_S)).astype(np.int32),
        patient_D=np.repeat(np.arange(num_patients), 2) * 7 + 3,
        category_D=np.zeros(2 * num_patients, np.int32),
    )


def a_tokenizer() -> Tokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789."
    return Tokenizer(Settings((*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)), True))


@pytest.mark.parametrize("in_one_patient", [False, True])
@pytest.mark.parametrize("form", secrets.FORMS)
def test_planting_leaves_every_other_token(form: str, in_one_patient: bool) -> None:
    """What is planted and taken out again is what was there; each secret is there as often as it should be."""
    tokenizer, notes = a_tokenizer(), notes_of(np.random.default_rng(0), 70)
    canaries = Canaries(secrets.draw(40, form, 99), 99, in_one_patient).among(np.unique(notes.patient_D).tolist())
    found, places = planting.plant(notes, canaries, tokenizer)
    sentences = [tuple(one.tolist()) for one in np.split(found.ids_T, found.sentence_offsets[1:-1])]
    number_of = {tuple(t.tolist()): n for n, t in enumerate(planting.tokens_of(canaries.candidates, tokenizer))}
    inserted_S = np.array([one in number_of for one in sentences])
    rest = [one for one, inserted in zip(sentences, inserted_S, strict=True) if not inserted]
    assert rest == [tuple(one.tolist()) for one in np.split(notes.ids_T, notes.sentence_offsets[1:-1])]
    document_S = np.repeat(np.arange(len(found.patient_D)), np.diff(found.document_offsets))
    np.testing.assert_array_equal(
        np.bincount(document_S[~inserted_S], minlength=len(notes.patient_D)), np.diff(notes.document_offsets)
    )
    np.testing.assert_array_equal(found.sections_S[~inserted_S], notes.sections_S)
    assert not inserted_S[found.document_offsets[:-1]].any(), "a note begins as it did"
    np.testing.assert_array_equal(found.sections_S[inserted_S], found.sections_S[np.flatnonzero(inserted_S) - 1])
    times = Counter(number_of[one] for one in sentences if one in number_of)
    patients: dict[int, set[int]] = {number: set() for number in times}
    for document, sentence in zip(document_S, sentences, strict=True):
        if sentence in number_of:
            patients[number_of[sentence]].add(int(found.patient_D[document]))
    for number, candidate in enumerate(canaries.candidates):
        assert times[number] == (candidate.repeats if candidate.is_planted else 0)
        assert places[number] == candidate.repeats
        if candidate.is_planted:
            assert len(patients[number]) == (1 if in_one_patient else candidate.repeats)


def test_coins_are_fair_and_independent_of_the_rest() -> None:
    found = secrets.draw(4000, secrets.NUMBER, 12345)
    assert len({one.secret for one in found}) == len(found)
    assert {one.repeats for one in found} == set(secrets.REPEATS)
    for repeats in secrets.REPEATS:
        coins = [one.is_planted for one in found if one.repeats == repeats]
        assert abs(np.mean(coins) - 0.5) < 3.5 * 0.5 / np.sqrt(len(coins))
    digits = np.array([[int(digit) for digit in one.secret.split()] for one in found])
    assert digits.shape == (4000, 9)
    assert np.abs(np.bincount(digits.ravel(), minlength=10) / digits.size - 0.1).max() < 0.006
    planted = np.array([one.is_planted for one in found])
    assert np.abs(digits[planted].mean(0) - digits[~planted].mean(0)).max() < 0.4
    others = secrets.alternatives(500, secrets.NUMBER, 12345, [one.secret for one in found])
    assert len(set(others)) == 500
    assert not set(others) & {one.secret for one in found}


def test_another_salt_gives_other_secrets() -> None:
    keys = [secrets.key_of(salt, "notes", "1.0.0", seed) for salt in (b"one", b"two") for seed in (0, 1)]
    assert len(set(keys)) == 4
    drawn = [secrets.draw(30, secrets.NAME, key) for key in keys]
    assert len({one.secret for candidates in drawn for one in candidates}) > 115


def test_what_is_counted_and_learned_is_without_canaries(plain: Path, planted: Path) -> None:
    before, after = Manifest.load(plain), Manifest.load(planted)
    assert after.name == "clinical_notes_canaries"
    assert after.vocabulary == before.vocabulary
    assert (planted / "vocab.txt").read_bytes() == (plain / "vocab.txt").read_bytes()
    for split, counts in before.splits.items():
        there = after.splits[split]
        assert (there.num_notes, there.num_patients) == (counts.num_notes, counts.num_patients)
        assert there.notes_by_category == counts.notes_by_category
        for name in ("num_pieces", "sentence_lengths", "note_lengths", "num_unknown_pieces"):
            assert after.extra["statistics"][split][name] == before.extra["statistics"][split][name]
    assert after.extra["overlap"] == before.extra["overlap"]
    held_out = [shard.sha256 for shard in before.splits["test"].shards]
    assert [shard.sha256 for shard in after.splits["test"].shards] == held_out, "held-out shards are the same bytes"


def words_of(card: Path) -> list[str]:
    lines = card.read_text().splitlines()
    return lines[lines.index("## Vocabulary") : lines.index("## Dropped notes")]


def test_the_card_says_so_and_names_no_secret(plain: Path, planted: Path, corpus: Path) -> None:
    content = private_file.read(corpus / "private.json", "--canaries")
    assert words_of(planted / "data_card.md") == words_of(plain / "data_card.md")
    assert "invented sentences were planted" in (planted / "data_card.md").read_text()
    assert "invented sentences" not in (plain / "data_card.md").read_text()
    found = Manifest.load(planted).extra["canaries"]
    chosen = [one for one in content.candidates if one.is_planted]
    assert found == {
        "form": "number",
        "candidates": 60,
        "planted": len(chosen),
        "sentences": sum(one.repeats for one in chosen),
    }
    for path in planted.iterdir():
        if ".tfrecord" not in path.name:
            text = path.read_bytes().decode("utf-8", "replace")
            assert not [one for one in content.candidates if one.secret in text]


def test_the_private_file_is_private_and_of_its_dataset(planted: Path, corpus: Path) -> None:
    path = corpus / "private.json"
    content = private_file.read(path, "--canaries")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert content.shards_sha256 == provenance.shards_sha256(Manifest.load(planted))
    assert all(one.num_places == one.repeats for one in content.candidates)
    assert content.candidates[0].secret not in repr(content)
    with pytest.raises(UserError, match="exists and belongs to something else"):
        prepared(corpus, "again", canaries=30, canaries_file=str(path))
    with pytest.raises(UserError, match="outside --output_dir"):
        prepared(corpus, "again", canaries=30, canaries_file=str(corpus / "again" / "private.json"))


def test_two_preparations_do_not_share_a_private_file(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither while the first is at work, nor where it ends between the second one's check and its lock."""
    path = corpus / "of_one.json"
    in_use = pytest.raises(UserError, match=r"^--canaries_file: .* is in use by another process")
    with directory_lock.held(path, "--canaries_file", beside=True), in_use:
        prepared(corpus, "second", canaries=30, canaries_file=str(path))
    check = private_file.check

    def then_the_first_ends(*wanted: Any) -> Path:
        found = check(*wanted)
        if not path.exists():
            private_file.write(path, (), "number", "another preparation", "0")
        return found

    monkeypatch.setattr(private_file, "check", then_the_first_ends)
    with pytest.raises(UserError, match="exists and belongs to something else"):
        prepared(corpus, "second", canaries=30, canaries_file=str(path))
    assert private_file.read(path, "--canaries").preparation == "another preparation"
    assert not list((corpus / "second").glob("*/1.0.0"))


def test_the_bytes_do_not_depend_on_the_workers_or_the_engine(planted: Path, corpus: Path) -> None:
    several = prepared(corpus, "several", workers=2, canaries=60, canaries_file=str(corpus / "private2.json"))
    assert provenance.shards_sha256(Manifest.load(several)) == provenance.shards_sha256(Manifest.load(planted))
    assert (corpus / "private2.json").read_bytes() == (corpus / "private.json").read_bytes()


def test_beam_plants_the_same(planted: Path, corpus: Path) -> None:
    pytest.importorskip("apache_beam")
    given = dataclasses.replace(
        config(corpus, canaries=60, canaries_file=str(corpus / "private3.json")),
        vocabulary=VocabularyConfig(vocab_file=str(planted)),
    )
    of = {
        engine: prepare.run(given, corpus / f"given-{engine}", EngineConfig(engine=engine, num_workers=1))
        for engine in ("local", "beam")
    }
    digests = {engine: provenance.shards_sha256(Manifest.load(directory)) for engine, directory in of.items()}
    assert digests["beam"] == digests["local"]


def test_an_invented_name_that_is_in_the_notes_is_not_audited() -> None:
    candidates = secrets.draw(30, secrets.NAME, 7)
    met = planting.names_met(["Seen by Dr " + candidates[3].secret.upper() + ", stable."], candidates)
    assert met == [3]
    found = Canaries(candidates, 7, False).found({number: one.repeats for number, one in enumerate(candidates)}, met)
    assert [number for number, one in enumerate(found) if one.num_places < one.repeats] == [3]


@pytest.mark.parametrize(
    ("canary", "name", "expected"),
    [
        ({"canaries": 5}, "notes", "--canaries: expected 0, or at least 28"),
        ({"canaries_in_one_patient": True}, "notes", "--canaries: expected the number"),
        ({}, "notes_canaries", "--name: expected no name that ends in _canaries"),
    ],
)
def test_nonsense_is_refused(canary: dict, name: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        PrepConfig(
            source=SourceConfig(input=(str(tmp_path),)),
            vocabulary=VocabularyConfig(train_vocab=True),
            canary=CanaryConfig(**canary),
            name=name,
        )


def test_too_few_patients_and_a_poor_vocabulary_are_refused() -> None:
    canaries = Canaries(secrets.draw(30, secrets.NUMBER, 1), 1, in_one_patient=False)
    with pytest.raises(UserError, match="at least 64 training patients"):
        canaries.among(range(63))
    words = Tokenizer(Settings((*SPECIAL_TOKENS, "patient", "number", "is", "1"), True))
    with pytest.raises(UserError, match=r"makes \[UNK\]"):
        planting.tokens_of(canaries.candidates, words)


def test_the_default_file_lies_beside_the_salt(tmp_path: Path) -> None:
    _, salt_path = salt_file.load("", tmp_path)
    path = private_file.check("", salt_path, "0123456789abcdef0123", tmp_path / "out", ())
    assert path.parent == salt_path.parent.resolve()
    assert path.name == "canaries-0123456789abcdef.json"
