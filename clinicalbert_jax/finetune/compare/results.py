"""What a comparison found, as one document: scores, paired differences, learning curves, cost and leakage.

Shape legend: S seeds, E examples, D documents, M counts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

import numpy as np

from clinicalbert_jax.finetune import intervals, page_scores
from clinicalbert_jax.finetune.compare.leakage import Found
from clinicalbert_jax.finetune.compare.models import ComparedModel
from clinicalbert_jax.finetune.compare.trainings import Result
from clinicalbert_jax.finetune.task import Scores, Task

_ECE = "expected_calibration_error"


@dataclass(frozen=True)
class Scored:
    """The test scores of one model on one task, of each seed. `setting` is the entry of the grid that was chosen."""

    counts_SxDxM: np.ndarray
    of_sums: Callable[[np.ndarray], float]
    main: str
    values: Sequence[Mapping[str, float]]
    validation: Sequence[float]
    num_steps: int
    seconds: float
    setting: Mapping[str, Any]
    is_shown: bool  # whether no small count follows from the main score
    is_calibration_shown: bool
    is_part_shown: Callable[[np.ndarray], bool]  # likewise from the score of these of D beside that of all
    unit: str  # what one of D is: 'documents' (or patients), or 'records' where the file names neither


def scored(
    task: Task, examples: Sequence[Any], rows: Any, results: Sequence[Result], setting: Mapping[str, Any]
) -> Scored:
    """The scores of the results of one model, one for each seed."""
    predictions = [task.decode(examples, rows, one.logits) for one in results]
    scores: list[Scores] = [task.score(examples, of_seed) for of_seed in predictions]
    documents = [example.document for example in examples]

    def is_part_shown(is_in_D: np.ndarray) -> bool:
        names = dict(zip(intervals.names(documents), is_in_D.tolist(), strict=True))
        for is_in in (True, False):
            chosen = [n for n, document in enumerate(documents) if names[document] == is_in]
            part = [examples[n] for n in chosen]
            for of_seed in predictions if part else ():
                of_part = task.score(part, [of_seed[n] for n in chosen])
                if not page_scores.is_shown(task, part, of_part, of_part.main):
                    return False
        return True

    return Scored(
        counts_SxDxM=np.stack([intervals.by_document(documents, one.counts_ExM) for one in scores]),
        of_sums=scores[0].of_sums,
        main=scores[0].main,
        values=[one.values for one in scores],
        validation=[one.validation for one in results],
        num_steps=results[0].num_steps,
        seconds=sum(one.seconds for one in results),
        setting=setting,
        is_shown=all(page_scores.is_shown(task, examples, one, one.main) for one in scores),
        is_calibration_shown=all(
            page_scores.is_shown(task, examples, one, _ECE) for one in scores if _ECE in one.values
        ),
        is_part_shown=is_part_shown,
        unit="documents" if _are_named(task, examples) else "records",
    )


def _are_named(task: Task, examples: Sequence[Any]) -> bool:
    """Whether the file names patients or documents."""
    return bool(task.config.group_column) or any(one.patient or one.document != one.id for one in examples)


def document(
    models: Sequence[ComparedModel],
    found: Mapping[tuple[str, str, float], Scored],
    leaked: Mapping[tuple[str, str], Found],
    in_training: Mapping[str, Found],
    left_out: Mapping[str, Mapping[str, int]],
    grid_seconds: Mapping[tuple[str, str], float],
) -> dict[str, Any]:
    """The whole document. `found` is by task, model and fraction; `leaked` by task and model, where data are named.

    `left_out`: records that could not be used, by task and file.

    All differences at the largest fraction are one family: see `intervals.claimed`.
    """
    tasks = list(dict.fromkeys(task for task, _, _ in found))
    fractions = sorted({fraction for _, _, fraction in found}, reverse=True)
    pairs = list(combinations([model.name for model in models], 2))
    differences = {
        (task, *pair): intervals.difference(
            found[task, pair[0], fractions[0]].counts_SxDxM,
            found[task, pair[1], fractions[0]].counts_SxDxM,
            found[task, pair[0], fractions[0]].of_sums,
            family=len(tasks) * len(pairs),
        )
        for task in tasks
        for pair in pairs
    }
    claimed = dict(zip(differences, intervals.claimed([one.p_value for one in differences.values()]), strict=True))
    return {
        "fractions": fractions,
        "models": {model.name: _model(model) for model in models},
        "num_differences": len(differences),
        "tasks": {
            task: {
                "main": found[task, models[0].name, fractions[0]].main,
                "num_documents": int(found[task, models[0].name, fractions[0]].counts_SxDxM.shape[1]),
                "unit": found[task, models[0].name, fractions[0]].unit,
                "left_out": dict(left_out[task]),
                "in_task_data": _leakage(in_training[task]),
                "models": {
                    model.name: _entry(
                        [found[task, model.name, fraction] for fraction in fractions],
                        fractions,
                        leaked.get((task, model.name)),
                        _contaminated([in_training[task], *(of for key, of in leaked.items() if key[0] == task)]),
                        grid_seconds[task, model.name],
                    )
                    for model in models
                },
                "differences": [
                    {"first": key[1], "second": key[2], "claimed": claimed[key]}
                    | {name: _number(value) for name, value in one._asdict().items()}
                    | {"sentence": intervals.sentence(one, claimed[key], len(differences))}
                    for key, one in differences.items()
                    if key[0] == task
                ],
            }
            for task in tasks
        },
    }


def ranking(task: Mapping[str, Any]) -> list[str]:
    """The models of a task of `document`, the best first."""
    scores = {name: entry["score"]["value"] for name, entry in task["models"].items()}
    return sorted(scores, key=lambda name: -math.inf if scores[name] is None else scores[name], reverse=True)


def _model(model: ComparedModel) -> dict[str, Any]:
    return {
        "is_random": model.is_random,
        "pretraining_data": len(model.pretraining_data),
        "is_known": model.is_random or bool(model.pretraining_data and model.earlier == ""),
        "started_from": model.earlier,
    }


def _entry(
    scored: Sequence[Scored],
    fractions: Sequence[float],
    leaked: Found | None,
    contaminated_D: np.ndarray,
    grid_seconds: float,
) -> dict[str, Any]:
    whole = scored[0]
    of_seeds = [float(values[whole.main]) for values in whole.values]
    clean_SxDxM = whole.counts_SxDxM[:, ~contaminated_D]
    cleaned = _estimate(whole, clean_SxDxM) if clean_SxDxM.shape[1] else dict.fromkeys(("value", "low", "high"))
    cleaned |= {"documents": clean_SxDxM.shape[1], "is_shown": whole.is_shown and whole.is_part_shown(~contaminated_D)}
    return {
        "score": _estimate(whole),
        "seeds": {
            "values": list(map(_number, of_seeds)),
            "deviation": stdev(of_seeds) if len(of_seeds) > 1 and all(map(math.isfinite, of_seeds)) else None,
            "validation": list(map(_number, whole.validation)),
        },
        "score_without_contaminated": cleaned if contaminated_D.any() else None,
        "curve": {f"{fraction:g}": _estimate(one) for fraction, one in zip(fractions, scored, strict=True)},
        "calibration_error": _number(fmean(values.get(_ECE, math.nan) for values in whole.values)),
        "is_calibration_shown": whole.is_calibration_shown,
        "setting": dict(whole.setting),
        "num_steps": whole.num_steps,
        "leakage": None if leaked is None else _leakage(leaked),
        "cost": {"seconds": sum(one.seconds for one in scored), "grid_seconds": grid_seconds},
    }


def _estimate(scored: Scored, counts_SxDxM: np.ndarray | None = None) -> dict[str, float | bool | None]:
    counts = scored.counts_SxDxM if counts_SxDxM is None else counts_SxDxM
    found = {name: _number(value) for name, value in intervals.estimate(counts, scored.of_sums)._asdict().items()}
    return found | {"is_shown": scored.is_shown}


def _contaminated(found: Sequence[Found]) -> np.ndarray:
    """The documents that any model or the task's own data hold: left out for all models, so that these compare."""
    return np.any([one.is_contaminated_D for one in found], axis=0)


def _leakage(found: Found) -> dict[str, Any]:
    return {
        "documents": len(found.is_found_D),
        "contaminated": int(found.is_contaminated_D.sum()),
        "not_known": int(found.is_unknown_D.sum()),
        "fraction_of_words": _number(found.fraction),
        "share_findable": found.share_findable,
        "is_least": found.is_least,
        "patients": None if found.patients is None else len(found.patients),
        "are_patients_least": found.are_patients_least,
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
