import dataclasses
import subprocess
import sys

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep.wordpiece import vocabulary
from data_prep.wordpiece.tokenizer import Tokenizer
from data_prep.wordpiece.vocabulary import WordCounts, count_words, extend, train

# 25 patients speak of pneumonia; one, in a thousand notes, of a rare name.
PATIENTS = [str(number) for number in range(25)] + ["7"] * 1000
CASED, UNCASED = Settings(SPECIAL_TOKENS, do_lower_case=False), Settings(SPECIAL_TOKENS, do_lower_case=True)
TEXTS = ["Pneumonia, treated: 5 mg."] * 25 + ["Zsuzsanna Pneumonia"] * 1000


@pytest.fixture(scope="module")
def counts():
    return count_words(PATIENTS, TEXTS, CASED)


@pytest.mark.fast
def test_words_are_counted_as_bert_cuts_them(counts):
    assert counts.occurrences["Pneumonia"] == 1025
    assert counts.patients["Pneumonia"] == 25
    assert counts.patients["Zsuzsanna"] == 1
    assert {",", ":", "5", "mg", "."} <= counts.patients.keys()
    assert count_words(["1"], ["Ünder É."], UNCASED).occurrences == {"under": 1, "e": 1, ".": 1}
    accents = dataclasses.replace(UNCASED, strip_accents=False)
    assert count_words(["1"], ["Ünder É."], accents).occurrences == {"ünder": 1, "é": 1, ".": 1}


def test_counts_of_buckets_add_up_to_those_of_the_whole():
    parts = WordCounts()
    for chosen in (range(0, 10), range(10, 25)):
        of = [index for index, patient in enumerate(PATIENTS) if int(patient) in chosen]
        parts.add(count_words([PATIENTS[i] for i in of], [TEXTS[i] for i in of], CASED))
    assert parts == count_words(PATIENTS, TEXTS, CASED)


@pytest.mark.fast
def test_words_of_few_patients_never_enter(counts):
    trained = train(counts, 1000, do_lower_case=False)
    extended = extend(SPECIAL_TOKENS, counts, 1000)
    for words in (trained, extended):
        assert "Pneumonia" in words
        assert not any("Zs" in word or "zs" in word or "anna" in word for word in words)
    assert "Zsuzsanna" in extend(SPECIAL_TOKENS, counts, 1000, min_patients=1)
    with pytest.raises(UserError, match="at least 20 patients"):
        train(count_words(["1"], ["Pneumonia"], CASED), 1000, False)


@pytest.mark.fast
def test_a_trained_vocabulary_has_its_size_and_reads_all_of_ascii(counts):
    for settings in (CASED, UNCASED):
        trained = train(count_words(PATIENTS, TEXTS, settings), 200, settings.do_lower_case)
        assert len(trained) <= 200 and len(set(trained)) == len(trained)
        assert tuple(trained[:5]) == SPECIAL_TOKENS
        unknown = trained.index("[UNK]")
        printable = "".join(map(chr, range(33, 127)))
        ids, _ = Tokenizer(dataclasses.replace(settings, entries=tuple(trained))).ids(
            [printable, "xyz Quick 0123456789"]
        )
        assert unknown not in ids
    with pytest.raises(UserError, match="--vocab_size"):
        train(counts, 50, False)


def test_an_extended_vocabulary_begins_with_the_one_given(counts):
    base = [*SPECIAL_TOKENS, "mg", "Pneumonia"]
    assert extend(base, counts, 1) == [*base, "treated"]
    assert extend(base, counts, 0) == base


SCRIPT = """
import hashlib, random
from data_prep.wordpiece.vocabulary import WordCounts, train
rng = random.Random(0)
words = ["".join(rng.choice("abcdefghij\u00e9\u00fc") for _ in range(rng.randint(1, 9))) for _ in range(3000)]
counts = WordCounts()
order = list(range(3000)); random.shuffle(order)
for n in order:
    counts.occurrences[words[n]] += 1 + n % 7; counts.patients[words[n]] += 20
print(hashlib.sha256("\\n".join(train(counts, 900, True)).encode()).hexdigest())
"""


def test_training_gives_the_same_bytes_in_every_process():
    """Hash tables are seeded anew in each, in Python and in Rust; many words are equally frequent here."""
    digests = {subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout for _ in range(4)}
    assert len(digests) == 1


def test_counts_are_scaled_where_the_corpus_is_very_large(monkeypatch):
    monkeypatch.setattr(vocabulary, "_MAX_TRAINING_WORDS", 100)
    words = [("often", 10_000_000), ("seldom", 100_000), ("once", 1)]
    repeated = " ".join(vocabulary._repeated(words)).split()
    assert [repeated.count(word) for word, _ in words] == [99, 1, 1]
