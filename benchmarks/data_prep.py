"""Speed and memory of the data preparation.

    python -m benchmarks.data_prep --part=speed --peer_python=/tmp/tfenv/bin/python
    python -m benchmarks.data_prep --part=scale
    python -m benchmarks.data_prep --part=codec

The peer is the reference implementation in the TensorFlow Model Garden, from PyPI, in a separate environment:

    python -m venv /tmp/tfenv && /tmp/tfenv/bin/pip install tensorflow-cpu tf_keras sentencepiece
    /tmp/tfenv/bin/pip install --no-deps tf-models-official
"""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clinicalbert_jax import cli
from clinicalbert_jax.data import tfrecord
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import option
from data_prep.sharding import fingerprint
from data_prep.synthetic import write
from data_prep.text import cleaning, sentences

ROOT = Path(__file__).parents[1]


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    part: str = option("What to measure.", "speed", choices=("speed", "scale", "codec"))
    shared_data: str = option("Directory of the public data.", str(ROOT.parent / "shared" / "data"))
    peer_python: str | None = option("A Python with tf-models-official; default: no peer.", None)
    peer_megabytes: float = option("Text for the peer, whose time is linear in it.", 6.0)
    sentence_megabytes: float = option("Sentence-split text for ours.", 62.0)
    num_notes: int = option("Raw notes of the speed part.", 40_000)
    smallest_megabytes: float = option("Raw notes of the scale part at 1x.", 66.0)
    dupe_factor: int = option("Passes over the training notes, each with its own pairs and masks.", 5)
    num_workers: int = option("Worker processes of ours.", 2)
    scratch: str | None = option("Working directory; default: a temporary directory.", None)


def main(options: Options) -> None:
    """Measure one part and print the result."""
    with tempfile.TemporaryDirectory(dir=options.scratch or None) as scratch:
        {"speed": speed, "scale": scale, "codec": codec}[options.part](options, Path(scratch))


def speed(options: Options, scratch: Path) -> None:
    text, workers, num_notes = scratch / "sentences.txt", options.num_workers, options.num_notes
    write_sentences(text, int(options.sentence_megabytes * 1e6), Path(options.shared_data))
    ours = prepare(options, text, scratch / "ours", "--input_format=sentences")
    rate = ours.text_bytes / ours.seconds / 1e6
    print(f"sentences to padded shards, {workers} processes: {ours.text_bytes / 1e6:.1f} MB, {rate:.3f} MB/s")
    print_stages(ours)
    if options.peer_python:
        peer_rate, peer_cpu_rate = run_peer(options, text, scratch)
        by_cpu = ours.text_bytes / 1e6 / ours.cpu_seconds / peer_cpu_rate
        print(f"wall-clock: ours with {workers} processes is {rate / peer_rate:.1f} times as fast as the peer with one")
        print(
            f"CPU time: ours processes {by_cpu:.1f} times as much text per CPU second; on {workers} idle cores that "
            f"would be {workers * by_cpu:.1f} times the peer with one process"
        )
    notes = scratch / "NOTEEVENTS.csv"
    write.write(notes, num_notes, seed=0)
    ours = prepare(options, notes, scratch / "raw")
    per_minute, size = num_notes / ours.seconds * 60, notes.stat().st_size / num_notes
    print(f"raw notes to padded shards: {num_notes:,} notes of {size:,.0f} bytes, {per_minute:,.0f} notes/min")
    by_cpu = workers * num_notes / ours.cpu_seconds * 60 * size / 1800
    print(f"  at 1,800 bytes per note: {per_minute * size / 1800:,.0f} notes/min", end="; ")
    print(f"{by_cpu:,.0f} on {workers} idle cores, by CPU time")
    print_stages(ours)


def write_sentences(path: Path, num_bytes: int, shared: Path) -> None:
    """Text in the format of google-research/bert: first the shared sentences and prose, then synthetic notes."""
    with path.open("w") as file:

        def add(text: str) -> None:
            lines = sentences.split(cleaning.clean(text)).texts
            if lines:
                file.write("\n".join(lines) + "\n\n")

        with gzip.open(shared / "reference" / "sentences.txt.gz", "rt") as given:
            shutil.copyfileobj(given, file)
        file.write("\n\n")
        with gzip.open(shared / "text" / "medical_text.jsonl.gz", "rt") as given:
            for line in given:
                add(json.loads(line)["text"])
        for row in write.rows(num_notes=10**9, seed=0):
            if file.tell() > num_bytes:
                break
            add(row.text)


def run_peer(options: Options, text: Path, scratch: Path) -> tuple[float, float]:
    """MB per second and per CPU second of the peer on the beginning of the text, without its start-up time."""
    part = scratch / "peer.txt"
    part.write_bytes(text.read_bytes()[: int(options.peer_megabytes * 1e6)])
    whole, start = (_peer_seconds(options, file, scratch) for file in (part, _only_start(scratch)))
    size = part.stat().st_size / 1e6
    rate, cpu_rate = (size / (whole[clock] - start[clock]) for clock in (0, 1))
    print(
        f"peer, tf-models-official's create_pretraining_data, one process: {size:.1f} MB in {whole[0]:.1f} s "
        f"wall-clock and {whole[1]:.1f} s CPU time, start-up {start[0]:.1f} s and {start[1]:.1f} s: {rate:.4f} MB/s"
    )
    return rate, cpu_rate


def _only_start(scratch: Path) -> Path:
    path = scratch / "empty.txt"
    path.write_text("One sentence.\nAnother one.\n\nA second document.\n")
    return path


def _peer_seconds(options: Options, text: Path, scratch: Path) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    arguments = [str(options.peer_python), "-m", "official.nlp.data.create_pretraining_data", f"--input_file={text}"]
    arguments += [f"--output_file={scratch / 'peer.tfrecord'}", f"--vocab_file={vocab_file(options)}"]
    arguments += ["--do_lower_case=False", f"--dupe_factor={options.dupe_factor}"]
    arguments += ["--max_seq_length=128", "--max_predictions_per_seq=20"]
    begin, cpu_begin = time.perf_counter(), _cpu_seconds_of_children()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise UserError(f"--peer_python: the peer failed: {result.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - begin, _cpu_seconds_of_children() - cpu_begin


def scale(options: Options, scratch: Path) -> None:
    columns = (
        "size",
        "MB",
        "notes",
        "seconds",
        "CPU seconds",
        "of them hashing",
        "notes/min",
        "peak MB, all processes",
    )
    print("".join(f"{column:>{len(column) + 3}}" for column in columns))
    for factor in (1, 4, 16):
        notes = scratch / f"NOTEEVENTS-{factor}.csv"
        num_notes = _write_megabytes(notes, options.smallest_megabytes * factor)
        ours = prepare(options, notes, scratch / f"out-{factor}")
        values: tuple[str, ...] = (f"{factor}x", f"{ours.text_bytes / 1e6:.0f}", f"{num_notes}", f"{ours.seconds:.1f}")
        values += (f"{ours.cpu_seconds:.1f}", f"{hashing_seconds(notes):.2f}")
        values += (f"{num_notes / ours.seconds * 60:,.0f}", f"{ours.peak_bytes / 1e6:,.0f}")
        print("".join(f"{value:>{len(column) + 3}}" for column, value in zip(columns, values, strict=True)), flush=True)
        notes.unlink()
        shutil.rmtree(scratch / f"out-{factor}")


def hashing_seconds(notes: Path) -> float:
    """CPU seconds of what a preparation does to find out whether its input is the same."""
    begin = time.process_time()
    states = fingerprint.states_of([str(notes)])
    fingerprint.content_sha256(states[0])
    fingerprint.require_unchanged([str(notes)], states)
    return time.process_time() - begin


def _write_megabytes(path: Path, megabytes: float) -> int:
    sample = path.with_suffix(".sample")
    write.write(sample, 2000, seed=0)
    num_notes = int(megabytes * 1e6 / (sample.stat().st_size / 2000))
    sample.unlink()
    write.write(path, num_notes, seed=0)
    return num_notes


def codec(_: Options, scratch: Path) -> None:
    """Examples per CPU second of one thread, in batches of 256 in random order, with checksums verified."""
    rng = np.random.default_rng(0)
    for layout in (Layout("padded", 128, 20), Layout("packed", 512, 80, 8)):
        features = layout.features()
        bounds = {"input_ids": 28_996, "masked_lm_ids": 28_996, "masked_lm_positions": layout.max_seq_length}
        bounds |= {"patient_group": 2**48, "note_category": 15, "next_sentence_positions": layout.max_seq_length}
        arrays = {
            name: rng.integers(0, bounds.get(name, 2), (20_000, feature.length)).astype(feature.dtype)
            for name, feature in features.items()
        }
        begin = time.process_time()
        count = tfrecord.write_shard(scratch / "shard", [arrays], features)
        written = time.process_time()
        shard, order = tfrecord.Shard(scratch / "shard", features), rng.permutation(count)
        for start in range(0, count, 256):
            shard.read(order[start : start + 256])
        read = time.process_time()
        print(
            f"{layout.kind} at {layout.max_seq_length}: {count / (written - begin):,.0f} examples/s written, "
            f"{count / (read - written):,.0f} examples/s read, by CPU time"
        )


class Run:
    """One preparation: its time, the peak memory of all its processes, and its own record of the stages."""

    def __init__(self, text_bytes: int, seconds: float, cpu_seconds: float, peak_bytes: int, dataset: Path) -> None:
        self.text_bytes, self.peak_bytes, self.seconds, self.cpu_seconds = text_bytes, peak_bytes, seconds, cpu_seconds
        self.manifest = Manifest.load(dataset)
        self.document = json.loads((dataset / "run.json").read_text())


def prepare(options: Options, source: Path, output_dir: Path, *more: str) -> Run:
    arguments = [sys.executable, "-m", "data_prep", f"--input={source}", f"--output_dir={output_dir}"]
    arguments += [f"--vocab_file={vocab_file(options)}", f"--num_workers={options.num_workers}"]
    arguments += [f"--dupe_factor={options.dupe_factor}", *more]
    begin, cpu_begin = time.perf_counter(), _cpu_seconds_of_children()
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = [0]
    watcher = threading.Thread(target=_watch_memory, args=(process, peak))
    watcher.start()
    output, errors = process.communicate()
    seconds = time.perf_counter() - begin
    watcher.join()
    if process.returncode:
        raise UserError(f"the preparation failed: {errors.strip().splitlines()[-1]}")
    cpu_seconds = _cpu_seconds_of_children() - cpu_begin
    return Run(source.stat().st_size, seconds, cpu_seconds, peak[0], Path(output.splitlines()[-1]))


def print_stages(run: Run) -> None:
    stages = run.document["process_seconds_by_stage"]
    examples = sum(split.num_examples for split in run.manifest.splits.values())
    total = sum(stages.values())
    print(f"  {run.seconds:.1f} s wall-clock, {run.cpu_seconds:.1f} s CPU time, {examples:,} examples")
    print(f"  wall-clock: {run.document['seconds']}")
    for stage, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"  {stage:<18}{seconds:>8.1f} s {seconds / total:>7.1%} {seconds / examples * 1e6:>8.2f} us/example")


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def vocab_file(options: Options) -> Path:
    return Path(options.shared_data) / "vocab" / "bert-base-cased" / "vocab.txt"


def _watch_memory(process: subprocess.Popen, peak: list[int]) -> None:
    """Peak memory of the process and its descendants in total; each shared page is counted once."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_proportional_bytes, _descendants(process.pid))))
        time.sleep(0.1)


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for number in found:
        try:
            for task in Path(f"/proc/{number}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _proportional_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


if __name__ == "__main__":
    cli.run(main, Options)
