"""Score fine-tuned question answerers on one SQuAD file, with intervals over its documents, and each less the first.

    python -m benchmarks.questions.score --runs=RANDOM,PRETRAINED --data=qa/covid_qa/dev.json --most=100

Answers and scores are those of clinicalbert_jax.predict. Windows may begin further apart than in training, since long
articles have many: of 128 tokens 80 apart, a question about 33,000 characters takes two to three seconds of a core.
"""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clinicalbert_jax import cli
from clinicalbert_jax.config import MeshConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import finetuned_model, intervals
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.predictor import Predictor
from clinicalbert_jax.finetune.questions.squad_files import Question
from clinicalbert_jax.finetune.questions.task import Questions, QuestionsConfig
from clinicalbert_jax.finetune.task import Scores
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.training import xla
from clinicalbert_jax.training.sharding import make_mesh

AT_ONCE = 10  # questions whose logits are in memory


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    runs: str = option("Fine-tuned models, separated by commas.")
    data: str = option("SQuAD file with annotated answers.")
    stride: int = option("Tokens from one window to the next; 0: as in training.", 0, lowest=0)
    most: int = option("Score the first of the questions in the order of a hash of their ids; 0: all.", 0, lowest=0)


def main(options: Options) -> None:
    """Print the scores of each model, and its difference from the first."""
    xla.configure()
    first = None
    for run in options.runs.split(","):
        examples, scores = score(run, options)
        documents = [example.document for example in examples]
        counts_1xDxM = intervals.by_document(documents, scores.counts_ExM)[None]
        f1 = intervals.estimate(counts_1xDxM, scores.of_sums)
        print(
            f"{run}: {len(examples)} questions, {counts_1xDxM.shape[1]} documents, F1 {f1.value:.3f} [{f1.low:.3f}, "
            f"{f1.high:.3f}], exact match {scores.values['exact_match']:.3f}; "
            + ", ".join(f"{position}: {count}" for position, count in scores.tables[-1].rows)
        )
        if first is not None:
            less = intervals.difference(first, counts_1xDxM, scores.of_sums)
            print(f"  less the first: F1 {less.value:+.3f} [{less.low:+.3f}, {less.high:+.3f}]")
        first = counts_1xDxM if first is None else first


def score(run: str, options: Options) -> tuple[list[Question], Scores]:
    """The questions scored, and the scores of a model on them."""
    model = finetuned_model.load(loading.find(run))
    config = model.task.config
    if not isinstance(config, QuestionsConfig):
        raise UserError(f"--runs: expected models for questions, found one for {config.kind}: {run}")
    examples = config.read(Path(options.data), Reading())
    if options.most:
        examples = sorted(examples, key=lambda e: hashlib.blake2b(e.id.encode()).digest())[: options.most]
    task = Questions(dataclasses.replace(config, stride=options.stride or config.stride), model.task.labels)
    tokenizer = bert_tokenizer.build(bert_tokenizer.read(model.tokenizer_dir))
    predictor = Predictor(task.head, model.config, make_mesh(MeshConfig()))
    answers, windows = [], 0
    for begin in range(0, len(examples), AT_ONCE):
        part = examples[begin : begin + AT_ONCE]
        rows = task.rows(part, tokenizer, annotated=False)
        answers += task.decode(part, rows, predictor(model.params, rows))
        windows += len(rows)
        f1 = np.mean(task.score(examples[: len(answers)], answers).counts_ExM[:, 0])
        print(f"{len(answers)} questions, {windows:,} windows, F1 {f1:.3f}", flush=True)
    return examples, task.score(examples, answers)


if __name__ == "__main__":
    cli.run(main, Options)
