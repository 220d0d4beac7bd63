"""The tokenizer of a model, from the files in its directory."""

from pathlib import Path

import tokenizers

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.tokenizer_files import vocabulary


def load_tokenizer(directory: Path) -> tokenizers.Tokenizer:
    """BERT's tokenizer from a model's directory: `tokenizer.json`, or `vocab.txt` and the casing beside it.

    It adds [CLS] and [SEP], neither pads nor cuts, and takes '[MASK]' in a text for the mask.
    """
    if (directory / "tokenizer.json").exists():
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"{directory / 'tokenizer.json'} is damaged ({type(error).__name__})") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
    pieces = vocabulary.read(directory)
    if pieces is None:
        raise UserError(f"expected vocab.txt or tokenizer.json in {directory}, found neither")
    ids = {entry: number for number, entry in enumerate(pieces.entries)}
    missing = [token for token in vocabulary.SPECIAL if token not in ids]
    if missing:
        raise UserError(f"{directory / 'vocab.txt'}: expected BERT's special tokens, {', '.join(missing)} missing")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    # Where nothing says the casing, a vocabulary without a capital letter is an uncased one.
    lower = pieces.do_lower_case
    if lower is None:
        lower = all(entry == entry.lower() or entry.startswith("[") for entry in pieces.entries)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(vocabulary.SPECIAL))
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return tokenizer
