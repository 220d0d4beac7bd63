"""What every reader and writer of files rests on. Loads no JAX."""
