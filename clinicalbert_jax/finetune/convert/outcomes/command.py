"""What `--corpus=mimic_...` does: tables and notes become rows of classification, by split, with the cohort's flow."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from clinicalbert_jax.data import patients
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import SplitRule
from clinicalbert_jax.errors import UserError, labelled
from clinicalbert_jax.files import patterns
from clinicalbert_jax.finetune.convert import common
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.outcomes import huang_text, icd, mortality, notes, readmission, tables
from clinicalbert_jax.finetune.convert.outcomes.cohort import Cohort, Member
from clinicalbert_jax.finetune.convert.outcomes.flow import Flow, SplitCounts
from clinicalbert_jax.finetune.convert.outcomes.notes import Gathered, NoteFile
from clinicalbert_jax.finetune.convert.outcomes.tables import Admission
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.options import option

READMISSION, MORTALITY, ICD = CORPORA = ("mimic_readmission", "mimic_mortality", "mimic_icd")
PAGE = "cohort.html"
DEFAULT_SPLIT = (80, 10, 10)  # per cent of the patients
_PATHS = ("notes", "pretraining_data")  # which are not recorded: they may be names of patients
_BINARY = (READMISSION, MORTALITY)
_USED_BY = {
    "first_days": (READMISSION,),
    "elective_types": (READMISSION,),
    "before_hour": (MORTALITY,),
    "sampling": _BINARY,
    "chunking": _BINARY,
    "code_table": (ICD,),
    "icd_version": (ICD,),
    "top_codes": (ICD,),
}
_OUTCOMES = {READMISSION: "readmitted", MORTALITY: "died", ICD: "with a code"}
_NAMES = {"mimic_iii": "MIMIC-III", "mimic_iv": "MIMIC-IV"}


@dataclass(kw_only=True)
class OutcomeOptions:
    """The options of outcomes from MIMIC's tables."""

    notes: tuple[str, ...] = option(
        "mimic_*: files or directories of notes that lie outside of --input.", (), labelled=True
    )
    pretraining_data: str = option("mimic_*: split patients as this dataset of data_prep does.", "")
    split_by: str = option(
        "mimic_*: split patients; or admissions, as Huang et al., so that a patient may be in several splits.",
        "patient",
        choices=("patient", "admission"),
    )
    first_days: int = option(
        "mimic_readmission: read the notes of so many first days, such as 2 or 3, not the discharge summary.",
        0,
        lowest=0,
    )
    elective_types: tuple[str, ...] = option(
        "mimic_readmission: the types of admission that are no readmission.", ("ELECTIVE",)
    )
    before_hour: int = option("mimic_mortality: read the notes written before this hour of the stay.", 24, lowest=1)
    sampling: str = option(
        "mimic_readmission, mimic_mortality: all admissions; or, as Huang et al., as many negatives as positives.",
        "all",
        choices=("all", "balanced"),
    )
    chunking: str = option(
        "mimic_readmission, mimic_mortality: a row for each note; or, as Huang et al., for each 318 words.",
        "none",
        choices=("none", "huang"),
    )
    code_table: str = option("mimic_icd: codes of diagnoses or procedures.", "diagnoses", choices=tuple(tables.CODES))
    icd_version: str | None = option("mimic_icd: for a table that has both.", None, choices=icd.VERSIONS)
    top_codes: int = option("mimic_icd: so many of the most frequent codes; 0: all.", 50, lowest=0)

    def check(self, corpus: str, split_percent: Sequence[str]) -> None:
        """Raise `UserError` for options that contradict each other, or that other corpora have."""
        for one in fields(self):
            corpora = _USED_BY.get(one.name, CORPORA)
            if corpus not in corpora and getattr(self, one.name) != one.default:
                raise UserError(f"--{one.name}: expected --corpus={' or '.join(corpora)}, found {corpus}: leave it out")
        if self.pretraining_data and self.split_by == "admission":
            raise UserError(
                "--split_by: expected patient with --pretraining_data, found admission, by which notes of test "
                "patients would have been pre-trained on: leave one of them out"
            )
        if self.pretraining_data and split_percent:
            raise UserError(
                "--split_percent: expected none with --pretraining_data, which has the fractions of its splits, found "
                "some: leave one of them out"
            )


def convert(
    corpus: str, directory: Path, options: OutcomeOptions, split_percent: Sequence[int], partial: Path, reading: Reading
) -> tuple[Ledger, Flow]:
    """Write SPLIT.jsonl, the ledger and the cohort's page into `partial`; returns what was counted. Raises `UserError`.

    A row has the admission's id, by which classification groups rows to one decision, and the patient's.
    """
    early = corpus == MORTALITY or (corpus == READMISSION and options.first_days > 0)
    admissions_path, files = _files(directory, options, early, reading)
    rule = _split_rule(options, split_percent, files[0].source)
    ledger = Ledger(reading)
    admissions, incomplete = tables.read_admissions(admissions_path, reading)
    num_bad = reading.counts[str(admissions_path)]
    ledger["admissions"].found(len(admissions) + num_bad)
    if disagree := sum(admission.flag != (admission.death is not None) for admission in admissions):
        ledger["admissions"].noted("a death by hospital_expire_flag alone, or by deathtime alone", disagree)
    cohort, code_rows = _cohort(corpus, directory, options, admissions, incomplete, reading)
    if num_bad:
        cohort.excluded["bad record"] += num_bad
    with Gathered(partial.parent) as gathered:
        by_id = {admission.id: admission for admission in admissions}
        gathered.read(files, by_id, cohort.members, not early, reading)
        _account_for_notes(gathered, files, ledger, reading)
        cohort.keep(lambda member: member.admission.id in gathered, "without a note for the input")
        if options.chunking == "huang":
            cohort.keep(
                lambda member: bool(huang_text.chunks(gathered.texts(member.admission.id), not early)),
                f"of {huang_text.SHORTEST} words or fewer",
            )
        splits = _splits(cohort, rule, options)
        if corpus == ICD:
            splits = _with_codes(splits, options, code_rows, ledger)
        counted = {}
        for split, members in splits.items():
            rows = _Rows(members, gathered, options.chunking == "huang", not early, several=corpus == ICD)
            if members:
                common.write(partial / f"{split}.jsonl", rows)
            counted[split] = _counts(members, rows, corpus)
    flow = Flow(
        title=f"Cohort of {corpus}",
        outcome=_OUTCOMES[corpus],
        admissions=len(admissions) + num_bad,
        excluded={reason: count for reason, count in cohort.excluded.items() if count},
        splits=counted,
    )
    flow.check()
    ledger["admissions"].as_is(flow.kept)
    for reason, count in flow.excluded.items():
        ledger["admissions"].refused(reason, number=count)
    used = {name for name in asdict(options) if corpus in _USED_BY.get(name, CORPORA) and name not in _PATHS}
    settings = {name: value for name, value in asdict(options).items() if name in used}
    about = {"options": settings, "split_rule": asdict(rule), "cohort": flow.document()}
    ledger.write(partial, {"version": 1, "corpus": corpus, **about})
    (partial / PAGE).write_text(flow.page(), encoding="utf-8")
    return ledger, flow


# --- what is read


def _files(directory: Path, options: OutcomeOptions, early: bool, reading: Reading) -> tuple[Path, list[NoteFile]]:
    """The table of admissions, and the files of notes that the outcome reads."""
    if not directory.is_dir():
        raise UserError("--input: expected the directory of MIMIC's tables, found a file")
    found = tables.find(directory, (tables.ADMISSIONS, *tables.NOTES))
    admissions = tables.required(found, tables.ADMISSIONS, directory)
    paths, named = [found[name] for name in tables.NOTES if name in found], set()
    if options.notes:
        paths = []
        for given in map(patterns.expanded, options.notes):
            if given.is_file():
                paths.append(given)
                named.add(given)
            elif given.is_dir():
                of_directory = tables.find(given, tables.NOTES)
                paths += [of_directory[name] for name in tables.NOTES if name in of_directory]
            else:
                raise UserError("--notes: expected files or directories of notes, found a name of neither")
    files = [notes.recognised(path, reading) for path in paths]
    if not files:
        raise UserError(
            "--input: expected NOTEEVENTS.csv, or discharge.csv or radiology.csv of MIMIC-IV-Note (or one of these "
            "with .gz), found none: put it there, or name it by --notes"
        )
    if len({file.source for file in files}) > 1:
        raise UserError("--notes: expected notes of MIMIC-III or of MIMIC-IV, found both: name those of the admissions")
    # MIMIC-IV has two files; MIMIC-III has all categories in one.
    of_iv = [file for file in files if file.source == "mimic_iv"]
    wanted = [file for file in files if file not in of_iv or file.of_summaries != early]
    passed_over = [file for file in files if file not in wanted]
    if not wanted or any(file.path in named for file in passed_over):
        if early:
            raise UserError(
                f"{passed_over[0].path}: expected notes written early in the stay, found MIMIC-IV's discharge "
                "summaries, which are written at its end: give radiology.csv.gz"
            )
        raise UserError(
            f"{passed_over[0].path}: expected MIMIC-IV's discharge summaries, found other notes: give discharge.csv.gz"
        )
    for file in passed_over:
        shown = labelled(str(file.path))
        print(f"passed over, since the outcome reads no notes of it: {shown}", file=sys.stderr)
    return admissions, wanted


def _split_rule(options: OutcomeOptions, split_percent: Sequence[int], source: str) -> SplitRule:
    if not options.pretraining_data:
        _, validation, test = split_percent
        return SplitRule(patients.DEFAULT_SPLIT_KEY, validation / 100, test / 100)
    manifest = Manifest.load(patterns.expanded(options.pretraining_data))
    rule = patients.split_rule(manifest.options)
    if rule is None or (rule.key != manifest.options.get("split_key") and rule.key != patients.DEFAULT_SPLIT_KEY):
        raise UserError(
            "--pretraining_data: expected a dataset with a split key, found one of an earlier version, whose splits "
            "are not known: prepare the data again"
        )
    if not manifest.has_patients:
        raise UserError(
            "--pretraining_data: expected a dataset split by patient, found one in which each note is a patient: "
            "prepare the data again with --patient_column"
        )
    others = {name for name in _NAMES if name != source} & set(manifest.extra.get("formats", ()))
    if others:
        raise UserError(
            f"--pretraining_data: expected notes of {_NAMES[source]}, as these are, found {_NAMES[others.pop()]}, "
            "which has some of the same patients under other identifiers"
        )
    return rule


def _cohort(
    corpus: str,
    directory: Path,
    options: OutcomeOptions,
    admissions: Sequence[Admission],
    incomplete: set[str],
    reading: Reading,
) -> tuple[Cohort, Counter[str]]:
    if corpus == READMISSION:
        elective = {name.upper() for name in options.elective_types}
        unmet = elective - {admission.type for admission in admissions} - {"ELECTIVE"}
        if unmet:
            raise UserError(
                f"--elective_types: expected types of the table, found {len(unmet)} that no admission has: check the "
                "spelling"
            )
        return readmission.cohort(admissions, elective, options.first_days, incomplete), Counter()
    if corpus == MORTALITY:
        return mortality.cohort(admissions, options.before_hour, incomplete), Counter()
    name = tables.CODES[options.code_table]
    path = tables.required(tables.find(directory, (name,)), name, directory)
    codes, rows = icd.read(path, options.code_table, options.icd_version, reading)
    rows["bad record"] += reading.counts[str(path)]
    return icd.cohort(admissions, codes), rows


def _account_for_notes(gathered: Gathered, files: Sequence[NoteFile], ledger: Ledger, reading: Reading) -> None:
    counts = gathered.counts + Counter({"bad record": sum(reading.counts[str(file.path)] for file in files)})
    ledger["notes"].found(gathered.num_used + counts.total())
    ledger["notes"].as_is(gathered.num_used)
    for reason, count in counts.items():
        ledger["notes"].refused(reason, number=count)
    if undecodable := gathered.num_undecodable:
        ledger["notes"].noted("with bytes that are not of the encoding, each now U+FFFD", undecodable)
        if undecodable > max(1, reading.max_malformed_fraction * gathered.num_used):
            raise UserError(
                f"{files[0].path}: {undecodable:,} of {gathered.num_used:,} notes hold bytes that are not "
                f"{reading.encoding}: give --encoding (such as cp1252), or allow them by --max_malformed_fraction"
            )
    if not gathered.num_used:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
        raise UserError(
            f"--input: expected notes of the cohort's admissions, found none among {counts.total():,} ({reasons}): "
            "check that tables and notes are of one database"
        )


# --- splits and labels


def _splits(cohort: Cohort, rule: SplitRule, options: OutcomeOptions) -> dict[str, list[Member]]:
    """The members of each split, without those that balancing leaves out."""
    splits: dict[str, list[Member]] = {split: [] for split in common.SPLITS}
    for member in cohort.members.values():
        by = member.admission.patient if options.split_by == "patient" else member.admission.id
        splits[rule.split_of(by)].append(member)
    if options.sampling == "balanced":
        splits = {split: _balanced(members) for split, members in splits.items()}
        kept = {member.admission.id for members in splits.values() for member in members}
        cohort.keep(lambda member: member.admission.id in kept, "left out by balanced sampling")
    if not splits["train"]:
        raise UserError("--split_percent: expected admissions in the training split, found none: give it more")
    if options.split_by == "admission":
        of = Counter(patient for members in splits.values() for patient in {m.admission.patient for m in members})
        several = sum(count > 1 for count in of.values())
        print(f"warning: {several:,} patients are in more than one split (--split_by=admission)", file=sys.stderr)
    return splits


def _balanced(members: Sequence[Member]) -> list[Member]:
    """As many members of each label, drawn by a hash of the admission; in the order of `members`."""
    by_label: dict[tuple[str, ...], list[Member]] = {}
    for member in members:
        by_label.setdefault(member.labels, []).append(member)
    fewest = min(map(len, by_label.values()), default=0) if len(by_label) > 1 else 0
    drawn = {
        member.admission.id
        for of_label in by_label.values()
        for member in sorted(of_label, key=lambda one: hashlib.sha256(one.admission.id.encode()).digest())[:fewest]
    }
    return [member for member in members if member.admission.id in drawn]


def _with_codes(
    splits: Mapping[str, Sequence[Member]], options: OutcomeOptions, rows: Counter[str], ledger: Ledger
) -> dict[str, list[Member]]:
    """The members with the codes alone that the task has: those of the training split, or the most frequent of them."""
    known = icd.most_frequent(splits["train"], options.top_codes)
    chosen = {
        split: [
            Member(member.admission, tuple(code for code in member.labels if code in known), member.until)
            for member in members
        ]
        for split, members in splits.items()
    }
    before, after = (sum(len(m.labels) for members in one.values() for m in members) for one in (splits, chosen))
    distinct = {code for members in splits.values() for member in members for code in member.labels}
    entry = ledger["codes"]
    entry.found(rows.total())
    entry.as_is(after)
    why = f"not among the {len(known):,} most frequent in training" if options.top_codes else "not seen in training"
    of_cohort = {"of an admission outside of the cohort": rows.pop(icd.READ) - before, why: before - after}
    for reason, count in (rows + Counter(of_cohort)).items():
        entry.refused(reason, number=count)
    entry.noted("different codes in the cohort", len(distinct))
    entry.noted("different codes that are labels", len(known))
    return chosen


class _Rows:
    """The rows of a split's members, as an iterable that counts them and the notes they are made of."""

    def __init__(
        self, members: Sequence[Member], gathered: Gathered, huang: bool, summaries: bool, several: bool
    ) -> None:
        self._members, self._gathered = members, gathered
        self._huang, self._summaries, self._several = huang, summaries, several
        self.num_rows = self.num_notes = 0

    def __iter__(self) -> Iterator[common.Record]:
        for member in self._members:
            admission = member.admission
            texts = self._gathered.texts(admission.id)
            self.num_notes += len(texts)
            if self._huang:
                texts = huang_text.chunks(texts, self._summaries)
            labels = {"labels": list(member.labels)} if self._several else {"label": member.labels[0]}
            for number, text in enumerate(texts, 1):
                self.num_rows += 1
                yield {
                    "id": f"{admission.id}.{number}",
                    "admission": admission.id,
                    "patient": admission.patient,
                    "text": text,
                    **labels,
                }


def _counts(members: Sequence[Member], rows: _Rows, corpus: str) -> SplitCounts:
    positive = {READMISSION: readmission.LABELS[1:], MORTALITY: mortality.LABELS[1:]}.get(corpus)
    return SplitCounts(
        admissions=len(members),
        positives=sum(member.labels == positive if positive else bool(member.labels) for member in members),
        patients=len({member.admission.patient for member in members}),
        notes=rows.num_notes,
        rows=rows.num_rows,
    )
