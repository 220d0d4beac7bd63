"""From clinical notes to TFRecord shards of masked sentence pairs, offline and without JAX."""
