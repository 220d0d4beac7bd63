"""Downstream scores and minutes: ours against Hugging Face PyTorch, and pre-trained against random weights.

    python -m benchmarks.finetune --model=BERT --data=SHARED_DATA --output=finetune.json --sides=ours,theirs --rounds=3
    python -m benchmarks.finetune --model=RUN --data=SHARED_DATA --output=own.json --sides=ours,random --tasks=ncbi,ade

For every task up to three models are trained with the same hyperparameters, seed and steps: ours from the pre-trained
encoder, PyTorch's from the same encoder, and ours from random weights. The first two see the same rows in the same
order, start from the same head and use no dropout, so only the software differs. Intervals are
over documents (see `finetune.intervals`): abstracts where the data name them, the contexts of questions, else texts.

Each training is a process of its own, timed from outside: start, imports, reading, compilation, training,
prediction and scores. Ours runs twice in a round: cold, with an empty cache of compiled programs, and warm, with what
the cold one left. PyTorch pads every batch to its longest row, and predicts in order of length, `PREDICTED` rows at a
time.

Tasks that are already in --output are not run again.
"""

import dataclasses
import json
import os
import pickle
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinicalbert_jax import cli
from clinicalbert_jax.config import OptimizerConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.finetune.relations.task import RelationsConfig
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.tokenizer_files import bert_tokenizer

PREDICTED = 8  # rows at a time: PyTorch's fastest of 8, 16, 32 and 64 (docs/lab_notebook.md)
MAX_QUESTIONS = 100
SIDES = ("ours", "theirs", "random")


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("The pre-trained encoder: an exported directory, any BERT, or a run.")
    data: str = option("Directory with ner/, relation/, classification/ and qa/.")
    output: str = option("JSON file of all results; new results are added.")
    tasks: tuple[str, ...] = option("Tasks.", ("bc5cdr", "ncbi", "ade", "mtsamples", "hallmarks", "covid_qa"))
    sides: tuple[str, ...] = option(
        "Models to train, of ours, theirs (PyTorch) and random (ours from random weights).",
        ("ours", "theirs", "random"),
    )
    rounds: int = option("How often each is trained, in turn.", 1, lowest=1)
    worker: str = option("Set by the command for its processes: train --sides, and write the result here.", "")
    converted: str = option("Set by the command for its processes: converted corpora and PyTorch's first weights.", "")
    steps: int | None = option("Training steps; default: each task's own.", None, lowest=1)
    learning_rate: float | None = option("Peak learning rate; default: each task's own.", None, lowest=0.0)
    dropout: float = option("Both dropout rates; must be 0 with the peer, which uses none.", 0.0, lowest=0.0)
    fresh_pooler: bool = option("Re-initialise the pooler for relations and classification.", False)
    seed: int = option("Seed of the head's weights and of the row order.", 0)


@dataclass(frozen=True)
class Experiment:
    """A task, its files, and how it is trained."""

    task: Any
    train: Path
    heldout: Path
    steps: int
    batch: int = 16
    learning_rate: float = 2e-4
    dropout: float = 0.0
    seed: int = 0


def experiments(data: Path, converted: Path) -> dict[str, Experiment]:
    """All experiments; `converted` holds the corpora that need a conversion first."""
    entities = EntitiesConfig(max_seq_length=128)
    # ADE's steps and this threshold were chosen on validation data (docs/finetuning.md). Labels are rare, so their
    # probabilities are still low after so few steps.
    hallmarks = ClassificationConfig(
        multi_label=True, main="micro_f1", label_column="labels", patient_column="patient", threshold=0.1
    )
    specialty = data / "classification/mtsamples_specialty"
    pairs = converted / "ade/relations-with-names"
    return {
        "bc5cdr": Experiment(entities, data / "ner/bc5cdr/train.tsv", data / "ner/bc5cdr/devel.tsv", 60),
        "ncbi": Experiment(entities, data / "ner/ncbi_disease/train.tsv", data / "ner/ncbi_disease/devel.tsv", 60),
        "ade": Experiment(RelationsConfig(), pairs / "train.jsonl", pairs / "test.jsonl", 200),
        "mtsamples": Experiment(
            ClassificationConfig(max_seq_length=128, max_training_chunks=1),
            specialty / "train.csv.gz",
            specialty / "dev.csv.gz",
            60,
            learning_rate=3e-4,
        ),
        "hallmarks": Experiment(
            hallmarks, converted / "hallmarks/labels/train.jsonl", converted / "hallmarks/labels/test.jsonl", 100
        ),
        "covid_qa": Experiment(
            QuestionsConfig(max_seq_length=384, stride=317, negative_windows=2, max_answer_length=100),
            data / "qa/covid_qa/train.json",
            data / "qa/covid_qa/dev.json",
            30,
            batch=8,
        ),
    }


def main(options: Options) -> None:
    """Run the tasks that are not in the output yet, then print the tables."""
    if "theirs" in options.sides and options.dropout:
        raise UserError(f"--dropout: expected 0 beside PyTorch, found {options.dropout}: give --sides=ours,random too")
    if options.worker:
        _work(options)
        return
    output = Path(options.output)
    measured = json.loads(output.read_text()) if output.exists() else {}
    with tempfile.TemporaryDirectory() as directory:
        for name in options.tasks:
            if name not in measured:
                _convert(name, Path(options.data), Path(directory))
                measured[name] = _measure(name, options, Path(directory))
                output.write_text(json.dumps(measured, indent=1) + "\n")
    print(_scores_table(measured), _minutes_table(measured), sep="\n\n")


def _adjusted(experiment: Experiment, options: Options) -> Experiment:
    changes: dict[str, Any] = {"dropout": options.dropout, "seed": options.seed}
    changes["steps"] = options.steps or experiment.steps
    changes["learning_rate"] = options.learning_rate or experiment.learning_rate
    if options.fresh_pooler and isinstance(experiment.task, RelationsConfig | ClassificationConfig):
        changes["task"] = dataclasses.replace(experiment.task, fresh_pooler=True)
    return dataclasses.replace(experiment, **changes)


def _convert(name: str, data: Path, converted: Path) -> None:
    sources = {
        "ade": [f"--input={data / 'relation/ade'}", "--split_percent=70,10,20"],
        "hallmarks": [f"--input={data / 'classification/hallmarks_of_cancer/train.jsonl.gz'}"],
    }
    if name in sources:
        command = [sys.executable, "-m", "clinicalbert_jax.finetune.convert", f"--corpus={name}", *sources[name]]
        subprocess.run([*command, f"--output_dir={converted / name}"], check=True, stdout=sys.stderr)


def _measure(name: str, options: Options, converted: Path) -> dict[str, Any]:
    experiment = _adjusted(experiments(Path(options.data), converted)[name], options)
    examples = Examples.read(name, experiment)
    found: dict[str, Any] = {"examples": [len(examples.training), len(examples.heldout)], "models": {}}
    found |= {key: getattr(experiment, key) for key in ("steps", "batch", "learning_rate")}
    if "theirs" in options.sides:
        _run(name, "start", options, converted, "")
    scored = {}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for side in options.sides:
                model = found["models"].setdefault(side, {"cold": [], "warm": []})
                for kind in ["cold", "warm"] if side == "ours" else ["cold"]:
                    result = _run(name, side, options, converted, cache)
                    scores = scored[side] = examples.task.score(examples.heldout, result.pop("predictions"))
                    model["scores"] = {key: value for key, value in scores.values.items() if np.isfinite(value)}
                    model[kind].append(result)
                    said = f"{name} {side} {kind}: {scores.main} {scores.values[scores.main]:.3f}"
                    print(f"{said}, {result['seconds']:.1f} s", file=sys.stderr, flush=True)
    for other in set(options.sides) - {"ours"}:
        pair = scored["ours"].counts_ExM, scored[other].counts_ExM
        found[f"ours-{other}"] = _difference(examples.heldout, scored["ours"].of_sums, *pair)
    return found | {"main": scored["ours"].main}


def _run(name: str, side: str, options: Options, converted: Path, cache: str) -> dict[str, Any]:
    """One training in a process of its own: its result, with the seconds that the process took."""
    result = converted / "result.pickle"
    arguments: dict[str, Any] = {
        "model": options.model,
        "data": options.data,
        "output": options.output,
        "tasks": name,
        "sides": side,
    }
    arguments |= {"worker": str(result), "converted": str(converted), "dropout": options.dropout, "seed": options.seed}
    arguments |= {key: getattr(options, key) for key in ("steps", "learning_rate") if getattr(options, key)}
    command = [sys.executable, "-m", "benchmarks.finetune", *(f"--{key}={value}" for key, value in arguments.items())]
    command += ["--fresh_pooler"] if options.fresh_pooler else []
    environment = os.environ | ({"JAX_COMPILATION_CACHE_DIR": cache} if cache else {})
    cpu_before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
    seconds, cpu = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime
    return pickle.loads(result.read_bytes()) | {"seconds": seconds, "cpu_s": cpu_s}


@dataclass(frozen=True)
class Examples:
    """A task and its examples. A record that cannot be used is skipped for all models."""

    task: Any
    training: Any
    heldout: Any

    @classmethod
    def read(cls, name: str, experiment: Experiment) -> "Examples":
        """Read both files."""
        bad = Reading("skip")
        training = experiment.task.read(experiment.train, bad)
        task = experiment.task.task(training)
        heldout = task.check_labels(experiment.task.read(experiment.heldout, bad), experiment.heldout, bad)
        return cls(task, training, heldout[:MAX_QUESTIONS] if name == "covid_qa" else heldout)


def _work(options: Options) -> None:
    """Train one model, predict, and write its predictions."""
    name, side = options.tasks[0], options.sides[0]
    converted = Path(options.converted)
    experiment = _adjusted(experiments(Path(options.data), converted)[name], options)
    examples = Examples.read(name, experiment)
    task, heldout = examples.task, examples.heldout
    pretrained = loading.load(loading.find(options.model))
    tokenizer = bert_tokenizer.build(bert_tokenizer.read(pretrained.tokenizer_dir))
    rows = task.rows(examples.training, tokenizer, True), task.rows(heldout, tokenizer, False)
    result: dict[str, Any] = {}
    if side == "start":
        _write_start(experiment, task, pretrained, len(rows[0]), converted / "start")
    else:
        started = time.perf_counter()
        if side == "theirs":
            theirs = _train_theirs(experiment, task, pretrained, rows[0], converted / "start")
            train_s = time.perf_counter() - started
            logits = _predict_theirs(theirs, task, rows[1])
        else:
            logits, train_s = _train_ours(experiment, task, pretrained, rows, random=side == "random")
        predictions = task.decode(heldout, rows[1], logits)
        task.score(heldout, predictions)  # timed with the rest; the command computes it again
        result = {"predictions": predictions, "train_s": train_s, "rows": [len(rows[0]), len(rows[1])]}
    Path(options.worker).write_bytes(pickle.dumps(result))


def _config(experiment: Experiment, pretrained: loading.Loaded, num_rows: int) -> Any:
    config = FinetuneConfig(
        task=experiment.task,
        max_steps=experiment.steps,
        global_batch_size=experiment.batch,
        hidden_dropout_prob=experiment.dropout,
        attention_probs_dropout_prob=experiment.dropout,
        optimizer=OptimizerConfig(learning_rate=experiment.learning_rate, schedule="linear", warmup_steps=0),
    )
    return config.run_config(pretrained.config, "", num_rows, experiment.seed)


def _train_ours(experiment: Experiment, task: Any, pretrained: Any, rows: Any, random: bool) -> Any:
    import jax

    from clinicalbert_jax.finetune import heads, run
    from clinicalbert_jax.finetune.predictor import Predictor
    from clinicalbert_jax.training import train_loop, train_step, xla

    xla.configure()
    config = _config(experiment, pretrained, len(rows[0]))
    program = train_step.build(config, make_objective=heads.objective(task.head, len(task.labels), task.problem_type))
    state = run.first_state_of(program, None if random else pretrained.params, task)
    xla.keep_freed_memory(program.mesh.devices.flat[0].platform)  # as the training loop does
    started = time.perf_counter()
    with train_loop.training_batches(program, run.training_rows(program, rows[0]), 0) as batches:
        for batch in batches:
            state, _ = program.train_step(state, batch)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - started
    return Predictor(task.head, config.model, program.mesh)(state.params, rows[1]), seconds


def _write_start(experiment: Experiment, task: Any, pretrained: Any, num_rows: int, directory: Path) -> None:
    """Where both begin, the encoder with our random head, as a directory for `from_pretrained`."""
    import jax
    import torch
    import transformers

    from clinicalbert_jax.finetune import finetuned_model, heads
    from clinicalbert_jax.pretrained import weight_names

    config = _config(experiment, pretrained, num_rows)
    fields = {name: getattr(config.model, name) for name in config.model.__dataclass_fields__}
    theirs_config = transformers.BertConfig(**fields, num_labels=len(task.labels))
    theirs_config.problem_type = task.problem_type
    theirs = getattr(transformers, task.architecture)(theirs_config)
    fresh = jax.jit(lambda key: heads.init(config.model, len(task.labels), key))(jax.random.key(experiment.seed))
    start = finetuned_model.start(fresh, pretrained.params, task)
    encoder = {name: start[name] for name in heads.ENCODER_PARTS}
    tensors = weight_names.to_huggingface(config.model, encoder, parts=finetuned_model.PARTS[task.head])
    layer = finetuned_model.LAYERS[task.head]
    tensors[f"{layer}.weight"] = np.array(start["task_head"]["kernel"]).T.copy()
    tensors[f"{layer}.bias"] = np.array(start["task_head"]["bias"])
    theirs.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()}, strict=True)
    theirs.save_pretrained(directory)


def _train_theirs(experiment: Experiment, task: Any, pretrained: Any, rows: Any, start: Path) -> Any:
    import torch
    import transformers

    from clinicalbert_jax.finetune.rows import RowBatches

    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as ours
    train, optimization = (config := _config(experiment, pretrained, len(rows))).train, config.optimizer
    theirs = getattr(transformers, task.architecture).from_pretrained(start).train()
    undecayed = ("bias", "LayerNorm.weight")
    named = list(theirs.named_parameters())
    groups = [
        {"params": [p for n, p in named if not n.endswith(undecayed)], "weight_decay": optimization.weight_decay},
        {"params": [p for n, p in named if n.endswith(undecayed)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=optimization.learning_rate, eps=optimization.eps, fused=True)
    warmup = optimization.warmup_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: (n + 1) / warmup if n < warmup else (train.steps - n) / (train.steps - warmup)
    )
    batches = RowBatches(rows, length=0)
    for number in range(train.steps):
        batch = _padded(rows, batches.order(train.seed, number, experiment.batch))
        optimizer.zero_grad()
        theirs(**_inputs(batch), **_targets(task, batch)).loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), optimization.clip_global_norm)
        optimizer.step()
        schedule.step()
    return theirs.eval()


def _predict_theirs(theirs: Any, task: Any, rows: Any) -> list[np.ndarray]:
    import torch

    order = np.argsort(rows.lengths_N, kind="stable")
    logits: list[np.ndarray] = [np.empty(0)] * len(rows)
    for first in range(0, len(rows), PREDICTED):
        chosen = order[first : first + PREDICTED]
        with torch.inference_mode():
            output = theirs(**_inputs(_padded(rows, chosen)))
        both = task.head == "span"
        found = torch.stack([output.start_logits, output.end_logits], -1) if both else output.logits
        for row, one in zip(chosen, found.numpy(), strict=True):
            logits[row] = one[: len(rows.input_ids[row])] if one.ndim == 2 else one
    return logits


def _padded(rows: Any, numbers_B: np.ndarray) -> dict[str, np.ndarray]:
    """A batch of these rows, padded to its longest."""
    from clinicalbert_jax.finetune.rows import batch_of

    batch = batch_of(rows, [[number] for number in numbers_B], int(rows.lengths_N[numbers_B].max()), most=1)
    return batch | {name: batch[name][:, 0] for name in rows.row_targets}


def _inputs(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    names = {"input_ids": "input_ids", "token_type_ids": "segment_ids", "attention_mask": "sequence_ids"}
    return {theirs: torch.tensor(batch[ours], dtype=torch.long) for theirs, ours in names.items()}


def _targets(task: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    if task.head == "span":
        return {name: torch.tensor(batch[name], dtype=torch.long) for name in ("start_positions", "end_positions")}
    if task.head == "token":
        labels = np.where(batch["label_weights"] > 0, batch["labels"], -100)
        return {"labels": torch.tensor(labels, dtype=torch.long)}
    return {
        "labels": torch.tensor(
            batch["labels"], dtype=torch.float32 if task.problem_type == "multi_label_classification" else torch.long
        )
    }


def _difference(examples: Any, of_sums: Any, first_ExM: np.ndarray, second_ExM: np.ndarray) -> dict[str, float]:
    """Difference of the main scores, with the 95 % interval over documents."""
    from clinicalbert_jax.finetune import intervals

    documents = [example.document for example in examples]
    first, second = (intervals.by_document(documents, counts_ExM)[None] for counts_ExM in (first_ExM, second_ExM))
    found = intervals.difference(second, first, of_sums)
    return {"value": found.value, "low": found.low, "high": found.high}


def _scores_table(measured: dict[str, Any]) -> str:
    lines = _header(
        "task", "score", "ours", "PyTorch", "random", "ours − PyTorch", "pre-trained − random", "steps × batch"
    )
    for name, of in measured.items():
        main = of["main"]
        values = [f"{of['models'][k]['scores'][main]:.3f}" if k in of["models"] else "" for k in SIDES]
        intervals = [
            "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**of[key]) if key in of else ""
            for key in ("ours-theirs", "ours-random")
        ]
        lines.append(_row(name, main, *values, *intervals, f"{of['steps']} × {of['batch']}"))
    return "\n".join(lines)


def _minutes_table(measured: dict[str, Any]) -> str:
    lines = _header(
        "task", "ours, cold", "ours, warm", "PyTorch", "cold / PyTorch", "warm / PyTorch", "CPU: cold, warm, PyTorch"
    )
    totals = []
    for name, of in measured.items():
        if "theirs" in of["models"]:
            ours, theirs = of["models"]["ours"], of["models"]["theirs"]
            runs = [ours["cold"], ours["warm"], theirs["cold"]]
            totals.append(
                [statistics.median(run[key] for run in kind) for key in ("seconds", "cpu_s") for kind in runs]
            )
            lines.append(_minutes(name, totals[-1]))
    return "\n".join([*lines, _minutes("total", np.sum(totals, axis=0))] if totals else lines)


def _minutes(name: str, seconds: Sequence[float]) -> str:
    cold, warm, theirs, *cpu = np.array(seconds) / 60
    minutes = [f"{value:.2f}" for value in (cold, warm, theirs, cold / theirs, warm / theirs)]
    return _row(name, *minutes, ", ".join(f"{value:.2f}" for value in cpu))


def _header(*cells: str) -> list[str]:
    return [_row(*cells), _row(*["---"] * len(cells))]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    cli.run(main, Options)
