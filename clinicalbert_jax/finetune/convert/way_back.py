"""Predictions for records of a conversion become annotations in the form of the corpus, which its own scorer reads.

A conversion keeps the documents as they were read (`documents/SPLIT.jsonl`) and what it was (`conversion.json`).
What was predicted replaces the annotations of its kind; entities given to the model stay as they were. No JAX.
"""

import copy
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, safe_names
from clinicalbert_jax.finetune.convert import common, standoff, tasks
from clinicalbert_jax.finetune.convert.common import Record
from clinicalbert_jax.finetune.convert.formats import brat
from clinicalbert_jax.finetune.convert.sources import SOURCES
from clinicalbert_jax.finetune.convert.standoff import Argument, Attribute, Document, Entity, Relation

FILE, DOCUMENTS = "conversion.json", "documents"


@dataclass(frozen=True)
class Conversion:
    """Where an input file comes from: the corpus, the task, and the documents of its split."""

    corpus: str
    task: str
    roles: Mapping[str, Sequence[str]]
    of_concepts: bool  # whether relations are those of concepts
    documents: Path

    @property
    def of_files(self) -> bool:
        """Whether the corpus has a file a document, so that a directory is written."""
        return SOURCES[self.corpus].directory

    def check(self, output: Path, records: Path, overwrite: bool) -> None:
        """Raise `UserError` where `write` could not write what it will."""
        if self.of_files:
            atomic_output.check_directory(self._directory(output), overwrite, self._is_ours, [records], "--output")
        else:
            for end in SOURCES[self.corpus].write([]):
                atomic_output.check_file(output.with_name(output.name + end), overwrite, [records])

    def write(self, output: Path, records: Path, predictions: Sequence[Record], overwrite: bool) -> list[Path]:
        """Write the predictions for a file of records as the corpus has them; returns the paths."""
        documents = self.predicted(standoff.read(self.documents), _read(records), predictions)
        files = SOURCES[self.corpus].write(documents)
        if not self.of_files:
            paths = []
            for end, text in files.items():
                paths.append(output.with_name(output.name + end))
                with atomic_output.file(paths[-1], overwrite, [records]) as partial:
                    partial.write_text(text, encoding="utf-8", newline="")
            return paths
        directory = self._directory(output)
        with atomic_output.directory(directory, overwrite, self._is_ours, [records], "--output") as partial:
            for name, text in files.items():
                path = partial / safe_names.check(name, self.documents)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
        return [directory]

    def _directory(self, output: Path) -> Path:
        return output.with_name(f"{output.name}.{self.corpus}")

    def _is_ours(self, directory: Path) -> bool:
        """Whether a directory holds nothing but files such as are written."""
        ends = {Path(name).suffix for name in SOURCES[self.corpus].write(standoff.read(self.documents))}
        return all(path.is_dir() or path.suffix in ends for path in directory.rglob("*"))

    def predicted(
        self, documents: Sequence[Document], records: Sequence[Record], predictions: Sequence[Record]
    ) -> list[Document]:
        """The documents with predictions instead of their annotations; `records` and `predictions` have equal ids."""
        given = {record["id"].strip(): record for record in records}
        of_document: dict[str, list[tuple[Record, Record]]] = defaultdict(list)
        for prediction in predictions:
            record = given[prediction["id"]]
            of_document[record["document"]].append((record, prediction))
        found = []
        for document in documents:
            pairs, new = of_document[document.id], copy.copy(document)
            new.attributes, new.others = [], []  # other lines say something of what was annotated
            if self.task.startswith(tasks.ENTITIES):
                spans = sorted((one["start"], one["end"], one["label"]) for _, p in pairs for one in p["entities"])
                new.entities = [
                    Entity(f"T{number}", ((start, end),), label)
                    for number, (start, end, label) in enumerate(spans, start=1)
                ]
                # A model of relations over documents with entities predicts these.
                new.relations = _of_spans([one for _, p in pairs for one in p.get("relations", ())], spans, self.roles)
            elif self.task == tasks.RELATIONS:
                new.relations = _relations(document, self, pairs)
            elif self.task.startswith(tasks.ATTRIBUTE):
                new.relations = []
                new.attributes = [
                    Attribute(f"A{number}", record["attribute"], record["entity"], _value(record, prediction))
                    for number, (record, prediction) in enumerate(pairs, start=1)
                    if prediction["label"] != record["missing"]
                ]
            elif pairs:
                new.relations, new.entities = [], []
                new.labels = {name: name in pairs[0][1]["labels"] for name in document.labels}
            found.append(new)
        return found


def roles_of(documents: Sequence[Document]) -> dict[str, list[str]]:
    """The roles of the arguments of relations by label; those of an event have one, its argument's."""
    found: dict[str, list[str]] = {}
    for document in documents:
        for relation in document.relations:
            if relation.extra == brat.EVENT:
                found.update({role: [role] for role, _ in relation.arguments[1:]})
            else:
                found.setdefault(relation.label, [role for role, _ in relation.arguments[:2]])
    return found


def keep(directory: Path, corpus: str, sides: Mapping[str, Sequence[Document]], written: Sequence[str]) -> None:
    """Write what the way back needs beside the records."""
    (directory / DOCUMENTS).mkdir()
    for name, documents in sides.items():
        standoff.write(directory / DOCUMENTS / f"{name}.jsonl", documents)
    every = [document for side in sides.values() for document in side]
    of_concepts = any(relation.of_concepts for document in every for relation in document.relations)
    about = {
        "version": 1,
        "corpus": corpus,
        "tasks": list(written),
        "roles": roles_of(every),
        "of_concepts": of_concepts,
    }
    (directory / FILE).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def find(records: Path) -> Conversion | None:
    """The conversion that a file of records, OUT/TASK/SPLIT.jsonl, comes from; None for another file."""
    directory = records.absolute().parent.parent
    about, documents = directory / FILE, directory / DOCUMENTS / records.name
    if not about.is_file() or not documents.is_file():
        return None
    try:
        found = json.loads(about.read_text("utf-8"))
        if found["corpus"] not in SOURCES or records.absolute().parent.name not in found["tasks"]:
            return None
        return Conversion(
            found["corpus"], records.absolute().parent.name, found["roles"], found["of_concepts"], documents
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{about}: expected what a conversion wrote, found otherwise ({type(error).__name__}): convert again"
        ) from None


def _value(record: Record, prediction: Record) -> str:
    return "" if record["is_flag"] else str(prediction["label"])


def _of_spans(
    found: Sequence[Record], spans: Sequence[tuple[int, int, str]], roles: Mapping[str, Sequence[str]]
) -> list[Relation]:
    """Relations between the entities T1, T2, ... of these spans."""
    ids = {span: f"T{number}" for number, span in enumerate(spans, start=1)}
    relations = []
    for number, one in enumerate(found, start=1):
        ends = [ids[one[end]["start"], one[end]["end"], one[end]["type"]] for end in ("head", "tail")]
        names = roles.get(one["label"], ())
        names = names if len(names) == len(ends) else ("Arg1", "Arg2")
        relations.append(Relation(f"R{number}", one["label"], tuple(map(Argument, names, ends))))
    return relations


def _relations(document: Document, conversion: Conversion, pairs: Sequence[tuple[Record, Record]]) -> list[Relation]:
    entities = document.by_id()
    mentions = [(entities[record["head"]["id"]], entities[record["tail"]["id"]]) for record, _ in pairs]
    alone = tasks.mentioned_alone(mentions)
    found: dict[tuple[Any, ...], None] = {}
    events: dict[str, list[Argument]] = {}
    for record, prediction in pairs:
        label, head, tail = prediction["label"], record["head"]["id"], record["tail"]["id"]
        if label == common.NEGATIVE:
            continue
        of_label = conversion.roles.get(label, ("Arg1", "Arg2"))
        if len(of_label) == 1:
            argument = Argument(label, tail)
            if argument not in events.setdefault(head, []):
                events[head].append(argument)
        elif conversion.of_concepts:
            for one, other in tasks.concepts_of(entities[head], entities[tail], alone):
                found[label, (Argument(of_label[0], one), Argument(of_label[1], other))] = None
        else:
            found[label, (Argument(of_label[0], head), Argument(of_label[1], tail))] = None
    relations = [
        Relation(f"R{number}", label, arguments, conversion.of_concepts)
        for number, (label, arguments) in enumerate(found, start=1)
    ]
    for number, (trigger, arguments) in enumerate(events.items(), start=1):
        given = (Argument(brat.TRIGGER, trigger), *arguments)
        relations.append(Relation(f"E{number}", entities[trigger].label, given, extra=dict(brat.EVENT)))
    return relations


def _read(records: Path) -> list[Record]:
    with records.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file if line.strip()]
