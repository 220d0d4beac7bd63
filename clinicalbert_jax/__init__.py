"""Pre-train BERT on clinical notes in JAX. Importing the package loads no JAX."""
