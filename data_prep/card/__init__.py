"""The manifest and the data card of a dataset."""
