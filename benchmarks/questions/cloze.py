"""Make training questions out of text alone, beside those of a SQuAD file, and hold whole articles of it out.

    python -m benchmarks.questions.cloze --questions=qa/covid_qa/train.json \\
        --text=text/medical_text.jsonl.gz --output=DIR

Writes DIR/train.json and DIR/validation.json, SQuAD 1.1 files. A cloze question asks for a phrase of a sentence by some
of the sentence's other words, in or out of their order; its context is an excerpt of a training article or of the text.
"""

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from clinicalbert_jax import cli
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option

Paragraph = dict[str, Any]

LEAST_HELD_OUT = 50  # questions
LONGEST_HELD_OUT = 25_000  # characters of an article, so that its questions can be scored in minutes
FROM_ARTICLES = 0.6  # of the excerpts, the others are from the text
SHORTEST_TEXT = 1_500  # characters
EXCERPT = 700  # characters

SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?!\s)[^.!?\n]*)*[.!?]?")
WORD = re.compile(r"[\w][\w\-/'’%]*")
PHRASE_LENGTHS = (1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 10, 13, 16)  # words
LONGEST_PHRASE = 20
LONGEST_QUESTION = 25
BEGINNINGS = ("What", "What is", "Which", "How many", "What are", "How does", "What was", "Where", "What does", "Why")
_FUNCTION_WORDS = (
    "the a an of in on at to and or for with by from as is are was were be been that which this these those it its "
    "their his her has have had not but than into such also may can we"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    questions: str = option("SQuAD file of annotated questions.")
    text: str = option("Gzipped JSON lines with a field text.")
    output: str = option("Directory to write train.json and validation.json to.")
    excerpts: int = option("Excerpts with cloze questions, up to two each.", 700, lowest=1)
    seed: int = option("Seed of the excerpts and questions.", 1)


def main(options: Options) -> None:
    """Write both files and say what they hold."""
    articles = json.loads(Path(options.questions).read_text(encoding="utf-8"))["data"]
    train, validation = hold_out([paragraph for article in articles for paragraph in article["paragraphs"]])
    texts = [text for text in _texts(Path(options.text)) if len(text) > SHORTEST_TEXT]
    contexts = [paragraph["context"] for paragraph in train]
    cloze = list(excerpts(contexts, texts, options.excerpts, random.Random(options.seed)))
    for name, paragraphs in (("train", train + cloze), ("validation", validation)):
        document = {"data": [{"paragraphs": [paragraph]} for paragraph in paragraphs]}
        path = Path(options.output) / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output.file(path, overwrite=True) as partial:
            partial.write_text(json.dumps(document), encoding="utf-8")
    for name, paragraphs in (("training", train), ("cloze", cloze), ("validation", validation)):
        print(f"{name}: {sum(len(p['qas']) for p in paragraphs):,} questions, {len(paragraphs):,} contexts")


def hold_out(paragraphs: list[Paragraph]) -> tuple[list[Paragraph], list[Paragraph]]:
    """The paragraphs to train on, and whole ones held out, chosen by a hash of their context."""
    held_out: list[Paragraph] = []
    for paragraph in sorted(paragraphs, key=lambda p: _hash(p["context"] + "w")):
        enough = sum(len(p["qas"]) for p in held_out) >= LEAST_HELD_OUT
        if not enough and len(paragraph["context"]) < LONGEST_HELD_OUT:
            held_out.append(paragraph)
    contexts = {paragraph["context"] for paragraph in held_out}
    return [p for p in paragraphs if p["context"] not in contexts], held_out


def excerpts(articles: list[str], texts: list[str], count: int, rng: random.Random) -> Iterator[Paragraph]:
    """`count` excerpts with one or two cloze questions about inner sentences of theirs."""
    number = 0
    while number < count:
        text = rng.choice(articles if rng.random() < FROM_ARTICLES else texts)
        begin = rng.randrange(max(1, len(text) - EXCERPT))
        context = text[begin : begin + EXCERPT]
        sentences = [match.span() for match in SENTENCE.finditer(context)][
            1:-1
        ]  # the first and the last may be partial
        if len(sentences) < 3:
            continue
        found = [made for made in (cloze(context, *rng.choice(sentences), rng) for _ in range(2)) if made]
        qas = [
            {
                "id": f"c{number}-{k}",
                "question": made.question,
                "answers": [{"text": context[made.start : made.end], "answer_start": made.start}],
            }
            for k, made in enumerate(found)
        ]
        if qas:
            yield {"context": context, "qas": qas}
            number += 1


class Cloze(NamedTuple):
    """A question whose answer is the characters `start` to `end` of its context."""

    question: str
    start: int
    end: int


def cloze(context: str, begin: int, end: int, rng: random.Random) -> Cloze | None:
    """A question about one phrase of the sentence, by other words of it; None for a sentence that makes none.

    A phrase begins and ends with a content word, and is extended to the next function word or punctuation.
    """
    words = [(match.start() + begin, match.end() + begin) for match in WORD.finditer(context[begin:end])]
    shown = [context[slice(*word)] for word in words]
    is_content = [word.lower() not in FUNCTION_WORDS for word in shown]
    content = [number for number, one in enumerate(is_content) if one]
    if not 10 <= len(words) <= 50 or len(content) < 5:
        return None
    half = len(words) // 2
    first = rng.choice(content)
    last = min(len(words) - 1, first + min(rng.choice(PHRASE_LENGTHS), half) - 1)
    while last > first and not is_content[last]:
        last -= 1
    while (
        last + 1 < len(words)
        and is_content[last + 1]
        and context[words[last][1] : words[last + 1][0]] == " "
        and last - first < min(LONGEST_PHRASE, half - 1)
    ):
        last += 1
    # Real questions name some of what stands around the answer, in other words and another order.
    kept_fraction = rng.uniform(0.4, 0.9)
    others = [number for number in range(len(words)) if not first <= number <= last]
    kept = [number for number in others if rng.random() < (kept_fraction if is_content[number] else 0.6)]
    if sum(is_content[number] for number in kept) < 3:
        return None
    if rng.random() < 0.3:
        rng.shuffle(kept)
    asked = " ".join(shown[number] for number in kept[:LONGEST_QUESTION])
    return Cloze(f"{rng.choice(BEGINNINGS)} {asked}?", words[first][0], words[last][1])


def _texts(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 2**60


if __name__ == "__main__":
    cli.run(main, Options)
