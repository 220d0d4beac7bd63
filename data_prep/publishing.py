"""The directory of a dataset: put together in the work directory, and moved to its place when it is complete."""

import dataclasses
import functools
import resource
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from clinicalbert_jax.data.manifest import sha256_of
from clinicalbert_jax.data.tfrecord import INDEX_SUFFIX
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.runs import provenance
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.canaries import private_file
from data_prep.card import data_card, metadata
from data_prep.reading.spill import Bucket, Spilled
from data_prep.sharding import local
from data_prep.sharding.fingerprint import Fingerprint
from data_prep.sharding.shards import Built, Plan
from data_prep.sharding.statistics import Statistics
from data_prep.sharding.work_directory import Work, write_json


def publish(
    work: Work,
    plan: Plan,
    spilled: Spilled,
    built: list[Built],
    asked: Fingerprint,
    dataset_dir: Path,
    seconds: dict[str, float],
    started: float,
) -> None:
    """Put the dataset together and move it to its place."""
    if not sum(one.num_examples for one in built):
        raise UserError("expected examples, found none: no note had two words left after cleaning")
    work.dataset.mkdir(exist_ok=True)
    document = metadata.make_manifest(plan, spilled, built, asked)
    for split in document.splits:
        written = [one for one in built if one.split == split and one.num_examples]
        for one, shard in zip(written, document.splits[split].shards, strict=True):
            source = local.shard_file(Bucket(split, one.number, 0), work.shards)
            for suffix in ("", INDEX_SUFFIX):
                part = source.with_name(source.name + suffix)
                if part.exists():  # else a run that was killed has moved it already
                    part.rename(work.dataset / (shard.file + suffix))
    bert_tokenizer.write(work.dataset, plan.tokenizer.settings)
    metadata.write_tfds(work.dataset, document)
    document = dataclasses.replace(
        document, files={name: sha256_of(work.dataset / name) for name in bert_tokenizer.NAMES}
    )
    document.save(work.dataset)
    if plan.canaries is not None:
        candidates = plan.canaries.found(sum((one.canary_places for one in built), Counter()), _names_met(built))
        private_file.write(
            plan.canaries.file,
            candidates,
            plan.config.canary.canary_form,
            private_file.preparation_of(asked),
            provenance.shards_sha256(document),
        )
    write_json(work.dataset / data_card.RUN_FILE, _run_document(built, seconds, started))
    parts = (local.read_statistics(Bucket(one.split, one.number, 0), work.shards) for one in built)
    data_card.write(work.dataset, document, functools.reduce(Statistics.merge, parts))
    for path in (*work.dataset.iterdir(), work.dataset):
        atomic_output.flush(path)
    dataset_dir.parent.mkdir(parents=True, exist_ok=True)
    old = dataset_dir.with_name(f".{dataset_dir.name}.old")
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed
    if dataset_dir.exists():
        dataset_dir.rename(old)
    work.keep_private(dataset_dir)
    work.dataset.rename(dataset_dir)
    shutil.rmtree(old, ignore_errors=True)
    work.discard()


def _names_met(built: list[Built]) -> set[int]:
    return {number for one in built for number in one.canary_names_met}


def _run_document(built: list[Built], seconds: dict[str, float], started: float) -> dict[str, Any]:
    """When and how long: by step on the clock, and by stage summed over the processes."""
    stages: Counter[str] = Counter()
    for one in built:
        stages.update(one.seconds)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "process_seconds_by_stage": {name: round(value, 3) for name, value in stages.items()},
        "peak_bytes": _peak_bytes(),
    }


def _peak_bytes() -> int:
    """The most memory that this process or any of its workers held."""
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(user).ru_maxrss for user in users)
