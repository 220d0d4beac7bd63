"""Pairs whose spans are blinded in the text: GAD (Bravo et al., 2015) and the BLUE benchmark (Peng et al., 2019).

BLUE: .tsv files with the header `index`, `sentence`, `label`, spans as `@CHEMICAL$ ... @GENE$`, or `@CHEM-GENE$`
where they overlap; labels that end in 'false' are negative. The head is the one whose type comes first in the
alphabet, of two equal ones the first. GAD as BioBERT has it: folders 1 to 10, one a fold, each with `train.tsv`
(`sentence`, `label`) and `test.tsv` (a header, `index`, `sentence`, `label`), spans `@GENE$` and `@DISEASE$`, labels
1 and 0.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import common, samples
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.samples import Sample
from clinicalbert_jax.finetune.inputs import fields
from clinicalbert_jax.finetune.inputs.reading import BadRecord
from clinicalbert_jax.finetune.inputs.tags import Span

ASSOCIATED = "association"  # GAD's label 1
_BLINDED = re.compile(r"@([A-Za-z][\w]*)(?:-([A-Za-z][\w]*))?\$")
_HEADER = ["index", "sentence", "label"]
_GAD_LABELS = {"0": common.NEGATIVE, "1": ASSOCIATED}


def read_blue(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """The pairs of every .tsv file; raises `UserError` for another corpus."""
    files = [member for member in members if member.suffix == ".tsv" and _first(member, ledger) == _HEADER]
    if not files:
        raise UserError(
            "--input: expected .tsv files whose header is index, sentence and label (BLUE), found none among "
            f"{len(members):,} files"
        )
    for member in files:
        numbers: Counter[str] = Counter()  # a pair with two classes has two lines

        def parse(number: int, line: str, member: Member = member, numbers: Counter[str] = numbers) -> Sample | None:
            columns = _quoted(line)
            if columns == _HEADER:
                return None
            if len(columns) != len(_HEADER):
                raise BadRecord(f"expected index, sentence and label between tabs, found {len(columns)} fields")
            index, text, label = columns
            head, tail = _spans(text)
            index = fields.name({"index": index}, "index")
            numbers[index] += 1
            id_ = index + (f".{numbers[index]}" if numbers[index] > 1 else "")
            label = common.NEGATIVE if label.lower().endswith("false") else fields.name({"label": label}, "label")
            document = index.split(".")[0]
            record = common.pair(id_, document, text, head, tail, label)
            return Sample(f"{member.stem}.{id_}", "relations", record, member.where, document, member.split_of_file)

        yield from samples.of_lines(member, "lines", parse, ledger)


def read_gad(members: Sequence[Member], ledger: Ledger) -> Iterator[Sample]:
    """The sentences of one fold; raises `UserError` for another corpus, and for several folds."""
    folds = sorted({"/".join(m.name.split("/")[:-1]) for m in members if m.name.rsplit("/", 1)[-1] == "test.tsv"})
    if len(folds) > 1:
        raise UserError(f"--input: expected one fold of GAD, found {len(folds)}: give the folder of one, such as GAD/1")
    for member in samples.parts(members, ("train.tsv", "test.tsv"), "one fold of GAD", ledger):

        def parse(number: int, line: str, member: Member = member) -> Sample | None:
            columns = line.split("\t")
            if number == 1 and columns == _HEADER:
                return None
            if len(columns) not in (2, 3) or columns[-1].strip() not in _GAD_LABELS:
                raise BadRecord("expected a sentence and its label, 0 or 1, between tabs, found otherwise")
            text = columns[-2]
            head, tail = _spans(text)
            if {head.label, tail.label} != {"GENE", "DISEASE"}:
                raise BadRecord("expected @GENE$ and @DISEASE$ in the sentence, found others")
            id_ = f"{member.stem}.{number}"
            record = common.pair(id_, id_, text, head, tail, _GAD_LABELS[columns[-1].strip()])
            return Sample(id_, "relations", record, member.where, id_, member.split_of_file)

        yield from samples.of_lines(member, "lines", parse, ledger)


def _spans(text: str) -> tuple[Span, Span]:
    """The head and the tail of a sentence; raises `BadRecord`."""
    found = [(match.span(), match[1], match[2]) for match in _BLINDED.finditer(text)]
    if len(found) == 1 and found[0][2]:
        (start, end), one, other = found[0]
        return Span(start, end, one), Span(start, end, other)
    if len(found) == 2 and not found[0][2] and not found[1][2]:
        head, tail = sorted((Span(*offsets, kind) for offsets, kind, _ in found), key=lambda span: span.label)
        return head, tail
    raise BadRecord(f"expected two blinded spans such as @GENE$, or one of both, found {len(found)}")


def _quoted(line: str) -> list[str]:
    """The fields of a line as BLUE's preparation writes them: one with a quotation mark stands in quotation marks."""
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error:  # its message may quote the text
        raise BadRecord("expected quotation marks around a whole field, doubled inside it, found otherwise") from None


def _first(member: Member, ledger: Ledger) -> list[str]:
    return next((line.split("\t") for line in member.lines(ledger.reading) if line.strip()), [])
