"""The page of a fine-tuning experiment: scores by seed, curves, tables of the task. Counts, labels and ids only."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.task import Scores
from clinicalbert_jax.report import html
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
    """The whole page."""
    first = next(iter(seeds))
    sections = [html.Section("Scores", [_scores_table(results, split) for split in results["scores"]])]
    sections.append(html.Section("Learning", _learning(seeds, results["main"], workdir)))
    for split, scores in seeds[first].items():
        body: list[str] = [
            html.line_chart(dict(lines), title, "predicted", "found") for title, lines in scores.curves.items()
        ]
        for table in scores.tables:
            more = len(table.rows) - _MOST_ROWS
            caption = table.title + (f" (the first {_MOST_ROWS} of {len(table.rows)})" if more > 0 else "")
            body.append(html.table(table.header, [_cells(row) for row in table.rows[:_MOST_ROWS]], caption))
        body.append(f"{len(scores.errors):,} errors: see seed-{first}/{split}-errors.jsonl.")
        sections.append(html.Section(f"Seed {first} on the {split} data", body))
    sections += [html.Section("Data", [_data(results)]), html.Section("Settings", [_settings(config)])]
    return html.page(f"Fine-tuning {name}", sections, [_figures(results)])


def text(results: Mapping[str, Any]) -> str:
    """The scores as lines for a terminal, the main one marked."""
    lines = []
    for split, scores in results["scores"].items():
        lines.append(f"{split}, {results['num_examples'][split]:,} examples, {len(results['seeds'])} seeds:")
        for name, value in scores.items():
            if "/" in name:  # a label's, and labels are not printed
                continue
            mark = " *" if name == results["main"] else ""
            lines.append(f"  {name:<32} {_with_deviation(value)}{mark}")
    return "\n".join(lines)


def _figures(results: Mapping[str, Any]) -> html.Html:
    main = results["main"]
    return html.figures(
        {f"{main}, {split}": _with_deviation(scores[main]) for split, scores in results["scores"].items()}
    )


def _scores_table(results: Mapping[str, Any], split: str) -> html.Html:
    header = ("score", "mean", "deviation", *(f"seed {seed}" for seed in results["seeds"]))
    rows = [
        (name, *map(_number, (value["mean"], value["deviation"], *value["values"])))
        for name, value in results["scores"][split].items()
    ]
    return html.table(header, rows, f"On the {split} data")


def _learning(seeds: Mapping[int, Mapping[str, Scores]], main: str, workdir: Path) -> list[str]:
    losses, scores = {}, {}
    for seed in list(seeds)[:_MOST_LINES]:
        records = metrics_log.read(workdir / f"seed-{seed}")
        losses[f"seed {seed}"] = [(r["step"], r["loss"]) for r in records if r["kind"] == "train" and r["loss"]]
        scores[f"seed {seed}"] = [(r["step"], r["score"]) for r in records if r["kind"] == "validation" and r["score"]]
    return [
        html.line_chart(losses, "Training loss", "step", "loss"),
        html.line_chart(scores, f"Validation: {main}", "step", ""),
    ]


def _data(results: Mapping[str, Any]) -> html.Html:
    rows = [(split, count, results["num_rows"][split]) for split, count in results["num_examples"].items()]
    left_out = sum(results["left_out"].values())
    return html.table(("split", "examples", "rows"), rows, f"Bad records left out: {left_out}")


def _settings(config: FinetuneConfig) -> html.Html:
    rows: list[tuple[str, str]] = []
    for name, value in dataclasses.asdict(config).items():
        rows += [(f"{name}.{k}", str(v)) for k, v in value.items()] if isinstance(value, dict) else [(name, str(value))]
    return html.table(("setting", "value"), rows)


def _cells(row: tuple[Any, ...]) -> tuple[str | int, ...]:
    return tuple(_number(cell) if isinstance(cell, float) else cell for cell in row)


def _with_deviation(value: Mapping[str, Any]) -> str:
    deviation = "" if value["deviation"] is None else f" ± {value['deviation']:.3f}"
    return _number(value["mean"]) + deviation


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
