"""One module for each format of annotated text: a reader, and a writer for the way back."""
