"""A hypothesis strategy for text with everything in it that the rules for notes look at."""

from hypothesis import strategies as st

_WHITE = ["\n", "\n\n", " ", "  ", "\t", "\r\n", "\u2028"]
_RULES_AND_PAGES = ["-----", "____", "___", "===", "(Over)", "(Cont)", "Page 2 of 3"]
_MARKS = ["[**Hospital1 18**]", "[**Last\nName**]", "1. ", "2) ", "• ", "- ", "PLAN: "]
_WORDS = ["Dr. ", "q.d. ", "No. ", "5.5 ", "The patient ", "was seen ", "A ", "mg. ", "low-", '."', ". "]
_CHARACTERS = ["ΟΔΟΣ ", "é", "e\u0301", "\u200b", "\x00"]

note_like = st.lists(st.sampled_from(_WHITE + _RULES_AND_PAGES + _MARKS + _WORDS + _CHARACTERS), max_size=60).map(
    "".join
)
