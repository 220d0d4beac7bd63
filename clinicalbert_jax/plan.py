"""What a run needs before anyone pays for it: memory, traffic, time and cost, from compiling the real train step.

    python -m clinicalbert_jax.plan --config=configs/bert_base_128.py --topology=v5e:16x16 --price=1.20

compiles for a TPU slice without a TPU (libtpu, the compiler: `pip install -e ".[tpu]"`). Without --topology, for the
devices of this machine. Exit codes: 0 it fits, 2 it does not, or a mistake to mend.
"""

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from clinicalbert_jax import commands, topologies
from clinicalbert_jax.config import Config
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.schema import Layout

if TYPE_CHECKING:
    import jax

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/.")
TOPOLOGY = flags.DEFINE_string("topology", None, "TPU slice, such as v5e:16x16; default: this machine's devices.")
BATCH = flags.DEFINE_integer("batch", None, "Global batch instead of config.train.global_batch_size.", lower_bound=1)
PRICE = flags.DEFINE_float("price", None, "US dollars a chip-hour, for the cost of the run.", lower_bound=0.0)
VOCAB_SIZE = flags.DEFINE_integer(
    "vocab_size", 30_522, "Where the config leaves it to the data; BERT's cased one has 28996.", lower_bound=1
)
PREDICTIONS = flags.DEFINE_integer(
    "max_predictions_per_seq", None, "Of the data; default: data_prep's, 15 % of max_seq_length and a little.", 1
)
PAIRS = flags.DEFINE_integer("max_sequences_per_row", 1, "Of packed data: 8 by default there; 1: padded.", 1)

_TELL_EVERY_S = 30


def main(argv: Sequence[str]) -> None:
    """Check what can be checked without JAX, compile, print; a step that does not fit is a `UserError`."""
    commands.refuse_arguments(argv)
    config = _complete(commands.read_config(CONFIG))
    layout = _layout(config)
    topology = topologies.parse(TOPOLOGY.value) if TOPOLOGY.value is not None else None
    if topology:
        topologies.check_compiler()
        devices = topologies.devices(topology)
    else:
        import jax

        from clinicalbert_jax import compilation

        compilation.configure()
        devices = jax.devices()

    from clinicalbert_jax import compile_ahead, planning

    available = None if topology else planning.memory_of(devices[0])
    where = planning.describe(config, layout, devices, topology)  # refuses a mesh or batch that does not divide
    print(where, flush=True)
    try:
        with _clock("compiling the train step"):
            compiled = compile_ahead.compile_step(config, layout, devices, available)
    except compile_ahead.DoesNotFitError as too_large:
        raise UserError(_refusal(config, layout, devices, available, too_large)) from None
    print(planning.report(compiled, config, layout, devices, topology, PRICE.value, available))


def _complete(config: Config) -> Config:
    """The config with the flags and a vocabulary size in it."""
    model = dataclasses.replace(config.model, vocab_size=config.model.vocab_size or VOCAB_SIZE.value)
    batch = BATCH.value or config.train.global_batch_size
    return dataclasses.replace(config, model=model, train=dataclasses.replace(config.train, global_batch_size=batch))


def _layout(config: Config) -> Layout:
    length = config.data.max_seq_length
    predictions = PREDICTIONS.value or -(-15 * length // 400) * 4  # data_prep's default
    return Layout("packed" if PAIRS.value > 1 else "padded", length, predictions, PAIRS.value)


def _refusal(
    config: Config, layout: Layout, devices: "list[jax.Device]", available: float | None, too_large: Exception
) -> str:
    from clinicalbert_jax import compile_ahead

    assert isinstance(too_large, compile_ahead.DoesNotFitError)
    print(f"does not fit ({too_large}); looking for the largest batch that does", file=sys.stderr, flush=True)
    with _clock("compiling smaller batches") as say:
        found = compile_ahead.largest_batch(config, layout, devices, too_large, say, available)
    asked = config.train.global_batch_size
    remedy = "--config.train.remat=true or a larger --config.mesh.fsdp may make room"
    if found is None:
        return f"--batch: {asked} needs {too_large} of a device, and no smaller batch fits: {remedy}"
    batch, next_batch, fitting = found
    # More microbatches hold the activations of fewer rows at a time.
    parts = next((n for n in range(2, asked + 1) if asked % (n * len(devices)) == 0 and asked // n <= batch), None)
    microbatches = f"--config.train.microbatches={parts * config.train.microbatches}, " if parts else ""
    return (
        f"--batch: {asked} needs {too_large} of a device; the largest found to fit is {batch} "
        f"({fitting.memory.total / 2**30:.1f} GiB; {next_batch} does not): give --batch={batch}, or {microbatches}"
        f"{remedy}"
    )


@contextlib.contextmanager
def _clock(what: str) -> "Iterator[_Say]":
    """Tell on standard error what goes on, and for how long, until it ends."""
    say = _Say(what)
    thread = threading.Thread(target=say.run, daemon=True)
    thread.start()
    try:
        yield say
    finally:
        say.done.set()
        thread.join()


class _Say:
    def __init__(self, what: str) -> None:
        self.done = threading.Event()
        self._what, self._part, self._started = what, "", time.monotonic()

    def __call__(self, part: str) -> None:
        self._part = f": {part}"
        self._tell()

    def run(self) -> None:
        terminal = sys.stderr.isatty()
        self._tell()
        while not self.done.wait(1 if terminal else _TELL_EVERY_S):
            self._tell()
        self._tell(end="\n" if terminal else "")

    def _tell(self, end: str = "") -> None:
        terminal = sys.stderr.isatty()
        if terminal or not self.done.is_set():
            line = f"{self._what}{self._part} ({time.monotonic() - self._started:.0f} s; for a TPU, minutes)"
            print(f"\r{line}" if terminal else line, end=end if terminal else "\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    commands.run(main)
