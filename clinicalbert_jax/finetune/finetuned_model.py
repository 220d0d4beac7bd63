"""A fine-tuned model, from a run's directory or an exported one."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune import heads, task_json
from clinicalbert_jax.finetune.task import Task
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import huggingface, loading

# Of the exported model: the layer that is ours to name `task_head`, and the parts of BERT that the class has.
LAYERS = {"token": "classifier", "sequence": "classifier", "span": "qa_outputs"}
PARTS = {"token": ("encoder",), "sequence": ("encoder", "pooler"), "span": ("encoder",)}


class Trained(NamedTuple):
    """A model in memory, and what it is for; `params` are float32 NumPy arrays, `task_head` among them."""

    task: Task
    config: ModelConfig
    params: bert.Params
    tokenizer_dir: Path
    step: int | None  # of the run that it comes from


def load(source: loading.Source, step: str | None = loading.BEST) -> Trained:
    """Read a model; of a run the best checkpoint by validation unless `step` names another. Raises `UserError`."""
    found = task_json.read(source.directory)
    task = found.settings.task_with_labels(found.labels)
    if source.is_run:
        from clinicalbert_jax.runs import checkpoint  # brings orbax

        number = loading.checkpoint_number(source.directory, step)
        config, params, tokenizer_dir, number = checkpoint.restore_params(
            source.directory, number, lambda config, key: heads.init(config.model, len(found.labels), key)
        )
        return Trained(task, config.model, params, tokenizer_dir, number)
    if step not in (None, loading.BEST):
        raise UserError(f"--step: expected a run's directory to choose a checkpoint from, found {source.directory}")
    overrides, params, _ = huggingface.load_pretrained(source.directory)
    tensors = huggingface.read_tensors(source.directory)
    layer = LAYERS[task.head]
    head: dict[str, Any] = {}
    for name, ours in (("weight", "kernel"), ("bias", "bias")):
        if f"{layer}.{name}" not in tensors:
            raise UserError(
                f"expected {layer}.{name} among the weights in {source.directory}, found none: export again"
            )
        head[ours] = np.ascontiguousarray(tensors[f"{layer}.{name}"].astype(np.float32).T)
    params = {part: params[part] for part in heads.ENCODER_PARTS} | {"task_head": head}
    return Trained(task, ModelConfig(**overrides), params, source.directory, None)


def start(random: bert.Params, pretrained: bert.Params | None, task: Task) -> bert.Params:
    """Parameters to fine-tune: a pre-trained encoder (None: the random one) under the random head.

    The encoder's pooler is the random one too where the task says so.
    """
    head = random["task_head"]
    if task.initial_bias_C is not None:
        head = head | {"bias": task.initial_bias_C}
    encoder = random if pretrained is None else pretrained
    pooler = random if task.config.fresh_pooler else encoder
    return {part: encoder[part] for part in heads.ENCODER_PARTS} | {"pooler": pooler["pooler"], "task_head": head}
