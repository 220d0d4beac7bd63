"""Planted leakage is found to the document, in every layout of shards; where there is none, none is found."""

import csv
import dataclasses
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.finetune.compare import leakage
from data_prep import prepare
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading import salt_file
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig

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
    found = leakage.in_shards({"test": each([*planted, *new]), "clean": each(notes(1, 5))}, data)
    assert found["test"].is_contaminated_D.tolist() == [True] * len(planted) + [False] * len(new)
    assert not found["test"].fraction_D[len(planted) :].any()
    assert (found["test"].fraction_D[: len(planted)] > 0.9).all()
    assert (found["clean"].fraction, found["clean"].is_contaminated_D.sum()) == (0.0, 0)


@pytest.mark.fast
@pytest.mark.parametrize("dupe_factor", [1, 5])
@pytest.mark.parametrize("max_seq_length", [128, 64, 48, 24])
def test_short_rows_hide_no_document(corpus: Path, max_seq_length: int, dupe_factor: int) -> None:
    """What was read is found although rows cut it, or it is said that it cannot be found."""
    settings = {"max_seq_length": max_seq_length, "max_predictions_per_seq": 4, "dupe_factor": dupe_factor}
    data = prepared(corpus, f"rows-{max_seq_length}-{dupe_factor}", **settings)
    rule = SelectionConfig(validation_fraction=0.0, test_fraction=0.2).split_rule
    read = [text for patient, text in rows_of(corpus) if rule.split_of(patient) == "train"]
    found = leakage.in_shards({"test": each(read + notes(1, 50))}, data)["test"]
    assert found.is_contaminated_D[: len(read)].mean() > 0.98 or found.share_findable < leakage.LEAST_FINDABLE
    assert (found.share_findable >= leakage.LEAST_FINDABLE) == (max_seq_length >= 48)
    assert not found.fraction_D[len(read) :].any()


@pytest.mark.fast
@pytest.mark.parametrize("cased", ["the text", "the data"])
def test_capital_letters_and_accents_hide_nothing(corpus: Path, cased: str) -> None:
    """Of a dataset whose tokenizer knows capital letters, and of a test set that has lost them; or the other way."""
    loud = [text.upper().replace("E", "\u00c9") for text in notes(0, 2)]
    if cased == "the text":
        data, documents = prepared(corpus, "uncased"), loud
    else:
        with (corpus / "LOUD.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["patient", "text"], *([f"p{n}", text] for n, text in enumerate(loud))])
        letters = sorted({*"".join(loud), *"".join(notes(0, 2))} - {" "})
        entries = [*letters, *(f"##{letter}" for letter in letters), *WORDS[::3]]
        entries += [word.upper().replace("E", "\u00c9") for word in WORDS[1::3]]  # so that words fall into other pieces
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        (corpus / "cased.txt").write_text("".join(f"{entry}\n" for entry in [*special, *entries]), encoding="utf-8")
        data = prepared(
            corpus,
            "cased",
            source=SourceConfig((str(corpus / "LOUD.csv"),), text_column="text", patient_column="patient"),
            vocabulary=VocabularyConfig(vocab_file=str(corpus / "cased.txt"), do_lower_case=False),
            selection=SelectionConfig(validation_fraction=0.0, test_fraction=0.0),
        )
        documents = notes(0, 2)
    found = leakage.in_shards({"test": each(documents)}, data)["test"]
    assert found.is_contaminated_D.tolist() == [True, True]
    assert leakage.in_texts(each(notes(0, 2)), each(text.upper() for text in notes(0, 2))).is_contaminated_D.all()


@pytest.mark.fast
def test_words_that_the_datasets_vocabulary_lacks_are_no_words_read_before(corpus: Path) -> None:
    """Of two texts in another script, every word is [UNK]: that they are the same cannot be known."""
    random = np.random.default_rng(5)
    words = ["".join(chr(c) for c in random.integers(0x430, 0x450, 6)) for _ in range(600)]
    with (corpus / "CYRILLIC.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [
                ["patient", "text"],
                *([f"p{n}", f"{text} {' '.join(words[:300])}"] for n, text in enumerate(notes(0, 20))),
            ]
        )
    source = SourceConfig((str(corpus / "CYRILLIC.csv"),), text_column="text", patient_column="patient")
    data = prepared(corpus, "cyrillic", source=source)
    mixed = f"{' '.join(words[300:400])} {notes(0, 1)[0]}"  # of which only some is unknown
    found = leakage.in_shards({"test": each([" ".join(words[300:]), mixed])}, data)["test"]
    assert found.is_unknown_D.tolist() == [True, False]
    assert found.is_contaminated_D.tolist() == [False, True]
    assert found.findable_D[1] == pytest.approx(len(notes(0, 1)[0].split()) / len(mixed.split()))


@pytest.mark.fast
def test_half_a_document_in_the_training_file_is_found() -> None:
    whole, other, short = notes(2, 1)[0], notes(3, 1)[0], "Only a few words."
    words = whole.split()
    two_thirds = " ".join(words[: 2 * len(words) // 3])
    found = leakage.in_texts(each([whole, other, short]), each([two_thirds, short]))
    assert found.is_contaminated_D.tolist() == [True, False, False]
    assert found.is_unknown_D.tolist() == [False, False, True]
    assert found.fraction_D[0] == pytest.approx(2 / 3, abs=0.02)
    assert found.fraction == pytest.approx(len(two_thirds.split()) / len(f"{whole} {other}".split()), abs=1e-6)


@pytest.mark.fast
def test_what_several_datasets_hold_is_put_together() -> None:
    """Two thirds of a document in one and the last third in the other are all of it; likewise patients."""
    whole, other = notes(2, 2)
    words = whole.split()
    first, last = " ".join(words[:40]), " ".join(words[40:])
    parts = [
        leakage.in_texts(each([whole, other]), each([first]), frozenset("ab")),
        leakage.in_texts(each([whole, other]), each([last]), frozenset("bc")),
    ]
    found = leakage.joined(parts)
    assert found.fraction_D.tolist() == [1.0, 0.0]
    assert found.patients == {"a", "b", "c"}
    assert found.is_contaminated_D.tolist() == [True, False]
    some = leakage.joined([parts[0], leakage.in_texts(each([whole, other]), [])])
    assert (some.patients, some.are_patients_least) == ({"a", "b"}, True)
    unnamed = [leakage.in_texts(each([whole]), each([first]), patients) for patients in (frozenset[str](), None)]
    assert leakage.joined(unnamed).patients is None


@pytest.mark.fast
def test_datasets_that_were_cleaned_in_other_ways_are_put_together_as_far_as_can_be_told() -> None:
    """The words of a document are not the same in both: it was read to at least the most in any, at most the sum."""

    def found(fraction: float, num_words: int) -> leakage.Found:
        words, is_true, is_false = np.arange(num_words) < fraction * num_words, np.ones(1, bool), np.zeros(1, bool)
        is_read = is_true if fraction >= 0.5 else is_false
        return leakage.Found([words], np.ones(1), is_read, is_false, 1.0, False, None)

    for fractions, expected in (((0.2, 0.2), (False, False)), ((0.4, 0.3), (False, True)), ((0.6, 0.1), (True, False))):
        one, other = (found(fraction, 100 + n) for n, fraction in enumerate(fractions))
        both = leakage.joined([one, other])
        assert (both.is_contaminated_D[0], both.is_unknown_D[0], both.is_least) == (*expected, True)


@pytest.mark.fast
def test_a_dataset_of_short_rows_makes_nothing_read_that_another_was_not() -> None:
    """By the threshold of each dataset alone, or by that of the better one for both."""
    words = [np.arange(100) < 25] * 3
    no, yes = np.zeros(3, bool), np.ones(3, bool)
    wide = leakage.Found(words, np.ones(3), no, no, 0.97, False, None)
    short = leakage.Found([np.zeros(100, bool)] * 3, np.ones(3), no, yes, 0.3, True, None)
    both = leakage.joined([wide, short])
    assert not both.is_contaminated_D.any()
    assert both.is_unknown_D.all()  # what the short rows hold is not known


@pytest.mark.fast
def test_patients_are_found_where_the_salt_is_known(corpus: Path) -> None:
    data = prepared(corpus, "salted")
    rule = SelectionConfig(validation_fraction=0.0, test_fraction=0.2).split_rule
    trained = {patient for patient, _ in rows_of(corpus) if rule.split_of(patient) == "train"}
    held_out = {patient for patient, _ in rows_of(corpus)} - trained
    salt, _ = salt_file.load("", corpus)
    some = frozenset(sorted(trained)[:3])
    texts, asked = {"test": each(notes(1, 1))}, {"test": some | held_out | {"a stranger"}}
    assert leakage.in_shards(texts, data, asked, salt)["test"].patients == some
    assert leakage.in_shards(texts, data, asked)["test"].patients is None
    assert leakage.in_shards(texts, data, asked, b"another" * 8)["test"].patients == set()


@pytest.mark.fast
def test_patients_are_not_known_of_notes_that_named_none(corpus: Path) -> None:
    source = SourceConfig((str(corpus / "NOTES.csv"),), text_column="text", each_note_is_a_patient=True)
    data = prepared(corpus, "unnamed", source=source)
    salt, _ = salt_file.load("", corpus)
    found = leakage.in_shards({"test": each(notes(1, 1))}, data, {"test": frozenset(["p1"])}, salt)
    assert found["test"].patients is None


@pytest.mark.fast
@pytest.mark.parametrize("copied", ["apart", "whole"])
@pytest.mark.parametrize("num_words", [20, 8])
def test_the_sentences_of_a_document_are_found_however_they_were_read(copied: str, num_words: int) -> None:
    random = np.random.default_rng(4)
    documents = [[" ".join(random.choice(WORDS, num_words)) for _ in range(10)] for _ in range(3)]
    others = [documents[1]] if copied == "whole" else each(documents[1])
    found = leakage.in_texts(documents, others)
    is_found = copied == "whole" or num_words >= 13
    assert found.fraction_D.tolist() == [0.0, float(is_found), 0.0]
    assert found.is_contaminated_D.tolist() == [False, is_found, False]
    assert found.is_unknown_D.tolist() == [num_words < 13, num_words < 13 and not is_found, num_words < 13]


@pytest.mark.fast
@pytest.mark.parametrize(
    "text", ["pr\u00e9sent\u00e9 \u00e0 {} l'h\u00f4pital", "\u60a3\u8005{}\u80f8\u75db\u53d1\u70ed\u4e09\u5929"]
)
def test_texts_of_other_scripts_are_found(text: str) -> None:
    """With their accents or without; of Chinese every character is a word."""
    random = np.random.default_rng(6)
    between = "".join(f" {word}" for word in random.choice(WORDS, 40)) + " "
    if "\u60a3" in text:
        between = "".join(chr(c) for c in random.integers(0x4E00, 0x9FA0, 40))
    document = text.format(between)
    plain = "".join(c for c in unicodedata.normalize("NFD", document) if unicodedata.category(c) != "Mn")
    found = leakage.in_texts(each([document, document[::-1]]), each([plain]))
    assert found.is_contaminated_D.tolist() == [True, False]
    assert not found.is_unknown_D.any()


def each(texts: Iterable[str]) -> list[list[str]]:
    """Documents of one text each."""
    return [[text] for text in texts]
