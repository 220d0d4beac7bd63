"""What a model memorised of the notes it was trained on."""
