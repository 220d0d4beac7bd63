"""Vocabularies, and sentences as word pieces."""
