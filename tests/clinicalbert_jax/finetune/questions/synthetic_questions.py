"""Invented clinical contexts with questions about their facts, which a working question answerer solves exactly."""

import json
import random
from pathlib import Path
from typing import Any

# A fact: how a context says it, and how a question asks for it. {} is the answer.
FACTS = (
    ("The patient was started on {} for the infection.", "Which drug was started?", "drug"),
    ("The {} was removed without complication.", "Which organ was removed?", "organ"),
    ("Blood pressure on admission was {}.", "What was the blood pressure on admission?", "pressure"),
    ("An allergy to {} is documented.", "Which allergy is documented?", "drug"),
    ("Follow-up is planned in {}.", "When is follow-up planned?", "time"),
    ("Imaging showed a mass in the {}.", "Where did imaging show a mass?", "organ"),
    ("Hemoglobin at discharge was {}.", "What was the hemoglobin at discharge?", "value"),
    ("The family history is notable for {}.", "What is the family history notable for?", "disease"),
    ("She was transferred to the care of Dr. {}.", "To whose care was she transferred?", "person"),
)
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "lem", "min", "nor", "pel", "ras", "sto", "tav", "ur", "ven", "xi")


def write(path: Path, contexts: int, seed: int) -> set[str]:
    """Write a SQuAD file of invented contexts, 4 to 6 questions each; returns the answers.

    Names are drawn from 16 ** 3 words, so that files of other seeds share few.
    """
    rng = random.Random(seed)
    answers: set[str] = set()
    paragraphs = [_paragraph(rng, number, answers) for number in range(contexts)]
    path.write_text(json.dumps({"data": [{"title": "synthetic", "paragraphs": paragraphs}]}), encoding="utf-8")
    return answers


def _paragraph(rng: random.Random, number: int, answers: set[str]) -> dict[str, Any]:
    context, qas = "", []
    for fact in rng.sample(range(len(FACTS)), rng.randint(4, 6)):
        sentence, question, kind = FACTS[fact]
        answer = _answer(rng, kind)
        answers.add(answer)
        start = len(context) + sentence.index("{}")
        qas.append(
            {"id": f"{number}-{fact}", "question": question, "answers": [{"text": answer, "answer_start": start}]}
        )
        context += sentence.format(answer) + " "
    return {"context": context.strip(), "qas": qas}


def _answer(rng: random.Random, kind: str) -> str:
    if kind == "pressure":
        return f"{rng.randint(90, 190)} over {rng.randint(45, 110)}"
    if kind == "value":
        return f"{rng.randint(60, 170) / 10} g/dl"
    if kind == "time":
        return f"{rng.randint(2, 90)} {rng.choice(['days', 'weeks', 'months'])}"
    word = "".join(rng.choice(SYLLABLES) for _ in range(3))
    endings = {"drug": "mycin", "organ": "al gland", "disease": " syndrome", "person": ""}
    return word.capitalize() if kind == "person" else word + endings[kind]
