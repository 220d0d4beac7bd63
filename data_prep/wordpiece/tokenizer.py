"""WordPiece: a vocabulary with its casing, sentences to ids, and the files that transformers opens.

Shape legend: T pieces, S sentences, D documents, W words.
"""

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from clinicalbert_jax.errors import UserError
from data_prep.text.sentences import Sentences

# Preparation runs one process a core; threads inside each would only stand in each other's way.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHUNK = 4096  # texts whose words are in memory at a time
_MAX_CHARACTERS = 500_000  # of the words whose pieces are stored


@dataclass(frozen=True)
class TokenizedNotes:
    """A bucket of documents as arrays; everything after it is integer arithmetic.

    `ids_T` int32: all pieces of all sentences, in order, without specials. `sentence_offsets` int64 [S+1] into
    `ids_T`, no sentence empty; `document_offsets` int64 [D+1] into sentences, no document empty. `sections_S` int32:
    hash of the header a sentence stands under, 0 for none. `patient_D` int64 and `category_D` int32 as given.
    """

    ids_T: np.ndarray
    sentence_offsets: np.ndarray
    document_offsets: np.ndarray
    sections_S: np.ndarray
    patient_D: np.ndarray
    category_D: np.ndarray


class Tokenizer:
    """BERT's tokenizer for one vocabulary and casing. Text is text: '[MASK]' in a note gives no special token."""

    def __init__(self, vocabulary: Sequence[str], do_lower_case: bool) -> None:
        from tokenizers import Tokenizer as FastTokenizer
        from tokenizers import models, normalizers, pre_tokenizers

        self.vocabulary = tuple(vocabulary)
        self.do_lower_case = do_lower_case
        self.id_of = {token: number for number, token in enumerate(self.vocabulary)}
        model = models.WordPiece(dict(self.id_of), unk_token="[UNK]", max_input_chars_per_word=100)
        self._fast = FastTokenizer(model)
        self._fast.normalizer = normalizers.BertNormalizer(lowercase=do_lower_case)
        self._fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._words: dict[str, int] = {}  # word -> number
        self._offsets = np.zeros(1, np.int64)
        self._pieces = np.empty(0, np.int32)  # of word w: self._pieces[offsets[w] : offsets[w + 1]]
        self._num_characters = 0

    def ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Pieces of all texts one after the other, int32 [T], and how many each text has, int64 [S].

        BERT's tokenization first cuts at white space and then never looks beyond: so each distinct word is
        tokenized once, and a text is the pieces of its words.
        """
        parts = [self._ids(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
        if not parts:
            return np.empty(0, np.int32), np.empty(0, np.int64)
        return np.concatenate([ids_T for ids_T, _ in parts]), np.concatenate([pieces_S for _, pieces_S in parts])

    def _ids(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        words = [text.split() for text in texts]
        words_S = np.fromiter(map(len, words), np.int64, len(words))
        self._learn(set(chain.from_iterable(words)))
        words_W = np.fromiter(map(self._words.__getitem__, chain.from_iterable(words)), np.int64, int(words_S.sum()))
        begin_W = self._offsets[words_W]
        pieces_W = self._offsets[words_W + 1] - begin_W
        ends_W = np.cumsum(np.concatenate([np.zeros(1, np.int64), pieces_W]))
        ids_T = self._pieces[np.arange(ends_W[-1]) + np.repeat(begin_W - ends_W[:-1], pieces_W)]
        return ids_T, np.diff(ends_W[np.cumsum(np.concatenate([np.zeros(1, np.int64), words_S]))])

    def _learn(self, words: set[str]) -> None:
        """Store the pieces of words not known yet. The store is emptied when full, so that memory stays bounded."""
        if self._num_characters > _MAX_CHARACTERS:
            self._words, self._offsets, self._pieces = {}, np.zeros(1, np.int64), np.empty(0, np.int32)
            self._num_characters = 0
        new = sorted(words - self._words.keys())
        ids = [one.ids for one in self._fast.encode_batch_fast(new, add_special_tokens=False)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        self._words.update(zip(new, range(len(self._words), len(self._words) + len(new)), strict=True))
        self._offsets = np.concatenate([self._offsets, self._offsets[-1] + np.cumsum(lengths)])
        self._pieces = np.concatenate(
            [self._pieces, np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))]
        )
        self._num_characters += sum(map(len, new))

    def is_continuation(self) -> np.ndarray:
        """For each id whether it goes on with a word ('##...'): bool [V]."""
        return np.array([token.startswith("##") for token in self.vocabulary])

    def save(self, directory: Path) -> None:
        """Write `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`, as transformers' `AutoTokenizer` opens."""
        (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in self.vocabulary), "utf-8")
        (directory / "tokenizer.json").write_text(self._fast_file(), "utf-8")
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.do_lower_case,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": 512,
            **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
        }
        (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")

    def _fast_file(self) -> str:
        from tokenizers import Tokenizer as FastTokenizer
        from tokenizers import decoders, processors

        whole = FastTokenizer.from_str(self._fast.to_str())
        whole.add_special_tokens(list(SPECIAL_TOKENS))
        whole.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0",
            pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", self.id_of["[CLS]"]), ("[SEP]", self.id_of["[SEP]"])],
        )
        whole.decoder = decoders.WordPiece(prefix="##")
        return str(whole.to_str(pretty=True)) + "\n"


def load(path: str | Path, do_lower_case: bool | None = None) -> Tokenizer:
    """The tokenizer of a `vocab.txt`, or of a directory with one or with a `tokenizer.json`.

    `do_lower_case` None: as the directory says, else as the vocabulary shows. Raises `UserError` for a file that is
    no BERT vocabulary and for a casing that contradicts it.
    """
    path = Path(path).expanduser()
    if path.is_dir() and not (path / "vocab.txt").exists() and (path / "tokenizer.json").exists():
        file = path / "tokenizer.json"
        vocabulary = _checked(_vocabulary_of_json(file), file)
    else:
        file = path / "vocab.txt" if path.is_dir() else path
        vocabulary = read_vocabulary(file)
    said = _said_casing(path) if path.is_dir() else None
    shown = is_uncased(vocabulary)
    asked = do_lower_case if do_lower_case is not None else said if said is not None else shown
    if asked != shown:
        kinds = {True: "uncased (no entry has a capital letter)", False: "cased (entries have capital letters)"}
        raise UserError(
            f"{file} is {kinds[shown]}, but do_lower_case={asked} was asked for, which would make "
            f"{'capitalised words' if shown else 'its capitalised entries'} "
            f"{'unknown' if shown else 'unreachable'}: give do_lower_case={shown}, or another vocabulary"
        )
    return Tokenizer(vocabulary, asked)


def read_vocabulary(file: Path) -> list[str]:
    """The entries of a `vocab.txt`; raises `UserError` if it is none of BERT's kind."""
    try:
        vocabulary = file.read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"--vocab_file: expected a vocab.txt at {file}, found none") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--vocab_file: {file} cannot be read ({type(error).__name__})") from None
    vocabulary = [token.rstrip("\r") for token in vocabulary]
    while vocabulary and not vocabulary[-1]:
        vocabulary.pop()
    return _checked(vocabulary, file)


def _checked(vocabulary: list[str], file: Path) -> list[str]:
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise UserError(
            f"--vocab_file: expected a BERT vocabulary with {' '.join(SPECIAL_TOKENS)}, one entry a line; "
            f"{file} has no {missing[0]}"
        )
    if len(set(vocabulary)) < len(vocabulary):
        raise UserError(f"--vocab_file: expected each entry once, found {file} to repeat one")
    return vocabulary


def _vocabulary_of_json(file: Path) -> list[str]:
    """The entries of a `tokenizer.json`, which is all that transformers 5 saves, in the order of their ids."""
    try:
        model = json.loads(file.read_text("utf-8"))["model"]
        ids = {str(token): int(number) for token, number in model["vocab"].items()}
        is_berts = model["type"] == "WordPiece" and model["continuing_subword_prefix"] == "##"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_berts, ids = False, {}
    if not is_berts or sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"--vocab_file: expected a vocab.txt or the tokenizer.json of a WordPiece, found {file}")
    return sorted(ids, key=ids.__getitem__)


def is_uncased(vocabulary: Iterable[str]) -> bool:
    """Whether no entry but the bracketed ones has a capital letter."""
    return not any(token != token.lower() for token in vocabulary if not token.startswith("["))


def _said_casing(directory: Path) -> bool | None:
    """What `tokenizer_config.json` says of the casing, if anything."""
    try:
        config = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    said = config.get("do_lower_case") if isinstance(config, dict) else None
    return said if isinstance(said, bool) else None


def tokenize(
    tokenizer: Tokenizer,
    documents: Sequence[Sentences],
    patient_D: Sequence[int] | np.ndarray,
    category_D: Sequence[int] | np.ndarray,
) -> TokenizedNotes:
    """A bucket's documents as ids. Sentences without a piece go, and then documents without a sentence.

    The number of documents dropped is `len(documents) - len(result.patient_D)`.
    """
    texts = [text for document in documents for text in document.texts]
    ids_T, pieces_S = tokenizer.ids(texts)
    sections_S = np.fromiter(
        (_section_id(section) for document in documents for section in document.sections), np.int32, len(texts)
    )
    document_of_S = np.repeat(np.arange(len(documents)), [len(document.texts) for document in documents])
    kept_S = pieces_S > 0
    sentences_D = np.bincount(document_of_S[kept_S], minlength=len(documents))
    kept_D = sentences_D > 0
    return TokenizedNotes(
        ids_T=ids_T,
        sentence_offsets=_offsets(pieces_S[kept_S]),
        document_offsets=_offsets(sentences_D[kept_D]),
        sections_S=sections_S[kept_S],
        patient_D=np.asarray(patient_D, np.int64)[kept_D],
        category_D=np.asarray(category_D, np.int32)[kept_D],
    )


def _section_id(section: str) -> int:
    return zlib.crc32(section.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF if section else 0


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
