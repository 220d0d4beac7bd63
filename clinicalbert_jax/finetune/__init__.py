"""Downstream uses of a pre-trained BERT: entities, relations, classification, questions."""
