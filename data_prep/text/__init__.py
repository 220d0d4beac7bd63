"""Notes become sections and sentences."""
