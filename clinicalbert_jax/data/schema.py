"""What one example holds: feature names, shapes and types, and the batch that the trainer sees.

Shape legend: B batch, L `max_seq_length`, P `max_predictions_per_seq`, K `max_sequences_per_row`.

A padded example has exactly the features that google-research/bert (`create_pretraining_data.py`) and the
TensorFlow Model Garden read. A packed one holds up to K pairs in a row. Both carry `note_category` and
`patient_group` besides, which readers of the original feature spec ignore.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["padded", "packed"]


class Feature(NamedTuple):
    """One feature of an Example: a fixed number of int64 or float32 values."""

    length: int
    dtype: Literal["int64", "float32"]


@dataclass(frozen=True)
class Layout:
    """The shape of every example of a dataset.

    `kind` 'padded': one sentence pair a row, K = 1. 'packed': up to K pairs a row.
    `masked` False: the examples carry no `masked_lm_*`, and the loader masks them (dynamic masking).
    """

    kind: Kind
    max_seq_length: int
    max_predictions_per_seq: int
    max_sequences_per_row: int = 1
    masked: bool = True

    def features(self) -> dict[str, Feature]:
        """Names and shapes of the features, in the order in which they are written: floats last."""
        length, predictions, pairs = (
            self.max_seq_length,
            self.max_predictions_per_seq,
            self.max_sequences_per_row,
        )
        features = {"input_ids": Feature(length, "int64")}
        if self.kind == "padded":
            features["input_mask"] = Feature(length, "int64")
        features["segment_ids"] = Feature(length, "int64")
        if self.kind == "packed":
            features["sequence_ids"] = Feature(length, "int64")
        if self.masked:
            features["masked_lm_positions"] = Feature(predictions, "int64")
            features["masked_lm_ids"] = Feature(predictions, "int64")
        if self.kind == "packed":
            features["next_sentence_positions"] = Feature(pairs, "int64")
        features["next_sentence_labels"] = Feature(pairs, "int64")
        features["note_category"] = Feature(pairs, "int64")
        features["patient_group"] = Feature(pairs, "int64")
        if self.masked:
            features["masked_lm_weights"] = Feature(predictions, "float32")
        if self.kind == "packed":
            features["next_sentence_weights"] = Feature(pairs, "float32")
        return features


# The one form of a batch in the trainer, whatever the layout on disk: a padded example is a packed one with K = 1.
# Integers are int32 and weights float32, except `patient_group`, which is int64 and never leaves the host.
BATCH_SHAPES = {
    "input_ids": "BxL",
    "segment_ids": "BxL",
    "sequence_ids": "BxL",  # 1..K for the pair a token belongs to, 0 for padding
    "masked_lm_positions": "BxP",
    "masked_lm_ids": "BxP",
    "masked_lm_weights": "BxP",
    "next_sentence_positions": "BxK",  # where each pair's [CLS] stands
    "next_sentence_labels": "BxK",  # 1: the second segment is a random one
    "next_sentence_weights": "BxK",
    "note_category": "BxK",
    "patient_group": "BxK",
}
