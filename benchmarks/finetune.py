"""Downstream scores of ours beside Hugging Face PyTorch's, and of pre-trained beside random weights.

    python -m benchmarks.finetune --model=BERT --data=SHARED_DATA --output=finetune.json
    python -m benchmarks.finetune --model=RUN --data=SHARED_DATA --output=own.json --nopeer --tasks=ncbi,ade,mtsamples

A small RUN wants more: `--steps=800 --learning_rate=5e-4 --dropout=0.1`.

For every task three models with the same hyperparameters, seed and steps: ours from the pre-trained encoder, PyTorch's
from the same encoder, ours from random weights. The first two read the same rows in the same order, begin with the
same head and have no dropout, so that what differs is the software. Intervals: documents resampled 1,000 times, the
same for both models of a difference.

Tasks that are already in --output are not run again.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from clinicalbert_jax import commands, loading
from clinicalbert_jax.config import OptimizerConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification import ClassificationConfig
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.entities import EntitiesConfig
from clinicalbert_jax.finetune.questions import QuestionsConfig
from clinicalbert_jax.finetune.records import BadRecords
from clinicalbert_jax.finetune.relations import RelationsConfig

MODEL = flags.DEFINE_string("model", None, "The pre-trained encoder: an exported directory, any BERT, or a run.")
DATA = flags.DEFINE_string("data", None, "Directory with ner/, relation/, classification/ and qa/.")
OUTPUT = flags.DEFINE_string("output", None, "JSON of everything measured, added to.")
TASKS = flags.DEFINE_list("tasks", ["bc5cdr", "ncbi", "ade", "mtsamples", "hallmarks", "covid_qa"], "Which to run.")
PEER = flags.DEFINE_bool("peer", True, "Train PyTorch's as well.")
STEPS = flags.DEFINE_integer("steps", None, "Instead of each task's own.", lower_bound=1)
LEARNING_RATE = flags.DEFINE_float("learning_rate", None, "Instead of each task's own: small models want more.", 0)
DROPOUT = flags.DEFINE_float(
    "dropout", 0.0, "Both dropout rates; the peer's are 0, and so must ours beside it be.", 0, 0.9
)
FRESH_POOLER = flags.DEFINE_bool("fresh_pooler", False, "For relations and classification, the pooler begins anew.")
SEED = flags.DEFINE_integer("seed", 0, "Of heads and order.")

RESAMPLES = 1000
THREADS = 2
MAX_QUESTIONS = 100


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, its files, and how long it is trained."""

    task: Any
    train: Path
    heldout: Path
    steps: int
    batch: int = 16
    learning_rate: float = 2e-4


def experiments(data: Path, converted: Path) -> dict[str, Experiment]:
    """What is run; `converted` holds the corpora that need a conversion first."""
    entities = EntitiesConfig(max_seq_length=128)
    # Labels are rare, and so few steps leave their probabilities low.
    hallmarks = ClassificationConfig(
        multi_label=True, main="micro_f1", label_column="labels", max_seq_length=128, threshold=0.2
    )
    specialty = data / "classification/mtsamples_specialty"
    return {
        "bc5cdr": Experiment(entities, data / "ner/bc5cdr/train.tsv", data / "ner/bc5cdr/devel.tsv", 60),
        "ncbi": Experiment(entities, data / "ner/ncbi_disease/train.tsv", data / "ner/ncbi_disease/devel.tsv", 60),
        "ade": Experiment(RelationsConfig(), converted / "ade/train.jsonl", converted / "ade/test.jsonl", 100),
        "mtsamples": Experiment(
            ClassificationConfig(max_seq_length=128, max_training_chunks=1),
            specialty / "train.csv.gz",
            specialty / "dev.csv.gz",
            60,
            learning_rate=3e-4,
        ),
        "hallmarks": Experiment(
            hallmarks, converted / "hallmarks/train.jsonl", converted / "hallmarks/test.jsonl", 100
        ),
        "covid_qa": Experiment(
            QuestionsConfig(max_seq_length=384, stride=317, negative_windows=2, max_answer_length=100),
            data / "qa/covid_qa/train.json",
            data / "qa/covid_qa/dev.json",
            30,
            batch=8,
        ),
    }


def main(argv: Sequence[str]) -> None:
    """Run what is not there yet, then print the tables."""
    commands.refuse_arguments(argv)
    if PEER.value and DROPOUT.value:
        raise UserError(f"--dropout: expected 0 beside PyTorch, found {DROPOUT.value}: give --nopeer too")
    source = loading.find(commands.required(MODEL))
    data, output = Path(commands.required(DATA)), Path(commands.required(OUTPUT))
    measured = json.loads(output.read_text()) if output.exists() else {}
    with tempfile.TemporaryDirectory() as directory:
        converted = Path(directory)
        for name in TASKS.value:
            if name not in measured:
                _convert(name, data, converted)
                measured[name] = _measure(name, _as_told(experiments(data, converted)[name]), source)
                output.write_text(json.dumps(measured, indent=1) + "\n")
    print(_table(measured))


def _as_told(experiment: Experiment) -> Experiment:
    steps, learning_rate = STEPS.value or experiment.steps, LEARNING_RATE.value or experiment.learning_rate
    task = experiment.task
    if FRESH_POOLER.value and isinstance(task, RelationsConfig | ClassificationConfig):
        task = dataclasses.replace(task, fresh_pooler=True)
    return dataclasses.replace(experiment, task=task, steps=steps, learning_rate=learning_rate)


def _convert(name: str, data: Path, converted: Path) -> None:
    sources = {
        # No validation: nothing is chosen by it.
        "ade": ["convert", "--corpus=ade", f"--input={data / 'relation/ade'}", "--shares=80,0,20"],
        "hallmarks": ["hallmarks", f"--input={data / 'classification/hallmarks_of_cancer/train.jsonl.gz'}"],
    }
    if name in sources:
        module, *arguments = sources[name]
        command = [sys.executable, "-m", f"clinicalbert_jax.finetune.{module}", *arguments]
        subprocess.run([*command, f"--output_dir={converted / name}"], check=True, stdout=sys.stderr)


def _measure(name: str, experiment: Experiment, source: loading.Source) -> dict[str, Any]:
    from clinicalbert_jax.inference import load_tokenizer

    # A record that cannot be used is left out for all models alike, and counted.
    bad = BadRecords("skip")
    training = experiment.task.read(experiment.train, bad)
    task = experiment.task.task(training)
    heldout = experiment.task.check_labels(task, experiment.task.read(experiment.heldout, bad), experiment.heldout, bad)
    heldout = heldout[:MAX_QUESTIONS] if name == "covid_qa" else heldout
    pretrained = loading.load(source)
    tokenizer = load_tokenizer(pretrained.tokenizer_dir)
    rows = task.rows(training, tokenizer, True), task.rows(heldout, tokenizer, False)
    found: dict[str, Any] = {"rows": [len(rows[0]), len(rows[1])], "examples": [len(training), len(heldout)]}
    found |= {"left_out": bad.counts.total(), "models": {}}
    counts = {}
    kinds = ["ours", "theirs", "random"] if PEER.value else ["ours", "random"]
    for kind in kinds:
        started, cpu_started = time.perf_counter(), time.process_time()
        train = _train_theirs if kind == "theirs" else _train_ours
        logits, train_s = train(experiment, task, pretrained, rows, random=kind == "random")
        predictions = task.decode(heldout, rows[1], logits)
        scores = task.score(heldout, predictions)
        counts[kind] = task.counts(heldout, predictions)
        values = {key: value for key, value in scores.values.items() if np.isfinite(value)}
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        found["models"][kind] = {"scores": values, "train_s": train_s, "seconds": seconds, "cpu_s": cpu_s}
        print(f"{name} {kind}: {scores.main} {scores.values[scores.main]:.3f}, {seconds:.0f} s", file=sys.stderr)
    found |= {"main": scores.main, "steps": experiment.steps, "batch": experiment.batch}
    found["learning_rate"] = experiment.learning_rate
    for other in kinds[1:]:
        found[f"ours-{other}"] = _difference(task, counts["ours"], counts[other])
    return found


def _config(experiment: Experiment, pretrained: loading.Loaded, num_rows: int) -> Any:
    config = FinetuneConfig(
        task=experiment.task,
        max_steps=experiment.steps,
        global_batch_size=experiment.batch,
        hidden_dropout_prob=DROPOUT.value,
        attention_probs_dropout_prob=DROPOUT.value,
        optimizer=OptimizerConfig(learning_rate=experiment.learning_rate, schedule="linear", warmup_steps=0),
    )
    return config.run_config(pretrained.config, "", num_rows, SEED.value)


def _train_ours(experiment: Experiment, task: Any, pretrained: Any, rows: Any, random: bool) -> Any:
    import jax

    from clinicalbert_jax import compilation, step
    from clinicalbert_jax import train as loop
    from clinicalbert_jax.finetune import heads, trained
    from clinicalbert_jax.finetune.prediction import Predictor
    from clinicalbert_jax.finetune.rows import RowBatches

    compilation.configure()
    config = _config(experiment, pretrained, len(rows[0]))
    program = step.build(config, make_objective=heads.objective(task.head, len(task.labels), task.multi_label))
    start = trained.start(config.model, None if random else pretrained.params, task, SEED.value)
    state = loop.state_with(program, start)
    compilation.keep_freed_memory(program.mesh.devices.flat[0].platform)  # as the loop does
    started = time.perf_counter()
    with loop.training_batches(program, RowBatches(rows[0]), 0) as batches:
        for batch in batches:
            state, _ = program.train_step(state, batch)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - started
    return Predictor(task.head, config.model, program.mesh)(state.params, rows[1]), seconds


def _train_theirs(experiment: Experiment, task: Any, pretrained: Any, rows: Any, random: bool) -> Any:
    import torch
    import transformers

    from clinicalbert_jax import weights
    from clinicalbert_jax.finetune import heads, trained
    from clinicalbert_jax.finetune.rows import RowBatches
    from clinicalbert_jax.optimizer import make_schedule

    torch.set_num_threads(THREADS)
    config = _config(experiment, pretrained, len(rows[0]))
    fields = {name: getattr(config.model, name) for name in config.model.__dataclass_fields__}
    theirs_config = transformers.BertConfig(**fields, num_labels=len(task.labels))
    theirs_config.problem_type = "multi_label_classification" if task.multi_label else "single_label_classification"
    theirs = getattr(transformers, task.architecture)(theirs_config).train()
    start = trained.start(config.model, pretrained.params, task, SEED.value)
    encoder = {name: start[name] for name in heads.ENCODER_PARTS}
    tensors = weights.to_huggingface(config.model, encoder, parts=trained.PARTS[task.head])
    layer = trained.LAYERS[task.head]
    tensors[f"{layer}.weight"] = np.array(start["task_head"]["kernel"]).T.copy()
    tensors[f"{layer}.bias"] = np.array(start["task_head"]["bias"])
    theirs.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()}, strict=True)

    undecayed = ("bias", "LayerNorm.weight")
    named = list(theirs.named_parameters())
    groups = [
        {"params": [p for n, p in named if not n.endswith(undecayed)], "weight_decay": config.optimizer.weight_decay},
        {"params": [p for n, p in named if n.endswith(undecayed)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, eps=config.optimizer.eps)
    schedule = make_schedule(config.optimizer, config.train.steps)
    batches = RowBatches(rows[0])
    started = time.perf_counter()
    for number in range(config.train.steps):
        batch = batches.train_batch(config.train.seed, number, experiment.batch, np.arange(experiment.batch))
        for group in optimizer.param_groups:
            group["lr"] = float(schedule(number))
        optimizer.zero_grad()
        theirs(**_inputs(batch), **_targets(task, batch)).loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), config.optimizer.clip_global_norm)
        optimizer.step()
    seconds = time.perf_counter() - started
    return _predict_theirs(theirs.eval(), task, rows[1]), seconds


def _predict_theirs(theirs: Any, task: Any, rows: Any) -> list[np.ndarray]:
    import torch

    from clinicalbert_jax.finetune.rows import RowBatches

    order = np.argsort([len(ids) for ids in rows.input_ids], kind="stable")
    batches, size = RowBatches(rows.take(order)), 32
    logits: list[np.ndarray] = [np.empty(0)] * len(rows)
    for number in range(-(-len(rows) // size)):
        batch = batches.eval_batch(number, size, np.arange(size))
        with torch.no_grad():
            output = theirs(**_inputs(batch))
        both = task.head == "span"
        found = torch.stack([output.start_logits, output.end_logits], -1) if both else output.logits
        for place, one in zip(order[number * size : (number + 1) * size], found.numpy(), strict=False):
            logits[place] = one[: len(rows.input_ids[place])] if one.ndim == 2 else one
    return logits


def _inputs(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    names = {"input_ids": "input_ids", "token_type_ids": "segment_ids", "attention_mask": "sequence_ids"}
    return {theirs: torch.tensor(batch[ours], dtype=torch.long) for theirs, ours in names.items()}


def _targets(task: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    if task.head == "span":
        return {name: torch.tensor(batch[name], dtype=torch.long) for name in ("start_positions", "end_positions")}
    if task.head == "token":
        return {"labels": torch.tensor(np.where(batch["label_weights"] > 0, batch["labels"], -100), dtype=torch.long)}
    return {"labels": torch.tensor(batch["labels"], dtype=torch.float32 if task.multi_label else torch.long)}


def _difference(task: Any, first_ExM: np.ndarray, second_ExM: np.ndarray) -> dict[str, float]:
    """The difference of the main scores, and the 95 % interval of the paired bootstrap over examples."""
    generator = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(0, len(first_ExM), len(first_ExM))
        sums = first_ExM[chosen].sum(0), second_ExM[chosen].sum(0)
        differences.append(task.from_counts(sums[0]) - task.from_counts(sums[1]))
    low, high = np.nanquantile(differences, (0.025, 0.975)).tolist()
    value = task.from_counts(first_ExM.sum(0)) - task.from_counts(second_ExM.sum(0))
    return {"value": float(value), "low": low, "high": high}


def _table(measured: dict[str, Any]) -> str:
    header = ["task", "score", "ours", "PyTorch", "random", "ours − PyTorch", "pre-trained − random"]
    header += ["steps × batch", "minutes", "CPU minutes"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, of in measured.items():
        models, main = of["models"], of["main"]
        values = [f"{models[k]['scores'][main]:.3f}" if k in models else "" for k in ("ours", "theirs", "random")]
        intervals = [
            "{value:+.3f} [{low:+.3f}, {high:+.3f}]".format(**of[key]) if key in of else ""
            for key in ("ours-theirs", "ours-random")
        ]
        minutes = [sum(model[name] for model in models.values()) / 60 for name in ("seconds", "cpu_s")]
        cells = [name, main, *values, *intervals, f"{of['steps']} × {of['batch']}", *(f"{m:.1f}" for m in minutes)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    commands.run(main)
