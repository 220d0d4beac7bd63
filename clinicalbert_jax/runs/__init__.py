"""What the directory of a run holds."""
