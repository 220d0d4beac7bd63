"""Models against each other on the same downstream tasks."""
