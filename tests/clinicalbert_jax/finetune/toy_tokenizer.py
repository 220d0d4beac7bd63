"""A BERT tokenizer with a small vocabulary, made in memory: whole words, and letters for all others."""

import string

import tokenizers

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ("the", "patient", "had", "severe", "liver", "failure", "after", "taking", "aspirin", "was", "given", "fever")


def make(unused: int = 4, without: str = "") -> tokenizers.Tokenizer:
    """Uncased; `unused` entries without a meaning; lacks the characters in `without`."""
    letters = [c for c in string.ascii_lowercase + string.digits + string.punctuation if c not in without]
    entries = [
        *SPECIAL,
        *(f"[unused{n}]" for n in range(1, unused + 1)),
        *WORDS,
        *letters,
        *(f"##{letter}" for letter in letters),
    ]
    ids = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return tokenizer
