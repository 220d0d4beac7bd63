"""Every setting of a BERT tokenizer's files gives the tokens of transformers, in both packages, or is refused."""

import dataclasses
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, AddedToken, Settings
from data_prep.text import cleaning
from data_prep.wordpiece.tokenizer import Tokenizer, load

LETTERS = "abcdeABCDE012éÉäßıİΣςſ中文.,-[]'°"
WORDS = ("covid", "19", "pt", "Pt", "naïve", "naive", "müde", "mude", "[", "]", "##vid19", "##s")
ENTRIES = tuple(dict.fromkeys([*SPECIAL_TOKENS, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]))
ADDED = (
    AddedToken("b2b", single_word=True),
    AddedToken("covid19", lstrip=True),
    AddedToken("[DEID]", normalized=False, special=True),
    AddedToken("Naïve", rstrip=True),
    AddedToken("é中", normalized=False),
)
PARTS = [
    *LETTERS,
    *WORDS,
    "covid19",
    "COVID19",
    "b2b",
    "ab2b",
    "[DEID]",
    "[deid]",
    "Naïve",
    "NAIVE",
    "é中",
    "e\u0301",
    " ",
    " ",
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """10,000 strings of the parts above and of any code point, as data preparation cleans them, twenty to a text."""
    rng = random.Random(0)
    strings = [
        "".join(
            rng.choice(PARTS) if rng.random() < 0.9 else chr(rng.randrange(0x3000)) for _ in range(rng.randint(1, 5))
        )
        for _ in range(10_000)
    ]
    return [cleaning.clean(" ".join(strings[start : start + 20])) for start in range(0, len(strings), 20)]


def ids(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


@pytest.mark.parametrize("added", [(), ADDED], ids=["plain", "added"])
def test_every_combination_of_settings_tokenizes_as_transformers(tmp_path: Path, texts: list[str], added) -> None:
    from transformers import AutoTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    for lower, strip, chinese in itertools.product((True, False), (None, True, False), (True, False)):
        settings = Settings(ENTRIES, lower, strip, chinese, added)
        bert_tokenizer.write(tmp_path, settings)
        assert bert_tokenizer.read(tmp_path) == settings
        expected = ids(AutoTokenizer.from_pretrained(tmp_path).backend_tokenizer, texts)
        assert ids(bert_tokenizer.build(settings), texts) == expected, settings
        ids_T, tokens_S = Tokenizer(settings).ids(texts)
        assert [of.tolist() for of in np.split(ids_T, np.cumsum(tokens_S)[:-1])] == expected, settings
        if not added:  # the authors' own code, which reads no file of settings that we wrote
            flags = {"do_lower_case": lower, "strip_accents": strip, "tokenize_chinese_chars": chinese}
            theirs = BertTokenizerLegacy(str(tmp_path / "vocab.txt"), **flags)
            for text, of in zip(texts[:50], expected[:50], strict=True):
                assert theirs.convert_tokens_to_ids(theirs.tokenize(text)) == of, (settings, ascii(text))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tokenizer's directory with every file complete."""
    bert_tokenizer.write(tmp_path, Settings(ENTRIES, False, False, True, ADDED, 64))
    return tmp_path


def change(path: Path, **fields: object) -> None:
    """Set fields of a JSON file; of a nested object where the name has `__`."""
    document = json.loads(path.read_text()) if path.exists() else {}
    for name, value in fields.items():
        *outer, last = name.split("__")
        holder = document
        for part in outer:
            holder = holder[part]
        holder[last] = value
    path.write_text(json.dumps(document))


@pytest.mark.fast
@pytest.mark.parametrize("only", [{"tokenizer.json"}, {"vocab.txt", "tokenizer_config.json"}], ids=["fast", "slow"])
def test_either_form_says_everything(directory: Path, only: set[str]) -> None:
    whole = bert_tokenizer.read(directory)
    for name in {*bert_tokenizer.NAMES} - only:
        (directory / name).unlink()
    expected = whole if "tokenizer_config.json" in only else dataclasses.replace(whole, model_max_length=None)
    assert bert_tokenizer.read(directory) == expected


@pytest.mark.fast
def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    """vocab.txt, and added tokens with their ids in a file of their own."""
    (tmp_path / "vocab.txt").write_text("".join(f"{entry}\n" for entry in ENTRIES))
    size = len(ENTRIES)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"covid19": size + 1, "[DEID]": size}))
    special = {"additional_special_tokens": ["[DEID]", "[unused]"], "mask_token": {"content": "[MASK]", "lstrip": True}}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    with pytest.raises(UserError, match=r"an id for the special token '\[unused\]'"):
        bert_tokenizer.read(tmp_path)
    change(tmp_path / "added_tokens.json", **{"[unused]": size + 2})
    settings = bert_tokenizer.read(tmp_path)
    assert settings.tokens == (*ENTRIES, "[DEID]", "covid19", "[unused]")
    assert [token.special for token in settings.added_tokens] == [True, False, True]
    assert bert_tokenizer.read(tmp_path / "vocab.txt") == settings
    assert load(tmp_path).ids(["covid19!"])[0][0] == size + 1


@pytest.mark.fast
def test_a_byte_order_mark_and_windows_line_ends_are_no_text(directory: Path) -> None:
    expected = bert_tokenizer.read(directory)
    for name in bert_tokenizer.NAMES:
        (directory / name).write_bytes(b"\xef\xbb\xbf" + (directory / name).read_bytes().replace(b"\n", b"\r\n"))
    assert bert_tokenizer.read(directory) == expected
    (directory / "vocab.txt").rename(directory / "words.txt")
    assert bert_tokenizer.read(directory / "words.txt").entries == ENTRIES


@pytest.mark.fast
@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        ("tokenizer_config.json", {"do_lower_case": True}, "do_lower_case is true in tokenizer_config.json, false in"),
        ("tokenizer_config.json", {"strip_accents": True}, "strip_accents is true in tokenizer_config.json, false in"),
        ("tokenizer.json", {"normalizer__strip_accents": True}, "strip_accents is false in tokenizer_config.json"),
        ("tokenizer.json", {"normalizer__handle_chinese_chars": False}, "tokenize_chinese_chars is true in"),
        ("tokenizer.json", {"model__vocab__w": 0}, "with ids 0, 1, 2"),
        ("tokenizer.json", {"model__vocab__w": len(ENTRIES)}, "differ: remove the one"),
        ("added_tokens.json", {"covid19": 7}, r"added_tokens.json: the added token 'covid19' with id 7 contradicts"),
        ("added_tokens.json", {"new": len(ENTRIES)}, "without gaps, found 77, 77"),
        ("added_tokens.json", {"new": len(ENTRIES) + 9}, "without gaps"),
        ("tokenizer_config.json", {f"added_tokens_decoder__{len(ENTRIES)}__normalized": False}, "'b2b' with id"),
        ("tokenizer.json", {"added_tokens": 5}, "cannot be read"),
        ("tokenizer_config.json", {"mask_token": "<mask>"}, r"expected mask_token to be \[MASK\], found '<mask>'"),
        ("tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"}, "found 'RobertaTokenizer'"),
        ("tokenizer_config.json", {"do_basic_tokenize": False}, "do_basic_tokenize true, found false"),
        ("tokenizer_config.json", {"never_split": ["x"]}, r"never_split \[\]"),
        ("tokenizer_config.json", {"do_lower_case": "false"}, "expected do_lower_case to be true, false or null"),
        ("tokenizer.json", {"normalizer": None}, 'normalizer.type "BertNormalizer", found null'),
        ("tokenizer.json", {"normalizer__clean_text": False}, "normalizer.clean_text true"),
        ("tokenizer.json", {"pre_tokenizer__type": "Whitespace"}, "pre_tokenizer.type"),
        ("tokenizer.json", {"model__type": "BPE"}, 'model.type "WordPiece", found "BPE"'),
        ("tokenizer.json", {"model__max_input_chars_per_word": 200}, "max_input_chars_per_word 100, found 200"),
    ],
)
def test_contradictions_and_what_is_not_supported_are_refused_by_name(directory, file, fields, message) -> None:
    change(directory / file, **fields)
    with pytest.raises(UserError, match=message) as caught:
        bert_tokenizer.read(directory)
    assert "\n" not in str(caught.value)


@pytest.mark.fast
@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_damaged_files_are_refused(directory: Path, text: str) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        before = (directory / name).read_bytes()
        (directory / name).write_bytes(text.encode("latin-1"))
        with pytest.raises(UserError, match=f"{name}.*restore it"):
            bert_tokenizer.read(directory)
        (directory / name).write_bytes(before)


@pytest.mark.fast
def test_casing_that_no_file_says_is_that_of_the_vocabulary(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    assert bert_tokenizer.read(directory).do_lower_case is False
    (directory / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "pain"]))
    assert bert_tokenizer.read(directory).do_lower_case is True


@pytest.mark.fast
def test_data_preparation_refuses_added_tokens_with_white_space() -> None:
    with pytest.raises(UserError, match="added tokens without white space"):
        Tokenizer(Settings(ENTRIES, True, added_tokens=(AddedToken("short of breath"),)))


@pytest.mark.fast
@pytest.mark.parametrize("entry", ["pain ", " pain", "pain\t7"])
def test_an_entry_with_white_space_which_no_text_would_meet_is_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "fever", entry]) + "\n")
    with pytest.raises(UserError, match="white space beside it on line 7"):
        bert_tokenizer.read(tmp_path)
