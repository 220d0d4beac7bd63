"""Pairs of the layouts in which ChemProt (Krallinger et al., 2017) and the BLUE benchmark (Peng et al., 2019) come.

ChemProt: for each part `*_abstracts*.tsv` (PMID, title, abstract), `*_entities*.tsv` (PMID, T1, type, start, end, text)
and `*_gold_standard*.tsv` (PMID, class, Arg1:T1, Arg2:T2), offsets counted in title and abstract with one character
between. Every chemical and gene of one sentence is a pair; one without a class is negative. A sentence ends at
'.', '?' or '!' before white space and a capital or digit, outside an entity; a related pair across sentences is kept
with all sentences it touches.

BLUE: `index`, `sentence`, `label` with the spans already blinded (`@CHEMICAL$ ... @GENE$`, or `@CHEM-GENE$` where they
overlap). The head is the one whose type comes first in the alphabet, of two equal ones the first.
"""

import glob
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span

_SENTENCE_END = re.compile(r"[.?!]\s+(?=[A-Z0-9(\[])")
_BLINDED = re.compile(r"@([A-Za-z][\w]*)(?:-([A-Za-z][\w]*))?\$")


def convert_chemprot(directory: Path, reading: Reading) -> dict[str, list[common.Record]]:
    """The pairs of each part in a directory or below it, by the name of the part; raises `UserError` for none."""
    parts = {}
    for abstracts in sorted(directory.rglob("*_abstracts*.tsv")):
        entities = _one(abstracts, "entities")
        relations = _one(abstracts, "gold_standard")
        part = abstracts.name.split("_abstracts")[0]
        if part in parts:
            raise UserError(f"--input: expected each part once, found files of {part} in two directories: remove one")
        parts[part] = list(_chemprot(abstracts, entities, relations, reading))
    if not parts:
        raise UserError(f"--input: expected files named *_abstracts*.tsv, found none in {directory}")
    return parts


def convert_blue(path: Path, reading: Reading) -> dict[str, list[common.Record]]:
    """The pairs of a .tsv file, or of each one in a directory, by name; raises `UserError` for none."""
    files = sorted(path.glob("*.tsv")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--input: expected .tsv files, found none in {path}")
    return {file.stem: list(_blue(file, reading)) for file in files}


def _one(abstracts: Path, what: str) -> Path:
    part = abstracts.name.split("_abstracts")[0]
    name = f"{part}_{what}*.tsv"
    found = sorted(abstracts.parent.glob(f"{glob.escape(part)}_{what}*.tsv"))
    if len(found) != 1:
        raise UserError(f"--input: expected one file {name} beside {abstracts}, found {len(found)}")
    return found[0]


def _chemprot(abstracts: Path, entities: Path, relations: Path, reading: Reading) -> Iterator[common.Record]:
    texts = {id_: f"{title} {text}" for _, (id_, title, text) in _fields(abstracts, 3, reading)}
    spans: dict[str, dict[str, Span]] = defaultdict(dict)
    for number, (document, id_, kind, start, end, mention) in _fields(entities, 6, reading):
        sound = start.isdecimal() and end.isdecimal() and texts.get(document, "")[int(start) : int(end)] == mention
        if sound and mention:
            spans[document][id_] = Span(int(start), int(end), "GENE" if kind.startswith("GENE") else kind)
        else:
            reading.found(entities, number, "expected an entity's text at its offsets in its abstract, found otherwise")
    labels: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for number, (document, label, *arguments) in _fields(relations, 4, reading):
        head, tail = (argument.partition(":")[2] for argument in arguments)
        if head in spans[document] and tail in spans[document]:
            labels[document, head, tail].append(label)
        else:
            reading.found(relations, number, "expected a relation of two entities of its abstract, found otherwise")
    for document, text in texts.items():
        known = spans[document]
        sentences = _sentences(text, list(known.values()))
        chemicals = [id_ for id_, span in known.items() if span.label == "CHEMICAL"]
        genes = [id_ for id_, span in known.items() if span.label == "GENE"]
        for head, tail in product(chemicals, genes):
            given = labels.get((document, head, tail), [])
            touched = [
                s for s in sentences if any(s[0] < known[one].end and known[one].start < s[1] for one in (head, tail))
            ]
            if len(touched) > 1 and not given:
                continue
            first, last = touched[0][0], touched[-1][1]
            one, other = (Span(s.start - first, s.end - first, s.label) for s in (known[head], known[tail]))
            for number, label in enumerate(dict.fromkeys(given or [common.NEGATIVE]), start=1):
                id_ = f"{document}.{head}.{tail}" + (f".{number}" if number > 1 else "")
                yield common.pair(id_, document, text[first:last], one, other, label)


def _sentences(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    ends = [end for end in ends if not any(span.start < end < span.end for span in spans)]
    return list(zip([0, *ends], [*ends, len(text)], strict=True))


def _fields(path: Path, number: int, reading: Reading) -> Iterator[tuple[int, list[str]]]:
    with reading.opened(path, newline="\n") as file:
        for line, row in enumerate(file, start=1):
            fields = row.rstrip("\r\n").split("\t")
            if not row.strip():
                continue
            if len(fields) == number and record_files.is_text(row):
                yield line, fields
            else:
                reading.found(path, line, f"expected {number} fields between tabs, found {len(fields)}")


def _blue(path: Path, reading: Reading) -> Iterator[common.Record]:
    numbers: Counter[str] = Counter()  # a pair with two classes has two lines
    for line, record in record_files.read(path, ("index", "sentence", "label"), reading):
        text, index = record["sentence"], record["index"]
        found = [(match.span(), match[1], match[2]) for match in _BLINDED.finditer(text)]
        if len(found) == 1 and found[0][2]:
            (start, end), one, other = found[0]
            head, tail = Span(start, end, one), Span(start, end, other)
        elif len(found) == 2 and not found[0][2] and not found[1][2]:
            head, tail = sorted((Span(*offsets, kind) for offsets, kind, _ in found), key=lambda span: span.label)
        else:
            reading.found(path, line, f"expected two blinded spans such as @GENE$, or one of both, found {len(found)}")
            continue
        numbers[index] += 1
        id_ = index + (f".{numbers[index]}" if numbers[index] > 1 else "")
        label = common.NEGATIVE if record["label"].lower().endswith("false") else record["label"]
        yield common.pair(id_, index.split(".")[0], text, head, tail, label)
