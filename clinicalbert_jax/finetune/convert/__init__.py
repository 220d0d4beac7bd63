"""Published corpora become the JSON lines that the tasks read."""
