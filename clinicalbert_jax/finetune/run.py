"""A fine-tuning experiment: every seed a run of the trainer's loop, then its best model's scores and predictions.

WORKDIR/seed-N/                 a run as the trainer keeps it: checkpoints, metrics, config, task.json, tokenizer
WORKDIR/seed-N/SPLIT-*          predictions, and errors by id and offset
WORKDIR/results.json            scores of every seed and split, their means and deviations: exact, for this machine
WORKDIR/results.html            a page that may be passed on: see `page_scores`
"""

import dataclasses
import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from clinicalbert_jax.data import checksummed_json, patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.finetune import finetuned_model, heads, intervals, page_scores, result_page, task_json
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.predictor import Predictor
from clinicalbert_jax.finetune.rows import RowBatches, Rows, packed_length
from clinicalbert_jax.finetune.task import Example, Scores, Task, json_line
from clinicalbert_jax.modeling.bert import Params
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import process_0
from clinicalbert_jax.runs.state import State
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.training import mfu, train_loop, train_step
from clinicalbert_jax.training.sharding import make_mesh
from clinicalbert_jax.training.stop_request import StopRequest

RESULTS = "results.json"


@dataclasses.dataclass(frozen=True)
class Data:
    """The splits of an experiment: 'train', 'validation' and perhaps 'test', each a file and its examples."""

    files: Mapping[str, Path]
    examples: Mapping[str, Sequence[Any]]
    left_out: Counter[str]  # bad records, by file


def check_patients(data: Data) -> None:
    """Raise `UserError` where a patient is in two splits: the model would be evaluated on its training patients."""
    everyone = {example.patient for examples in data.examples.values() for example in examples if example.patient}
    if alike := patients.count_lookalikes(everyone):
        print(
            f"warning: {alike} patients differ from another only by leading zeros or case, or by forms of a character"
        )
    of = {split: {e.patient for e in examples if e.patient} for split, examples in data.examples.items()}
    for first in of:
        for second in of:
            if first < second and (shared := of[first] & of[second]):
                raise UserError(
                    f"{data.files[first]} and {data.files[second]}: expected no patient in both, found {len(shared)}: "
                    "split the data by patient"
                )


def warn_of_copies(data: Data) -> None:
    """Say how many records that are evaluated are among those of training, word for word."""
    trained = {example.content for example in data.examples["train"]}
    for split, examples in data.examples.items():
        copies = 0 if split == "train" else sum(example.content in trained for example in examples)
        if copies:
            print(f"warning: {copies:,} of {len(examples):,} records of --{split} are also in --train, word for word")


def run(
    config: FinetuneConfig,
    task: Task,
    data: Data,
    source: loading.Source,
    workdir: Path,
    show_text: bool,
    stop: StopRequest | None = None,
) -> int:
    """Train and evaluate every seed, continuing an earlier call that was stopped; returns the exit code."""
    leader = jax.process_index() == 0
    pretrained = loading.load(source)
    tokenizer = bert_tokenizer.build(bert_tokenizer.read(pretrained.tokenizer_dir))
    rows = {split: task.rows(examples, tokenizer, split == "train") for split, examples in data.examples.items()}
    document = task_json.document(task, data.files, None if config.random_weights else source.directory)
    process_0.check_same(
        f"{config} {document} {_digest(rows)}",
        "expected the config, data and tokenizer of process 0, found others: give every process the same command",
    )
    predictor = Predictor(task.head, pretrained.config, make_mesh(config.mesh), config.dtype)
    run_configs = {
        seed: config.run_config(pretrained.config, str(source.directory), len(rows["train"]), seed)
        for seed in config.seeds
    }
    program = train_step.build(
        run_configs[config.seeds[0]],
        make_objective=heads.objective(task.head, len(task.labels), task.problem_type),
    )
    seeds: dict[int, dict[str, Scores]] = {}
    of_page: dict[int, dict[str, Scores]] = {}
    for seed, run_config in run_configs.items():
        directory = workdir / f"seed-{seed}"
        if leader:
            task_json.keep(directory, run_config, document, pretrained.tokenizer_dir)
        program = dataclasses.replace(program, config=run_config)
        first = None if config.random_weights else pretrained.params
        job = training_job(config, program, task, data, rows, predictor, first)
        code = train_loop.run(job, directory, stop=stop)
        if code != train_loop.EXIT_DONE:
            return code
        params = best_params(directory, program)
        seeds[seed], of_page[seed] = {}, {}
        for split in [split for split in rows if split != "train"]:
            examples = data.examples[split]
            predictions = task.decode(examples, rows[split], predictor(params, rows[split]))
            seeds[seed][split] = task.score(examples, predictions)
            if leader:
                of_page[seed][split] = page_scores.of(task, examples, predictions, seeds[seed][split])
                task.write(directory / split, examples, predictions, show_text, overwrite=True)
                _write_errors(directory / f"{split}-errors.jsonl", seeds[seed][split].errors)
    if leader:
        results = summary(config, data, rows, seeds)
        checksummed_json.write(workdir / RESULTS, results)
        shown = summary(config, data, rows, of_page)
        page = result_page.page(workdir.resolve().name, config, shown, of_page, workdir)
        with atomic_output.file(workdir / "results.html", overwrite=True) as partial:
            partial.write_text(page, encoding="utf-8")
        print(result_page.text(results))
    return train_loop.EXIT_DONE


def _digest(rows: Mapping[str, Rows]) -> str:
    """Of what the model reads, which depends on the tokenizer and on the options of reading as well."""
    whole = hashlib.sha256()
    for split, of_split in rows.items():
        whole.update(f"{split} {len(of_split)}".encode())
        for ids in of_split.input_ids:
            whole.update(ids.tobytes())
    return whole.hexdigest()


def best_params(run: Path, program: train_step.Program) -> Params:
    """The parameters of the best checkpoint, on all devices. Process 0 alone reads them, and chooses for all.

    Where no score on validation data is defined, as a correlation with a constant is not, they are of the latest one.
    """
    loaded = None

    def load() -> None:
        nonlocal loaded
        best = loading.best_step(run)
        loaded = finetuned_model.load(loading.Source(run, is_run=True), None if best is None else str(best)).params

    process_0.decides(load)
    return process_0.scattered(loaded, program.abstract_state.params)


def summary(
    config: FinetuneConfig, data: Data, rows: Mapping[str, Rows], seeds: Mapping[int, Mapping[str, Scores]]
) -> dict[str, Any]:
    """What `results.json` holds: by split the values of every seed, with mean and standard deviation (n - 1)."""
    splits: dict[str, Any] = {}
    for split in next(iter(seeds.values())):
        of_seeds = [scores[split] for scores in seeds.values()]
        splits[split] = {
            name: _spread([scores.values[name] for scores in of_seeds])
            for name in of_seeds[0].values
            if all(name in scores.values for scores in of_seeds)
        }
    counts = {split: len(examples) for split, examples in data.examples.items()}
    over_documents = {
        split: _interval(data.examples[split], [one[split] for one in seeds.values()]) for split in splits
    }
    return {
        "task": dataclasses.asdict(config.task),
        "main": next(iter(next(iter(seeds.values())).values())).main,
        "seeds": list(seeds),
        "num_examples": counts,
        "num_rows": {split: len(of_split) for split, of_split in rows.items()},
        "left_out": {split: data.left_out[str(path)] for split, path in data.files.items()},
        "scores": splits,
        "intervals": over_documents,
    }


def training_job(
    config: FinetuneConfig,
    program: train_step.Program,
    task: Task,
    data: Data,
    rows: Mapping[str, Rows],
    predictor: Predictor,
    pretrained: Params | None,
) -> train_loop.Job:
    """What the trainer's loop does for a task: its batches, where it starts, and how it is scored."""
    run_config = program.config

    def evaluate(params: Params, after_batch: Callable[[], None]) -> dict[str, float]:
        logits = predictor(params, rows["validation"], lambda num_rows: after_batch())
        scores = task.score(
            data.examples["validation"], task.decode(data.examples["validation"], rows["validation"], logits)
        )
        return {scores.main: scores.values[scores.main]} | scores.values  # the main one first

    def describe(figures: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.3f}" for name, value in list(figures.items())[:4])

    def first_state() -> tuple[State, str]:
        return first_state_of(program, pretrained, task), f"from {run_config.init_from or 'random weights'}"

    lengths = [len(ids) for ids in rows["train"].input_ids]
    read = 1 if task.head == "sequence" else None
    per_row = mfu.train_flops_of_encoder(run_config.model, sum(lengths) / len(lengths), read)
    return train_loop.Job(
        program=program,
        training=training_rows(program, rows["train"]),
        first_state=first_state,
        evaluate=evaluate,
        score=lambda figures: next(iter(figures.values())),
        describe=describe,
        flops_per_step=per_row * run_config.train.global_batch_size,
        is_over=lambda scores: _is_stale(scores, config.patience),
    )


def first_state_of(program: train_step.Program, pretrained: Params | None, task: Task) -> State:
    """The state before the first step: the pre-trained encoder, or a random one, under a random head."""
    if pretrained is None:
        state = program.init()
        return train_loop.with_params(state, finetuned_model.start(state.params, pretrained, task))
    # To compile the draws of an encoder that is not used takes seconds.
    return program.init_from(finetuned_model.start(program.random_parts("task_head", "pooler"), pretrained, task))


def training_rows(program: train_step.Program, rows: Rows) -> RowBatches:
    """Batches of the training rows, of as few sizes as repay their compilation."""
    model, train, mesh = program.config.model, program.config.train, program.mesh
    length = packed_length(int(rows.lengths_N.max()), model.max_position_embeddings)
    price = mfu.positions_a_compilation(model, mesh.devices.flat[0].device_kind, mesh.size) / length
    batches = RowBatches(rows, length, multiple=mesh.size * train.microbatches)
    return batches.for_steps(train.steps, train.global_batch_size, price)


def _interval(examples: Sequence[Example], scores: Sequence[Scores]) -> dict[str, float | int | None]:
    """The main score, its mean over seeds, with the 95 % interval over documents or patients."""
    documents = [example.document for example in examples]
    counts_SxDxM = np.stack([intervals.by_document(documents, one.counts_ExM) for one in scores])
    is_known = all(math.isfinite(one.values[one.main]) for one in scores)  # and shown, of a page's scores
    found = intervals.estimate(counts_SxDxM, scores[0].of_sums if is_known else lambda _: math.nan)._asdict()
    return {name: value if math.isfinite(value) else None for name, value in found.items()} | {
        "documents": counts_SxDxM.shape[1]
    }


def _is_stale(scores: Sequence[float], patience: int) -> bool:
    """Whether the best score lies `patience` evaluations back."""
    return bool(patience) and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


def _spread(values: Sequence[float]) -> dict[str, Any]:
    is_known = all(map(math.isfinite, values))  # or the mean would be of the trainings that did well
    return {
        "values": [value if math.isfinite(value) else None for value in values],
        "mean": statistics.fmean(values) if is_known else None,
        "deviation": statistics.stdev(values) if is_known and len(values) > 1 else None,
    }


def _write_errors(path: Path, errors: Sequence[Mapping[str, Any]]) -> None:
    with atomic_output.file(path, overwrite=True) as partial:
        partial.write_text("".join(map(json_line, errors)), encoding="utf-8")
