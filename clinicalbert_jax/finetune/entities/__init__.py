"""Named entities in a text."""
