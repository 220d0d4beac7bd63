"""Pairs of clinical sentences: MedNLI (Romanov and Shivade, 2018), and textual similarity (MedSTS, n2c2 2019 track 1).

MedNLI: whether a sentence entails another, contradicts it, or neither. `mli_train_v1.jsonl`, `mli_dev_v1.jsonl` and
`mli_test_v1.jsonl`, an object a line: `sentence1`, `sentence2`, `gold_label`, `pairID`, and parses, which are not read.
The records are those of classification (`--config.task.text_b_column=text_b`). Layout as published loaders read it.

Similarity, from 0 to 5: `sentence<TAB>sentence<TAB>score` a line, in .txt files whose names say train or test. A file
without scores takes them from the one file named *gs*, a number a line in the same order (from descriptions). The
records are those of similarity.
"""

from collections.abc import Iterator, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import samples
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.samples import Refused, Sample
from clinicalbert_jax.finetune.inputs import fields
from clinicalbert_jax.finetune.inputs.reading import BadRecord

MEDNLI = {"mli_train_v1.jsonl": "train", "mli_dev_v1.jsonl": "validation", "mli_test_v1.jsonl": "test"}
_LABELS = ("contradiction", "entailment", "neutral")
_UNDECIDED = "-"  # as in SNLI, whose form it has
_TEXTS = (".txt", ".tsv")
_MOST_SIMILAR = 5.0
_WHAT = "pairs of sentences"


def read_mednli(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """Every pair of sentences, in the corpus's own splits; raises `UserError` for another corpus."""
    for member in samples.parts(members, list(MEDNLI), "MedNLI", ledger):
        split = MEDNLI[member.name.rsplit("/", 1)[-1]]

        def parse(number: int, line: str, where: str = member.where, split: str = split) -> Sample:
            found = samples.json_object(line, ("sentence1", "sentence2", "gold_label", "pairID"))
            if found["gold_label"] == _UNDECIDED:
                raise Refused("without a label that the annotators agreed on")
            if found["gold_label"] not in _LABELS:
                raise BadRecord("expected entailment, contradiction or neutral in 'gold_label', found otherwise")
            id_ = fields.name(found, "pairID")
            texts = {"text": fields.text(found, "sentence1"), "text_b": fields.text(found, "sentence2")}
            return Sample(id_, "pairs", {"id": id_, **texts, "label": found["gold_label"]}, where, split=split)

        yield from samples.of_lines(member, _WHAT, parse, ledger)


def read_similarity(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """Every pair of sentences with its score; raises `UserError` for another corpus."""
    texts = [member for member in members if member.suffix in _TEXTS]
    files = [member for member in texts if _columns(member, ledger) in (2, 3)]
    if not files:
        raise UserError(
            "--input: expected .txt files of sentence, sentence and score between tabs (clinical STS), found none "
            f"among {len(members):,} files"
        )
    of_scores = [member for member in texts if member not in files and "gs" in member.stem.lower()]
    for member in files:
        scores = _scores(member, of_scores, ledger) if _columns(member, ledger) == 2 else None

        def parse(number: int, line: str, member: Member = member, scores: Iterator[str] | None = scores) -> Sample:
            columns = line.split("\t") + ([next(scores)] if scores else [])
            if len(columns) != 3:
                raise BadRecord(f"expected sentence, sentence and score between tabs, found {len(columns)} fields")
            found = dict(zip(("sentence1", "sentence2", "score"), columns, strict=True))
            score = fields.number(found, "score")
            if not 0 <= score <= _MOST_SIMILAR:
                raise BadRecord("expected a score from 0 to 5, found another number")
            id_ = f"{member.stem}.{number}"
            sentences = {name: fields.text(found, name) for name in ("sentence1", "sentence2")}
            record = {"id": id_, **sentences, "score": score}
            return Sample(id_, "similarity", record, member.where, split=member.split_of_file)

        yield from samples.of_lines(member, _WHAT, parse, ledger)


def _columns(member: Member, ledger: Ledger) -> int:
    """How many columns the first line has."""
    return next((line.count("\t") + 1 for line in member.lines(ledger.reading) if line.strip()), 0)


def _scores(member: Member, of_scores: Sequence[Member], ledger: Ledger) -> Iterator[str]:
    """The scores of a file without, from the one file of scores."""
    if len(of_scores) != 1:
        raise UserError(
            f"{member.where}: expected a score on each line, or one file of scores named *gs* beside it, found "
            f"{len(of_scores)} such files"
        )
    lines = [line for line in of_scores[0].lines(ledger.reading) if line.strip()]
    pairs = sum(1 for line in member.lines(ledger.reading) if line.strip())
    if len(lines) != pairs:
        raise UserError(
            f"{of_scores[0].where}: expected {pairs:,} scores, one a pair of sentences, found {len(lines):,}"
        )
    return iter(lines)
