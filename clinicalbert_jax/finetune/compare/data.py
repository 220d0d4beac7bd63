"""The examples of a compared task, its splits by document, and parts of its training data. Loads no JAX.

Shape legend: D documents.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import combinations
from typing import Any

from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import intervals
from clinicalbert_jax.finetune.compare.tasks_file import ComparedTask
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.task import ONE_LABEL, Example, Task, TaskConfig

_SEEN = ("train", "validation")  # what a model is trained with, and chosen by


@dataclass(frozen=True)
class TaskData:
    """A task with its labels, and the examples of 'train', 'validation' and 'test'."""

    compared: ComparedTask
    task: Task
    examples: Mapping[str, Sequence[Any]]
    left_out: Mapping[str, int] = field(default_factory=dict)  # records that could not be used, by file

    def training_part(self, fraction: float, seed: int) -> list[Any]:
        """The examples of a fraction of the training documents; those of a larger fraction include them."""
        return part_of(self.examples["train"], fraction, f"part {seed}")

    def test_texts(self) -> list[list[str]]:
        """The texts of each document of the test set, in the order of `intervals.names`."""
        return _texts(self.examples["test"])

    def seen_texts(self) -> list[list[str]]:
        """The texts of each document that a model is trained with, or chosen by."""
        return [texts for name in _SEEN for texts in _texts(self.examples[name])]

    def test_patients(self) -> set[str]:
        """The patients of the test set, where it names them."""
        return {one.patient for one in self.examples["test"] if one.patient}

    def seen_test_patients(self) -> set[str] | None:
        """The patients of the test set that a model is trained with, or chosen by; None where one names no patient."""
        seen = {one.patient for name in _SEEN for one in self.examples[name] if one.patient}
        test = self.test_patients()
        return seen & test if seen and test else None

    def sha256(self) -> str:
        """Of all examples as they were read, on which the options of reading have their part."""
        whole = hashlib.sha256()
        for name, examples in self.examples.items():
            whole.update(name.encode())
            for example in examples:
                whole.update(repr(astuple(example)).encode("utf-8", "surrogatepass"))
        return whole.hexdigest()


def read(compared: ComparedTask, reading: Reading) -> TaskData:
    """Read the files of a task.

    Raises `UserError` where two files hold the same texts, a split is empty, or its labels are too few for its scores.
    """
    where = f"--tasks, [{compared.name}]"
    config = compared.configs[0].task
    before = Counter(reading.counts)
    examples = {name: config.read(path, reading) for name, path in compared.files.items()}
    _check_apart(examples, where)
    if compared.validation_fraction:
        examples |= _cut(config, examples["train"], compared.validation_fraction)
    everyone = {one.patient for of_file in examples.values() for one in of_file if one.patient}
    if alike := patients.count_lookalikes(everyone):
        print(
            f"warning: {where}: {alike:,} patients differ from another only by leading zeros or case, or by forms of a "
            "character: as different patients they count neither as one document nor as leakage",
            file=sys.stderr,
        )
    if not all(examples.values()):
        empty = next(name for name, of_split in examples.items() if not of_split)
        raise UserError(f"{where}: expected examples in the {empty} split, found none: give another fraction or file")
    task = config.task(examples["train"])
    paths = {**compared.files} | {"validation": compared.files.get("validation", compared.files["train"])}
    checked = {name: task.check_labels(of_split, paths[name], reading) for name, of_split in examples.items()}
    used = {
        name: {one for example in of_split for one in task.labels_of(example)} for name, of_split in checked.items()
    }
    least = 2 if task.head == "sequence" and task.problem_type == ONE_LABEL else 1
    for name in ("validation", "test"):
        if used["train"] and len(used[name]) < least:
            raise UserError(
                f"{where}: expected at least {least} of the training data's labels in the {name} set, found "
                f"{len(used[name])}: its scores would say nothing; give another fraction or file"
            )
    if missing := used["train"] - used["test"]:
        print(
            f"warning: {where}: {len(missing)} of the {len(used['train'])} labels do not occur in the test set: their "
            "scores are not defined",
            file=sys.stderr,
        )
    left_out = {name: reading.counts[str(path)] - before[str(path)] for name, path in compared.files.items()}
    for name, count in left_out.items():
        if count:
            print(f"warning: {where}: {count:,} records of the {name} file cannot be used", file=sys.stderr)
    return TaskData(compared, task, checked, left_out)


def _cut(config: TaskConfig, examples: Sequence[Example], fraction: float) -> dict[str, list[Example]]:
    """The training and validation examples, by document; one that alone has a label stays in training."""
    drawn = {one.document for one in part_of(examples, fraction, "validation")}
    train = [one for one in examples if one.document not in drawn]
    if train:
        task = config.task(train)
        known = set(task.labels)
        drawn -= {one.document for one in examples if not known.issuperset(task.labels_of(one))}
    return {
        "train": [one for one in examples if one.document not in drawn],
        "validation": [one for one in examples if one.document in drawn],
    }


def _check_apart(examples: Mapping[str, Sequence[Example]], where: str) -> None:
    """Raise `UserError` where two files hold the same texts, whatever their order, ids and form."""
    contents = {name: Counter(example.content for example in of_file) for name, of_file in examples.items()}
    for first, second in combinations(contents, 2):
        if contents[first] == contents[second]:
            raise UserError(
                f"{where}: expected a {second} set of its own, found the texts of the {first} set: give another file"
            )
        if copies := sum(count for content, count in contents[second].items() if content in contents[first]):
            print(
                f"warning: {where}: {copies:,} of {contents[second].total():,} records of the {second} file are also "
                f"in the {first} file, word for word",
                file=sys.stderr,
            )


def part_of(examples: Sequence[Example], fraction: float, purpose: str) -> list[Any]:
    """The examples of a fraction of the documents, at least one, drawn by a hash of their names."""
    documents = sorted({example.document for example in examples}, key=lambda name: _hash(purpose, name))
    chosen = set(documents[: max(1, round(fraction * len(documents)))])
    return [example for example in examples if example.document in chosen]


def _texts(examples: Sequence[Example]) -> list[list[str]]:
    found: dict[str, dict[str, None]] = {name: {} for name in intervals.names(one.document for one in examples)}
    for example in examples:
        found[example.document] |= dict.fromkeys(example.content)  # each text once
    return [list(texts) for texts in found.values()]


def _hash(purpose: str, name: str) -> bytes:
    return hashlib.blake2b(f"{purpose}\n{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
