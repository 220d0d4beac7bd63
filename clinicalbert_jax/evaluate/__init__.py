"""Held-out figures of a model, with intervals over patients."""
