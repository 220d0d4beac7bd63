"""Whether transformers tokenizes text by an exported directory as the model was trained to read it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings

_TEXTS = (
    "Pt. c/o SOB, Tmax 101.4°F; denies CHEST Pain.",
    "naïve Müller ÆRØ İstanbul e\u0301tude Straße ΟΔΟΣ",
    "血压 120/80mmHg 心率75次",
    "b.i.d.\n5mg/kg\tx3 (no rash)",
    "The patient was admitted for [MASK] pneumonia.",
    "[unused1] ##ing __ [**2101-3-4**]",
)
_WORDS = 500  # entries of the vocabulary that are tried, in three spellings


@dataclass(frozen=True)
class Comparison:
    """How many texts and tokens were compared, how many of them differ, and both lengths at which to truncate."""

    num_compared: int
    num_different: int
    lengths: tuple[int, int]  # the model's, transformers'

    @property
    def equal(self) -> bool:
        """Nothing differs."""
        return not self.num_different and self.lengths[0] == self.lengths[1]

    def report(self) -> str:
        """A line for people."""
        verdict = "equal" if self.equal else "NOT EQUAL"
        return (
            f"tokenizer: {self.num_different} of {self.num_compared} texts and tokens differ in transformers, "
            f"model_max_length is {self.lengths[0]} and {self.lengths[1]} there: {verdict}"
        )


def compare(directory: Path, settings: Settings, max_length: int) -> Comparison:
    """The tokenizer of `directory`, as transformers loads it, against `settings`: ids and segments."""
    from transformers import AutoTokenizer

    ours, theirs = bert_tokenizer.build(settings), AutoTokenizer.from_pretrained(directory)
    found = list(_texts(settings))
    pairs = list(zip(found, reversed(found), strict=True))
    ids = {token: number for number, token in enumerate(settings.tokens)}
    different = len(set(theirs.get_vocab().items()) ^ set(ids.items()))
    for texts, given in ((found, [found]), (pairs, [found, found[::-1]])):
        expected = theirs(*given, verbose=False)
        for number, encoding in enumerate(ours.encode_batch(texts)):
            same = encoding.ids == expected["input_ids"][number]
            different += not (same and encoding.type_ids == expected["token_type_ids"][number])
    longest = min(max_length, settings.model_max_length or max_length)
    return Comparison(2 * len(found) + len(ids), different, (longest, theirs.model_max_length))


def _texts(settings: Settings) -> Iterator[str]:
    yield from _TEXTS
    for token in (*(added.content for added in settings.added_tokens), *SPECIAL_TOKENS):
        yield from (
            f"one {spelling} two a{spelling}b {spelling}." for spelling in (token, token.lower(), token.upper())
        )
    words = [entry for entry in settings.entries if entry.isalpha()]
    for word in words[:: max(1, len(words) // _WORDS)]:
        yield f"{word} {word.upper()} {word.title()}s"
