"""The texts that stand in the rows of a shard: masked tokens put back, segments joined where the second follows.

Shape legend: N rows, L `max_seq_length`, M masked tokens, T tokens, D texts, R runs.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.tfrecord import Arrays
from data_prep.overlap import splits
from data_prep.overlap.spelling import Spelling
from data_prep.wordpiece.tokenizer import Tokenizer


class ShardTexts(NamedTuple):
    """The texts of some rows as tokens, one after the other; each is a pair, or one segment of a random next.

    `segment_T` is that of the row. `begins_T` tells the tokens that begin a word; a segment may begin inside one, which
    counts as a beginning. `is_other_D`: the text is the second segment of a random next, and of another patient.
    """

    ids_T: npt.NDArray[np.integer]
    segment_T: npt.NDArray[np.integer]
    begins_T: npt.NDArray[np.bool_]
    end_D: npt.NDArray[np.int64]
    row_D: npt.NDArray[np.int64]
    pair_D: npt.NDArray[np.int64]
    is_other_D: npt.NDArray[np.bool_]

    def runs(self, spelling: Spelling) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The hash of each run of 13 words, and the number of its text."""
        return splits.runs(spelling.hashes(self.ids_T, self.begins_T), self.begins_T, self.end_D)


def of_rows(rows: Arrays, tokenizer: Tokenizer) -> ShardTexts:
    """The texts of rows as a shard has them, padded or packed, masked or not."""
    ids_NxL = rows["input_ids"].copy()
    if "masked_lm_ids" in rows:
        row_M, column_M = np.nonzero(rows["masked_lm_weights"])
        ids_NxL[row_M, rows["masked_lm_positions"][row_M, column_M]] = rows["masked_lm_ids"][row_M, column_M]
    sequence_NxL = rows["sequence_ids"] if "sequence_ids" in rows else rows["input_mask"]
    special = np.zeros(len(tokenizer.vocabulary), bool)
    special[[tokenizer.id_of[token] for token in ("[PAD]", "[CLS]", "[SEP]")]] = True
    is_text_NxL = (sequence_NxL > 0) & ~special[ids_NxL]
    row_T = np.nonzero(is_text_NxL)[0]
    ids_T, pair_T = ids_NxL[is_text_NxL], sequence_NxL[is_text_NxL].astype(np.int64) - 1
    segment_T = rows["segment_ids"][is_text_NxL]
    other_T = segment_T * (rows["next_sentence_labels"][row_T, pair_T] > 0)
    text_T = np.stack([row_T, pair_T, other_T])
    last_T = np.append((text_T[:, 1:] != text_T[:, :-1]).any(0), True)[: len(ids_T)]
    begins_T = ~tokenizer.is_continuation()[ids_T]
    begins_T[1:] |= last_T[:-1]
    begins_T[:1] = True
    return ShardTexts(
        ids_T, segment_T, begins_T, np.flatnonzero(last_T) + 1, row_T[last_T], pair_T[last_T], other_T[last_T] > 0
    )
