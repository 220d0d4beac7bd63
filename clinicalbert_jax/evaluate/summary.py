"""Held-out figures from per-prediction scores, as one JSON document and as a table. NumPy only.

Shape legend: N masked tokens, M sentence pairs, G patients, C columns.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from clinicalbert_jax.evaluate.bootstrap import Estimate, ratios, sums_by_patient
from clinicalbert_jax.evaluate.per_token import Scores, Targets
from clinicalbert_jax.evaluate.token_classes import CLASSES

Document = dict[str, Any]


def figures(targets: Targets, scores: Scores, categories: Sequence[str], with_nsp: bool = True) -> Document:
    """One model's figures, each {value, low, high}: overall, by note category, by token class. Losses in nats."""
    everything_N = np.zeros_like(targets.ids_N)
    overall = _mlm(targets, scores, everything_N, ["overall"])["overall"]
    if with_nsp:
        overall |= _nsp(targets, scores)
    return {
        "overall": overall,
        "by_category": _mlm(targets, scores, targets.categories_N, categories),
        "by_token_class": _mlm(targets, scores, targets.classes_N, CLASSES),
    }


def difference(targets: Targets, first: Scores, second: Scores, with_nsp: bool = True) -> Document:
    """The second model less the first, on the same predictions, resampling the same patients for both."""
    paired = Scores(*(b - a for a, b in zip(first, second, strict=True)))
    overall = _mlm(targets, paired, np.zeros_like(targets.ids_N), ["overall"])["overall"]
    overall = {name: overall[name] for name in ("mlm_loss", "mlm_accuracy")}
    return overall | (_nsp(targets, paired) if with_nsp else {})


def unigram_entropy(targets: Targets) -> float:
    """Nats per masked token of the best prediction that knows only how often each target occurs here."""
    counts = np.bincount(targets.ids_N)
    frequencies = counts[counts > 0] / len(targets.ids_N)
    return float(-(frequencies * np.log(frequencies)).sum())


def table(document: Document) -> str:
    """The document as text for a terminal."""
    models, unit = document["models"], document["resampling_unit"]
    lines = [
        f"{document['split']} split of {document['data']}: {document['num_predictions']:,} masked tokens, "
        f"{document['num_pairs']:,} sentence pairs, {document['num_patients']:,} {unit}",
        f"unigram entropy of the masked targets: {document['unigram_entropy']:.3f} nats",
        f"[ ]: 95 % interval, {unit} resampled",
    ]
    for name, model in zip("AB", models, strict=False):
        step = "" if model["step"] is None else f", step {model['step']:,}"
        title = f"{name}: " if len(models) > 1 else ""
        lines += ["", f"{title}{model['source']}{step}"]
        lines += [
            f"  {_LABELS[key]:16} {_shown(key, value)}" for key, value in model["overall"].items() if key in _LABELS
        ]
        for group, heading in (("by_category", "note category"), ("by_token_class", "token class")):
            lines += ["", f"  {heading:22}{'tokens':>9}{unit:>10}  {'MLM loss':24}MLM accuracy"]
            for key, row in model[group].items():
                loss, accuracy = _shown("mlm_loss", row["mlm_loss"]), _shown("mlm_accuracy", row["mlm_accuracy"])
                name = _readable(group, key)[:21]
                lines.append(f"  {name:22}{row['predictions']:>9,}{row['patients']:>10,}  {loss:24}{accuracy}")
    if "difference" in document:
        lines += ["", f"B less A, on the same {unit}"]
        lines += [f"  {_LABELS[key]:16} {_shown(key, value, '+')}" for key, value in document["difference"].items()]
    return "\n".join([*lines, *(f"\nwarning: {warning}" for warning in document["warnings"])])


def _readable(group: str, key: str) -> str:
    return key.replace("_", " ") if group == "by_token_class" else key


_LABELS = {
    "mlm_loss": "MLM loss (nats)",
    "mlm_perplexity": "MLM perplexity",
    "mlm_accuracy": "MLM accuracy",
    "nsp_loss": "NSP loss (nats)",
    "nsp_accuracy": "NSP accuracy",
}


def _mlm(targets: Targets, scores: Scores, columns_N: np.ndarray, names: Sequence[str]) -> dict[str, Document]:
    patients_N, size = targets.patients_N, (targets.num_patients, len(names))
    losses = sums_by_patient(patients_N, size[0], scores.mlm_loss_N, columns_N, size[1])
    hits = sums_by_patient(patients_N, size[0], scores.mlm_hits_N, columns_N, size[1])
    rows: dict[str, Document] = {}
    for column, (name, loss, accuracy) in enumerate(zip(names, ratios(losses), ratios(hits), strict=True)):
        counts_G = losses.denominators_GxC[:, column]
        if counts_G.any():
            rows[name] = {
                "mlm_loss": _document(loss),
                "mlm_perplexity": _document(Estimate(*map(_exp, loss))),
                "mlm_accuracy": _document(accuracy),
                "predictions": int(counts_G.sum()),
                "patients": int((counts_G > 0).sum()),
            }
    return rows


def _nsp(targets: Targets, scores: Scores) -> Document:
    alone_M = np.zeros_like(targets.patients_M)
    sums = [
        sums_by_patient(targets.patients_M, targets.num_patients, values_M, alone_M, 1)
        for values_M in (scores.nsp_loss_M, scores.nsp_hits_M)
    ]
    return {name: _document(ratios(s)[0]) for name, s in zip(("nsp_loss", "nsp_accuracy"), sums, strict=True)}


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if math.isfinite(value) else math.nan


def _document(estimate: Estimate) -> Document:
    # JSON has no NaN.
    return {name: value if math.isfinite(value) else None for name, value in estimate._asdict().items()}


def _shown(name: str, estimate: Document, sign: str = "") -> str:
    percent = name.endswith("accuracy")

    def one(value: float) -> str:
        return f"{value:{sign}.1%}" if percent else f"{value:{sign}.3f}" if abs(value) < 1000 else f"{value:{sign},.0f}"

    interval = "" if estimate["low"] is None else f" [{one(estimate['low'])}, {one(estimate['high'])}]"
    return one(estimate["value"]) + interval
