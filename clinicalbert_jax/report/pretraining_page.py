"""The report of a pre-training run: curves, evaluations, speed, restarts, faults, data, configuration, environment.

It holds counts and figures only, never the text of a note, and needs no network. Loads no JAX.
"""

import dataclasses
import importlib.metadata
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option
from clinicalbert_jax.report import html, suppression
from clinicalbert_jax.report.number_formats import count, percent, score
from clinicalbert_jax.report.table import Table, settings
from clinicalbert_jax.runs import metrics_log, object_store, workdir

_POINTS = 400  # on a curve; more are averaged, so that the page stays small
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

# The log holds null for a value that is not finite.
_score, _percent = partial(score, missing="not finite"), partial(percent, missing="not finite")

FILE_NAME = "report.html"

Records = Sequence[dict[str, Any]]


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    workdir: str = option("Directory of the run, or its URL.")
    output: str | None = option("Where the page is written; RUN/report.html by default.", None)
    overwrite: bool = option("Replace the file of --output.", False)


def write(options: Options) -> None:
    """Write the page and print its path."""
    run = object_store.run(options.workdir)
    if options.output is None:  # the command's own file, of an earlier report
        output, overwrite, inputs = run / FILE_NAME, True, []
    else:
        output, overwrite = Path(options.output), options.overwrite
        inputs = [path for path in run.rglob("*") if path.name != FILE_NAME]
    with atomic_output.file(output, overwrite, inputs) as partial:
        partial.write_text(page(run), encoding="utf-8")
    print(output)


def page(run: Path) -> str:
    """The whole page for the run in `run`; raises `UserError` where there is none."""
    config = workdir.read_config(run)
    manifest = workdir.manifest_of(run)
    records = metrics_log.read(run)
    train = [record for record in records if record["kind"] == "train"]
    validation = [record for record in records if record["kind"] == "validation"]
    return html.page(
        f"Pre-training: {run.resolve().name}",
        [
            html.Section("Learning", _curves(train, validation)),
            html.Section("Evaluation on held-out patients", _evaluations(validation)),
            html.Section("Speed", _speed(train)),
            html.Section("Starts, stops and faults", _events(records)),
            html.Section("Data", _data(manifest)),
            html.Section("Configuration", [settings(dataclasses.asdict(config))]),
            html.Section("Environment", [_environment(records)]),
        ],
        [_summary(config.train.steps, train, validation), _figures(train, validation)],
    )


def _summary(steps: int, train: Records, validation: Records) -> str:
    if not train:
        return "No step has been logged yet."
    done = train[-1]["step"]
    state = "The run is finished" if done >= steps else f"The run has reached step {done:,} of {steps:,}"
    times = "once" if len(validation) == 1 else f"{len(validation)} times"
    held_out = f"; it was evaluated {times} on held-out patients." if validation else "."
    return state + held_out


def _figures(train: Records, validation: Records) -> Markup:
    values: dict[str, str] = {}
    if train:
        last = train[-1]
        values |= {"steps": count(last["step"]), "tokens/s": count(last["tokens_per_s"])}
        values["goodput"] = percent(last["goodput"], digits=0)
        if "mfu" in last:
            values["MFU"] = percent(last["mfu"], digits=0)
    if validation:
        last = validation[-1]
        values |= {"held-out MLM loss": _score(last["mlm_loss"]), "MLM accuracy": _percent(last["mlm_accuracy"])}
        values["NSP accuracy"] = _percent(last["nsp_accuracy"])
    return html.figures(values)


def _curves(train: Records, validation: Records) -> list[Markup]:
    return [
        html.line_chart(
            {"training": _points(train, "mlm_loss"), "held out": _points(validation, "mlm_loss")},
            "Masked language model: loss",
            "step",
            "nats",
        ),
        html.line_chart(
            {"training": _points(train, "nsp_accuracy"), "held out": _points(validation, "nsp_accuracy")},
            "Next sentence prediction: accuracy",
            "step",
            "fraction",
        ),
        html.line_chart({"learning rate": _points(train, "learning_rate")}, "Learning rate", "step", ""),
        html.line_chart({"gradient": _points(train, "grad_norm")}, "Gradient norm before clipping", "step", ""),
    ]


def _evaluations(validation: Records) -> list[html.Block]:
    if not validation:
        return ["None yet."]
    best = min(validation, key=_loss)
    rows = [
        (
            f"{record['step']:,}" + (" (best)" if record is best else ""),
            _score(record["mlm_loss"]),
            _percent(record["mlm_accuracy"]),
            _score(record["nsp_loss"]),
            _percent(record["nsp_accuracy"]),
        )
        for record in validation
    ]
    return [Table(("step", "MLM loss", "MLM accuracy", "NSP loss", "NSP accuracy"), rows)]


def _loss(record: dict[str, Any]) -> float:
    return (record["mlm_loss"] or float("inf")) + (record["nsp_loss"] or 0)


def _speed(train: Records) -> list[Markup]:
    series = {"tokens/s": _points(train, "tokens_per_s")}
    waiting = {"waiting for data": _points(train, "data_wait"), "padding": _points(train, "padding")}
    parts = [
        html.line_chart(series, "Tokens (without padding) per second", "step", ""),
        html.line_chart(
            waiting, "Fraction of time waiting for data, and of positions that are padding", "step", "fraction"
        ),
    ]
    if any("mfu" in record for record in train):
        parts.append(html.line_chart({"MFU": _points(train, "mfu")}, "Model FLOP/s utilisation", "step", "fraction"))
    return parts


def _events(records: Records) -> list[html.Block]:
    events = {
        "start": lambda r: f"started; devices: {r.get('devices', '?')}",
        "skipped": lambda r: f"step skipped: loss or gradient not finite, {r['in_a_row']:.0f} in a row",
        "return": lambda r: f"rolled back to the parameters of step {r['to']:.0f}",
        "spike": lambda r: f"loss spike: {_score(r['loss'])}",
        "corrupt": lambda r: f"corrupt record {r['record']:.0f} of {r['file']}, skipped",
    }
    rows = [
        (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record["time"])), f"{record['step']:,}", describe(record))
        for record in records
        if (describe := events.get(record["kind"]))
    ]
    return [Table(("time (UTC)", "step", "what happened"), rows)] if rows else ["Nothing."]


def _data(manifest: Manifest) -> list[html.Block]:
    shown = suppression.of_manifest(manifest)
    rows = [
        (name, shown["patients", name], shown["notes", name], split.num_examples, split.num_tokens)
        for name, split in manifest.splits.items()
    ]
    dropped = [(count(shown["dropped", reason]), reason.replace("_", " ")) for reason in manifest.drops]
    drops = ", ".join(f"{number} {reason}" for number, reason in dropped) or "none"
    return [
        f"{manifest.name} {manifest.version}; vocabulary of {manifest.vocabulary.size:,} tokens; rows of "
        f"{manifest.layout.max_seq_length} tokens ({manifest.layout.kind}). Notes dropped: {drops}. "
        "See also the data card beside the shards.",
        Table(("split", "patients", "notes", "examples", "tokens"), rows),
    ]


def _environment(records: Records) -> Table:
    rows = [("Python", sys.version.split()[0]), ("system", platform.platform())]
    rows += [(name, importlib.metadata.version(name)) for name in _PACKAGES]
    starts = [record for record in records if record["kind"] == "start"]
    if starts:
        rows.append(("devices at the last start", str(starts[-1].get("devices", "?"))))
    return Table(("what", "version"), rows, "Of the machine that wrote this page")


def _points(records: Records, name: str) -> list[tuple[float, float]]:
    """(step, value) of the records that have a finite one, neighbours averaged where they are too many."""
    points = [(record["step"], record[name]) for record in records if record.get(name) is not None]
    group = -(-len(points) // _POINTS) or 1
    groups = [points[start : start + group] for start in range(0, len(points), group)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
