"""The data card and the statistics behind it: known answers, merging, and the words that may not be told."""

import json
import os
import re
import xml.etree.ElementTree as ET
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.data.manifest import Manifest, Shard, Split, Vocabulary
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.report.table import plain
from data_prep.card import data_card
from data_prep.sharding import statistics
from data_prep.sharding.statistics import FILL_BINS, PieceKinds, Statistics, Word

pytestmark = pytest.mark.fast

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "##c", "d", "1", "##2", "."]
KINDS = PieceKinds.of(VOCABULARY)
ID = {piece: number for number, piece in enumerate(VOCABULARY)}


def notes_of(documents: list[tuple[int, int, list[list[str]]]]) -> Any:
    """Tokenized notes from (patient, category, sentences as pieces)."""
    sentences = [sentence for _, _, told in documents for sentence in told]
    return SimpleNamespace(
        ids_T=np.array([ID[piece] for sentence in sentences for piece in sentence], np.int32),
        sentence_offsets=np.cumsum([0] + [len(sentence) for sentence in sentences]),
        document_offsets=np.cumsum([0] + [len(told) for _, _, told in documents]),
        patient_D=np.array([patient for patient, _, _ in documents]),
        category_D=np.array([category for _, category, _ in documents], np.int32),
    )


def test_counts_of_a_small_bucket():
    notes = notes_of(
        [
            (7, 1, [["a", "##b", "d", "."], ["a", "##b", "##c"]]),
            (8, 0, [["a", "##b", "[UNK]", "1", "##2"]]),
            (7, 1, [["a", "##b"], ["d"]]),
        ]
    )
    counted = Statistics.of_bucket(notes, KINDS, num_categories=3)
    assert counted.words_C.tolist() == [3, 6, 0]
    assert counted.unknown_C.tolist() == [1, 0, 0]
    # '12' is split too, but numbers are not words; 'ab' is in the notes of two patients, three times in all.
    assert counted.words == {"ab": Word(3, 2, 2), "abc": Word(1, 3, 1)}


def test_a_word_ends_with_its_sentence():
    counted = Statistics.of_bucket(notes_of([(1, 0, [["a"], ["##b", "##c"]])]), KINDS, 1)
    assert set(counted.words) == {"##bc"} and counted.words_C.tolist() == [2]


def test_words_of_equal_pieces_in_another_order_are_told_apart():
    counted = Statistics.of_bucket(notes_of([(1, 0, [["a", "##b", "##c", "a", "##c", "##b"]])]), KINDS, 1)
    assert counted.words == {"abc": Word(1, 3, 1), "acb": Word(1, 3, 1)}


def test_an_empty_bucket_counts_nothing():
    assert Statistics.of_bucket(notes_of([]), KINDS, 2).words_C.tolist() == [0, 0]


documents = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 2),
        st.lists(st.lists(st.sampled_from(VOCABULARY[5:]), min_size=1, max_size=6), min_size=1, max_size=4),
    ),
    max_size=12,
)


@given(documents, st.integers(1, 6))
def test_the_sum_over_buckets_of_whole_patients_is_the_whole(told: list, num_buckets: int):
    whole = Statistics.of_bucket(notes_of(told), KINDS, 3)
    buckets = [[document for document in told if document[0] % num_buckets == b] for b in range(num_buckets)]
    parts = [Statistics.of_bucket(notes_of(bucket), KINDS, 3) for bucket in buckets]
    stored = [Statistics.from_json(json.loads(json.dumps(part.to_json()))) for part in parts]
    assert reduce(Statistics.merge, stored).to_json() == whole.to_json()
    assert reduce(Statistics.merge, reversed(stored)).to_json() == whole.to_json()


def test_pruning_never_counts_too_many_patients_and_says_how_many_too_few(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(statistics, "MAX_WORDS", 2)
    parts = []
    for patient in range(30):
        part = Statistics.empty(1)
        part.words = {"often": Word(3, 2, 1), f"once{patient}": Word(9, 2, 1)} | (
            {"later": Word(1, 2, 1)} if patient > 10 else {}
        )
        parts.append(part)
    total = reduce(Statistics.merge, parts)
    assert len(total.words) <= 2 and total.words["often"].patients == 30
    for word, truth in (("often", 30), ("later", 19)):
        found = total.words[word].patients if word in total.words else 0
        assert truth - total.uncounted_patients <= found <= truth


def test_rows_and_pairs_fall_into_their_bins():
    counted = Statistics.empty(2)
    counted.add_pairs(np.array([0, 0, 1]), np.array([1, 1, 0]))
    counted.add_pairs(np.array([0]), np.array([0]))
    assert counted.pairs_Cx2.tolist() == [[1, 2], [1, 0]]
    counted.add_rows(np.array([128, 127, 64, 1]), 128)
    expected = np.zeros(FILL_BINS, int)
    expected[[FILL_BINS - 1, FILL_BINS // 2, 0]] = 2, 1, 1
    assert counted.row_fill.tolist() == expected.tolist()


# --- the card

NASTY = "Case | <b>Manage_ment</b>"


def manifest_of(**changes: Any) -> Manifest:
    def split(notes: int) -> Split:
        return Split(
            shards=(Shard("x", 50, 1, "0"),),
            num_examples=50,
            num_pairs=60,
            num_tokens=4_800,
            num_predictions=693,
            num_random_next=31,
            num_notes=notes,
            num_patients=notes * 3 // 4,
            notes_by_category={"Nursing": notes - notes // 5, NASTY: notes // 5},
        )

    lengths = {"note_lengths": {"40": 10, "1000": 2}, "sentence_lengths": {"3": 5, "9": 5, "40": 1}}
    further = lengths | {
        "num_pieces": 4_000,
        "num_unknown_pieces": 4,
        "pieces_by_category": {"Nursing": 3_900, NASTY: 100},
    }
    values: dict[str, Any] = {
        "name": "clinical_notes",
        "version": "1.0.0",
        "project_version": "0.1.0",
        "vocabulary": Vocabulary("f" * 64, 28_996, False),
        "layout": Layout("padded", 128, 20),
        "seed": 3,
        "options": {"dupe_factor": 5, "deid_policy": "keep"},
        "categories": ("Nursing", NASTY),
        "drops": {"empty": 15, "exact duplicate": 20},
        "splits": {"test": split(20), "train": split(80)},
        "extra": {
            "num_notes_read": 135,
            "min_patients_of_a_category": 20,
            "statistics": {"train": further, "test": further},
        },
    }
    return Manifest(**(values | changes))


def statistics_with(words: dict[str, Word]) -> Statistics:
    counted = Statistics.empty(2)
    counted.words, counted.words_C = words, np.array([5_000, 80])
    counted.add_pairs(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    counted.add_rows(np.array([128, 30]), 128)
    return counted


def card(directory: Path, *arguments: Any) -> tuple[str, str]:
    data_card.write(directory, *arguments)
    markdown, page = (directory / data_card.MARKDOWN_FILE).read_text(), (directory / data_card.HTML_FILE).read_text()
    tree = ET.fromstring(re.sub(r"<(meta[^>]*)>", r"<\1/>", page.removeprefix("<!DOCTYPE html>\n")))
    return markdown, " ".join(" ".join(tree.itertext()).split())


def test_the_card_tells_the_figures_of_the_manifest(tmp_path: Path):
    (tmp_path / data_card.RUN_FILE).write_text(
        '{"seconds": {"reading": 20, "building": 40}, "process_seconds_by_stage": {"pairs": 3}, "peak_bytes": 123e6}'
    )
    markdown, page = card(tmp_path, manifest_of(), statistics_with({"ab": Word(40, 3, 25)}))
    assert "| Notes | 100 |" in markdown
    assert "| Notes | 80 | 20 |" in markdown, "train comes first"
    assert "| Non-padding fraction | 75.0% | 75.0% |" in markdown
    assert "| Random next sentences | 51.67% | 51.67% |" in markdown
    # 4,800 tokens less three special ones for each of 60 pairs
    assert "| Masked tokens | 15.00% | 15.00% |" in markdown
    assert "| Nursing | 80 | 7,800 | 98 | 1.56 |" in markdown
    assert "| Note | 200.0 | 40 | 1,000 | 1,000 | 1,000 |" in markdown
    assert "Notes read: 135; in the dataset: 100; dropped: 35." in markdown
    assert "| Notes read per minute | 135 |" in markdown
    assert "| ab | 3 | 40 | 25 | 80 |" in markdown
    assert "| dupe_factor | 5 |" in markdown
    for told in ("1 min 00 s", "123 MB", "0.100%", "Nursing", NASTY, "ab", "51.67%"):
        assert told in page


def test_a_word_of_fewer_than_twenty_patients_is_never_told(tmp_path: Path):
    words = {"common": Word(100, 2, 20), "rareword": Word(9_999, 9, 19), "oneword": Word(9_999, 9, 1)}
    card(tmp_path, manifest_of(), statistics_with(words))
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "common" in written and "rareword" not in written and "oneword" not in written


def test_names_cannot_break_out_of_the_card(tmp_path: Path):
    markdown, _ = card(tmp_path, manifest_of(), statistics_with({}))
    assert "<b>" not in (tmp_path / data_card.HTML_FILE).read_text()
    assert "Case \\| \\<b\\>Manage_ment\\</b\\>" in markdown
    for name in ("![](http://evil.org/x.png)", "&lt;b&gt;", "$x$", "~~a~~", "@someone", "www.evil.org", "a\n# b"):
        written = plain(name)
        assert not re.search(r"(?<!\\)[\[\]&$~@#<>]|://|www\.|\n", written), written
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in markdown.splitlines() if line.startswith("|")]
    assert set(columns) <= {3, 4, 6, 7, 8}


def small_manifest(change: int) -> Manifest:
    """Every small count differs by `change`, and another one makes up for it."""

    def split(notes: int, patients: int, rare: int) -> Split:
        by_category = {"Nursing": notes - rare, "other": rare}
        return Split((Shard("x", 50, 1, "0"),), 50, 60, 4_800, 693, 31, notes, patients, by_category)

    return manifest_of(
        splits={
            "train": split(500, 400, 4 + change),
            "validation": split(60 + change, 40 + change, 1),
            "test": split(9 - change, 7 - change, 1),
        },
        categories=("Nursing", "other"),
        drops={"empty": 7 + change, "exact duplicate": 55 - change, "no patient": 300},
        extra=manifest_of().extra | {"num_notes_read": 931},
    )


def test_datasets_that_differ_in_their_small_counts_have_the_same_card(tmp_path: Path) -> None:
    """So that no small count follows from anything in it: totals, percentages, bars, other splits, drop reasons."""
    (tmp_path / data_card.RUN_FILE).write_text('{"seconds": {"reading": 20}}')
    cards = [card(tmp_path, small_manifest(change), statistics_with({})) for change in (0, 1, -1)]
    assert cards[0] == cards[1] == cards[2]
    assert "| Patients | 400 | 11 or more | <11 |".replace("<", "\\<") in cards[0][0]
    pages = set()
    for change in (0, 1):
        data_card.write(tmp_path, small_manifest(change), statistics_with({}))
        pages.add((tmp_path / data_card.HTML_FILE).read_text())
    assert len(pages) == 1


def test_categories_whose_patients_were_not_counted_are_not_named(tmp_path: Path) -> None:
    manifest = manifest_of()
    del manifest.extra["min_patients_of_a_category"]
    assert "Nursing" not in "".join(card(tmp_path, manifest, statistics_with({})))


def test_of_the_options_no_path_and_no_name_of_the_data_is_shown(tmp_path: Path) -> None:
    given = ["/home/jane/Zyxquarrel.csv"]
    options = {"input": given, "categories": given, "vocab_file": given[0], "seed": 3, "layout": "packed"}
    markdown, page = card(tmp_path, manifest_of(options=options), statistics_with({}))
    assert "Zyxquarrel" not in markdown + page
    assert "| categories | 1 given |" in markdown
    assert '| layout | "packed" |' in markdown


def test_notes_that_are_unaccounted_for_are_said_aloud(tmp_path: Path):
    extra = {"num_notes_read": 138}
    markdown, _ = card(tmp_path, manifest_of(extra=extra), statistics_with({}))
    assert "notes are not accounted for" in markdown


def test_the_directory_alone_is_enough(tmp_path: Path):
    manifest_of().save(tmp_path)
    markdown, page = card(tmp_path)
    assert "| Nursing | 80 | 7,800 | 98 |" in markdown and "Most split words" not in page


def test_what_is_masked_by_the_loader_and_a_dataset_without_examples_are_no_hindrance(tmp_path: Path):
    empty = Split((), 0, 0, 0, 0, 0, 0, 0, {})
    changes = {
        "layout": Layout("packed", 512, 80, 8, masked=False),
        "splits": {"train": empty},
        "drops": {},
        "extra": {},
    }
    markdown, _ = card(tmp_path, manifest_of(**changes), Statistics.empty(2))
    assert "masked by the loader" in markdown and "Masked tokens" not in markdown


def test_markdown_and_page_are_closed_to_others_under_the_umask_of_commands(tmp_path: Path):
    before = os.umask(0o077)
    try:
        card(tmp_path, manifest_of(), statistics_with({}))
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.iterdir())
