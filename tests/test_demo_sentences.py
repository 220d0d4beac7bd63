"""The demo asks for nothing that its notes say word for word."""

import pytest

from benchmarks.demo_sentences import SENTENCES
from data_prep.synthetic import facts, templates, write

pytestmark = pytest.mark.fast


def normalised(text: str) -> str:
    return " ".join(text.lower().split())


# A note that had a whole sentence would have these too.
FIVE_BEFORE = [" ".join(normalised(sentence.split("[MASK]")[0]).split()[-5:]) for sentence, _ in SENTENCES]


def found(text: str) -> list[str]:
    told = normalised(text)
    return [words for words in FIVE_BEFORE if words in told]


def test_ten_sentences_have_one_mask_and_words_enough_before_it():
    assert len(SENTENCES) == 10
    for sentence, words in SENTENCES:
        assert sentence.count("[MASK]") == 1
        assert len(sentence.split("[MASK]")[0].split()) >= 5
        assert len(words) >= 10
        assert all(word == word.lower() and word.isalpha() for word in words)


def test_no_template_or_fact_has_the_five_words_before_a_mask():
    sources = [str(value) for value in vars(facts).values()]
    sources += [path.read_text() for path in templates._WORDING.iterdir()]
    assert "pneumonia" in " ".join(sources)
    assert not found(" ".join(sources))
    assert found("AFTER a fall\nat home her")


def test_no_generated_note_has_the_five_words_before_a_mask():
    for row in write.rows(2000, seed=0):
        assert not found(row.text), row.text
