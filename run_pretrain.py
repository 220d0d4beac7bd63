"""Pre-train a BERT on prepared notes.

    python run_pretrain.py --config=configs/bert_base_128.py --data_dir=DATA/clinical_notes/1.0.0 --workdir=RUN

Run the same command again to continue from the last checkpoint. Exit codes: 0 done, 2 user error, 75 stopped by a
signal, with everything saved.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config
from clinicalbert_jax.data.manifest import FILE_NAME as MANIFEST_FILE
from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.options import CONFIG_FILE, option
from clinicalbert_jax.runs import object_store, workdir
from clinicalbert_jax.training import distributed, init_from, stop_request


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    config: Config = option("The experiment: a file in configs/.", kind=CONFIG_FILE)
    data_dir: str = option("The NAME/VERSION directory that `python -m data_prep` wrote, or its URL.")
    workdir: str = option("Where the run keeps checkpoints, metrics and configuration; a path or URL.")
    coordinator_address: str | None = option(
        "HOST:PORT of process 0, if several processes make one run and no scheduler names it.", None
    )
    num_processes: int | None = option("How many processes make the run.", None)
    process_id: int | None = option("Which of them this one is, from 0.", None)


def main(options: Options) -> int:
    """Check options, config and data, and only then import JAX, which takes seconds."""
    processes = options.coordinator_address, options.num_processes, options.process_id
    with stop_request.StopRequest() as stop, distributed.joined(*processes, stop):
        return _pretrain(options, stop)


def _pretrain(options: Options, stop: stop_request.StopRequest) -> int:
    data_dir = object_store.dataset(options.data_dir, with_shards=False)
    manifest = Manifest.load(data_dir)
    run, is_remote = object_store.run_directory(options.workdir), object_store.is_url(options.workdir)
    config = options.config if is_remote else _checked(options.config, manifest, data_dir, run)
    workdir.check_data(config, manifest, data_dir)

    from clinicalbert_jax.runs import process_0
    from clinicalbert_jax.training import pretrain, xla

    xla.configure()
    with distributed.only_command(run), contextlib.ExitStack() as stack:
        mirror = None

        def opened() -> Config:
            nonlocal mirror
            if not is_remote:
                workdir.check_same_run(run, config, manifest)  # another command may have ended here in the meantime
                return config
            mirror = stack.enter_context(object_store.mirrored(options.workdir))
            return _checked(config, manifest, data_dir, run)

        config = process_0.decides(opened)
        data_dir = object_store.dataset(options.data_dir)
        process_0.check_same(
            f"{options.config} {sha256_of(data_dir / MANIFEST_FILE)}",
            "expected the config and the data of process 0, found others: give every process the same command",
        )
        return pretrain.pretrain(config, data_dir, run, mirror, stop)


def _checked(config: Config, manifest: Manifest, data_dir: Path, run: Path) -> Config:
    """The config that the run has with these data; raises `UserError` where it cannot be started or continued so."""
    workdir.check_path(run)
    workdir.check_free(run, (data_dir, config.init_from))
    config = init_from.adopt_architecture(config, manifest, data_dir, run)
    config = workdir.check_data(config, manifest, data_dir)
    workdir.check_same_run(run, config, manifest)
    return config


if __name__ == "__main__":
    cli.run(main, Options)
