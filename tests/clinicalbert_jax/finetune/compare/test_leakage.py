"""Planted leakage is found to the document, in every layout of shards; where there is none, none is found."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.finetune.compare import leakage
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep import prepare
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading import salt_file
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig
from data_prep.wordpiece.tokenizer import Tokenizer

NUM_NOTES, NUM_TEST = 150, 20
WORDS = [f"{first}{middle}{last}" for first in "bdfglmnprst" for middle in "aeiou" for last in ("lin", "ter", "s", "x")]


def notes(seed: int, count: int) -> list[str]:
    """Notes of some 120 words, in sentences, that have no 13 words in common but by a great accident."""
    random = np.random.default_rng(seed)
    sentences = [" ".join(random.choice(WORDS, random.integers(6, 15))).capitalize() + "." for _ in range(count * 12)]
    return [" ".join(sentences[12 * number : 12 * number + 12]) for number in range(count)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NOTES.csv of 50 patients and vocab.txt, of which many words are several pieces."""
    directory = tmp_path_factory.mktemp("leakage")
    with (directory / "NOTES.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["patient", "text"], *([f"p{n % 50}", text] for n, text in enumerate(notes(0, NUM_NOTES)))]
        )
    pieces = [*"abdefgilmnoprstux.", *(f"##{c}" for c in "abdefgilmnoprstux"), *WORDS[::2], "##lin", "##ter"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    (directory / "vocab.txt").write_text("".join(f"{entry}\n" for entry in vocabulary))
    return directory


def prepared(corpus: Path, name: str, **settings: object) -> Path:
    config = PrepConfig(
        source=SourceConfig((str(corpus / "NOTES.csv"),), text_column="text", patient_column="patient"),
        vocabulary=VocabularyConfig(vocab_file=str(corpus / "vocab.txt")),
        selection=SelectionConfig(validation_fraction=0.0, test_fraction=0.2),
        dupe_factor=2,
    )
    return prepare.run(dataclasses.replace(config, **settings), corpus / name, EngineConfig(num_workers=1))  # type: ignore[arg-type]


def rows_of(corpus: Path) -> list[tuple[str, str]]:
    with (corpus / "NOTES.csv").open(newline="") as file:
        return [(row["patient"], row["text"]) for row in csv.DictReader(file)]


@pytest.mark.fast
@pytest.mark.parametrize("masking", ["static", "dynamic"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_planted_documents_are_found(corpus: Path, layout: str, masking: str) -> None:
    data = prepared(corpus, f"{layout}-{masking}", layout=layout, masking=masking)
    rule = SelectionConfig(validation_fraction=0.0, test_fraction=0.2).split_rule
    of_split = {
        split: [text for patient, text in rows_of(corpus) if rule.split_of(patient) == split]
        for split in ("train", "test")
    }
    planted = of_split["train"][: NUM_TEST // 5]
    new = notes(1, NUM_TEST - len(planted) - 2) + of_split["test"][:2]  # which the model is evaluated on, not trained
    texts = [[text] for text in [*planted, *new]]
    found = leakage.in_shards(texts, data)
    assert found.contaminated_D.tolist() == [True] * len(planted) + [False] * len(new)
    assert not found.found_D[len(planted) :].any()
    assert (found.found_D[: len(planted)] > 0.9 * found.runs_D[: len(planted)]).all()
    clean = leakage.in_shards([[text] for text in notes(1, 5)], data)
    assert (clean.fraction, clean.contaminated_D.sum()) == (0.0, 0)


@pytest.mark.fast
def test_half_a_document_in_the_training_file_is_found(corpus: Path) -> None:
    tokenizer = Tokenizer(bert_tokenizer.read(corpus / "vocab.txt"))
    whole, other, short = notes(2, 1)[0], notes(3, 1)[0], "Only a few words."
    words = whole.split()
    two_thirds = " ".join(words[: 2 * len(words) // 3])
    found = leakage.in_texts([[whole], [other], [short]], [[two_thirds], [short]], tokenizer)
    assert found.contaminated_D.tolist() == [True, False, False]
    assert found.runs_D[2] == 0  # too short to tell
    assert 0.5 < found.found_D[0] / found.runs_D[0] < 0.7


@pytest.mark.fast
def test_patients_are_counted_where_the_salt_is_known(corpus: Path) -> None:
    data = prepared(corpus, "salted")
    rule = SelectionConfig(validation_fraction=0.0, test_fraction=0.2).split_rule
    trained = {patient for patient, _ in rows_of(corpus) if rule.split_of(patient) == "train"}
    held_out = {patient for patient, _ in rows_of(corpus)} - trained
    salt, _ = salt_file.load("", corpus)
    asked = frozenset([*sorted(trained)[:3], *held_out, "a stranger"])
    one = [notes(1, 1)]
    assert leakage.in_shards(one, data, asked, salt).num_patients == 3
    assert leakage.in_shards(one, data, asked).num_patients is None
    assert leakage.in_shards(one, data, asked, b"another" * 8).num_patients == 0


@pytest.mark.fast
def test_patients_are_not_known_of_notes_that_named_none(corpus: Path) -> None:
    source = SourceConfig((str(corpus / "NOTES.csv"),), text_column="text", each_note_is_a_patient=True)
    data = prepared(corpus, "unnamed", source=source)
    salt, _ = salt_file.load("", corpus)
    assert leakage.in_shards([notes(1, 1)], data, frozenset(["p1"]), salt).num_patients is None


@pytest.mark.fast
@pytest.mark.parametrize("copied", ["apart", "whole"])
@pytest.mark.parametrize("num_words", [20, 8])
def test_the_sentences_of_a_document_are_found_however_they_were_read(
    corpus: Path, copied: str, num_words: int
) -> None:
    """Joined, sentences that were read one by one have 12 runs at each end that nothing else holds."""
    tokenizer = Tokenizer(bert_tokenizer.read(corpus / "vocab.txt"))
    random = np.random.default_rng(4)
    documents = [[" ".join(random.choice(WORDS, num_words)) for _ in range(10)] for _ in range(3)]
    others = [documents[1]] if copied == "whole" else [[text] for text in documents[1]]
    found = leakage.in_texts(documents, others, tokenizer)
    can_tell = copied == "whole" or num_words >= 13
    assert found.contaminated_D.tolist() == [False, can_tell, False]
    assert (found.fraction_D[1] > 0.99) == can_tell
