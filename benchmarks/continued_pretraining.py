"""Does a pre-trained encoder help? The same steps from its weights and from random ones, side by side.

python -m benchmarks.continued_pretraining --model=DIR --data_dir=DATA --steps=200

DATA is prepared with the model's own vocabulary. Both arms see the same batches; heads that the model lacks start from
random weights in both. Prints a Markdown table of held-out MLM loss.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, huggingface, vocabulary
from clinicalbert_jax.config import Config, DataConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.manifest import Manifest

MODEL = flags.DEFINE_string("model", None, "Directory or name of a Hugging Face BERT.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "The NAME/VERSION directory that `python -m data_prep` wrote.")
STEPS = flags.DEFINE_integer("steps", 200, "Of each arm.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 16, "Rows a step.", lower_bound=1)
RATE = flags.DEFINE_float("learning_rate", 3e-4, "After a warm-up over a tenth of the steps.")
EVALUATIONS = flags.DEFINE_integer("evaluations", 4, "Rows of the table after the first.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Train both arms and print the table."""
    commands.refuse_arguments(argv)
    data_dir = Path(commands.required(DATA_DIR))
    manifest = Manifest.load(data_dir)
    pieces = vocabulary.read(data_dir)
    assert pieces is not None
    overrides, params, fresh = huggingface.load_pretrained(
        commands.required(MODEL), vocabulary_entries=pieces.entries, do_lower_case=manifest.vocabulary.do_lower_case
    )
    config = Config(data=DataConfig(max_seq_length=manifest.layout.max_seq_length))
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **overrides),
        optimizer=OptimizerConfig(learning_rate=RATE.value, warmup_steps=STEPS.value // 10),
        train=TrainConfig(steps=STEPS.value, global_batch_size=BATCH.value, dtype="float32", eval_batches=32),
    )
    print(f"{MODEL.value}: heads from random weights: {', '.join(fresh) or 'none'}", file=sys.stderr)
    arms = {"from the model": _train(config, data_dir, params), "from random weights": _train(config, data_dir, None)}
    print(f"| step | {' | '.join(arms)} |\n|---|{'---|' * len(arms)}")
    for row in zip(*arms.values(), strict=True):
        print(f"| {row[0][0]} | " + " | ".join(f"{loss:.3f}" for _, loss in row) + " |")


def _train(config: Config, data_dir: Path, params: object) -> list[tuple[int, float]]:
    # Held-out MLM loss before the first step and after equal numbers of steps.
    import jax

    from clinicalbert_jax import pretraining, step, train
    from clinicalbert_jax.dataset import Dataset

    training, validation = Dataset(data_dir, "train"), Dataset(data_dir, "validation")
    program = step.build(config)
    state = program.init()
    if params is not None:
        shardings = jax.tree.map(lambda x: x.sharding, program.abstract_state.params)
        state = dataclasses.replace(state, params=jax.device_put(params, shardings))
    losses = [(0, pretraining.evaluate(program, state.params, validation)["mlm_loss"])]
    every, began = max(config.train.steps // EVALUATIONS.value, 1), time.monotonic()
    with train.training_batches(program, training, 0) as batches:
        for number, batch in enumerate(batches, start=1):
            state, _ = program.train_step(state, batch)
            if number % every == 0:
                losses.append((number, pretraining.evaluate(program, state.params, validation)["mlm_loss"]))
                seconds = time.monotonic() - began
                print(f"step {number}: held-out MLM loss {losses[-1][1]:.3f}, {seconds:.0f} s", file=sys.stderr)
    return losses


if __name__ == "__main__":
    commands.run(main)
