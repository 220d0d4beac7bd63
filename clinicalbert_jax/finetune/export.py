"""A fine-tuned model as a Hugging Face directory, with its labels and what `predict` needs to know.

Shape legend: B batch, L length, C labels.
"""

import dataclasses
from pathlib import Path

import numpy as np

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.finetune import finetuned_model, page_scores
from clinicalbert_jax.finetune.predictor import Predictor
from clinicalbert_jax.finetune.rows import Rows
from clinicalbert_jax.pretrained import huggingface, weight_names
from clinicalbert_jax.report import card_header
from clinicalbert_jax.report.table import Table, settings
from clinicalbert_jax.runs import metrics_log, provenance
from clinicalbert_jax.runs.workdir import TASK_FILE

# What a hub calls the work of each head.
_TASKS_OF_A_HUB = {"token": "token-classification", "sequence": "text-classification", "span": "question-answering"}


def write(directory: Path, model: finetuned_model.Trained, run: Path, dtype: str) -> None:
    """Write weights, config with `id2label`, tokenizer, `task.json` and a model card; `directory` exists, is empty."""
    task, head = model.task, model.params["task_head"]
    classifier = huggingface.Classifier(
        task.architecture,
        finetuned_model.LAYERS[task.head],
        head["kernel"],
        head["bias"],
        dict(enumerate(task.labels)),
        task.problem_type if task.head == "sequence" else None,
    )
    encoder = {name: part for name, part in model.params.items() if name != "task_head"}
    parts = finetuned_model.PARTS[task.head]
    huggingface.write_directory(
        directory, model.config, encoder, model.tokenizer_dir, dtype=dtype, parts=parts, classifier=classifier
    )
    has_canaries = provenance.has_canaries(run)
    document = {"task": dataclasses.asdict(model.task.config), "labels": list(task.labels), "data": {}}
    checksummed_json.write(directory / TASK_FILE, document | {"canaries": has_canaries})
    (directory / "README.md").write_text(_card(model, run, has_canaries), encoding="utf-8")


def difference(directory: Path, model: finetuned_model.Trained, dtype: str = "float32") -> float:
    """The largest difference between our logits and those of the directory in PyTorch, on rows of random words.

    Both compute in float32, with the weights rounded to `dtype` as they were written. Infinite where the labels differ.
    """
    import jax
    import torch
    import transformers

    from clinicalbert_jax.config import MeshConfig
    from clinicalbert_jax.training.sharding import make_mesh

    theirs = getattr(transformers, model.task.architecture).from_pretrained(directory, dtype=torch.float32).eval()
    if model.task.head != "span" and theirs.config.id2label != dict(enumerate(model.task.labels)):
        return float("inf")
    generator = np.random.default_rng(0)
    length = min(64, model.config.max_position_embeddings)
    ids_BxL = generator.integers(0, model.config.vocab_size, (8, length)).astype(np.int32)
    segments_BxL = np.tile(np.arange(length) >= length // 2, (8, 1)).astype(np.int32) % model.config.type_vocab_size
    rows = Rows(list(ids_BxL), list(segments_BxL), np.arange(8), [np.zeros((length, 2), int)] * 8)
    params = jax.tree.map(lambda x: np.asarray(x, weight_names.DTYPES[dtype]).astype(np.float32), model.params)
    ours = Predictor(model.task.head, model.config, make_mesh(MeshConfig()))(params, rows)
    with torch.no_grad():
        inputs = {"input_ids": torch.tensor(ids_BxL), "token_type_ids": torch.tensor(segments_BxL)}
        found = theirs(**inputs)
    is_span = model.task.head == "span"
    expected = torch.stack([found.start_logits, found.end_logits], -1) if is_span else found.logits
    return float(np.abs(np.stack(ours) - expected.numpy()).max())


def _card(model: finetuned_model.Trained, run: Path, has_canaries: bool) -> str:
    best = [r for r in metrics_log.read(run) if r["kind"] == "validation" and r["step"] == model.step]
    scores = {
        name: value
        for name, value in (best[-1] if best else {}).items()
        if name not in ("kind", "step", "time", "score") and value is not None
    }
    # How many patients have a label is not known here: the card names none, and no score of one.
    scores = {name: value for name, value in scores.items() if "/" not in name}
    kind = model.task.config.kind
    main = dict(list(scores.items())[:1])
    header = card_header.header(
        f"BERT fine-tuned for {kind}",
        ["bert", "clinical", kind],
        main,
        task=_TASKS_OF_A_HUB[model.task.head],
        dataset=kind,
        split="validation",
    )
    return f"""{header}
# A BERT fine-tuned for {kind}

`{model.task.architecture}`, step {model.step} of a run of clinicalbert_jax. It tells {len(model.task.labels)} labels
apart; `config.json` and `task.json` name them, those of few patients too: check them before you pass the model on.

## Use

    python -m clinicalbert_jax.predict --model=THIS --input=RECORDS --output=PREDICTIONS

reads the same files as training did, splits long texts, combines the decisions about their parts, and writes
predictions. In PyTorch, `transformers.{model.task.architecture}.from_pretrained("THIS")` has the same weights and
labels; the steps before and after the model are then up to you.

## Validation

On the data by which this checkpoint was chosen, so the scores are optimistic; evaluate it on data of your own.

{Table(("score", "value"), list(scores.items())).markdown()}
## Settings of the task

{settings(page_scores.without_labels(dataclasses.asdict(model.task.config))).markdown()}
## Limits

It was trained on one data set and not evaluated on others. It is not a medical device. A model trained on restricted
notes may have memorised parts of them: the terms of those notes, such as MIMIC's credentialed access, apply to it.
{card_header.STARTED_FROM_CANARIES if has_canaries else ""}"""
