"""Sentence pairs, and rows of them."""
