"""Questions on clinical notes: emrQA (Pampari et al., 2018) and RadQA (Soni et al., 2022).

RadQA: questions on radiology reports, many without an answer, in SQuAD 2.0's layout: `train.json`, `dev.json`,
`test.json`, the corpus's own splits. For the task questions with `--config.task.unanswerable`. From descriptions and
published loaders.

emrQA: generated from the annotations of i2b2 challenges. Not SQuAD: `data.json` holds `{"data": [{"title": ...,
"paragraphs": [...]}]}`, or one such part is a file by itself.
A note's `context` is a list of lines, a `question` a list of paraphrases, and an answer names the line of the note
that it was taken from (`evidence`). As in the paper that line is the answer here. It is given, by part,

medication, relations   `answer_start`: [line from 1, token]; else `evidence_start`: a line, or several
risk                    `answer_start`: [first character of the line in the lines joined by line ends, ...]
smoking, obesity        not at all: the answer is a class, and these questions are refused

Each is compared with `evidence`. Each part becomes a task of its own. Of the paraphrases one is kept, by a hash.
Notes are split by a hash, those of a patient (risk: the name before the hyphen) together. Layout read from the
generating scripts.
"""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import samples
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.common import Record
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.samples import Sample
from clinicalbert_jax.finetune.inputs import fields, record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord

RADQA = {"train.json": "train", "dev.json": "validation", "test.json": "test"}
_PARTS = ("medication", "relations", "risk", "smoking", "obesity")
_WITHOUT_SPANS = ("smoking", "obesity")
_MOVED = "offset or line moved to the line that it quotes"
_SPACE = "white space of the quoted line"
_NEAR = 2  # lines to either side, or characters, in which a quoted line is looked for


class _Note(NamedTuple):
    """A note's text, where each line of it begins, and the characters of each without the white space around."""

    text: str
    starts: list[int]
    lines: list[tuple[int, int]]


def read_emrqa(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """Every question that has an answer in its note; raises `UserError` for another corpus."""
    files = [member for member in members if member.suffix == ".json"]
    if not files:
        raise UserError(f"--input: expected data.json (emrQA), found no .json among {len(members):,} files")
    for member in files:
        found = samples.json_document(member, ledger)
        articles = found.get("data", [found]) if isinstance(found, dict) else None
        if not isinstance(articles, list) or not all(_is_part(article) for article in articles):
            raise UserError(
                f"{member.where}, line 1: expected emrQA, notes as lists of lines in parts titled medication, "
                "relations, risk, smoking or obesity, found another layout: SQuAD's needs no conversion"
            )
        for article in articles:
            part = _part(article)
            for number, paragraph in enumerate(article["paragraphs"]):
                yield from _emrqa_note(paragraph, number, part, member, ledger)


def _is_part(article: Any) -> bool:
    if not isinstance(article, dict) or not isinstance(article.get("paragraphs"), list) or not _part(article):
        return False
    contexts = [one.get("context") if isinstance(one, dict) else None for one in article["paragraphs"]]
    return all(isinstance(lines, list) and all(isinstance(line, str) for line in lines) for lines in contexts)


def _part(article: Record) -> str:
    title = str(article.get("title", "")).lower()
    return next((part for part in _PARTS if part.rstrip("s") in title), "")


def _emrqa_note(paragraph: Record, number: int, part: str, member: Member, ledger: Ledger) -> Iterator[Sample]:
    context = paragraph["context"]
    ends = part != "risk" and all(line.endswith("\n") for line in context[:-1])
    starts = [0, *accumulate(len(line) + (not ends) for line in context)]
    text = ("" if ends else "\n").join(context)
    pairs = zip(starts, context, strict=False)
    lines = [(start + len(line) - len(line.lstrip()), start + len(line.rstrip())) for start, line in pairs]
    note, name = _Note(text, starts[:-1], lines), str(paragraph.get("note_id", number))
    patient = name.split("-")[0] if part == "risk" else name
    questions = paragraph.get("qas")
    if not isinstance(questions, list):
        raise UserError(f"{member.where}, line 1: expected a list 'qas' in each note of emrQA, found none")
    for place, question in enumerate(questions):
        record = _emrqa_question(question, f"{part}.{name}.{place}", note, part, member, ledger)
        if record:
            record |= {"document": f"{part}.{name}", "context": text, "patient": f"{part} {patient}"}
            yield Sample(record["id"], f"questions-{part}", record, member.where, record["patient"])


def _emrqa_question(question: Any, id_: str, note: _Note, part: str, member: Member, ledger: Ledger) -> Record | None:
    ledger["questions"].found()
    answers = question.get("answers") if isinstance(question, dict) else None
    texts = question.get("question") if isinstance(question, dict) else None
    texts = [texts] if isinstance(texts, str) else texts
    ledger["answers"].found(len(answers) if isinstance(answers, list) else 0)
    if not isinstance(answers, list) or not isinstance(texts, list) or not any(map(record_files.is_text, texts)):
        if isinstance(answers, list):
            ledger["answers"].refused("of a bad record", number=len(answers))
        ledger.bad(
            "questions", member.where, 1, "expected a list 'answers' and paraphrases in 'question', found otherwise"
        )
        return None
    if part in _WITHOUT_SPANS:
        ledger["answers"].refused("a class, no line of the note", number=len(answers))
        ledger["questions"].refused("its answer is a class, no line of the note")
        return None
    found: dict[tuple[int, int], None] = {}
    for answer in answers:
        try:
            spans, rules = _spans(answer, note, part)
        except BadRecord as problem:
            ledger.bad("answers", member.where, 1, str(problem))
            continue
        if not spans:
            ledger["answers"].refused("its line is not where it says, nor near", member.where)
        elif set(spans) <= found.keys():
            ledger["answers"].refused("same line as another answer's")
        else:
            found |= dict.fromkeys(spans)
            ledger["answers"].settled(*rules)
    if not found:
        ledger["questions"].refused("without a line of the note as answer")
        return None
    ledger["questions"].as_is()
    usable = sorted(set(filter(record_files.is_text, texts)))
    ledger["questions"].noted("paraphrases left out", len(usable) - 1)
    chosen = usable[int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big") % len(usable)]
    given = [{"text": note.text[start:end], "answer_start": start} for start, end in found]
    return {"id": id_, "question": chosen, "answers": given, "is_impossible": False}


def _spans(answer: Any, note: _Note, part: str) -> tuple[list[tuple[int, int]], list[str]]:
    """The lines of an answer by characters, and the rules by which they were found."""
    if not isinstance(answer, dict):
        raise BadRecord("expected an object in 'answers', found otherwise")
    places, quotes = _places(answer, note, part), answer.get("evidence")
    quotes = quotes if isinstance(quotes, list) else [quotes] * len(places)
    spans, rules = [], []
    for number, place in enumerate(places):
        quote = quotes[number] if number < len(quotes) else None
        near = range(max(0, place - _NEAR), min(len(note.lines), place + _NEAR + 1))
        for line in sorted(near, key=lambda line, place=place: abs(line - place)):  # type: ignore[misc]
            start, end = note.lines[line]
            rule = _agreement(quote, note.text[start:end])
            if start < end and rule is not None:
                spans.append((start, end))
                rules += ([_MOVED] if line != place else []) + ([rule] if rule else [])
                break
        else:
            return [], []
    return list(dict.fromkeys(spans)), rules


def _places(answer: Record, note: _Note, part: str) -> list[int]:
    """The numbers of its lines, from 0."""
    start, evidence = answer.get("answer_start"), answer.get("evidence_start")
    whole = isinstance(start, list) and bool(start) and type(start[0]) is int
    if part == "risk":
        if not whole or not isinstance(start, list) or not 0 <= start[0] < len(note.text):
            raise BadRecord("expected the first character of a line in 'answer_start', found otherwise")
        return [bisect_right(note.starts, start[0]) - 1]
    if whole and isinstance(start, list):
        numbers = [start[0]]
    else:
        numbers = evidence if isinstance(evidence, list) else [evidence]  # type: ignore[list-item]
    if not numbers or not all(type(number) is int and 1 <= number <= len(note.lines) for number in numbers):
        raise BadRecord("expected lines of the note in 'answer_start' or 'evidence_start', found otherwise")
    return [number - 1 for number in dict.fromkeys(numbers)]


def _agreement(quote: Any, line: str) -> str | None:
    """'' where a line is what is quoted, or nothing is; the rule by which it is; or None."""
    if not isinstance(quote, str) or not quote.strip() or quote.strip() == line:
        return ""
    return _SPACE if re.sub(r"\s+", "", quote) == re.sub(r"\s+", "", line) else None


def read_radqa(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """Every question; raises `UserError` for another corpus."""
    for member in samples.parts(members, list(RADQA), "RadQA", ledger):
        found = samples.json_document(member, ledger)
        if not isinstance(found, dict) or not isinstance(found.get("data"), list):
            raise UserError(f"{member.where}, line 1: expected SQuAD 2.0's layout (RadQA), found another JSON document")
        for number, article in enumerate(found["data"]):
            title = article.get("title") if isinstance(article, dict) else None
            document = str(title) if isinstance(title, str | int) else f"{member.stem}.{number}"
            for paragraph in _list(article, "paragraphs", member):
                if not isinstance(paragraph, dict) or not isinstance(paragraph.get("context"), str):
                    raise UserError(
                        f"{member.where}, line 1: expected a text in each 'context' (RadQA), found otherwise: for "
                        "emrQA give --corpus=emrqa"
                    )
                for question in _list(paragraph, "qas", member):
                    yield from _radqa_question(question, paragraph["context"], document, member, ledger)


def _list(parent: Any, name: str, member: Member) -> list[Any]:
    found = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(found, list):
        raise UserError(f"{member.where}, line 1: expected a list {name!r} as in SQuAD 2.0 (RadQA), found none")
    return found


def _radqa_question(question: Any, context: str, document: str, member: Member, ledger: Ledger) -> Iterator[Sample]:
    ledger["questions"].found()
    answers = question.get("answers") if isinstance(question, dict) else None
    ledger["answers"].found(len(answers) if isinstance(answers, list) else 0)
    try:
        if not isinstance(answers, list) or type(question.get("is_impossible")) is not bool:
            raise BadRecord("expected a list 'answers' and true or false in 'is_impossible', found otherwise")
        id_, text = fields.name(question, "id"), fields.text(question, "question")
        if question["is_impossible"] == bool(answers):
            raise BadRecord("expected an answer, or is_impossible, found both or neither")
        for answer in answers:
            _check(answer, context)
    except BadRecord as problem:
        ledger["answers"].refused("of a bad record", number=len(answers) if isinstance(answers, list) else 0)
        ledger.bad("questions", member.where, 1, str(problem))
        return
    ledger["questions"].as_is()
    ledger["answers"].as_is(len(answers))
    given = [{"text": answer["text"], "answer_start": answer["answer_start"]} for answer in answers]
    record = {"document": document, "context": context, "id": id_, "question": text, "answers": given}
    record["is_impossible"] = question["is_impossible"]
    split = RADQA[member.name.rsplit("/", 1)[-1]]
    yield Sample(f"{id_}", "questions", record, member.where, split=split)


def _check(answer: Any, context: str) -> None:
    text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
    if not isinstance(text, str) or not text.strip() or type(start) is not int:
        raise BadRecord("expected a 'text' and an 'answer_start' in each answer, found otherwise")
    if start < 0 or context[start : start + len(text)] != text:
        raise BadRecord("expected each answer at its characters of the context, found another text there")
