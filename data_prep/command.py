"""What `python -m data_prep` does: prepare a dataset, or discard what an unfinished preparation left."""

import argparse
import signal
import sys
from dataclasses import dataclass
from types import FrameType

from clinicalbert_jax import cli
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option
from data_prep import prepare
from data_prep.card import metadata
from data_prep.config import PrepConfig
from data_prep.sharding import work_directory
from data_prep.sharding.work_directory import Work


@dataclass(kw_only=True)
class Options:
    """The options of the command: where to write and how to run, and every setting of the preparation."""

    output_dir: str = option("Where NAME/VERSION is written.")
    overwrite: bool = option("Replace a dataset of this name and version made from other notes or options.", False)
    discard_work: bool = option("Remove what an unfinished preparation left, and do nothing else.", False)
    engine: prepare.EngineConfig
    prep: PrepConfig


@dataclass(kw_only=True)
class DiscardOptions:
    """The options of `--discard_work`."""

    output_dir: str = option("Where NAME/VERSION is written.")
    discard_work: bool = option("Remove what an unfinished preparation left, and do nothing else.", False)


def run() -> None:
    """Parse the command line, and prepare or discard."""
    discarding = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    discarding.add_argument("--discard_work", action="store_true")
    discarding.add_argument("--output_dir", default="")
    given, _ = discarding.parse_known_args()
    if given.discard_work:  # whatever other options of the preparation are given
        sys.argv[1:] = [f"--output_dir={given.output_dir}", "--discard_work"]
        cli.run(discard_work, DiscardOptions)
    cli.run(prepare_dataset, Options)


def prepare_dataset(options: Options) -> None:
    """Prepare, print the counts and, on the last line, the dataset's directory."""
    signal.signal(signal.SIGTERM, _interrupt)
    dataset_dir = prepare.run(options.prep, options.output_dir, options.engine, options.overwrite)
    print(metadata.summary(Manifest.load(dataset_dir)))
    print(dataset_dir)


def discard_work(options: DiscardOptions) -> None:
    """Remove the working directory of an unfinished preparation, which holds the text of notes."""
    work = Work(atomic_output.local_path(options.output_dir, "--output_dir") / work_directory.NAME)
    if not work.directory.exists():
        print(f"nothing unfinished in {work.directory.parent}")
        return
    with work.alone():
        work.discard()
    print(f"removed {work.directory}")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
