"""Entities: files to rows to predictions and back, windows over long documents, and everything bad in a file."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.entities import scores as entity_scores
from clinicalbert_jax.finetune.entities.documents import Document
from clinicalbert_jax.finetune.entities.task import Entities, EntitiesConfig
from clinicalbert_jax.finetune.inputs import tags
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span
from tests.clinicalbert_jax.finetune import toy_tokenizer

TOKENIZER = toy_tokenizer.make()
CONLL = """-DOCSTART- O

# id = first
# patient = p1
the\tO
liver\tB-Disease
failure\tI-Disease

aspirin\tB-Drug
was\tO
"""


def perfect(task: Entities, examples: list[Document]):
    """Rows with targets, and what a model that is always right makes of the same texts without."""
    annotated = task.rows(examples, TOKENIZER, annotated=True)
    rows = task.rows(examples, TOKENIZER, annotated=False)
    assert rows.token_targets == {}
    logits = [np.eye(len(task.labels))[labels] for labels in annotated.token_targets["labels"]]
    return annotated, task.decode(examples, rows, logits)


def read(tmp_path, content, name="data.tsv", policy="stop", config=None, annotated=True):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    bad = Reading(policy)
    return (config or EntitiesConfig()).read(path, bad, annotated), bad


def as_json(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.mark.fast
def test_a_conll_file_becomes_texts_with_spans(tmp_path):
    examples, _ = read(tmp_path, CONLL)
    first, second = examples
    assert (first.id, first.patient, first.line, first.text) == ("first", "p1", 5, "the liver failure")
    assert first.entities == (Span(4, 17, "Disease"),)
    assert (second.id, second.patient, second.line) == ("2", "", 9)
    assert second.entities == (Span(0, 7, "Drug"),)
    spaced, _ = read(tmp_path, CONLL.replace("\t", " NN x ").replace("\n", "\r\n"), "data.conll")
    assert [example.entities for example in spaced] == [example.entities for example in examples]
    (tmp_path / "zipped").mkdir()
    zipped, _ = read(tmp_path / "zipped", gzip.compress(CONLL.encode()), "data.tsv.gz")
    assert zipped == examples


@pytest.mark.fast
def test_sentences_of_an_article_are_one_document(tmp_path):
    """What is resampled, and held out for validation, as one."""
    article = "-DOCSTART- -X- O\n\nthe\tO\nliver\tB-Organ\n\naspirin\tB-Drug\n"
    examples, _ = read(tmp_path, article + "\n" + article + article)  # the third begins without a blank line before it
    assert [example.text for example in examples] == ["the liver", "aspirin"] * 3
    assert [example.document for example in examples] == [f"article {n}" for n in (1, 1, 2, 2, 3, 3)]
    alone, _ = read(tmp_path, article)
    assert [example.document for example in alone] == ["1", "2"]  # which says no more than that a file begins
    named, _ = read(tmp_path, (article + "\n" + article).replace("\nthe", "\n# patient = p1\nthe"))
    assert [example.document for example in named] == ["p1", "article 1", "p1", "article 2"]


@pytest.mark.fast
def test_labels_lie_on_first_pieces_and_each_word_is_trained_once(tmp_path):
    examples, _ = read(tmp_path, "the\tO\nxyz\tB-Drug\nabc\tI-Drug\n\u200b\tI-Drug\n")
    task = EntitiesConfig().task(examples)
    assert task.labels == ("O", "B-Drug", "I-Drug")
    rows = task.rows(examples, TOKENIZER, annotated=True)
    pieces = [TOKENIZER.id_to_token(id_) for id_ in rows.input_ids[0]]
    # A word of which the tokenizer leaves nothing is still a word.
    assert pieces == ["[CLS]", "the", "x", "##y", "##z", "a", "##b", "##c", "[UNK]", "[SEP]"]
    assert rows.token_targets["labels"][0].tolist() == [0, 0, 1, 0, 0, 2, 0, 0, 2, 0]
    assert rows.token_targets["label_weights"][0].tolist() == [0, 1, 1, 0, 0, 1, 0, 0, 1, 0]
    assert rows.offsets[0][[1, 2, 5]].tolist() == [[0, 3], [4, 7], [8, 11]]
    assert not rows.offsets[0][[0, 3, 4, 6, 7, 9]].any()


@st.composite
def documents(draw):
    words = draw(
        st.lists(st.sampled_from([*toy_tokenizer.WORDS, "xyzzy", "0.5mg", "Café", "q"]), min_size=0, max_size=60)
    )
    cuts = sorted(draw(st.sets(st.integers(0, len(words)), max_size=8)))
    ends = np.cumsum([len(word) + 1 for word in words]).tolist()
    characters = tuple((end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True))
    entities = tuple(
        Span(characters[s][0], characters[e - 1][1], draw(st.sampled_from(["Drug", "Disease"])))
        for s, e in pairwise(cuts)
        if draw(st.booleans())
    )
    given_words = characters if draw(st.booleans()) else None
    return Document(f"d{len(words)}", 1, "", " ".join(words), entities, given_words)


@pytest.mark.fast
@pytest.mark.parametrize("scheme", tags.SCHEMES)
@given(examples=st.lists(documents(), min_size=1, max_size=3), length=st.integers(8, 40), data=st.data())
def test_every_entity_comes_back_whatever_the_windows(scheme, examples, length, data):
    config = EntitiesConfig(max_seq_length=length, stride=data.draw(st.integers(0, length - 2)))
    task = config.task_with_labels(tags.all_tags(["Drug", "Disease"], scheme))
    rows, predictions = perfect(task, examples)
    assert [found.entities for found in predictions] == [example.entities for example in examples]
    assert all(len(ids) <= length for ids in rows.input_ids)
    words = [len(found.words) for found in predictions]
    weights = np.zeros(len(examples))
    for number, weights_l in zip(rows.examples_N, rows.token_targets["label_weights"], strict=True):
        weights[number] += weights_l.sum()
    assert weights.tolist() == words
    assert all(len(e.words) == n for e, n in zip(examples, words, strict=True) if e.words is not None)


@pytest.mark.fast
def test_a_word_is_decided_where_it_has_most_context():
    # Room for 6 pieces, 3 apart: the fourth of nine words is in both windows, with 2 and 0 words before the nearer end.
    text = " ".join("abcdefghi")
    task = EntitiesConfig(max_seq_length=8, stride=3).task_with_labels(("O", "B-X", "I-X"))
    rows = task.rows([Document("d", 1, "", text)], TOKENIZER, annotated=False)
    decided = [[text[s:e] for s, e in offsets if e] for offsets in rows.offsets]
    assert decided == [["a", "b", "c", "d", "e"], ["f", "g", "h", "i"]]


@pytest.mark.fast
def test_text_is_cut_as_the_tokenizer_cuts_it_and_text_stays_text():
    text = "Given 0.5mg [MASK] Cafe\u0301\u200b!"
    task = EntitiesConfig().task_with_labels(("O", "B-X", "I-X"))
    rows = task.rows([Document("d", 1, "", text)], TOKENIZER, annotated=False)
    words = [text[s:e] for s, e in rows.offsets[0] if e]
    assert words == ["Given", "0", ".", "5mg", "[", "MASK", "]", "Cafe\u0301", "!"]
    assert TOKENIZER.token_to_id("[MASK]") not in rows.input_ids[0]
    assert not TOKENIZER.encode_special_tokens  # the caller's own is left as it was


@pytest.mark.fast
def test_spans_that_cut_words_are_learned_by_overlap_and_counted():
    text = "severe liverfailure after"
    example = Document("d", 1, "", text, (Span(0, 6, "A"), Span(12, 19, "A"), Span(21, 22, "B")))
    task = EntitiesConfig().task([example])
    _, predictions = perfect(task, [example])
    assert predictions[0].entities == (Span(0, 6, "A"), Span(7, 19, "A"), Span(20, 25, "B"))
    scores = task.score([example], predictions)
    assert scores.values["recall"] == pytest.approx(1 / 3)
    assert scores.tables[-1].rows == [("all", 2)]
    assert [error["error"] for error in scores.errors] == ["wrong boundary", "wrong boundary"]
    # Words need no space between them.
    beside = Document("d", 1, "", "liver-failure", (Span(5, 6, "A"), Span(6, 13, "B")))
    assert perfect(task, [beside])[1][0].entities == beside.entities
    # Two entities in one word: the word is the first one's.
    both = Document("d", 1, "", "liverfailure", (Span(0, 5, "A"), Span(5, 12, "B")))
    assert perfect(task, [both])[1][0].entities == (Span(0, 12, "A"),)


@pytest.mark.fast
def test_predictions_that_break_the_scheme_are_no_entities():
    example = Document("d", 1, "", "a b c d")
    for scheme, sequence, found in (
        ("IOB2", "I-X B-X O I-X", (Span(2, 3, "X"),)),
        ("IOBES", "B-X I-X S-X E-X", (Span(4, 5, "X"),)),
    ):
        task = EntitiesConfig().task_with_labels(tags.all_tags(["X"], scheme))
        rows = task.rows([example], TOKENIZER, annotated=False)
        logits = np.zeros((6, len(task.labels)))
        for place, tag in enumerate(sequence.split(), start=1):
            logits[place, task.labels.index(tag)] = 1.0
        assert task.decode([example], rows, [logits])[0].entities == found


@pytest.mark.fast
def test_json_records_are_read(tmp_path):
    record = {"id": 7, "text": "liver failure", "entities": [{"start": 0, "end": 13, "label": "Disease"}]}
    other = {
        "text": "Ärger 😀 fever",
        "entities": [{"start": 8, "end": 13, "label": "S", "text": "fever"}],
        "patient": 3,
    }
    examples, _ = read(tmp_path, as_json(record, other), "data.jsonl")
    assert [(e.id, e.line, e.patient) for e in examples] == [("7", 1, ""), ("2", 2, "3")]
    assert [e.entities for e in examples] == [(Span(0, 13, "Disease"),), (Span(8, 13, "S"),)]
    array, _ = read(tmp_path, "\n" + json.dumps([record, other], indent=1), "data.json")
    assert [(e.text, e.entities, e.line) for e in array] == [
        (examples[0].text, examples[0].entities, 3),
        (examples[1].text, examples[1].entities, 14),
    ]


@pytest.mark.fast
def test_predictions_are_written_and_read_back(tmp_path):
    examples, _ = read(
        tmp_path, CONLL + "\nno\tS-Sign\nliver\tB-Sign\nfailure\tE-Sign\n".replace("S-", "B-", 1).replace("E-", "I-")
    )
    task = EntitiesConfig(scheme="IOBES").task(examples)
    _, predictions = perfect(task, examples)
    written = task.write(tmp_path / "test", examples, predictions, show_text=True)
    assert [path.name for path in written] == ["test.jsonl", "test.conll"]
    for path in written:
        again = EntitiesConfig().read(path, Reading())
        assert [(e.id, e.text, e.entities) for e in again] == [(e.id, e.text, e.entities) for e in examples]
    assert again[0].scheme == "IOBES"
    hidden = task.write(tmp_path / "hidden", examples, predictions, show_text=False)
    for path in hidden:
        assert not any(word in path.read_text() for example in examples for word in example.text.split())
    records = [json.loads(line) for line in hidden[0].read_text().splitlines()]
    assert records[0] == {"id": "first", "entities": [{"start": 4, "end": 17, "label": "Disease"}]}
    assert hidden[1].read_text().splitlines()[1:4] == ["0-3\tO", "4-9\tB-Disease", "10-17\tE-Disease"]


@pytest.mark.fast
def test_errors_are_told_by_kind_and_place():
    gold = [[Span(0, 3, "A"), Span(5, 9, "A"), Span(10, 12, "B"), Span(20, 22, "B")]]
    found = [[Span(0, 3, "B"), Span(5, 8, "A"), Span(11, 13, "A"), Span(30, 31, "A")]]
    wrong = entity_scores.errors(["x"], gold, found)
    kinds = [error["error"] for error in wrong]
    assert kinds == ["wrong type", "wrong boundary", "wrong type and boundary", "missed", "spurious"]
    assert wrong[1] == {"id": "x", "error": "wrong boundary"} | {
        "start": 5, "end": 9, "label": "A", "found_start": 5, "found_end": 8, "found_label": "A"
    }  # fmt: skip
    scores = entity_scores.score(["x"], gold, found, 0)
    assert sum(n for _, *counts in scores.tables[1].rows for n in counts) == 5
    assert entity_scores.errors(["x"], gold, gold) == []


@pytest.mark.fast
def test_counts_add_up_to_the_main_score():
    generator = np.random.default_rng(0)
    examples, predictions = [], []
    task = EntitiesConfig().task_with_labels(("O", "B-X", "I-X"))
    for number in range(40):
        gold, found = ({Span(5 * n, 5 * n + 2, "X") for n in generator.integers(0, 8, 4).tolist()} for _ in range(2))
        examples.append(Document(str(number), 1, "", "x" * 50, tuple(sorted(gold))))
        predictions.append(task.decode([], task.rows([], TOKENIZER, False), []) or (tuple(sorted(found)), ()))
    predictions = [type(perfect(task, examples[:1])[1][0])(*found) for found in predictions]
    scores = task.score(examples, predictions)
    assert scores.counts_ExM.shape == (40, 3)
    assert scores.of_sums(scores.counts_ExM.sum(0)) == scores.values[scores.main] > 0


BAD_CONLL = [
    ("the\tO\nliver\tI-Disease\n\nx\tB-A\n", 2, "B- to begin an entity"),
    ("the\tO\n\nliver\tB-Disease\nfailure\tI-Drug\n", 4, "found I- that continues none"),
    ("liver\tB-A\nfailure\tE-A\n", 2, "expected tags of IOB2"),
    ("a\tO\n\nsecret\n", 3, "one column"),
    ("a\tO\n\nsecret word\n", 3, "a tag in the last column"),
    ("a\tO\n\tB-A\n", 2, "a word in the first column"),
    ("a\tB-A\nsecret\tM-A\n", 2, "a tag in the last column"),
    ("# id = 1\na\tO\n\n# id = 1\nb\tO\n", 5, "an earlier record"),
    ("# id =\na\tO\n", 1, "the field 'id'"),
    (b"a\tO\n\xff\tO\n", 2, "a word"),
]
GOOD = {"id": "good", "text": "secret liver", "entities": [{"start": 0, "end": 6, "label": "A"}]}
BAD_JSON = [
    ("{", "one JSON object"),
    ("[1]", "one JSON object"),
    ({"text": "secret"}, "a field named 'entities'"),
    (GOOD, "an earlier record"),
    ({"id": "a\nb", "text": "a", "entities": []}, "the field 'id'"),
    ({"text": 3, "entities": []}, "a text"),
    ({"text": " ", "entities": []}, "a text"),
    ({"text": "a", "entities": {}}, "a list"),
    ({"text": "a", "entities": [1]}, "'start', 'end', 'label'"),
    ({"text": "secret", "entities": [{"start": 2, "end": 7, "label": "A"}]}, "characters 2 to 7"),
    ({"text": "secret", "entities": [{"start": 2, "end": 2, "label": "A"}]}, "characters 2 to 2"),
    ({"text": "secret", "entities": [{"start": -1, "end": 2, "label": "A"}]}, "characters -1 to 2"),
    ({"text": "secret", "entities": [{"start": 1.0, "end": 2, "label": "A"}]}, "whole numbers"),
    ({"text": "secret", "entities": [{"start": 1, "end": 2, "label": ""}]}, "a name"),
    ({"text": "secret", "entities": [{"start": 1, "end": 2, "label": "A", "text": "s"}]}, "another text"),
    ({"text": "secret", "entities": [{"start": s, "end": s + 2, "label": "A"} for s in (1, 2)]}, "do not overlap"),
    ({"text": "a", "entities": [], "patient": []}, "the field 'patient'"),
]


def refused(tmp_path, content, name, line, words, good):
    with pytest.raises(UserError) as error:
        read(tmp_path, content, name)
    message = str(error.value)
    assert f"{name}, line {line}: " in message
    assert words in message
    assert "\n" not in message
    assert "secret" not in message
    kept, bad = read(tmp_path, content, name, "skip")
    assert bad.counts == {str(tmp_path / name): 1}
    assert len(kept) == good


@pytest.mark.fast
@pytest.mark.parametrize(("content", "line", "words"), BAD_CONLL)
def test_a_bad_sentence_is_named_or_left_out(tmp_path, content, line, words):
    good = "\nx\tB-Z\ny\tO\n\nz\tB-Z\n"
    content = content + (good if isinstance(content, str) else good.encode())
    sentences = len(content.split("\n\n" if isinstance(content, str) else b"\n\n"))
    refused(tmp_path, content, "data.tsv", line, words, sentences - 1)


@pytest.mark.fast
@pytest.mark.parametrize(("record", "words"), BAD_JSON)
def test_a_bad_record_is_named_or_left_out(tmp_path, record, words):
    content = as_json(GOOD) + (record if isinstance(record, str) else json.dumps(record)) + "\n"
    refused(tmp_path, content, "data.jsonl", 2, words, 1)
    if isinstance(record, dict):
        refused(tmp_path, json.dumps([GOOD, record]).replace('}, {"', '},\n{"'), "data.json", 2, words, 1)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", "", "at least one"),
        ("a.jsonl", "\n", "at least one"),
        ("a.json", "[]", "at least one"),
        ("a.json", '{"id": 1}', "one JSON array"),
        ("a.json", '[{"id": secret}]', "line 1: expected a JSON object"),
        ("a.json", '[{"text": "a", "entities": []} "secret"]', "expected ',' or ']'"),
        ("a.csv", "secret", "a file ending in"),
        ("a.tsv.gz", "secret", "damaged"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, words):
    for policy in ("stop", "skip"):
        with pytest.raises(UserError, match=words) as error:
            read(tmp_path, content, name, policy)
        assert name in str(error.value)
        assert "secret" not in str(error.value)


@pytest.mark.fast
def test_a_type_unseen_in_training_is_named(tmp_path):
    examples, bad = read(tmp_path, CONLL, policy="skip")
    task = EntitiesConfig().task(examples[1:])
    path = tmp_path / "dev.tsv"
    assert task.check_labels(examples, path, bad) == examples[1:]
    assert bad.counts == {str(path): 1}
    with pytest.raises(UserError, match=r"dev.tsv, line 5: expected labels seen in training"):
        task.check_labels(examples, path, Reading())
    with pytest.raises(UserError, match="with entities, found none"):
        EntitiesConfig().task([Document("d", 1, "", "a")])


@pytest.mark.fast
def test_texts_without_annotation_are_read(tmp_path):
    words, _ = read(tmp_path, "liver\nfailure\tX\n\nfever\n", "a.tsv", annotated=False)
    assert [(e.text, e.entities) for e in words] == [("liver failure", ()), ("fever", ())]
    lines, _ = read(tmp_path, "liver failure \n\nfever\x0ca\n", "a.txt", annotated=False)
    assert [(e.id, e.text, e.words) for e in lines] == [("1", "liver failure ", None), ("3", "fever\x0ca", None)]
    records, _ = read(tmp_path, as_json({"id": "x", "text": "liver"}), "a.jsonl", annotated=False)
    assert [(e.id, e.text) for e in records] == [("x", "liver")]


@pytest.mark.fast
@pytest.mark.parametrize(
    "setting",
    [{"kind": "x"}, {"max_seq_length": 4}, {"stride": 127}, {"stride": -1}, {"scheme": "IOB1"}, {"stride": 1.0}],
)
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(UserError, match=f"config.task.{next(iter(setting))}: expected"):
        EntitiesConfig(**setting)


@pytest.mark.parametrize(
    ("name", "sentences", "words", "types"),
    [
        ("bc5cdr/train", 4560, 118_170, {"Chemical": 5203, "Disease": 4182}),
        ("bc5cdr/devel", 4581, 117_453, {"Chemical": 5347, "Disease": 4246}),
        ("ncbi_disease/train", 5424, 135_701, {"Disease": 5134}),
        ("ncbi_disease/devel", 923, 23_969, {"Disease": 787}),
    ],
)
def test_public_corpora_are_read_whole(shared_data, name, sentences, words, types):
    bad = Reading()
    examples = EntitiesConfig().read(shared_data / "ner" / f"{name}.tsv", bad)
    assert len(examples) == sentences
    assert sum(len(example.words or ()) for example in examples) == words
    labels = [entity.label for example in examples for entity in example.entities]
    assert {label: labels.count(label) for label in set(labels)} == types
    assert not bad.counts
