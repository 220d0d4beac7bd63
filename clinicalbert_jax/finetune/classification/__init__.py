"""Labels of texts, of pairs of texts and of long documents."""
