"""Parse every example of a padded dataset with TensorFlow under the feature spec of google-research/bert.

Needs TensorFlow and nothing of this project, in an environment of its own:

    python -m venv /tmp/tfenv && /tmp/tfenv/bin/pip install tensorflow-cpu
    /tmp/tfenv/bin/python benchmarks/parse_with_tensorflow.py DATA_DIR
"""

import json
import sys
from pathlib import Path

import tensorflow as tf


def main(data_dir: Path) -> None:
    manifest = json.loads((data_dir / "manifest.json").read_text())
    length = manifest["layout"]["max_seq_length"]
    predictions = manifest["layout"]["max_predictions_per_seq"]
    # run_pretraining.py, input_fn_builder.
    spec = {
        "input_ids": tf.io.FixedLenFeature([length], tf.int64),
        "input_mask": tf.io.FixedLenFeature([length], tf.int64),
        "segment_ids": tf.io.FixedLenFeature([length], tf.int64),
        "masked_lm_positions": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_ids": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_weights": tf.io.FixedLenFeature([predictions], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }
    for name, split in manifest["splits"].items():
        files = [str(data_dir / shard["file"]) for shard in split["shards"]]
        # TFRecordDataset verifies the checksums of lengths and contents.
        first = next(iter(tf.data.TFRecordDataset(files)))
        tf.io.parse_single_example(first, spec)
        examples = tokens = masked = random_next = 0
        for batch in tf.data.TFRecordDataset(files).batch(512).map(lambda records: tf.io.parse_example(records, spec)):
            examples += len(batch["input_ids"])
            tokens += int(tf.reduce_sum(batch["input_mask"]))
            masked += int(tf.reduce_sum(batch["masked_lm_weights"]))
            random_next += int(tf.reduce_sum(batch["next_sentence_labels"]))
        found = (examples, tokens, masked, random_next)
        expected = tuple(split[k] for k in ("num_examples", "num_tokens", "num_predictions", "num_random_next"))
        print(
            f"{name}: {examples:,} examples parsed, {tokens:,} tokens, {masked:,} predictions, {random_next:,} random"
        )
        if found != expected:
            sys.exit(f"the manifest says {expected}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
