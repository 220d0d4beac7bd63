"""The plan of a run: checks first, then the compiled step in figures, or the largest batch that fits."""

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clinicalbert_jax.config import Config
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import CONFIG_FILE, option
from clinicalbert_jax.plan import topologies

if TYPE_CHECKING:
    import jax

_PRINT_EVERY_S = 30


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    config: Config = option("The experiment: a file in configs/.", kind=CONFIG_FILE)
    topology: str | None = option("TPU slice, such as v5e:16x16; default: this machine's devices.", None)
    batch: int | None = option("Global batch instead of config.train.global_batch_size.", None, lowest=1)
    price: float | None = option("US dollars for one chip-hour, for the cost of the run.", None, lowest=0.0)
    vocab_size: int = option("If the config leaves it to the data; BERT's cased one has 28996.", 30_522, lowest=1)
    max_predictions_per_seq: int | None = option(
        "Of the data; default: data_prep's, 15 % of max_seq_length rounded up to a multiple of four.", None, lowest=1
    )
    max_sequences_per_row: int = option("Of packed data, whose default is 8; 1: padded.", 1, lowest=1)


def run(options: Options) -> None:
    """Check what can be checked without JAX, compile, print; raise `UserError` if the step does not fit."""
    config = _complete(options)
    layout = _layout(config, options)
    topology = topologies.parse(options.topology) if options.topology is not None else None
    if topology:
        topologies.check_compiler()
        devices = topologies.devices(topology)
    else:
        import jax

        from clinicalbert_jax.training import xla

        xla.configure()
        devices = jax.devices()

    from clinicalbert_jax.plan import compile_ahead, estimate

    available = None if topology else estimate.memory_of(devices[0])
    print(estimate.describe(config, layout, devices, topology), flush=True)  # refuses what does not divide
    try:
        with _progress("compiling the train step"):
            compiled = compile_ahead.compile_step(config, layout, devices, available)
    except compile_ahead.DoesNotFitError as too_large:
        raise UserError(_refusal(config, layout, devices, available, too_large)) from None
    print(estimate.report(compiled, config, layout, devices, topology, options.price, available))


def _complete(options: Options) -> Config:
    """The config with the flags and a vocabulary size in it."""
    config = options.config
    model = dataclasses.replace(config.model, vocab_size=config.model.vocab_size or options.vocab_size)
    batch = options.batch or config.train.global_batch_size
    return dataclasses.replace(config, model=model, train=dataclasses.replace(config.train, global_batch_size=batch))


def _layout(config: Config, options: Options) -> Layout:
    length = config.data.max_seq_length
    predictions = options.max_predictions_per_seq or -(-15 * length // 400) * 4  # data_prep's default
    return Layout(
        "packed" if options.max_sequences_per_row > 1 else "padded", length, predictions, options.max_sequences_per_row
    )


def _refusal(
    config: Config, layout: Layout, devices: "list[jax.Device]", available: float | None, too_large: Exception
) -> str:
    from clinicalbert_jax.plan import compile_ahead

    assert isinstance(too_large, compile_ahead.DoesNotFitError)
    print(f"does not fit ({too_large}); looking for the largest batch that does", file=sys.stderr, flush=True)
    with _progress("compiling smaller batches") as say:
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
def _progress(what: str) -> Iterator[Callable[[str], None]]:
    """Print on standard error what is in progress, at once and every half minute until it ends.

    The function that this context gives prints the part that is in progress now.
    """
    ended, started, now = threading.Event(), time.monotonic(), [what]

    def say(part: str = "") -> None:
        now[0] = f"{what}: {part}" if part else now[0]
        print(f"{now[0]} ({time.monotonic() - started:.0f} s; for a TPU, minutes)", file=sys.stderr, flush=True)

    def repeat() -> None:
        while not ended.wait(_PRINT_EVERY_S):
            say()

    thread = threading.Thread(target=repeat, daemon=True)
    say()
    thread.start()
    try:
        yield say
    finally:
        ended.set()
        thread.join()
