"""What is hidden stays hidden: the tables are solved by brute force."""

import itertools
import random
from collections.abc import Iterator, Mapping

import pytest

from clinicalbert_jax.report.suppression import FEW, SOME, Orders, Sums, hidden_rows, shown

pytestmark = pytest.mark.fast


def solutions(
    counts: Mapping[str, int], page: Mapping[str, int | str], sums: Sums, orders: Orders
) -> Iterator[dict[str, int]]:
    """The tables that look like `page`, of those that differ from `counts` by one at most.

    With totals as in these tables, there is one of them wherever there is any: the difference of two solutions is made
    of cycles of +1 and -1.
    """

    def looks_alike(key: str, value: int) -> bool:
        return 1 <= value <= 10 if page[key] == FEW else value >= 11 if page[key] == SOME else value == page[key]

    totals = [total for total, _ in sums]
    parts = [key for key, value in page.items() if isinstance(value, str) and key not in totals]
    for changes in itertools.product((0, 1, -1), repeat=len(parts)):
        table = dict(counts) | {key: counts[key] + change for key, change in zip(parts, changes, strict=True)}
        for total, summands in sums:
            table[total] = sum(table[key] for key in summands)
        if (
            all(looks_alike(key, value) for key, value in table.items())
            and all(table[total] == sum(table[key] for key in summands) for total, summands in sums)
            and all(table[lower] <= table[upper] for lower, upper in orders)
        ):
            yield table


def require_hidden(counts: Mapping[str, int], sums: Sums, orders: Orders = ()) -> None:
    page = shown(counts, sums, orders)
    assert all(page[key] == FEW for key, count in counts.items() if 0 < count < 11)
    assert all(page[key] in (count, SOME) for key, count in counts.items() if not 0 < count < 11)
    possible: dict[str, set[int]] = {key: set() for key, value in page.items() if isinstance(value, str)}
    for table in solutions(counts, page, sums, orders):
        for key, values in possible.items():
            values.add(table[key])
    assert all(len(values) > 1 for values in possible.values()), (counts, page)
    for total, parts in sums:
        group = sum(counts[part] for part in parts if page[part] != counts[part])
        assert page[total] != counts[total] or not 0 < group < 11


def test_known_answers() -> None:
    sums = [("all", ["a", "b", "c"])]
    assert shown({"a": 90, "b": 30, "c": 20, "all": 140}, sums) == {"a": 90, "b": 30, "c": 20, "all": 140}
    # 5 = 125 - 90 - 30: the smallest of the others is hidden too.
    assert shown({"a": 90, "b": 30, "c": 5, "all": 125}, sums) == {"a": 90, "b": SOME, "c": FEW, "all": 125}
    # 1 + 11 = 12 has no other solution with a count under 11 and one of 11 or more.
    assert shown({"a": 90, "b": 11, "c": 1, "all": 102}, sums) == {"a": SOME, "b": SOME, "c": FEW, "all": 102}
    # 10 + 10 = 20 has none either, and 2 + 3 are a group of 5.
    assert shown({"a": 90, "b": 10, "c": 10, "all": 110}, sums) == {"a": SOME, "b": FEW, "c": FEW, "all": 110}
    assert shown({"a": 90, "b": 2, "c": 3, "all": 95}, sums) == {"a": SOME, "b": FEW, "c": FEW, "all": 95}
    assert shown({"a": 0, "b": 0, "c": 3, "all": 3}, sums) == {"a": 0, "b": 0, "c": FEW, "all": FEW}
    # There are no more patients than notes: 11 of 11, so that the 4 would be 15 - 11.
    counts = {"a": 11, "b": 4, "patients": 15, "notes of a": 11}
    assert shown(counts, [("patients", ["a", "b"])], [("a", "notes of a")])["notes of a"] == SOME


def test_a_table_with_totals_has_no_solution() -> None:
    """Two splits by two categories with all totals, and a total of totals that drop reasons add to."""
    sums = [
        ("train", ["train x", "train y"]),
        ("test", ["test x", "test y"]),
        ("x", ["train x", "test x"]),
        ("y", ["train y", "test y"]),
        ("kept", ["train", "test"]),
        ("kept", ["x", "y"]),
        ("read", ["kept", "dropped"]),
    ]
    draw = random.Random(0)
    for _ in range(20):
        cells = [f"{split} {kind}" for split in ("train", "test") for kind in "xy"]
        counts = {cell: draw.choice([0, 1, 3, 10, 11, 12, 15]) for cell in cells}
        counts["dropped"] = draw.choice([0, 1, 9, 11])
        for total, parts in sums:
            counts[total] = sum(counts[part] for part in parts)
        require_hidden(counts, sums)


def test_lists_with_a_total_have_no_solution() -> None:
    draw = random.Random(1)
    for _ in range(30):
        counts = {str(number): draw.choice([0, 1, 2, 5, 9, 10, 11, 12, 20]) for number in range(draw.randint(1, 4))}
        notes = {f"notes of {key}": count + draw.choice([0, 0, 1, 9]) for key, count in counts.items()}
        sums = [("patients", list(counts)), ("notes", list(notes))]
        orders = [(key, f"notes of {key}") for key in counts]
        every = counts | notes | {"patients": sum(counts.values()), "notes": sum(notes.values())}
        require_hidden(every, sums, orders)


def test_counts_that_contradict_their_total_are_refused() -> None:
    with pytest.raises(ValueError, match="add up"):
        shown({"a": 5, "all": 6}, [("all", ["a"])])


def test_rows_with_a_small_count_are_left_out_with_others_whose_sums_are_not_small() -> None:
    rows = {"a": (5, 20, 30), "b": (60, 12, 13), "c": (50, 50, 50), "d": (0, 90, 90)}
    assert hidden_rows(rows) == {"a", "b"}  # a alone would be the difference from all
    assert hidden_rows(rows | {"b": (3, 12, 13)}) == {"a", "b", "c"}  # 5 + 3 are too few
    assert hidden_rows({name: of for name, of in rows.items() if name != "a"}) == set()
    assert hidden_rows({"a": (5, 5), "b": (1, 40)}) == {"a", "b"}
