"""Reading and writing existing BERTs."""
