"""Which notes are taken, and whether everything that a selection names was met among them.

A list of opted-out patients that matches nobody, or a category that no note has, must not pass in silence.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clinicalbert_jax.data.patients import (
    DEFAULT_SPLIT_KEY,
    RoundedIdentifierError,
    SplitRule,
    identifier,
    without_lookalikes,
)
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.options import option
from data_prep.reading.note_readers import Note

# What was met, for `check_met`: ("category", c), ("excluded", identifier), ("lookalike", identifier), and
# ("form", prefix, kinds of characters, length) of every identifier of the notes.
Met = set[tuple[str, ...]]


@dataclass(frozen=True)
class SelectionConfig:
    """Which notes are taken, and how patients are assigned to splits and buckets.

    `categories` () takes all. `exclude_patients` is a file of identifiers, one a line. `split_key` and the fractions
    alone decide the splits, so that a second preparation assigns each patient to the same one; `salt_file` keys buckets
    and `patient_group` (see `salt_file.load`).
    """

    categories: tuple[str, ...] = option("Read notes of these categories only.", ())
    exclude_patients: str = option("A file of patients to leave out, one identifier a line.", "", labelled=True)
    expect_excluded: int | None = option(
        "At least so many of these must have notes; default: one, and all must look like identifiers of the notes.",
        None,
        lowest=0,
    )
    validation_fraction: float = option("The fraction of patients in the validation split.", 0.05)
    test_fraction: float = option("The fraction of patients in the test split.", 0.05)
    bucket_megabytes: float = option("Text in a bucket; a worker holds one at a time.", 6.0)
    split_key: str = option(
        "Keys the splits: public, and the same for datasets to be used together.", DEFAULT_SPLIT_KEY
    )
    salt_file: str = option(
        "The private key of buckets and patient_group, made at first use; default: in your configuration directory.",
        "",
    )

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name}: expected a fraction in [0, 1), found {getattr(self, name)}")
        if self.validation_fraction + self.test_fraction >= 1:
            raise UserError("--validation_fraction and --test_fraction: expected a sum under 1, so that some is left")
        if not self.bucket_megabytes > 0:
            raise UserError(f"--bucket_megabytes: expected a positive size, found {self.bucket_megabytes}")

    @property
    def split_rule(self) -> SplitRule:
        """How patients are assigned to splits."""
        return SplitRule(self.split_key, self.validation_fraction, self.test_fraction)

    def fractions(self) -> dict[str, float]:
        """The fraction of patients in each split."""
        held_out = self.validation_fraction + self.test_fraction
        return {"train": 1 - held_out, "validation": self.validation_fraction, "test": self.test_fraction}


def select(
    notes: Iterable[Note], config: SelectionConfig, drops: Counter[str], met: Met | None = None
) -> Iterator[Note]:
    """The notes wanted: of the categories asked for, not of excluded patients, not empty, and each text once.

    `met` gathers what of the selection the notes had.
    """
    categories = {_category(category) for category in config.categories}
    excluded = excluded_patients(config)
    alike = {without_lookalikes(one): one for one in excluded}
    met = set() if met is None else met
    seen = DigestSet()
    for note in notes:
        category = note.category.lower()
        if category in categories:
            met.add(("category", category))
        if excluded:
            met.add(("form", *_form(note.patient_id)))
            if note.patient_id in excluded:
                met.add(("excluded", note.patient_id))
            elif other := alike.get(without_lookalikes(note.patient_id)):
                met.add(("lookalike", other))
        if categories and category not in categories:
            drops["other category"] += 1
        elif note.patient_id in excluded:
            drops["excluded patient"] += 1
        elif not note.text or note.text.isspace():
            drops["empty"] += 1
        elif not seen.add(content_digest(note.text)):
            drops["exact duplicate"] += 1
        else:
            yield note


def excluded_patients(config: SelectionConfig) -> frozenset[str]:
    """The identifiers in the file of `exclude_patients`; raises `UserError` where it holds anything else."""
    path = config.exclude_patients
    if not path:
        return frozenset()
    expected = "--exclude_patients: expected a file of identifiers, one a line"
    try:
        lines = patterns.expanded(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{expected}, found none ({type(error).__name__})") from None
    for number, line in enumerate(lines, 1):
        if any(separator in line.strip() for separator in ",;\t"):
            raise UserError(f"{expected}, found several columns on line {number}: keep the identifiers only")
    try:
        found = list(filter(None, map(identifier, lines)))
    except RoundedIdentifierError as error:
        raise UserError(f"--exclude_patients: {error}") from None
    if not found:
        raise UserError(f"{expected}, found no identifier in the file")
    if len(found) > 1 and not _has_digit(found[0]) and all(map(_has_digit, found[1:])):
        raise UserError(f"{expected}, found what looks like a header on the first line: remove it")
    return frozenset(found)


def check_met(config: SelectionConfig, met: Met) -> int:
    """How many excluded patients have notes; raises `UserError` where a selection names what was not met."""
    of_kind = {kind: {one[1] for one in met if one[0] == kind} for kind in ("category", "excluded", "lookalike")}
    unmet = [n for n, name in enumerate(config.categories, 1) if _category(name) not in of_kind["category"]]
    if unmet:
        raise UserError(
            f"--categories: expected categories that notes have, found none of number {unmet[0]} of the "
            f"{len(config.categories)} named: check the spelling"
        )
    excluded = excluded_patients(config)
    if not excluded:
        return 0
    num_met, least = len(of_kind["excluded"]), config.expect_excluded
    counted = f"--exclude_patients: {num_met:,} of {len(excluded):,} met"
    if num_met < (1 if least is None else least):
        raise UserError(
            f"{counted}, expected at least {1 if least is None else least:,}: check that the list has the identifiers "
            "of these notes, or say how many to expect by --expect_excluded"
        )
    lengths: dict[tuple[str, ...], list[int]] = {}
    for _, prefix, kinds, length in (one for one in met if one[0] == "form"):
        lengths.setdefault((prefix, kinds), []).append(int(length))

    def looks_known(one: str) -> bool:
        prefix, kinds, length = _form(one)
        known = lengths.get((prefix, kinds), [0])
        return min(known) <= int(length) <= max(known) and one not in of_kind["lookalike"]

    strange = sum(not looks_known(one) for one in excluded - of_kind["excluded"])
    if strange and least is None:
        raise UserError(
            f"{counted}, but {strange:,} of the others differ in form (length, prefix, letters, case or leading zeros) "
            f"from the identifiers of these notes: correct the list, or give --expect_excluded={num_met} if the others "
            "have no notes here"
        )
    return num_met


def _category(name: str) -> str:
    return identifier(name).lower()


def _has_digit(one: str) -> bool:
    return any(map(str.isdigit, one))


def _form(one: str) -> tuple[str, str, str]:
    """The form of an identifier: the letters before a number, the kinds of characters it has, and its length."""
    number = one.lstrip("".join(c for c in one if not c.isdigit()))
    prefix = one.removesuffix(number) if number.isdigit() else ""
    kinds = {"0" if c.isdigit() else "A" if c.isupper() else "a" if c.isalpha() else c for c in one}
    padded = "z" if one.startswith("0") else ""
    return prefix, padded + "".join(sorted(kinds)), str(len(one))


def content_digest(text: str) -> bytes:
    """The 128-bit hash by which exact duplicates are known: of the text, differences of white space aside."""
    content = " ".join(text.split())
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class DigestSet:
    """A set of 128-bit digests in about 25 bytes each, where Python's own set takes 120.

    Digests with the same first two bytes are concatenated in one byte string, which is searched: some thirty digests at
    two million notes.
    """

    def __init__(self) -> None:
        self._rests: list[bytearray | None] = [None] * 65536

    def add(self, digest: bytes) -> bool:
        """Add a digest; False if it was there already."""
        prefix, rest = int.from_bytes(digest[:2], "big"), digest[2:]
        rests = self._rests[prefix]
        if rests is None:
            self._rests[prefix] = bytearray(rest)
            return True
        at = rests.find(rest)
        while at != -1 and at % len(rest):  # a match that spans two digests
            at = rests.find(rest, at + 1)
        if at != -1:
            return False
        rests += rest
        return True
