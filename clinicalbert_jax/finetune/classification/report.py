"""Classifications as values, tables and curves for the result page.

Shape legend: E examples, C labels, N decisions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from clinicalbert_jax.finetune.classification import scores as measure
from clinicalbert_jax.finetune.task import CountTable, RateTable, Scores
from clinicalbert_jax.report.number_formats import percent
from clinicalbert_jax.report.suppression import LEAST
from clinicalbert_jax.report.table import Table

MAIN_SCORES = ("accuracy", "macro_f1", "micro_f1")

_WIDEST_MATRIX = 12  # labels; of more, the commonest confusions are listed
_MOST_CONFUSIONS = 30
_MOST_POINTS = 200  # of a curve


def scores(
    labels: Sequence[str],
    truth_ExC: np.ndarray,
    decided_ExC: np.ndarray,
    probabilities_ExC: np.ndarray,
    multi_label: bool,
    main: str,
) -> Scores:
    """All figures. Of two labels that exclude each other, the second is the positive one.

    Macro-averages are over the labels for which a value is defined: F1 where the label was annotated or given, AUROC
    where some examples have it and some do not.
    """
    outcomes_Ex3xC = measure.outcomes(truth_ExC, decided_ExC)
    outcomes_3xC = outcomes_Ex3xC.sum(0)
    right_E = (truth_ExC == decided_ExC).all(1)
    # Of each label: rightly given, wrongly given, missed, rightly not given.
    parts_4xC = np.concatenate([outcomes_3xC, (~truth_ExC & ~decided_ExC).sum(0, keepdims=True)])
    made_of = {"accuracy": _of(right_E), "micro_f1": parts_4xC.sum(1).tolist()}
    means = {"macro_f1"}
    values = {
        "accuracy": float((truth_ExC == decided_ExC).all(1).mean()),
        "macro_f1": measure.macro(measure.f1(outcomes_3xC)),
        "micro_f1": float(measure.f1(outcomes_3xC.sum(1, keepdims=True))[0]),
    }
    auroc_C, auprc_C = (
        np.array([area(truth_E, p_E) for truth_E, p_E in zip(truth_ExC.T, probabilities_ExC.T, strict=True)])
        for area in (measure.auroc, measure.average_precision)
    )
    curves: dict[str, Mapping[str, Sequence[tuple[float, float]]]] = {}
    if not multi_label and len(labels) > 2:
        values |= {"auroc": measure.macro(auroc_C), "auprc": measure.macro(auprc_C)}
        means |= {"auroc", "auprc"}
        # How far the likeliest label's probability may be believed.
        best_E = probabilities_ExC.argmax(1)
        rows_E = np.arange(len(best_E))
        truth_N, probabilities_N = truth_ExC[rows_E, best_E], probabilities_ExC[rows_E, best_E]
    else:
        # Every decision on its own: the positive label's, or each label's for each example.
        first = 0 if multi_label else 1
        truth_N, probabilities_N = truth_ExC[:, first:].ravel(), probabilities_ExC[:, first:].ravel()
        rankings = _binary(truth_N, probabilities_N, "_micro" if multi_label else "")
        values |= rankings
        for name, value in rankings.items():
            found = round(value * truth_N.sum()) if name.startswith("recall") and truth_N.any() else 0
            made_of[name] = [found, int(truth_N.sum()) - found, *_of(truth_N)]
        if multi_label:
            values |= {"auroc": measure.macro(auroc_C), "auprc": measure.macro(auprc_C)}
            means |= {"auroc", "auprc"}
        else:
            positive_3x1 = outcomes_3xC[:, 1:]
            for name, of in (("precision", measure.precision), ("recall", measure.recall), ("f1", measure.f1)):
                values[name], made_of[name] = float(of(positive_3x1)[0]), parts_4xC[:, 1].tolist()
        curves |= _rankings(truth_N, probabilities_N)
    calibration = measure.calibration(truth_N, probabilities_N)
    values["expected_calibration_error"] = calibration.error
    made_of["expected_calibration_error"] = _of(truth_N)
    true_K = np.rint(calibration.counts_K * calibration.observed_K)
    shown_K = _may_be_shown(true_K, calibration.counts_K - true_K)
    bins = list(zip(calibration.predicted_K[shown_K].tolist(), calibration.observed_K[shown_K].tolist(), strict=True))
    curves["Reliability: observed fraction by predicted probability"] = {
        "observed": bins,
        "perfect": [(0.0, 0.0), (1.0, 1.0)],
    }
    tables: list[Table] = [_by_label(labels, outcomes_3xC, auroc_C, auprc_C)]
    if multi_label:
        met = measure.met_or_not(truth_ExC, decided_ExC)
        values |= {"n2c2_2018_micro_f1": met.micro.f1, "n2c2_2018_macro_f1": met.macro.f1}
        made_of["n2c2_2018_micro_f1"] = made_of["micro_f1"]
        means.add("n2c2_2018_macro_f1")
        tables.append(_met_or_not(labels, met))
    else:
        tables.append(_confusion(labels, truth_ExC.argmax(1), decided_ExC.argmax(1)))
    counts_ExM = {
        "accuracy": np.stack([right_E, np.ones_like(right_E)], axis=1),
        "micro_f1": outcomes_Ex3xC.sum(2),
        "macro_f1": outcomes_Ex3xC.reshape(len(truth_ExC), -1),
    }[main]

    def of_sums(sums_M: np.ndarray) -> float:
        if main == "accuracy":
            return float(sums_M[0] / sums_M[1])
        return measure.macro(measure.f1(sums_M.reshape(3, -1)))

    of_labels = dict(zip(labels, parts_4xC.T.tolist(), strict=True))
    return Scores(values, main, counts_ExM, of_sums, tables, curves, made_of=made_of, of_labels=of_labels, means=means)


def _of(which: np.ndarray) -> tuple[int, int]:
    """How many are true, and how many are not."""
    return int(which.sum()), int((~which).sum())


def _may_be_shown(*counts_K: np.ndarray) -> np.ndarray:
    """Which points of a curve are made of no small count."""
    return np.all([(counts == 0) | (counts >= LEAST) for counts in counts_K], axis=0)


def _binary(truth_N: np.ndarray, probabilities_N: np.ndarray, suffix: str) -> dict[str, float]:
    return {
        f"auroc{suffix}": measure.auroc(truth_N, probabilities_N),
        f"auprc{suffix}": measure.average_precision(truth_N, probabilities_N),
        f"recall_at_precision_80{suffix}": measure.recall_at_precision(truth_N, probabilities_N, 0.8),
    }


def _rankings(truth_N: np.ndarray, probabilities_N: np.ndarray) -> dict[str, dict[str, list[tuple[float, float]]]]:
    if not 0 < truth_N.sum() < len(truth_N):
        return {}
    found = measure.points(truth_N, probabilities_N)
    false_T = found.taken_T - found.true_T
    shown_T = np.flatnonzero(
        _may_be_shown(found.true_T, false_T, found.positives - found.true_T, found.negatives - false_T)
    )
    if not len(shown_T):
        return {}
    kept = shown_T[np.unique(np.linspace(0, len(shown_T) - 1, _MOST_POINTS).round().astype(np.int64))]
    roc = zip(found.false_positive_rate_T[kept].tolist(), found.recall_T[kept].tolist(), strict=True)
    recall = zip(found.recall_T[kept].tolist(), found.precision_T[kept].tolist(), strict=True)
    return {
        "ROC: recall by false positive rate": {"ROC": [(0.0, 0.0), *roc], "chance": [(0.0, 0.0), (1.0, 1.0)]},
        "Precision by recall": {"precision": list(recall)},
    }


def _by_label(labels: Sequence[str], outcomes_3xC: np.ndarray, auroc_C: np.ndarray, auprc_C: np.ndarray) -> RateTable:
    right_C, wrong_C, missed_C = outcomes_3xC
    columns = [
        [int(count) for count in right_C + missed_C],
        [int(count) for count in right_C + wrong_C],
        *(
            [_figure(value) for value in values_C]
            for values_C in (
                measure.precision(outcomes_3xC),
                measure.recall(outcomes_3xC),
                measure.f1(outcomes_3xC),
                auroc_C,
                auprc_C,
            )
        ),
    ]
    header = ("label", "annotated", "given", "precision", "recall", "F1", "AUROC", "AUPRC")
    keys = [f"{label}/f1" for label in labels]
    return RateTable(header, list(zip(labels, *columns, strict=True)), "By label", keys)


def _met_or_not(labels: Sequence[str], met: measure.MetOrNot) -> RateTable:
    named = [*zip(labels, met.of_labels, strict=True), ("micro average", met.micro), ("macro average", met.macro)]
    header = ("label", *(" ".join(name.split("_")) for name in measure.MetRates._fields[:-2]), "F1", "AUC at threshold")
    rows = [(label, *map(percent, rates)) for label, rates in named]
    keys = [*(f"{label}/f1" for label in labels), "n2c2_2018_micro_f1", "n2c2_2018_macro_f1"]
    return RateTable(header, rows, "Labels met and not met, as n2c2 2018 track 1 counts them", keys)


def _confusion(labels: Sequence[str], truth_E: np.ndarray, decided_E: np.ndarray) -> CountTable:
    counts = Counter(zip(truth_E.tolist(), decided_E.tolist(), strict=True))
    if len(labels) <= _WIDEST_MATRIX:
        numbers = range(len(labels))
        rows: list[tuple[str | int, ...]] = [(labels[t], *(counts[t, d] for d in numbers)) for t in numbers]
        caption = "Examples by annotated label (rows) and given label (columns)"
        return CountTable(("", *labels), rows, caption, labels)
    wrong = sorted((-count, pair) for pair, count in counts.items() if pair[0] != pair[1])[:_MOST_CONFUSIONS]
    rows = [(labels[truth], labels[decided], -count) for count, (truth, decided) in wrong]
    return CountTable(("annotated", "given", "examples"), rows, "Commonest confusions")


def _figure(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
