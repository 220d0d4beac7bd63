"""Says which splits hold too few patients for their figures to mean anything, and which fractions would fill them."""

import math
from collections.abc import Mapping, Sequence

from clinicalbert_jax.data.patients import SplitRule
from data_prep.reading.spill import NUM_UNIFORMS

ENOUGH = NUM_UNIFORMS // 2  # patients of a split; of a dataset with fewer than 50, a fifth of its patients


def notices(patients: Mapping[str, int], next_uniforms: Sequence[float], rule: SplitRule) -> list[str]:
    """A line for each kind of split that is too small.

    `patients` are the numbers of patients by split. `next_uniforms` are the lowest `NUM_UNIFORMS` of the numbers by
    which `rule` assigns patients, but for those in the test split: the next ones to come into a held-out split.
    """
    enough = min(ENOUGH, max(1, sum(patients.values()) // 5))
    lines = []
    if patients["train"] < enough:
        lines.append(f"warning: the train split has {patients['train']} patients: give smaller fractions to the others")
    few = {split: count for split, count in patients.items() if split != "train" and count < enough}
    if few:
        test, validation, rest = rule.test_fraction, rule.validation_fraction, list(next_uniforms)
        advice = "prepare more notes"
        if "test" in few and len(rest) >= enough:
            test = _above(rest[enough - few["test"] - 1])
            rest = [uniform for uniform in rest if uniform >= test]
        held_out = sum(uniform < test + validation for uniform in rest)  # fewer than before, with another `test`
        if validation and held_out < enough <= len(rest):
            validation = _above(rest[enough - 1] - test)
        if (test, validation) != (rule.test_fraction, rule.validation_fraction):
            advice = f"--validation_fraction={validation:g} and --test_fraction={test:g} would give {enough} each"
        counted = " and ".join(f"{count} in the {split} split" for split, count in few.items())
        lines.append(f"warning: too few patients for figures that mean anything: {counted}: {advice}")
    return lines


def _above(uniform: float) -> float:
    """The smallest number of four decimals above `uniform`."""
    return (math.floor(uniform * 10_000) + 1) / 10_000
