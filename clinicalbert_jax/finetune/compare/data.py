"""The examples of a compared task, its splits by document, and parts of its training data. Loads no JAX.

Shape legend: D documents.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.compare.tasks_file import ComparedTask
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.task import ONE_LABEL, Example, Task


@dataclass(frozen=True)
class TaskData:
    """A task with its labels, and the examples of 'train', 'validation' and 'test'."""

    compared: ComparedTask
    task: Task
    examples: Mapping[str, Sequence[Any]]

    def training_part(self, fraction: float, seed: int) -> list[Any]:
        """The examples of a fraction of the training documents; those of a larger fraction include them."""
        return part_of(self.examples["train"], fraction, f"part {seed}")

    def texts(self) -> dict[str, str]:
        """The text of each document of the test set."""
        return _texts(self.examples["test"])

    def num_training_patients(self) -> int | None:
        """How many patients of the test set are in the training set too; None where one of them names no patient."""
        train, test = ({one.patient for one in self.examples[name] if one.patient} for name in ("train", "test"))
        return len(train & test) if train and test else None


def read(compared: ComparedTask, reading: Reading) -> TaskData:
    """Read the files of a task.

    Raises `UserError` where two files hold the same texts, a split is empty, or its labels are too few for its scores.
    """
    where = f"--tasks, [{compared.name}]"
    config = compared.configs[0].task
    examples = {name: config.read(path, reading) for name, path in compared.files.items()}
    _check_apart(examples, where)
    if compared.validation_fraction:
        held_out = {id(one) for one in part_of(examples["train"], compared.validation_fraction, "validation")}
        examples["validation"] = [one for one in examples["train"] if id(one) in held_out]
        examples["train"] = [one for one in examples["train"] if id(one) not in held_out]
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
    return TaskData(compared, task, checked)


def _check_apart(examples: Mapping[str, Sequence[Example]], where: str) -> None:
    """Raise `UserError` where two files hold the same texts, whatever their order, ids and form."""
    contents = {name: Counter(example.content for example in of_file) for name, of_file in examples.items()}
    for first, second in combinations(contents, 2):
        if contents[first] == contents[second]:
            raise UserError(
                f"{where}: expected a {second} set of its own, found the texts of the {first} set: give another file"
            )


def part_of(examples: Sequence[Example], fraction: float, purpose: str) -> list[Any]:
    """The examples of a fraction of the documents, at least one, drawn by a hash of their names."""
    documents = sorted({example.document for example in examples}, key=lambda name: _hash(purpose, name))
    chosen = set(documents[: max(1, round(fraction * len(documents)))])
    return [example for example in examples if example.document in chosen]


def texts_of(examples: Sequence[Any]) -> list[str]:
    """The texts of examples, each once."""
    return list(dict.fromkeys(text for example in examples for text in example.content))


def _texts(examples: Sequence[Any]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for example in examples:
        of_document = found.setdefault(example.document, [])
        of_document += [text for text in example.content if text not in of_document]
    return {document: "\n".join(parts) for document, parts in found.items()}


def _hash(purpose: str, name: str) -> bytes:
    return hashlib.blake2b(f"{purpose}\n{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
