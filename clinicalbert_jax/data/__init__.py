"""Examples on disk, and batches of them. Loads no JAX."""
