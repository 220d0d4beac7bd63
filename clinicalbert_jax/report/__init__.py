"""Pages to look at. Loads no JAX."""
