"""A run becomes a Hugging Face directory."""
