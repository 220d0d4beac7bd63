"""Check a whole dataset directory: `python -m data_prep.verify DATA/clinical_notes/1.0.0`.

Every file is compared with the manifest, and every record with its own checksum, the layout and the values that it may
hold. Exit code 0 where all is right, 2 where it is not, after a line for each fault.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax import cli
from clinicalbert_jax.data import ranges
from clinicalbert_jax.data.manifest import Manifest, Shard, sha256_of
from clinicalbert_jax.data.tfrecord import CorruptRecordError
from clinicalbert_jax.data.tfrecord import Shard as OpenShard
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.options import POSITIONAL, option

_BATCH = 1024  # records decoded at a time


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    directory: tuple[str, ...] = option("The NAME/VERSION directory.", (), kind=POSITIONAL)


def main(options: Options) -> int:
    """Print every fault, or how many records are whole."""
    if len(options.directory) != 1:
        raise UserError(f"expected one directory, found {len(options.directory)}: python -m data_prep.verify DIR")
    directory = patterns.expanded(options.directory[0])
    manifest = Manifest.load(directory)
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    with cli.progress_bar(total=sum(shard.num_examples for shard in shards), unit=" records") as bar:
        found = list(faults(directory, manifest, bar.update))
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        count = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        print(f"error: {count}: restore these files from a copy, or prepare the data again", file=sys.stderr)
        return cli.EXIT_USER_ERROR
    print(f"{sum(shard.num_examples for shard in shards):,} records in {len(shards)} shards are as they were written")
    return 0


def faults(directory: Path, manifest: Manifest, advance: Callable[[int], object] = lambda count: None) -> Iterator[str]:
    """A line for each thing that is not as the manifest says; `advance(n)` is told of every n records looked at."""
    for name, expected in manifest.files.items():
        if not (directory / name).exists():
            yield f"{directory / name}: missing"
        elif sha256_of(directory / name) != expected:
            yield f"{directory / name}: not the file that was written"
    for split in manifest.splits.values():
        for shard in split.shards:
            yield from _shard_faults(directory / shard.file, shard, manifest, advance)


def _shard_faults(path: Path, shard: Shard, manifest: Manifest, advance: Callable[[int], object]) -> Iterator[str]:
    try:
        opened = OpenShard(path, manifest.layout.features())
    except UserError as error:
        yield str(error)
        return
    if len(opened) != shard.num_examples:
        yield f"{path}: {len(opened)} records, not {shard.num_examples}"
    damaged = 0
    for start in range(0, len(opened), _BATCH):
        numbers = range(start, min(start + _BATCH, len(opened)))
        try:
            for row, fault in ranges.faults(opened.read(numbers), manifest):
                yield f"record {numbers[row]} of {path}: {fault}"
        except CorruptRecordError:
            for number in numbers:  # one by one, so that every damaged record is named
                try:
                    for _, fault in ranges.faults(opened.read([number]), manifest):
                        yield f"record {number} of {path}: {fault}"
                except CorruptRecordError as error:
                    damaged += 1
                    yield str(error)
        advance(len(numbers))
    if not damaged and sha256_of(path) != shard.sha256:
        yield f"{path}: whole records, but not the file that was written: from another preparation?"


if __name__ == "__main__":
    cli.run(main, Options)
