import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep.text import cleaning
from data_prep.text.sentences import Sentences
from data_prep.wordpiece import tokenizer
from data_prep.wordpiece.tokenizer import Tokenizer, load, tokenize
from tests.data_prep.note_text import note_like

SMALL = (*SPECIAL_TOKENS, "the", "patient", "##s", "was", ".", "a", "##b", "5", "é")
UNCASED = Settings(SMALL, do_lower_case=True)
HARD = "abcXYZ é\u0301ßİıΣςſK.,-9\u00ad\u200b\t\n中ﬁ\u1e9e\u0130\u0345'[]"


def fuzzed(count, seed):
    """Strings over all of Unicode, over its first 12,288 code points, and of what is known to be awkward."""
    rng = random.Random(seed)
    for _ in range(count):
        kind, length = rng.random(), rng.randint(1, 30)
        if kind < 0.4:
            yield "".join(chr(rng.randrange(0x110000)) for _ in range(length))
        elif kind < 0.75:
            yield "".join(chr(rng.randrange(0x3000)) for _ in range(length))
        elif kind < 0.9:
            yield "".join(rng.choice(HARD) for _ in range(length))
        else:
            yield " ".join(
                rng.choice(["Café", "ΑΣ", "ΟΔΟΣ.", "co\u0302te", "DŽ", "5mg", "\u2028x"]) for _ in range(length)
            )


@pytest.fixture(scope="module", params=["bert-base-cased", "bert-base-uncased"])
def vocab_file(request, shared_data):
    return shared_data / "vocab" / request.param / "vocab.txt"


@pytest.mark.parametrize("count", [15_000, pytest.param(120_000, marks=pytest.mark.soak)])
def test_ids_are_those_of_the_authors_tokenizer(vocab_file, count):
    """Strings over all of Unicode, after our cleaning."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    ours = load(vocab_file)
    reference = BertTokenizerLegacy(str(vocab_file), do_lower_case=ours.settings.do_lower_case)
    texts = [cleaning.clean(text) for text in fuzzed(count, seed=count)]
    ids_T, pieces_S = ours.ids(texts)
    for text, ids in zip(texts, np.split(ids_T, np.cumsum(pieces_S)[:-1]), strict=True):
        assert reference.convert_tokens_to_ids(reference.tokenize(text)) == ids.tolist(), ascii(text)


@pytest.mark.soak
@pytest.mark.parametrize("lowercase", [False, True])
def test_every_code_point_is_cut_as_by_the_authors(lowercase):
    from tokenizers import normalizers, pre_tokenizers
    from transformers.models.bert.tokenization_bert_legacy import BasicTokenizer

    normalizer, cutter = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    reference = BasicTokenizer(do_lower_case=lowercase)
    for code in range(0x110000):
        text = cleaning.characters(f"a{chr(code)}b")
        words = [word for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(text))]
        assert words == reference.tokenize(text), hex(code)


@pytest.mark.fast
@given(st.lists(st.one_of(note_like, st.text())))
def test_words_one_by_one_give_the_pieces_of_the_whole_text(texts):
    ours = Tokenizer(UNCASED)
    texts = [cleaning.clean(text) for text in texts]
    ids_T, pieces_S = ours.ids(texts)
    whole = [ours._fast.encode(text, add_special_tokens=False).ids for text in texts]
    assert ids_T.tolist() == [piece for ids in whole for piece in ids]
    assert pieces_S.tolist() == list(map(len, whole))


def test_ids_do_not_depend_on_the_chunk_or_on_what_is_stored(monkeypatch):
    texts = [cleaning.clean(text) for text in fuzzed(500, seed=2)]
    expected = Tokenizer(UNCASED).ids(texts)
    monkeypatch.setattr(tokenizer, "_CHUNK", 7)
    monkeypatch.setattr(tokenizer, "_MAX_CHARACTERS", 200)
    ours = Tokenizer(UNCASED)
    for _ in range(2):
        assert all((a == b).all() for a, b in zip(ours.ids(texts), expected, strict=True))
    assert len(ours._words) < 1000


def test_special_tokens_in_a_note_are_text():
    assert Tokenizer(UNCASED).ids(["[MASK] the [SEP]"])[0].tolist().count(SMALL.index("[MASK]")) == 0


@pytest.mark.fast
def test_tokenized_notes():
    documents = [
        Sentences(["the patients", "was"], ["", "plan"]),
        Sentences(["\u0301"], [""]),
        Sentences([], []),
        Sentences(["\u0301", "ab ."], ["plan", "plan"]),
    ]
    notes = tokenize(Tokenizer(UNCASED), documents, [10, 11, 12, 13], [0, 1, 2, 3])
    assert notes.ids_T.tolist() == [SMALL.index(piece) for piece in ("the", "patient", "##s", "was", "a", "##b", ".")]
    assert notes.sentence_offsets.tolist() == [0, 3, 4, 7]
    assert notes.document_offsets.tolist() == [0, 2, 3]
    assert notes.sections_S[0] == 0 and notes.sections_S[1] == notes.sections_S[2] > 0
    assert (notes.patient_D.tolist(), notes.category_D.tolist()) == ([10, 13], [0, 3])
    kinds = [notes.ids_T, notes.sentence_offsets, notes.document_offsets, notes.sections_S, notes.patient_D]
    assert [array.dtype for array in kinds] == [np.int32, np.int64, np.int64, np.int32, np.int64]


def test_no_documents():
    notes = tokenize(Tokenizer(UNCASED), [], [], [])
    assert (len(notes.ids_T), notes.sentence_offsets.tolist(), notes.document_offsets.tolist()) == (0, [0], [0])


def test_transformers_opens_what_is_saved(vocab_file, tmp_path):
    from transformers import AutoTokenizer

    ours = load(vocab_file)
    bert_tokenizer.write(tmp_path, ours.settings)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert (tmp_path / "vocab.txt").read_bytes() == vocab_file.read_bytes()
    assert type(theirs).__name__ == "BertTokenizer"
    assert theirs.get_vocab() == ours.id_of
    assert theirs.mask_token == "[MASK]" and theirs.pad_token_id == ours.id_of["[PAD]"]
    texts = [cleaning.clean(text) for text in fuzzed(2000, seed=3)] + ["The Patient was NOT naïve."]
    texts = [text for text in texts if not any(token in text for token in SPECIAL_TOKENS)]
    ids_T, pieces_S = ours.ids(texts)
    assert theirs(texts, add_special_tokens=False)["input_ids"] == [
        ids.tolist() for ids in np.split(ids_T, np.cumsum(pieces_S)[:-1])
    ]
    pair = theirs("The heart.", "It beats.")
    cls, sep = ours.id_of["[CLS]"], ours.id_of["[SEP]"]
    first, second = (ours.ids([text])[0].tolist() for text in ("The heart.", "It beats."))
    assert pair["input_ids"] == [cls, *first, sep, *second, sep]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert theirs("a [MASK] b")["input_ids"].count(ours.id_of["[MASK]"]) == 1


def test_saved_tokenizers_load_again_with_their_casing(vocab_file, tmp_path):
    ours = load(vocab_file)
    bert_tokenizer.write(tmp_path, ours.settings)
    again = load(tmp_path)
    assert again.settings == ours.settings


def test_what_transformers_saves_is_opened(vocab_file, tmp_path):
    """transformers 5 writes no vocab.txt."""
    from transformers import BertTokenizer

    ours = load(vocab_file)
    theirs = BertTokenizer(vocab=str(vocab_file), do_lower_case=ours.settings.do_lower_case)
    theirs.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.settings == ours.settings


def written(tmp_path, *entries):
    (tmp_path / "vocab.txt").write_text("\n".join(entries) + "\n")
    return tmp_path / "vocab.txt"


@pytest.mark.fast
def test_casing_is_found_out_and_a_contradiction_refused(tmp_path):
    uncased = written(tmp_path, *SMALL)
    assert load(uncased).settings.do_lower_case is True
    assert load(uncased, do_lower_case=True).settings.do_lower_case is True
    with pytest.raises(UserError, match="do_lower_case=False was asked for"):
        load(uncased, do_lower_case=False)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    with pytest.raises(UserError, match="do_lower_case=False was asked for"):
        load(tmp_path)
    cased = written(tmp_path, *SMALL, "Patient")
    assert load(cased).settings.do_lower_case is False
    with pytest.raises(UserError, match="do_lower_case=True was asked for"):
        load(cased, do_lower_case=True)


@pytest.mark.parametrize("missing", SPECIAL_TOKENS)
def test_a_vocabulary_without_a_special_token_is_refused(tmp_path, missing):
    file = written(tmp_path, *(token for token in SMALL if token != missing))
    with pytest.raises(UserError) as caught:
        load(file)
    assert f"found no {missing}" in str(caught.value)


def test_files_that_are_no_vocabulary_are_refused(tmp_path):
    with pytest.raises(UserError, match="found n"):
        load(tmp_path / "no.txt")
    with pytest.raises(UserError, match="found n"):
        load(tmp_path)
    with pytest.raises(UserError, match="each entry of the vocabulary once"):
        load(written(tmp_path, *SMALL, "the"))
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / "vocab.txt")


def test_a_vocabulary_with_windows_line_ends_is_read(tmp_path):
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(SMALL).encode())
    assert load(tmp_path / "vocab.txt").vocabulary == SMALL
