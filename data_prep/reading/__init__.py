"""Files of notes become notes, by split and bucket."""
