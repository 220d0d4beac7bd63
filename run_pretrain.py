"""Pre-train a BERT on prepared notes.

    python run_pretrain.py --config=configs/bert_base_128.py --data_dir=DATA/clinical_notes/1.0.0 --workdir=RUN

Run the same command again to continue from the last checkpoint. Exit codes: 0 done, 2 a mistake to mend, 75 stopped
by a signal with everything saved.
"""

from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from clinicalbert_jax import commands, initialization, remote, workdir
from clinicalbert_jax.manifest import Manifest

CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: a file in configs/.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The NAME/VERSION directory that `python -m data_prep` wrote, or its URL."
)
COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, where several processes make one run and no scheduler tells."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes make the run.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run keeps checkpoints, metrics and configuration; a path or URL."
)


def main(argv: Sequence[str]) -> int:
    """Check flags, config and data, and only then import JAX, which takes seconds."""
    commands.refuse_arguments(argv)
    config = commands.read_config(CONFIG)
    data_dir = remote.dataset(commands.required(DATA_DIR))
    run, mirror = remote.run(commands.required(WORKDIR))
    manifest = Manifest.load(data_dir)
    config = initialization.adopt_architecture(config, manifest, data_dir, run)
    config = workdir.check_data(config, manifest, data_dir)
    workdir.check_same_run(run, config, manifest)

    from clinicalbert_jax import compilation, distributed, pretraining

    compilation.configure()
    distributed.initialize(COORDINATOR_ADDRESS.value, NUM_PROCESSES.value, PROCESS_ID.value)
    return pretraining.pretrain(config, data_dir, run, mirror)


if __name__ == "__main__":
    commands.run(main)
