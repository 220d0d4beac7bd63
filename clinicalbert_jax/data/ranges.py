"""Values that an example may hold: what a checksum cannot find, in examples that were written wrong. Loads no JAX.

Shape legend: N examples, M values of a feature; others as in `schema`.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.manifest import Manifest


def faults(arrays: Mapping[str, npt.NDArray], manifest: Manifest) -> Iterator[tuple[int, str]]:
    """The row of each example that its dataset cannot hold, and what is wrong; no value is quoted.

    `arrays` are decoded records: feature name → NxM.
    """
    limits = _limits(manifest)
    for name, values_NxM in arrays.items():
        if values_NxM.dtype == np.float32:
            wrong_NxM = (values_NxM != 0) & (values_NxM != 1)
            expected = "0 or 1"
        else:
            wrong_NxM = values_NxM >= limits[name]  # the encoding has no negative ones
            expected = f"0 to {limits[name] - 1}"
        for row in np.flatnonzero(wrong_NxM.any(axis=1)):
            yield int(row), f"expected values of {name} in {expected}, found another"
    if manifest.layout.masked:
        used_NxL = arrays["input_mask" if manifest.layout.kind == "padded" else "sequence_ids"] > 0
        inside_NxP = np.minimum(arrays["masked_lm_positions"], manifest.layout.max_seq_length - 1)
        wrong_NxP = (arrays["masked_lm_weights"] != 0) & (inside_NxP == arrays["masked_lm_positions"])
        wrong_NxP &= ~np.take_along_axis(used_NxL, inside_NxP, axis=1)
        for row in np.flatnonzero(wrong_NxP.any(axis=1)):
            yield int(row), "expected masked positions among the tokens, found one in the padding"


def _limits(manifest: Manifest) -> dict[str, int]:
    """Values of an integer feature are below its limit."""
    layout, vocabulary, length = manifest.layout, manifest.vocabulary.size, manifest.layout.max_seq_length
    return {
        "input_ids": vocabulary,
        "input_mask": 2,
        "segment_ids": 2,
        "sequence_ids": layout.max_sequences_per_row + 1,
        "masked_lm_positions": length,
        "masked_lm_ids": vocabulary,
        "next_sentence_positions": length,
        "next_sentence_labels": 2,
        "note_category": max(1, len(manifest.categories)),
        "patient_group": 2**63,
    }
