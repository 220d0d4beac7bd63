"""Windows: they cover everything, overlap as asked, and each place belongs to the one that sees most around it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.finetune.inputs import sliding_windows

pytestmark = pytest.mark.fast

CUTS = st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(1, 40)).filter(lambda cut: cut[2] <= cut[1])


@given(CUTS)
def test_windows_cover_a_text_with_as_few_slices_as_the_stride_allows(cut):
    length, room, stride = cut
    found = sliding_windows.slices(length, room, stride)
    assert [window.start for window in found] == [stride * number for number in range(len(found))]
    assert all(window.stop - window.start == room for window in found[:-1])
    assert found[-1].stop == length
    assert all(window.stop < length for window in found[:-1])


@given(CUTS)
def test_a_place_belongs_to_the_first_window_with_most_context(cut):
    found = sliding_windows.slices(*cut)
    owners_T = sliding_windows.owners(found)
    assert len(owners_T) == cut[0]
    assert (np.diff(owners_T) >= 0).all()
    for place, owner in enumerate(owners_T):
        context = [min(place - w.start, w.stop - 1 - place) if w.start <= place < w.stop else -1 for w in found]
        assert owner == int(np.argmax(context))


def test_known_answer_of_the_bert_papers_script():
    # 512 pieces, 384 in a row, 128 apart: run_squad.py makes two spans of them.
    assert sliding_windows.slices(512, 384, 128) == [slice(0, 384), slice(128, 512)]
    assert sliding_windows.slices(513, 384, 128) == [slice(0, 384), slice(128, 512), slice(256, 513)]


def test_windows_that_would_leave_gaps_are_refused():
    with pytest.raises(ValueError, match="stride"):
        sliding_windows.slices(10, 3, 4)
