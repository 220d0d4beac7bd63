"""What several tasks share in reading annotated files."""
