"""The page of a fine-tuning experiment: scores by seed, curves, tables of the task.

It may be passed on: its scores are those of `page_scores`. No text and no ids.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from clinicalbert_jax.finetune import page_scores
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.task import Scores
from clinicalbert_jax.report import html, number_formats, suppression
from clinicalbert_jax.report.number_formats import interval, score
from clinicalbert_jax.report.table import Table, settings
from clinicalbert_jax.runs import metrics_log

_MOST_ROWS = 60  # of a table; coding tasks have thousands of labels
_MOST_LINES = 6


def page(
    name: str,
    config: FinetuneConfig,
    results: Mapping[str, Any],
    seeds: Mapping[int, Mapping[str, Scores]],
    workdir: Path,
) -> str:
    """The whole page, of scores as `page_scores` has them, and their summary."""
    first = next(iter(seeds))
    sections = [html.Section("Scores", [_scores_table(results, split) for split in results["scores"]])]
    sections.append(html.Section("Learning", _learning(seeds, results["main"], workdir)))
    for split, scores in seeds[first].items():
        body: list[html.Block] = [
            html.line_chart(dict(lines), title, "predicted", "found") for title, lines in scores.curves.items()
        ]
        for table in scores.tables:
            more = len(table.rows) - _MOST_ROWS
            caption = table.caption + (f" (the first {_MOST_ROWS} of {len(table.rows)})" if more > 0 else "")
            body.append(Table(table.header, table.rows[:_MOST_ROWS], caption))
        if math.isfinite(scores.values[scores.main]):
            errors = suppression.shown({"errors": len(scores.errors)})["errors"]
            body.append(f"{number_formats.count(errors)} errors: see seed-{first}/{split}-errors.jsonl.")
        sections.append(html.Section(f"Seed {first} on the {split} data", body))
    sections += [
        html.Section("Data", [_data(results)]),
        html.Section("Settings", [settings(page_scores.without_labels(dataclasses.asdict(config)))]),
    ]
    return html.page(f"Fine-tuning {name}", sections, [_figures(results), page_scores.RULE])


def text(results: Mapping[str, Any]) -> str:
    """The scores as lines for a terminal, the main one marked."""
    lines = []
    for split, scores in results["scores"].items():
        lines.append(f"{split}, {results['num_examples'][split]:,} examples, {len(results['seeds'])} seeds:")
        for name, value in scores.items():
            if "/" in name:  # a label's, and labels are not printed
                continue
            of = results["intervals"][split]
            mark = f" * 95 % interval over documents {interval(of, value=False)}" if name == results["main"] else ""
            lines.append(f"  {name:<32} {_with_deviation(value)}{mark}")
    return "\n".join(lines)


def _figures(results: Mapping[str, Any]) -> Markup:
    main = results["main"]
    figures = {f"{main}, {split}": _with_deviation(scores[main]) for split, scores in results["scores"].items()}
    figures |= {f"95 % interval, {split}": interval(of, value=False) for split, of in results["intervals"].items()}
    return html.figures(figures)


def _scores_table(results: Mapping[str, Any], split: str) -> Table:
    header = ("score", "mean", "deviation", *(f"seed {seed}" for seed in results["seeds"]))
    rows = [
        (name, value["mean"], value["deviation"], *value["values"]) for name, value in results["scores"][split].items()
    ]
    return Table(header, rows, f"On the {split} data")


def _learning(seeds: Mapping[int, Mapping[str, Scores]], main: str, workdir: Path) -> list[Markup]:
    losses, scores = {}, {}
    for seed in list(seeds)[:_MOST_LINES]:
        records = metrics_log.read(workdir / f"seed-{seed}")
        losses[f"seed {seed}"] = [
            (r["step"], r["loss"]) for r in records if r["kind"] == "train" and r["loss"] is not None
        ]
        of_seed = seeds[seed]["validation"]
        if not of_seed.is_pooled and math.isfinite(of_seed.values[main]):
            of_kind = [r for r in records if r["kind"] == "validation" and r["score"] is not None]
            scores[f"seed {seed}"] = [(r["step"], r["score"]) for r in of_kind]
    return [
        html.line_chart(losses, "Training loss", "step", "loss"),
        html.line_chart(scores, f"Validation: {main}", "step", ""),
    ]


def _data(results: Mapping[str, Any]) -> Table:
    counts = {(split, "examples"): count for split, count in results["num_examples"].items()}
    counts |= {(split, "rows"): count for split, count in results["num_rows"].items()}
    counts["", "left out"] = sum(results["left_out"].values())
    shown = suppression.shown(counts)
    rows = [(split, shown[split, "examples"], shown[split, "rows"]) for split in results["num_examples"]]
    left_out = number_formats.count(shown["", "left out"])
    return Table(("split", "examples", "rows"), rows, f"Bad records left out: {left_out}")


def _with_deviation(value: Mapping[str, Any]) -> str:
    defined = sum(one is not None for one in value["values"])
    if 0 < defined < len(value["values"]):
        return f"{score(value['mean'])} (known of {defined} of {len(value['values'])} seeds)"
    deviation = "" if value["deviation"] is None else f" ± {score(value['deviation'])}"
    return score(value["mean"]) + deviation
