"""How fast, and in how much memory, notes become shards.

    python -m benchmarks.data_prep --part=speed --peer_python=/tmp/tfenv/bin/python
    python -m benchmarks.data_prep --part=scale
    python -m benchmarks.data_prep --part=codec

The peer is the reference algorithm in the TensorFlow Model Garden, from PyPI, in an environment of its own:

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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from clinicalbert_jax import commands, tfrecord
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.manifest import Manifest
from clinicalbert_jax.schema import Layout
from data_prep import cleaning, sentences, synthetic

ROOT = Path(__file__).parents[1]

PART = flags.DEFINE_enum("part", "speed", ["speed", "scale", "codec"], "What is measured.")
SHARED = flags.DEFINE_string("shared_data", str(ROOT.parent / "shared" / "data"), "Public data beside the project.")
PEER_PYTHON = flags.DEFINE_string("peer_python", "", "A Python with tf-models-official; '': no peer.")
PEER_MEGABYTES = flags.DEFINE_float("peer_megabytes", 6.0, "Text given to the peer, which is linear in it.")
SENTENCE_MEGABYTES = flags.DEFINE_float("sentence_megabytes", 62.0, "Sentence-split text given to us.")
NUM_NOTES = flags.DEFINE_integer("num_notes", 40_000, "Raw notes of the speed part.")
SMALLEST_MEGABYTES = flags.DEFINE_float("smallest_megabytes", 66.0, "Raw notes of the scale part's 1x.")
DUPE_FACTOR = flags.DEFINE_integer("dupe_factor", 5, "Passes.")
NUM_WORKERS = flags.DEFINE_integer("num_workers", 2, "Processes of ours.")
SCRATCH = flags.DEFINE_string("scratch", "", "Where to work; default: a temporary directory.")


def main(argv: Sequence[str]) -> None:
    """Measure one part and print it."""
    commands.refuse_arguments(argv)
    with tempfile.TemporaryDirectory(dir=SCRATCH.value or None) as scratch:
        {"speed": speed, "scale": scale, "codec": codec}[PART.value](Path(scratch))


# --- speed


def speed(scratch: Path) -> None:
    text = scratch / "sentences.txt"
    write_sentences(text, int(SENTENCE_MEGABYTES.value * 1e6))
    ours = prepare(text, scratch / "ours", "--input_format=sentences")
    rate = ours.text_bytes / ours.seconds / 1e6
    print(f"sentences to padded shards, {NUM_WORKERS.value} processes: {ours.text_bytes / 1e6:.1f} MB, {rate:.3f} MB/s")
    print_stages(ours)
    if PEER_PYTHON.value:
        peer_rate, peer_cpu_rate = run_peer(text, scratch)
        print(f"ours on {NUM_WORKERS.value} processes is {rate / peer_rate:.1f} times the peer on one by the clock")
        by_cpu = ours.text_bytes / 1e6 / ours.cpu_seconds / peer_cpu_rate
        print(
            f"and does {by_cpu:.1f} times as much in a second of CPU: {NUM_WORKERS.value} idle cores would give",
            end=" ",
        )
        print(f"{NUM_WORKERS.value * by_cpu:.1f} times the peer on one")
    notes = scratch / "NOTEEVENTS.csv"
    synthetic.write(notes, NUM_NOTES.value, seed=0)
    ours = prepare(notes, scratch / "raw")
    per_minute = NUM_NOTES.value / ours.seconds * 60
    size = notes.stat().st_size / NUM_NOTES.value
    print(f"raw notes to padded shards: {NUM_NOTES.value:,} notes of {size:,.0f} bytes, {per_minute:,.0f} notes/min")
    print(f"  at 1,800 bytes a note: {per_minute * size / 1800:,.0f} notes/min", end="; ")
    by_cpu = NUM_WORKERS.value * NUM_NOTES.value / ours.cpu_seconds * 60 * size / 1800
    print(f"{by_cpu:,.0f} if {NUM_WORKERS.value} cores had been idle, by CPU time")
    print_stages(ours)


def write_sentences(path: Path, num_bytes: int) -> None:
    """Text in google's form, from the shared sentences and prose first and synthetic notes after."""
    shared = Path(SHARED.value)
    with path.open("w") as file:

        def write(text: str) -> None:
            lines = sentences.split(cleaning.clean(text)).texts
            if lines:
                file.write("\n".join(lines) + "\n\n")

        with gzip.open(shared / "reference" / "sentences.txt.gz", "rt") as given:
            shutil.copyfileobj(given, file)
        file.write("\n\n")
        with gzip.open(shared / "text" / "medical_text.jsonl.gz", "rt") as given:
            for line in given:
                write(json.loads(line)["text"])
        for row in synthetic.rows(num_notes=10**9, seed=0):
            if file.tell() > num_bytes:
                break
            write(row.text)


def run_peer(text: Path, scratch: Path) -> tuple[float, float]:
    """The reference's MB/s and MB per second of CPU on the first part of the text; its start is not counted."""
    part = scratch / "peer.txt"
    part.write_bytes(text.read_bytes()[: int(PEER_MEGABYTES.value * 1e6)])
    whole, start = _peer_seconds(part, scratch), _peer_seconds(_only_start(scratch), scratch)
    size = part.stat().st_size / 1e6
    rate, cpu_rate = (size / (whole[clock] - start[clock]) for clock in (0, 1))
    print(
        f"peer, tf-models-official's create_pretraining_data, one process: {size:.1f} MB in {whole[0]:.1f} s by the "
        f"clock and {whole[1]:.1f} s of CPU, of which {start[0]:.1f} s and {start[1]:.1f} s to start: {rate:.4f} MB/s"
    )
    return rate, cpu_rate


def _only_start(scratch: Path) -> Path:
    path = scratch / "empty.txt"
    path.write_text("One sentence.\nAnother one.\n\nA second document.\n")
    return path


def _peer_seconds(text: Path, scratch: Path) -> tuple[float, float]:
    """By the clock, and of CPU."""
    arguments = [PEER_PYTHON.value, "-m", "official.nlp.data.create_pretraining_data", f"--input_file={text}"]
    arguments += [f"--output_file={scratch / 'peer.tfrecord'}", f"--vocab_file={vocab_file()}", "--do_lower_case=False"]
    arguments += ["--max_seq_length=128", "--max_predictions_per_seq=20", f"--dupe_factor={DUPE_FACTOR.value}"]
    begin, cpu_begin = time.perf_counter(), _cpu_seconds_of_children()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise UserError(f"--peer_python: the peer failed: {result.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - begin, _cpu_seconds_of_children() - cpu_begin


# --- scale


def scale(scratch: Path) -> None:
    columns = ("size", "MB", "notes", "seconds", "CPU seconds", "notes/min", "peak MB, all processes")
    print("".join(f"{column:>{len(column) + 3}}" for column in columns))
    for factor in (1, 4, 16):
        notes = scratch / f"NOTEEVENTS-{factor}.csv"
        num_notes = _write_megabytes(notes, SMALLEST_MEGABYTES.value * factor)
        ours = prepare(notes, scratch / f"out-{factor}")
        values: tuple[str, ...] = (f"{factor}x", f"{ours.text_bytes / 1e6:.0f}", f"{num_notes}", f"{ours.seconds:.1f}")
        values += (f"{ours.cpu_seconds:.1f}", f"{num_notes / ours.seconds * 60:,.0f}", f"{ours.peak_bytes / 1e6:,.0f}")
        print("".join(f"{value:>{len(column) + 3}}" for column, value in zip(columns, values, strict=True)), flush=True)
        notes.unlink()
        shutil.rmtree(scratch / f"out-{factor}")


def _write_megabytes(path: Path, megabytes: float) -> int:
    sample = path.with_suffix(".sample")
    synthetic.write(sample, 2000, seed=0)
    num_notes = int(megabytes * 1e6 / (sample.stat().st_size / 2000))
    sample.unlink()
    synthetic.write(path, num_notes, seed=0)
    return num_notes


# --- codec


def codec(scratch: Path) -> None:
    """Examples a second of one thread, in batches of 256 in random order, checksums verified."""
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


# --- running ours


class Run:
    """One preparation: how long, how much memory over all its processes, and what it says of its stages."""

    def __init__(self, text_bytes: int, seconds: float, cpu_seconds: float, peak_bytes: int, dataset: Path) -> None:
        self.text_bytes, self.seconds, self.cpu_seconds = text_bytes, seconds, cpu_seconds
        self.peak_bytes = peak_bytes
        self.manifest = Manifest.load(dataset)
        self.document = json.loads((dataset / "run.json").read_text())


def prepare(source: Path, output_dir: Path, *more: str) -> Run:
    arguments = [sys.executable, "-m", "data_prep", f"--input={source}", f"--output_dir={output_dir}"]
    arguments += [f"--vocab_file={vocab_file()}", f"--num_workers={NUM_WORKERS.value}"]
    arguments += [f"--dupe_factor={DUPE_FACTOR.value}", *more]
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
    print(f"  {run.seconds:.1f} s by the clock, {run.cpu_seconds:.1f} s of CPU, {examples:,} examples")
    print(f"  by the clock: {run.document['seconds']}")
    for stage, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"  {stage:<18}{seconds:>8.1f} s {seconds / total:>7.1%} {seconds / examples * 1e6:>8.2f} us/example")


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def vocab_file() -> Path:
    return Path(SHARED.value) / "vocab" / "bert-base-cased" / "vocab.txt"


def _watch_memory(process: subprocess.Popen, peak: list[int]) -> None:
    """The most memory that the process and its descendants held together, each shared page counted once."""
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
    commands.run(main)
