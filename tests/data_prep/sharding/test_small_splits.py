"""Splits of few patients: said, with fractions that do fill them."""

import re
from collections import Counter

import pytest

from clinicalbert_jax.data.patients import SplitRule
from data_prep.reading.spill import NUM_UNIFORMS
from data_prep.sharding.small_splits import notices

pytestmark = pytest.mark.fast


def told(num_patients: int, rule: SplitRule) -> tuple[list[str], Counter[str]]:
    patients = [f"p{number}" for number in range(num_patients)]
    splits = Counter({"train": 0, "validation": 0, "test": 0})
    splits.update(map(rule.split_of, patients))
    uniforms = sorted(u for u in map(rule.uniform_of, patients) if u >= rule.test_fraction)
    return notices(splits, uniforms[:NUM_UNIFORMS], rule), splits


@pytest.mark.parametrize("num_patients", [5, 12, 60, 100, 150])
@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_the_fractions_named_are_the_smallest_that_fill_the_splits(num_patients: int, key: str) -> None:
    enough = min(10, max(1, num_patients // 5))
    lines, splits = told(num_patients, SplitRule(key, 0.05, 0.05))
    few = {split for split in ("validation", "test") if splits[split] < enough}
    assert bool(lines) == bool(few)
    if not few:
        return
    assert all(f"{splits[split]} in the {split} split" in lines[0] for split in few)
    named = re.search(r"--validation_fraction=([\d.]+) and --test_fraction=([\d.]+) would give", lines[0])
    assert named
    validation, test = float(named[1]), float(named[2])
    assert not told(num_patients, SplitRule(key, validation, test))[0]
    if validation != 0.05:
        assert told(num_patients, SplitRule(key, round(validation - 0.0002, 4), test))[0]
    if "test" in few:
        assert told(num_patients, SplitRule(key, validation, round(test - 0.0002, 4)))[0]


def test_a_large_dataset_and_splits_that_nobody_asked_for_are_passed_over() -> None:
    assert not told(2000, SplitRule("a", 0.05, 0.05))[0]
    assert not notices(Counter(train=30), [0.1] * 20, SplitRule("a", 0.0, 0.0))


def test_a_small_train_split_is_said() -> None:
    lines, splits = told(100, SplitRule("a", 0.5, 0.49))
    assert lines == [f"warning: the train split has {splits['train']} patients: give smaller fractions to the others"]
