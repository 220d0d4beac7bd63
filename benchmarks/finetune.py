"""Downstream scores: ours against Hugging Face PyTorch, and pre-trained against random weights.

    python -m benchmarks.finetune --model=BERT --data=SHARED_DATA --output=finetune.json
    python -m benchmarks.finetune --model=RUN --data=SHARED_DATA --output=own.json --nopeer --tasks=ncbi,ade,mtsamples

A small RUN needs more steps and a higher rate: `--steps=800 --learning_rate=5e-4 --dropout=0.1`.

For every task three models are trained with the same hyperparameters, seed and steps: ours from the pre-trained
encoder, PyTorch's from the same encoder, and ours from random weights. The first two see the same rows in the same
order, start from the same head and use no dropout, so only the software differs. Intervals are
over documents (see `finetune.intervals`): abstracts where the data name them, the contexts of questions, else texts.

Tasks that are already in --output are not run again.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
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

THREADS = 2
MAX_QUESTIONS = 100


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("The pre-trained encoder: an exported directory, any BERT, or a run.")
    data: str = option("Directory with ner/, relation/, classification/ and qa/.")
    output: str = option("JSON file of all results; new results are added.")
    tasks: tuple[str, ...] = option("Tasks.", ("bc5cdr", "ncbi", "ade", "mtsamples", "hallmarks", "covid_qa"))
    peer: bool = option("Train the PyTorch model as well.", True)
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
    # Labels are rare, so their probabilities are still low after so few steps.
    hallmarks = ClassificationConfig(
        multi_label=True, main="micro_f1", label_column="labels", patient_column="patient", threshold=0.2
    )
    specialty = data / "classification/mtsamples_specialty"
    pairs = converted / "ade/relations-with-names"
    return {
        "bc5cdr": Experiment(entities, data / "ner/bc5cdr/train.tsv", data / "ner/bc5cdr/devel.tsv", 60),
        "ncbi": Experiment(entities, data / "ner/ncbi_disease/train.tsv", data / "ner/ncbi_disease/devel.tsv", 60),
        "ade": Experiment(RelationsConfig(), pairs / "train.jsonl", pairs / "test.jsonl", 100),
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
    """Run the tasks that are not in the output yet, then print the table."""
    if options.peer and options.dropout:
        raise UserError(f"--dropout: expected 0 beside PyTorch, found {options.dropout}: give --nopeer too")
    source = loading.find(options.model)
    data, output = Path(options.data), Path(options.output)
    measured = json.loads(output.read_text()) if output.exists() else {}
    with tempfile.TemporaryDirectory() as directory:
        converted = Path(directory)
        for name in options.tasks:
            if name not in measured:
                _convert(name, data, converted)
                experiment = _adjusted(experiments(data, converted)[name], options)
                measured[name] = _measure(name, experiment, source, options.peer)
                output.write_text(json.dumps(measured, indent=1) + "\n")
    print(_table(measured))


def _adjusted(experiment: Experiment, options: Options) -> Experiment:
    changes: dict[str, Any] = {"dropout": options.dropout, "seed": options.seed}
    changes["steps"] = options.steps or experiment.steps
    changes["learning_rate"] = options.learning_rate or experiment.learning_rate
    if options.fresh_pooler and isinstance(experiment.task, RelationsConfig | ClassificationConfig):
        changes["task"] = dataclasses.replace(experiment.task, fresh_pooler=True)
    return dataclasses.replace(experiment, **changes)


def _convert(name: str, data: Path, converted: Path) -> None:
    sources = {
        # No validation split: no model is selected.
        "ade": [f"--input={data / 'relation/ade'}", "--split_percent=80,0,20"],
        "hallmarks": [f"--input={data / 'classification/hallmarks_of_cancer/train.jsonl.gz'}"],
    }
    if name in sources:
        command = [sys.executable, "-m", "clinicalbert_jax.finetune.convert", f"--corpus={name}", *sources[name]]
        subprocess.run([*command, f"--output_dir={converted / name}"], check=True, stdout=sys.stderr)


def _measure(name: str, experiment: Experiment, source: loading.Source, peer: bool) -> dict[str, Any]:
    from clinicalbert_jax.tokenizer_files import bert_tokenizer

    # A record that cannot be used is skipped for all models, and counted.
    bad = Reading("skip")
    training = experiment.task.read(experiment.train, bad)
    task = experiment.task.task(training)
    heldout = task.check_labels(experiment.task.read(experiment.heldout, bad), experiment.heldout, bad)
    heldout = heldout[:MAX_QUESTIONS] if name == "covid_qa" else heldout
    pretrained = loading.load(source)
    tokenizer = bert_tokenizer.build(bert_tokenizer.read(pretrained.tokenizer_dir))
    rows = task.rows(training, tokenizer, True), task.rows(heldout, tokenizer, False)
    found: dict[str, Any] = {"rows": [len(rows[0]), len(rows[1])], "examples": [len(training), len(heldout)]}
    found |= {"left_out": bad.counts.total(), "models": {}}
    counts = {}
    kinds = ["ours", "theirs", "random"] if peer else ["ours", "random"]
    for kind in kinds:
        started, cpu_started = time.perf_counter(), time.process_time()
        train = _train_theirs if kind == "theirs" else _train_ours
        logits, train_s = train(experiment, task, pretrained, rows, random=kind == "random")
        predictions = task.decode(heldout, rows[1], logits)
        scores = task.score(heldout, predictions)
        counts[kind] = scores.counts_ExM
        values = {key: value for key, value in scores.values.items() if np.isfinite(value)}
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        found["models"][kind] = {"scores": values, "train_s": train_s, "seconds": seconds, "cpu_s": cpu_s}
        print(f"{name} {kind}: {scores.main} {scores.values[scores.main]:.3f}, {seconds:.0f} s", file=sys.stderr)
    found |= {"main": scores.main} | {name: getattr(experiment, name) for name in ("steps", "batch", "learning_rate")}
    for other in kinds[1:]:
        found[f"ours-{other}"] = _difference(heldout, scores.of_sums, counts["ours"], counts[other])
    return found


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

    from clinicalbert_jax.finetune import finetuned_model, heads
    from clinicalbert_jax.finetune.predictor import Predictor
    from clinicalbert_jax.finetune.rows import RowBatches
    from clinicalbert_jax.training import train_loop, train_step, xla

    xla.configure()
    config = _config(experiment, pretrained, len(rows[0]))
    program = train_step.build(config, make_objective=heads.objective(task.head, len(task.labels), task.problem_type))
    state = program.init()
    start = finetuned_model.start(state.params, None if random else pretrained.params, task)
    state = train_loop.with_params(state, start)
    xla.keep_freed_memory(program.mesh.devices.flat[0].platform)  # as the training loop does
    started = time.perf_counter()
    with train_loop.training_batches(program, RowBatches(rows[0]), 0) as batches:
        for batch in batches:
            state, _ = program.train_step(state, batch)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - started
    return Predictor(task.head, config.model, program.mesh)(state.params, rows[1]), seconds


def _train_theirs(experiment: Experiment, task: Any, pretrained: Any, rows: Any, random: bool) -> Any:
    import jax
    import torch
    import transformers

    from clinicalbert_jax.finetune import finetuned_model, heads
    from clinicalbert_jax.finetune.rows import RowBatches
    from clinicalbert_jax.pretrained import weight_names
    from clinicalbert_jax.training.optimizer import make_schedule

    torch.set_num_threads(THREADS)
    config = _config(experiment, pretrained, len(rows[0]))
    fields = {name: getattr(config.model, name) for name in config.model.__dataclass_fields__}
    theirs_config = transformers.BertConfig(**fields, num_labels=len(task.labels))
    theirs_config.problem_type = task.problem_type
    theirs = getattr(transformers, task.architecture)(theirs_config).train()
    fresh = jax.jit(lambda key: heads.init(config.model, len(task.labels), key))(jax.random.key(experiment.seed))
    start = finetuned_model.start(fresh, pretrained.params, task)
    encoder = {name: start[name] for name in heads.ENCODER_PARTS}
    tensors = weight_names.to_huggingface(config.model, encoder, parts=finetuned_model.PARTS[task.head])
    layer = finetuned_model.LAYERS[task.head]
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
    cli.run(main, Options)
