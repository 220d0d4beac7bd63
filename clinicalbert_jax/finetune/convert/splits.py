"""Which split a document is in: the corpus's own, or by a hash of its patient; a patient is in one alone. No JAX."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.convert.ledger import Ledger

_TRAIN, _VALIDATION, _TEST = common.SPLITS


class InSplit(Protocol):
    """What can be split: a document, or a sample of a corpus that has none."""

    id: str
    patient: str
    split: str
    file: str


One = TypeVar("One", bound=InSplit)


def patient_of(document: InSplit) -> str:
    """Who must not be in two splits: the patient, or the document where the corpus names none."""
    return document.patient or document.id


def split(
    documents: Sequence[One], percent: Sequence[int], validation_percent: int, seed: int, ledger: Ledger
) -> dict[str, list[One]]:
    """Documents by split.

    With `percent` (train, validation, test) all are split by a hash of the patient. Without, each is in the split that
    the corpus names, where it names one for each; `validation_percent` of the patients in training are validation
    where the corpus has none. Raises `UserError` where only some have a split, and for a patient in two.
    """
    sides: dict[str, list[One]] = {name: [] for name in common.SPLITS}
    official = sum(bool(document.split) for document in documents)
    if percent or not official:
        for document in documents:
            number = common.split(patient_of(document), percent or common.SPLIT_PERCENT, seed)
            sides[common.SPLITS[number]].append(document)
        for side, wanted in zip(common.SPLITS, percent or common.SPLIT_PERCENT, strict=True):
            if wanted and not sides[side]:
                ledger["documents"].noted(f"none fell in {side}: try another --split_seed or --split_percent")
        return sides
    if official != len(documents):
        raise UserError(
            f"--input: expected all documents in folders or files named train, dev or test, or none, found "
            f"{official:,} of {len(documents):,} there: give --split_percent=80,10,10, or only those of one kind"
        )
    where: dict[str, str] = {}
    # The test split first: of a patient in two, the training documents are left out where bad records are skipped.
    for document in sorted(documents, key=lambda one: common.SPLITS[::-1].index(one.split)):
        first = where.setdefault(patient_of(document), document.split)
        if first == document.split:
            sides[document.split].append(document)
            continue
        ledger["patients in two splits"].found()
        problem = f"expected a patient in one split, found one in {first} and {document.split}"
        ledger.bad("patients in two splits", document.file, 1, problem)
    if sides[_TRAIN] and not sides[_VALIDATION] and validation_percent:
        parts: tuple[list[One], list[One]] = ([], [])
        for document in sides[_TRAIN]:
            parts[common.split(patient_of(document), (100 - validation_percent, validation_percent), seed)].append(
                document
            )
        sides[_TRAIN], sides[_VALIDATION] = parts
        if not sides[_VALIDATION]:
            ledger["documents"].noted("none fell in validation: try another --split_seed or --validation_percent")
    return sides
