"""Invented secrets, planted in notes to measure what a model memorises."""
