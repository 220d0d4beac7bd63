import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.reading import note_readers, sources
from data_prep.text import cleaning, sentences
from tests.data_prep.note_text import note_like


def squeezed(text: str) -> str:
    return "".join(text.split())


@pytest.mark.fast
@given(st.one_of(st.text(), note_like))
def test_no_text_is_lost(text):
    cleaned = cleaning.clean(text)
    found = sentences.split(cleaned)
    assert squeezed("".join(found.texts)) == squeezed(cleaned)
    assert len(found.texts) == len(found.sections)
    assert all(text and text == text.strip() for text in found.texts)


@given(st.integers(2, 30), st.booleans(), st.sampled_from([".", ")"]))
def test_every_item_of_a_list_survives_and_begins_a_sentence(count, in_one_line, mark):
    items = [f"{number}{mark} Drug{number} {number}.5 mg p.o. q.d." for number in range(1, count + 1)]
    found = sentences.split(cleaning.clean((" " if in_one_line else "\n").join(items))).texts
    assert found == items


def test_no_text_of_the_development_notes_is_lost(shared_data):
    config = sources.SourceConfig((str(shared_data / "mimic_iii" / "NOTEEVENTS.csv.gz"),))
    lengths: Counter[bool] = Counter()
    for note in note_readers.read(sources.resolve(config)[0], config, Counter()):
        cleaned = cleaning.clean(note.text)
        found = sentences.split(cleaned)
        assert squeezed("".join(found.texts)) == squeezed(cleaned), note.row_id
        # These notes hold no pages, so cleaning takes rules away and nothing else.
        assert re.sub("[-_=]", "", squeezed(cleaned)) == re.sub("[-_=]", "", squeezed(note.text)), note.row_id
        lengths.update(len(text.split()) > 100 for text in found.texts)
    assert lengths[True] / lengths.total() < 0.001  # hardly a sentence was missed


def test_lines_are_sentences_where_they_are_given_so():
    found = sentences.split_lines(cleaning.clean("Dr. X. came.\n\nHe left. Then\n", keep_lines=True))
    assert found.texts == ["Dr. X. came.", "He left. Then"]
    assert found.sections == ["", ""]


@pytest.mark.parametrize("unit", ["A. ", "word. ", "word ", "1. ", "x.", "a:", "PLAN: ", "b.i.d. Aspirin ", "\u2022 "])
def test_two_megabytes_in_one_line_take_seconds(unit):
    text = (unit * (2_000_000 // len(unit))).strip()
    start = time.process_time()
    found = sentences.split(text)
    assert time.process_time() - start < 10
    assert squeezed("".join(found.texts)) == squeezed(text)
