"""The files of a BERT tokenizer, read and written. Loads no JAX."""
