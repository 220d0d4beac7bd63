"""Relations between two marked spans of a text."""
