"""The page of a comparison, for someone who decides which model to use; the same as Markdown and as CSV."""

import copy
import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from clinicalbert_jax.finetune.compare.leakage import CONTAMINATED, LEAST_FINDABLE
from clinicalbert_jax.finetune.compare.results import ranking
from clinicalbert_jax.report import html, suppression
from clinicalbert_jax.report.number_formats import count, duration, interval, percent, score
from clinicalbert_jax.report.table import Table

_READING = (
    "A score is the mean over the seeds on the test set. In brackets: the interval that would hold the score on other "
    "documents of the same kind in 95 of 100 such tests. The deviation over seeds is another matter: what another seed "
    "of the same training changes. A dash: a score that is not shown, or not defined, as where a model always says the "
    "same; without brackets: documents that are too few, or all alike."
)
_COST = (
    "Models of one shape share what is compiled for a task; its time counts in that of the first of them. That of a "
    "process that was killed is not counted. Energy was not measured."
)
_UNKNOWN = "not known"
_NOT_SHOWN_WHY = f"a count under {suppression.LEAST}, or labels of too few patients, would follow from it"
_NOT_SHOWN = f"not shown: {_NOT_SHOWN_WHY}"

Document = Mapping[str, Any]


def page(document: Document) -> str:
    """The whole page."""
    document = _shown(document)
    return html.page("Comparison of models", [html.Section(*part) for part in _sections(document)], [_READING])


def markdown(document: Document) -> str:
    """The page's tables and sentences."""
    document = _shown(document)
    parts = ["# Comparison of models", _READING]
    for title, blocks in _sections(document, charts=False):
        parts += [f"## {title}", *(one.markdown() if isinstance(one, Table) else one for one in blocks)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table_of_scores(document: Document) -> str:
    """One row for each task, model and fraction of the training data, as CSV."""
    document = _shown(document)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("task", "model", "fraction", "score", "value", "low", "high"))
    for task, of in document["tasks"].items():
        for model, entry in of["models"].items():
            for fraction, found in entry["curve"].items():
                writer.writerow((task, model, fraction, of["main"], found["value"], found["low"], found["high"]))
    return file.getvalue()


def _shown(document: Document) -> Document:
    """The document without scores from which a count under 11 follows: of documents that are right, or wrong."""
    document = copy.deepcopy(dict(document))
    for task in document["tasks"].values():
        for entry in task["models"].values():
            for found in (entry["score"], entry["score_without_contaminated"], *entry["curve"].values()):
                if found and not found["is_shown"]:
                    found |= dict.fromkeys(("value", "low", "high"))
            if not entry["score"]["is_shown"]:
                entry["seeds"] = {"values": [None] * len(entry["seeds"]["values"]), "deviation": None}
            if not (entry["score"]["is_shown"] and entry["is_calibration_shown"]):
                entry["calibration_error"] = None
        for one in task["differences"]:
            if not all(task["models"][one[name]]["score"]["is_shown"] for name in ("first", "second")):
                one |= dict.fromkeys(("value", "low", "high", "p_value")) | {"sentence": _NOT_SHOWN, "claimed": False}
        task["num_documents"] = count(suppression.shown({"": task["num_documents"]})[""])
    return document


def _sections(document: Document, charts: bool = True) -> Iterator[tuple[str, list[html.Block]]]:
    tasks = document["tasks"]
    best: list[html.Block] = []
    if (largest := document["fractions"][0]) < 1:
        best.append(f"Trained with {percent(largest, digits=1)} of the training documents.")
    yield "Which model is better", [*best, *(block for name, task in tasks.items() for block in _ranking(name, task))]
    yield "Differences", [_differences(document)]
    if charts and len(document["fractions"]) > 1:
        yield "With fewer training documents", [_curve(name, task) for name, task in tasks.items()]
    elif len(document["fractions"]) > 1:
        yield "With fewer training documents", [_curve_table(document)]
    yield "Had the models read the test set before?", _leakage(document)
    if any(entry["calibration_error"] is not None for task in tasks.values() for entry in task["models"].values()):
        yield "Whether probabilities can be believed", [_calibration(document)]
    yield "Settings and cost", [_cost(document), _COST]


def _ranking(name: str, task: Document) -> Iterator[html.Block]:
    order = ranking(task)
    rows = [
        (
            model,
            interval(task["models"][model]["score"]),
            score(task["models"][model]["seeds"]["deviation"]),
            " ".join(map(score, task["models"][model]["seeds"]["values"])),
        )
        for model in order
    ]
    header = ("model", task["main"], "deviation over seeds", "each seed")
    hidden = [model for model in order if not task["models"][model]["score"]["is_shown"]]
    yield Table(
        header, rows, f"{name}: {task['num_documents']} test {task['unit']}, the best score that is shown first"
    )
    if hidden:
        yield f"{name}: the score of {', '.join(hidden)} is not shown, and may be the best: {_NOT_SHOWN_WHY}."
    if task["unit"] == "records":
        yield f"{name}: the test file names no patients or documents, so that intervals are over single records."
    if left_out := sum(task["left_out"].values()):
        yield f"{name}: {count(suppression.shown({'': left_out})[''])} records could not be used."
    for one in task["differences"]:
        if order[0] in (one["first"], one["second"]):
            yield f"{name}, {one['second']} against {one['first']}: {one['sentence']}."


def _differences(document: Document) -> Table:
    rows = [
        (
            name,
            f"{one['second']} − {one['first']}",
            interval(one),
            score(one["p_value"]),
            "yes" if one["claimed"] else "no",
            one["sentence"],
        )
        for name, task in document["tasks"].items()
        for one in task["differences"]
    ]
    header = ("task", "models", "difference", "p", "claimed", "in words")
    caption = (
        "Paired by document; in brackets over documents, p over documents and seeds. Claimed: what remains after "
        f"correction for {document['num_differences']} differences (Holm), so that in 95 of 100 such comparisons no "
        "difference is claimed where there is none"
    )
    return Table(header, rows, caption)


def _curve(name: str, task: Document) -> html.Block:
    lines = {
        model: sorted(
            (100 * float(fraction), found["value"])
            for fraction, found in task["models"][model]["curve"].items()
            if found["value"] is not None
        )
        for model in ranking(task)[:6]
    }
    return html.line_chart(lines, f"{name}: {task['main']} by size of the training data", "% of the documents", "")


def _curve_table(document: Document) -> Table:
    fractions = [f"{fraction:g}" for fraction in document["fractions"]]
    rows = [
        (name, model, *(interval(task["models"][model]["curve"][fraction]) for fraction in fractions))
        for name, task in document["tasks"].items()
        for model in ranking(task)
    ]
    return Table(("task", "model", *fractions), rows, "By fraction of the training documents")


def _leakage(document: Document) -> list[html.Block]:
    rows = []
    models = document["models"]
    for name, task in document["tasks"].items():
        looked_through = [task["in_task_data"], *(one["leakage"] for one in task["models"].values() if one["leakage"])]
        is_all_known = all(models[model]["is_known"] for model in task["models"]) and not any(
            found["not_known"] for found in looked_through
        )
        rows.append((name, "its training data", *_found(task["in_task_data"]), "", ""))
        for model, entry in task["models"].items():
            both = interval(entry["score"]), _without(entry["score_without_contaminated"], is_all_known)
            found = entry["leakage"]
            unknown = ("0", "0.00%", "0") if models[model]["is_random"] else (_UNKNOWN,) * 3
            rows.append((name, model, *(unknown if found is None else _found(found, " with this salt")), *both))
    header = ("task", "where", "documents read before", "text read before", "patients", "score", "without them")
    doubtful = [
        f"{name} (started from {model['started_from']})" if model["started_from"] else name
        for name, model in models.items()
        if not model["is_known"]
    ]
    blocks: list[html.Block] = [
        "Text read before: words of the test set in runs of 13 that also stand elsewhere. A document counts from "
        f"{percent(CONTAMINATED, digits=0)} of its words on, of those that could be found. Pieces of under 13 words "
        f"are not found: where under {percent(LEAST_FINDABLE, digits=0)} of a document's words, or of a dataset's, are "
        "in longer ones that the dataset's tokenizer knows, it cannot be told. Without them: the score on documents "
        "that neither the task's training and validation data nor any of the models' data hold.",
        Table(header, rows),
    ]
    if doubtful:
        blocks.append(f"What these models were pre-trained on is not known, or not all of it: {', '.join(doubtful)}.")
    return blocks


def _without(cleaned: Document | None, is_all_known: bool) -> str:
    if cleaned is None:
        return "the same" if is_all_known else "the same, as far as is known"
    return "none are left" if cleaned["documents"] == 0 else interval(cleaned)


def _found(found: Document, of_none: str = "") -> tuple[str, str, str]:
    """The cells of documents, text and patients; `of_none` is said where no patient was found."""
    shown = suppression.shown({name: found[name] or 0 for name in ("contaminated", "not_known", "patients")})
    patients = count(shown["patients"]) if found["patients"] else f"0{of_none}"
    if found["are_patients_least"]:
        patients = f"at least {patients}"
    patients = _UNKNOWN if found["patients"] is None else patients
    if found["not_known"] == found["documents"]:
        return _UNKNOWN, _UNKNOWN, patients
    documents = count(shown["contaminated"])
    if found["not_known"]:
        documents += f"; {count(shown['not_known'])} cannot be told"
    if found["fraction_of_words"] is None:
        return documents, _UNKNOWN, patients
    text = percent(found["fraction_of_words"], digits=2)
    return documents, f"at least {text}" if found["is_least"] else text, patients


def _calibration(document: Document) -> Table:
    rows = [
        (name, model, score(task["models"][model]["calibration_error"]))
        for name, task in document["tasks"].items()
        for model in ranking(task)
        if task["models"][model]["calibration_error"] is not None
    ]
    return Table(
        ("task", "model", "expected calibration error"), rows, "0: a probability of 0.8 is right 8 times in 10"
    )


def _cost(document: Document) -> Table:
    rows = [
        (
            name,
            model,
            ", ".join(f"{field} {value}" for field, value in entry["setting"].items()) or "as in its config",
            entry["num_steps"],
            duration(entry["cost"]["seconds"] + entry["cost"]["grid_seconds"]),
        )
        for name, task in document["tasks"].items()
        for model, entry in task["models"].items()
    ]
    header = ("task", "model", "setting chosen on validation data", "steps", "time of all trainings")
    return Table(header, rows)
