"""Read a padded split with tf.data in random order and print the speed as JSON; `benchmarks.loader` runs it.

Needs TensorFlow and nothing of this project:

    /tmp/tfenv/bin/python benchmarks/load_with_tensorflow.py DATA_DIR BATCH_SIZE NUM_BATCHES THREADS
"""

import json
import sys
import time
from pathlib import Path

import tensorflow as tf

SHUFFLE = 10_000  # examples in the buffer; the shards are also shuffled and interleaved
WARM_UP = 50  # batches that fill the buffer


def main(data_dir: Path, batch_size: int, num_batches: int, threads: int) -> None:
    manifest = json.loads((data_dir / "manifest.json").read_text())
    length = manifest["layout"]["max_seq_length"]
    predictions = manifest["layout"]["max_predictions_per_seq"]
    # run_pretraining.py of google-research/bert, input_fn_builder.
    spec = {
        "input_ids": tf.io.FixedLenFeature([length], tf.int64),
        "input_mask": tf.io.FixedLenFeature([length], tf.int64),
        "segment_ids": tf.io.FixedLenFeature([length], tf.int64),
        "masked_lm_positions": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_ids": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_weights": tf.io.FixedLenFeature([predictions], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }

    def parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
        features = tf.io.parse_example(records, spec)
        return {name: tf.cast(x, tf.int32) if x.dtype == tf.int64 else x for name, x in features.items()}

    files = [str(data_dir / shard["file"]) for shard in manifest["splits"]["train"]["shards"]]
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.deterministic = False
    batches = (
        tf.data.Dataset.from_tensor_slices(files)
        .repeat()
        .shuffle(len(files))
        .interleave(tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE)
        .shuffle(SHUFFLE)
        .batch(batch_size, drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )
    batches = batches.as_numpy_iterator()
    for _ in range(WARM_UP):
        next(batches)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(num_batches):
        next(batches)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"examples": num_batches * batch_size, "seconds": seconds, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
