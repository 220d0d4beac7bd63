"""A BERT tokenizer: its files read, the tokenizer built, its files written. No other module knows what they may say.

vocab.txt                WordPiece entries, one a line
tokenizer.json           the same and everything else, as the `tokenizers` library saves it
tokenizer_config.json    settings by name, added tokens by id
added_tokens.json, special_tokens_map.json    what older versions of transformers wrote beside vocab.txt

A setting that this project does not support, and two files that contradict each other, are refused.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.tokenizer_files.settings import (
    MAX_WORD_CHARACTERS,
    SPECIAL_TOKENS,
    AddedToken,
    Settings,
    is_uncased,
    normalizer,
)

NAMES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")  # what `write` writes
_VOCABULARY, _TOKENIZER, _CONFIG = NAMES
_ADDED, _SPECIAL = "added_tokens.json", "special_tokens_map.json"

_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
_NAMED_TOKENS = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS}
# By name in tokenizer_config.json and in the normalizer of tokenizer.json.
_TEXT_SETTINGS = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# What the rest must be for the tokenizer to be BERT's; None: not said.
_EXPECTED_IN_CONFIG = {
    "do_basic_tokenize": (True, None),
    "never_split": ([], None),
    "wordpieces_prefix": ("##", None),
    "split_special_tokens": (False, None),
}
_EXPECTED_IN_TOKENIZER = {
    "model.type": ("WordPiece", None),
    "model.continuing_subword_prefix": ("##",),
    "model.unk_token": ("[UNK]",),
    "model.max_input_chars_per_word": (MAX_WORD_CHARACTERS,),
    "normalizer.type": ("BertNormalizer",),
    "normalizer.clean_text": (True,),
    "pre_tokenizer.type": ("BertPreTokenizer",),
    "post_processor.type": ("TemplateProcessing", "BertProcessing", None),
}
_NO_LIMIT = 10**9  # transformers writes a larger number for a length that it does not know


def exist(directory: Path) -> bool:
    """Whether a directory holds a vocabulary, in either form."""
    return (directory / _VOCABULARY).exists() or (directory / _TOKENIZER).exists()


def read(path: str | Path) -> Settings:
    """The settings in a directory, or of a `vocab.txt` with the files beside it; any other file is a vocabulary alone.

    Where no file says the casing, a vocabulary without a capital letter is an uncased one. Raises `UserError` where
    there is no BERT tokenizer, one with a setting that is not supported, or files that contradict each other.
    """
    path = patterns.expanded(path)
    if not path.is_dir() and path.name != _VOCABULARY:
        entries = _lines(path)
        return _checked(Settings(entries, is_uncased(entries)), path)
    directory = path if path.is_dir() else path.parent
    if not exist(directory):
        raise UserError(f"{directory}: expected {_VOCABULARY} or {_TOKENIZER}, found neither")
    config, fast = _json(directory / _CONFIG), _json(directory / _TOKENIZER)
    if not str(config.get("tokenizer_class") or _CLASSES[0]).startswith(_CLASSES):
        found = config["tokenizer_class"]
        raise UserError(f"{directory / _CONFIG}: expected tokenizer_class to be {_CLASSES[0]}, found {found!r}")
    _require(directory / _CONFIG, config, _EXPECTED_IN_CONFIG)
    if fast:
        _require(directory / _TOKENIZER, fast, _EXPECTED_IN_TOKENIZER)
    entries = _entries(directory, fast)
    length = config.get("model_max_length")
    settings = Settings(
        entries,
        added_tokens=_added_tokens(directory, entries, config, fast),
        model_max_length=int(length) if isinstance(length, int | float) and 0 < length < _NO_LIMIT else None,
        **_text_settings(directory, entries, config, fast),
    )
    return _checked(settings, directory)


def build(settings: Settings, special_tokens: bool = True) -> tokenizers.Tokenizer:
    """The tokenizer: adds [CLS] and [SEP], neither pads nor truncates, and takes '[MASK]' in a text for the mask.

    Without `special_tokens` it adds none, and '[MASK]' in a text is text. Added tokens are never special to it, so that
    `encode_special_tokens` concerns BERT's own alone; nor do they include the white space beside them (`lstrip`,
    `rstrip`): the ids are the same, since white space has none, and the characters are the token's own.
    """
    ids = {entry: number for number, entry in enumerate(settings.entries)}
    wordpiece = models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS)
    tokenizer = tokenizers.Tokenizer(wordpiece)
    tokenizer.normalizer = normalizer(settings)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    if special_tokens:
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
        )
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(token.content, single_word=token.single_word, normalized=token.normalized)
            for token in settings.added_tokens
        ]
    )
    return tokenizer


def write(directory: Path, settings: Settings) -> None:
    """Write the files `NAMES`, from which transformers and this project build the same tokenizer."""
    document = json.loads(build(settings).to_str())
    flags = {token.content: {flag: getattr(token, flag) for flag in _FLAGS} for token in settings.added_tokens}
    for token in document["added_tokens"]:
        token |= flags.get(token["content"], {})
    config = {
        "tokenizer_class": "BertTokenizer",
        "added_tokens_decoder": {
            str(token["id"]): {name: token[name] for name in ("content", *_FLAGS)} for token in document["added_tokens"]
        },
        **{name: getattr(settings, name) for name in _TEXT_SETTINGS},
        **_NAMED_TOKENS,
    }
    if settings.model_max_length is not None:
        config["model_max_length"] = settings.model_max_length
    (directory / _VOCABULARY).write_text("".join(f"{entry}\n" for entry in settings.entries), "utf-8")
    (directory / _TOKENIZER).write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", "utf-8")
    (directory / _CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _checked(settings: Settings, path: Path) -> Settings:
    missing = [token for token in SPECIAL_TOKENS if token not in settings.entries]
    if missing:
        raise UserError(
            f"{path}: expected a BERT vocabulary with {' '.join(SPECIAL_TOKENS)}, one entry a line, "
            f"found no {missing[0]}"
        )
    if len(set(settings.entries)) < len(settings.entries):
        raise UserError(f"{path}: expected each entry of the vocabulary once, found one repeated")
    return settings


def _entries(directory: Path, fast: Mapping[str, Any]) -> tuple[str, ...]:
    file = directory / _VOCABULARY
    lines = _lines(file) if file.exists() else ()
    if not fast:
        return lines
    try:
        ids = {str(entry): int(number) for entry, number in fast["model"]["vocab"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        ids = {}
    entries = tuple(sorted(ids, key=ids.__getitem__))
    if sorted(ids.values()) != list(range(len(ids))) or any("\n" in entry or "\r" in entry for entry in entries):
        raise UserError(f"{directory / _TOKENIZER}: expected the vocabulary of a WordPiece, with ids 0, 1, 2, ...")
    if lines not in ((), entries):
        raise UserError(
            f"{directory}: {_VOCABULARY} ({len(lines)} entries) and the vocabulary in {_TOKENIZER} ({len(entries)} "
            "entries) differ: remove the one that the model was not trained with"
        )
    return entries


def _lines(file: Path) -> tuple[str, ...]:
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError(f"expected a vocabulary at {file}, found none") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}): expected UTF-8, one entry a line") from None
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        if line != line.strip(" \t") or "\t" in line:
            raise UserError(
                f"{file}: expected one entry a line, found white space beside it on line {number}: remove it"
            )
    return tuple(lines)


def _text_settings(
    directory: Path, entries: tuple[str, ...], config: Mapping[str, Any], fast: Mapping[str, Any]
) -> dict[str, Any]:
    rules = fast.get("normalizer", {})
    in_files = {
        _CONFIG: {name: config[name] for name in _TEXT_SETTINGS if name in config},
        _TOKENIZER: {name: rules[key] for name, key in _TEXT_SETTINGS.items() if key in rules},
    }
    settings: dict[str, Any] = {"do_lower_case": is_uncased(entries), "strip_accents": None}
    for name in _TEXT_SETTINGS:
        said = {file: values[name] for file, values in in_files.items() if name in values}
        for file, value in said.items():
            if not isinstance(value, bool | None):
                raise UserError(f"{directory / file}: expected {name} to be true, false or null, found {value!r}")
        if name == "strip_accents":  # null: as the casing
            meant = {file: settings["do_lower_case"] if value is None else value for file, value in said.items()}
        else:
            meant = said = {file: value for file, value in said.items() if value is not None}
        if len(set(meant.values())) > 1:
            raise UserError(
                f"{directory}: {name} is {str(meant[_CONFIG]).lower()} in {_CONFIG}, {str(meant[_TOKENIZER]).lower()} "
                f"in {_TOKENIZER}: make both what the model was trained with"
            )
        settings[name] = next(iter(said.values()), settings.get(name, True))
    return settings


def _added_tokens(
    directory: Path, entries: tuple[str, ...], config: Mapping[str, Any], fast: Mapping[str, Any]
) -> tuple[AddedToken, ...]:
    """Every added token of every file but BERT's own, in the order of the ids."""
    try:
        special = set(_special_tokens(directory / _CONFIG, config))
        special |= set(_special_tokens(directory / _SPECIAL, _json(directory / _SPECIAL)))
        found = list(_listed(directory, config, fast, special))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"the added tokens of {directory} cannot be read ({type(error).__name__})") from None
    ids = {entry: number for number, entry in enumerate(entries)}
    tokens: dict[str, AddedToken] = {}
    for file, number, token in found:
        known = ids.setdefault(token.content, number)
        clash = known != number or (number < len(entries) and entries[number] != token.content)
        if not clash and token.content not in SPECIAL_TOKENS:
            clash = tokens.setdefault(token.content, token) != token and file != _ADDED
        if clash:
            raise UserError(
                f"{directory / file}: the added token {token.content!r} with id {number} contradicts the other files "
                "of the tokenizer: make all say what the model was trained with"
            )
    for content in sorted(special - set(SPECIAL_TOKENS) - set(tokens)):
        if content not in ids:
            raise UserError(f"{directory}: expected an id for the special token {content!r}, found none: add it")
        tokens[content] = AddedToken(content, normalized=False, special=True)
    new = sorted(ids[content] for content in tokens if content not in entries)
    if new != list(range(len(entries), len(entries) + len(new))):
        raise UserError(
            f"{directory}: expected added tokens with the ids after the vocabulary's, {len(entries)} and up without "
            f"gaps, found {', '.join(map(str, new[:8]))}"
        )
    return tuple(sorted(tokens.values(), key=lambda token: ids[token.content]))


def _listed(
    directory: Path, config: Mapping[str, Any], fast: Mapping[str, Any], special: set[str]
) -> Iterator[tuple[str, int, AddedToken]]:
    """File, id and token of each added token that a file lists with its id."""
    by_file = {
        _TOKENIZER: [(token["id"], token) for token in fast.get("added_tokens") or ()],
        _CONFIG: list((config.get("added_tokens_decoder") or {}).items()),
        _ADDED: [
            (number, {"content": content, "normalized": content not in special, "special": content in special})
            for content, number in _json(directory / _ADDED).items()
        ],
    }
    for file, tokens in by_file.items():
        for number, token in tokens:
            yield file, int(number), AddedToken(**{name: token[name] for name in ("content", *_FLAGS) if name in token})


def _special_tokens(file: Path, document: Mapping[str, Any]) -> Iterator[str]:
    """The tokens that a file names as special, whose names must be BERT's where they stand for BERT's."""

    def content(token: Any) -> str:
        return str(token["content"] if isinstance(token, Mapping) else token)

    for name, value in document.items():
        if name in _NAMED_TOKENS and value is not None and content(value) != _NAMED_TOKENS[name]:
            raise UserError(f"{file}: expected {name} to be {_NAMED_TOKENS[name]}, found {content(value)!r}")
        if name in ("additional_special_tokens", "extra_special_tokens"):
            yield from map(content, value.values() if isinstance(value, Mapping) else value or ())
        elif name.endswith("_token") and isinstance(value, str | Mapping):
            yield content(value)


def _require(file: Path, document: Mapping[str, Any], expected: Mapping[str, tuple[Any, ...]]) -> None:
    for name, allowed in expected.items():
        value: Any = document
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value not in allowed:
            found = json.dumps(value)
            raise UserError(
                f"{file}: expected a BERT tokenizer, with {name} {json.dumps(allowed[0])}, found "
                f"{found if len(found) < 60 else 'another'}: this project supports no other"
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): restore it from a copy") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: expected a JSON object, found another value: restore it from a copy")
    return document
