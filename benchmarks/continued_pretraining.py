"""Continued pre-training from a pre-trained encoder against pre-training from random weights, for the same steps.

    python -m benchmarks.continued_pretraining --model=DIR --data_dir=DATA --steps=200

DATA is prepared with the model's own vocabulary. Both arms see the same batches. A head that the model lacks is
initialised at random in both arms. Prints a Markdown table of held-out MLM loss.
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import huggingface
from clinicalbert_jax.tokenizer_files import bert_tokenizer


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("Directory of a Hugging Face BERT, or hf://NAME on its hub.")
    data_dir: str = option("The NAME/VERSION directory that `python -m data_prep` wrote.")
    steps: int = option("Training steps of each arm.", 200, lowest=1)
    batch_size: int = option("Rows per step.", 16, lowest=1)
    learning_rate: float = option("Peak learning rate, after a warm-up over a tenth of the steps.", 3e-4)
    evaluations: int = option("Evaluations after the one at step 0.", 4, lowest=1)


def main(options: Options) -> None:
    """Train both arms and print the table."""
    data_dir = Path(options.data_dir)
    manifest = Manifest.load(data_dir)
    overrides, params, fresh = huggingface.load_pretrained(options.model, tokenizer=bert_tokenizer.read(data_dir))
    config = Config(
        model=ModelConfig(**overrides),
        data=DataConfig(max_seq_length=manifest.layout.max_seq_length),
        optimizer=OptimizerConfig(learning_rate=options.learning_rate, warmup_steps=options.steps // 10),
        train=TrainConfig(steps=options.steps, global_batch_size=options.batch_size, dtype="float32", eval_batches=32),
    )
    print(f"{options.model}: heads from random weights: {', '.join(fresh) or 'none'}", file=sys.stderr)
    starts = {"from the model": params, "from random weights": None}
    arms = {name: _train(config, data_dir, start, options.evaluations) for name, start in starts.items()}
    print(f"| step | {' | '.join(arms)} |\n|---|{'---|' * len(arms)}")
    for row in zip(*arms.values(), strict=True):
        print(f"| {row[0][0]} | " + " | ".join(f"{loss:.3f}" for _, loss in row) + " |")


def _train(config: Config, data_dir: Path, params: object, evaluations: int) -> list[tuple[int, float]]:
    # Held-out MLM loss before the first step and then after equal numbers of steps.
    import jax

    from clinicalbert_jax.data.dataset import Dataset
    from clinicalbert_jax.training import pretrain, train_loop, train_step

    training, validation = Dataset(data_dir, "train"), Dataset(data_dir, "validation")
    program = train_step.build(config)
    state = program.init()
    if params is not None:
        shardings = jax.tree.map(lambda x: x.sharding, program.abstract_state.params)
        state = dataclasses.replace(state, params=jax.device_put(params, shardings))
    losses = [(0, pretrain.evaluate(program, state.params, validation)["mlm_loss"])]
    every, began = max(config.train.steps // evaluations, 1), time.monotonic()
    with train_loop.training_batches(program, training, 0) as batches:
        for number, batch in enumerate(batches, start=1):
            state, _ = program.train_step(state, batch)
            if number % every == 0:
                losses.append((number, pretrain.evaluate(program, state.params, validation)["mlm_loss"]))
                seconds = time.monotonic() - began
                print(f"step {number}: held-out MLM loss {losses[-1][1]:.3f}, {seconds:.0f} s", file=sys.stderr)
    return losses


if __name__ == "__main__":
    cli.run(main, Options)
