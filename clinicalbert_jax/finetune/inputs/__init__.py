"""How annotated files are read."""
