"""Cloze questions made of text can be answered, and no article is on both sides."""

import gzip
import json
import random
from pathlib import Path

import pytest

from benchmarks.questions import cloze
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions.task import QuestionsConfig

pytestmark = pytest.mark.fast

SIDES = ("train", "validation")
WORDS = (
    "fever",
    "cough",
    "lung",
    "virus",
    "dose",
    "acute",
    "renal",
    "mild",
    "therapy",
    "serum",
    "assay",
    "cell",
    "host",
)


def prose(rng: random.Random, sentences: int) -> str:
    made = (" the ".join(rng.choices(WORDS, k=rng.randint(6, 16))).capitalize() + "." for _ in range(sentences))
    return " ".join(made)


def test_cloze_questions_can_be_answered_and_articles_are_on_one_side(tmp_path: Path) -> None:
    rng = random.Random(0)
    articles = [prose(rng, 60) for _ in range(40)]
    paragraphs = [
        {
            "context": context,
            "qas": [{"id": f"{n}-{k}", "question": "x", "answers": [answer(context)]} for k in range(3)],
        }
        for n, context in enumerate(articles)
    ]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    texts = [json.dumps({"text": prose(rng, 40)}) for _ in range(10)]
    (tmp_path / "t.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    for output in ("one", "two"):
        cloze.main(
            cloze.Options(
                questions=str(tmp_path / "a.json"),
                text=str(tmp_path / "t.gz"),
                output=str(tmp_path / output),
                excerpts=80,
            )
        )
    for name in ("train.json", "validation.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    # The reader refuses an answer that is not at its characters, and an id twice.
    train, validation = (QuestionsConfig().read(tmp_path / "one" / f"{name}.json", Reading()) for name in SIDES)
    held_out = {q.context for q in validation}
    assert len(validation) == cloze.LEAST_HELD_OUT + 1  # of articles with three
    assert len(train) - (3 * 40 - len(validation)) > 80
    # No article that is held out has lent a context or an excerpt.
    assert not any(q.context in context for q in train for context in held_out)
    made = [q for q in train if q.id.startswith("c")]
    for q in made:
        ((start, end),) = q.answers
        assert 0 < start < end < len(q.context)
        assert "." not in q.context[start:end]
        assert len(q.question.split()) <= cloze.LONGEST_QUESTION + 2
        asked = q.question.rstrip("?").split()[1:]
        assert sum(word in q.context.split() for word in asked) >= 3


def answer(context: str) -> dict[str, object]:
    return {"text": context.split()[3], "answer_start": context.index(context.split()[3])}
