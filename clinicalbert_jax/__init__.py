"""Pre-train BERT on clinical notes in JAX. Importing the package loads no JAX."""

__version__ = "0.1.0"
