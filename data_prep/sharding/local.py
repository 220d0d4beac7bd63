"""Builds the shards of all buckets on local processes, and of one bucket for whoever asks, with the same bytes.

A finished bucket is four files in the working directory: the shard, its index, statistics for the data card and, put
there last, `.done.json` with its counts. Each appears under its name only when whole, so after a kill what is there is
right and the rest is built.
"""

import contextlib
import ctypes
import dataclasses
import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar, cast

from clinicalbert_jax.data.tfrecord import INDEX_SUFFIX
from data_prep.reading.spill import Bucket
from data_prep.sharding import shards
from data_prep.sharding.shards import Built, Plan
from data_prep.sharding.statistics import Statistics
from data_prep.sharding.work_directory import ResumableError

Result = TypeVar("Result")


def build_bucket(bucket: Bucket, plan: Plan, spill_directory: Path, shard_directory: Path) -> Built:
    """Build one bucket, unless it is finished, and put it in its place."""
    if finished := read_built(bucket, shard_directory):
        return finished
    final = shard_file(bucket, shard_directory)
    unfinished = final.with_name(f"{final.name}.{os.getpid()}.tmp")
    built, statistics = shards.build(spill_directory / bucket.file_name, bucket, plan, unfinished)
    unfinished.rename(final)
    unfinished.with_name(unfinished.name + INDEX_SUFFIX).rename(final.with_name(final.name + INDEX_SUFFIX))
    _write_whole(_statistics_file(bucket, shard_directory), statistics.to_json())
    _write_whole(_done_file(bucket, shard_directory), vars(built))
    return built


def shard_file(bucket: Bucket, directory: Path) -> Path:
    """Where a bucket's shard lies among the working files."""
    return directory / f"{bucket.split}-{bucket.number:05d}.tfrecord"


def read_built(bucket: Bucket, directory: Path) -> Built | None:
    """What a finished bucket gave; None where it is not finished."""
    try:
        values: dict[str, Any] = json.loads(_done_file(bucket, directory).read_text())
    except FileNotFoundError:
        return None
    if "rows_of_passes" not in values:  # of an earlier version: build it again
        return None
    for name in ("sentence_lengths", "note_lengths", "canary_places"):
        values[name] = {int(length): count for length, count in values[name].items()}
    for entry in dataclasses.fields(Built):
        if entry.default_factory is Counter:
            values[entry.name] = Counter(values[entry.name])
    return Built(**values)


def read_statistics(bucket: Bucket, directory: Path) -> Statistics:
    """What the data card tells of a finished bucket: too much to hold for all of them at once."""
    return Statistics.from_json(json.loads(_statistics_file(bucket, directory).read_text()))


def _done_file(bucket: Bucket, directory: Path) -> Path:
    return directory / f"{bucket.split}-{bucket.number:05d}.done.json"


def _statistics_file(bucket: Bucket, directory: Path) -> Path:
    return directory / f"{bucket.split}-{bucket.number:05d}.statistics.json"


def _write_whole(path: Path, value: Any) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(value))
    unfinished.rename(path)


def local(
    work: Callable[[Bucket], Result], buckets: Sequence[Bucket], num_workers: int
) -> Iterator[tuple[Bucket, Result]]:
    """`work` of every bucket, as each is done; in this process where one worker is asked for.

    `work` must pickle. Processes are spawned, not forked, so that threads of libraries do no harm.
    """
    if num_workers == 1 or len(buckets) < 2:
        for bucket in buckets:
            yield bucket, work(bucket)
        return
    executor = ProcessPoolExecutor(
        min(num_workers, len(buckets)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(work,),
    )
    try:
        futures = {executor.submit(_work_on, bucket): bucket for bucket in buckets}
        for future in as_completed(futures):
            yield futures.pop(future), cast(Result, future.result())
    except BrokenProcessPool:
        raise ResumableError(
            "a worker process was killed, most likely for want of memory: give fewer --num_workers or smaller "
            "buckets (--bucket_megabytes, in a new --output_dir); what is finished is kept"
        ) from None
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        executor.shutdown(cancel_futures=True)


_work: Callable[[Bucket], object]


def _start_worker(work: Callable[[Bucket], object]) -> None:
    """In a worker: what to do with buckets; Ctrl-C is the parent's business, and its death the worker's end."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def leave_with_parent() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _work_on(bucket: Bucket) -> object:
    try:
        return _work(bucket)
    finally:
        _give_memory_back()


def _give_memory_back() -> None:
    """Return freed memory to the system: glibc keeps it in pieces that no later bucket fits, and a worker grows."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
