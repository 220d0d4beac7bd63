"""No patient is in two splits; official splits are kept; a part of training becomes validation, seeded."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import splits
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.standoff import Document
from clinicalbert_jax.finetune.inputs.reading import Reading

pytestmark = pytest.mark.fast


def documents(patients: list[int], split: str = "") -> list[Document]:
    return [Document(f"{split}{number}", "a", patient=str(one), split=split) for number, one in enumerate(patients)]


@given(patients=st.lists(st.integers(0, 9), min_size=1, max_size=30), seed=st.integers(0, 3), official=st.booleans())
@settings(max_examples=60)
def test_every_document_is_in_one_split_and_every_patient(patients: list[int], seed: int, official: bool) -> None:
    given_ = documents(patients, "train" if official else "") + (documents([100, 101], "test") if official else [])
    sides = splits.split(given_, (), 20, seed, Ledger())
    assert sorted(one.id for side in sides.values() for one in side) == sorted(one.id for one in given_)
    of_side = [{one.patient for one in side} for side in sides.values()]
    assert sum(map(len, of_side)) == len(set.union(*of_side))
    assert {side: [one.id for one in of] for side, of in sides.items()} == {
        side: [one.id for one in of] for side, of in splits.split(given_, (), 20, seed, Ledger()).items()
    }
    if official:
        assert of_side[2] == {"100", "101"}


def test_a_patient_in_two_splits_is_refused_or_left_out_of_training() -> None:
    both = documents([1, 2, 3], "train") + documents([3, 4], "test")
    with pytest.raises(UserError, match="expected a patient in one split, found one in test and train"):
        splits.split(both, (), 0, 0, Ledger())
    ledger = Ledger(Reading("skip"))
    sides = splits.split(both, (), 0, 0, ledger)
    assert [one.patient for one in sides["train"]] == ["1", "2"]
    assert [one.patient for one in sides["test"]] == ["3", "4"]
    assert ledger["patients in two splits"].number_refused == 1
    ledger.check()


def test_documents_of_which_only_some_have_a_split_are_refused() -> None:
    with pytest.raises(UserError, match=r"found 1 of 3 there: give --split_percent"):
        splits.split(documents([1, 2]) + documents([3], "test"), (), 10, 0, Ledger())
    sides = splits.split(documents([1, 2]) + documents([3], "test"), (100, 0, 0), 10, 0, Ledger())
    assert len(sides["train"]) == 3


def test_a_split_that_is_empty_is_said() -> None:
    ledger = Ledger()
    sides = splits.split(documents([1]), (), 10, 0, ledger)
    empty = [
        f"none fell in {side}: try another --split_seed or --split_percent" for side, of in sides.items() if not of
    ]
    assert list(ledger["documents"].notes) == empty
    assert len(empty) == 2


def test_fractions_and_seeds() -> None:
    many = documents(list(range(2000)))
    sides = splits.split(many, (70, 10, 20), 10, 0, Ledger())
    assert [round(len(side) / 2000, 1) for side in sides.values()] == [0.7, 0.1, 0.2]
    other = splits.split(many, (70, 10, 20), 10, 1, Ledger())
    assert {one.id for one in sides["test"]} != {one.id for one in other["test"]}
