"""How similar two sentences are, as a number."""
