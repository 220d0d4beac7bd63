"""Clinical notes to masked sentence pairs: `python -m data_prep --input=... --output_dir=... --vocab_file=...`."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from clinicalbert_jax import cli
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.options import option
from data_prep import prepare
from data_prep.card import metadata
from data_prep.config import PrepConfig


@dataclass(kw_only=True)
class Options:
    """The options of the command: where to write and how to run, and every setting of the preparation."""

    output_dir: str = option("Where NAME/VERSION is written.")
    engine: prepare.EngineConfig
    prep: PrepConfig


def main(options: Options) -> int:
    """Prepare, print the counts and, on the last line, the dataset's directory."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        dataset_dir = prepare.run(options.prep, Path(options.output_dir).expanduser(), options.engine)
    except KeyboardInterrupt:
        print("stopped: the same command continues from here", file=sys.stderr)
        return cli.EXIT_INTERRUPTED
    print(metadata.summary(Manifest.load(dataset_dir)))
    print(dataset_dir)
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    cli.run(main, Options)
