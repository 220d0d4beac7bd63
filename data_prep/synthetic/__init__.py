"""Invented notes for the demo, tests and load tests."""
