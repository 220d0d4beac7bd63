"""Code points about which Unicode tables of different age disagree: ranges in hexadecimal.

Python's tables change with its version, those of the Rust tokenizers are older still. What only some of them know
is taken out of the text (`cleaning.characters`), so that every Python and every tokenizer reads the same.
"""


def _members(ranges: str) -> frozenset[str]:
    bounds = [(one.split("-")[0], one.split("-")[-1]) for one in ranges.split()]
    return frozenset(chr(code) for first, last in bounds for code in range(int(first, 16), int(last, 16) + 1))


# Combining marks to Unicode 14, none to Rust's tables, or the reverse: one would strip them where the other does not.
LATE_MARKS = _members(
    """7fd 898-89f 8ca-8e1 9fe afa-aff b55 c04 c3c d00 d3b-d3c d81 eba 1734 180f 1885-1886 1abf-1ace 1df6-1dfb a82c
    a8c5 a8ff a9bd 10d24-10d27 10eab-10eac 10f46-10f50 10f82-10f85 11070 11073-11074 110c2 111c9 111cf 1123e 1133b
    11438-1143f 11442-11444 11446 1145e 1182f-11837 11839-1183a 11938 1193b-1193c 1193e 11943 119d4-119d7
    119da-119db 119e0 11a01-11a0a 11a33-11a38 11a3b-11a3e 11a47 11a51-11a56 11a59-11a5b 11a8a-11a96 11a98-11a99
    11c30-11c36 11c38-11c3d 11c3f 11c92-11ca7 11caa-11cb0 11cb2-11cb3 11cb5-11cb6 11d31-11d36 11d3a 11d3c-11d3d
    11d3f-11d45 11d47 11d90-11d91 11d95 11d97 11ef3-11ef4 16f4f 16fe4 1cf00-1cf2d 1cf30-1cf46 1e000-1e006
    1e008-1e018 1e01b-1e021 1e023-1e024 1e026-1e02a 1e130-1e136 1e2ae 1e2ec-1e2ef 1e944-1e94a"""
)

# Assigned by Unicode 15.0 and 15.1: unassigned to Python 3.11.
AFTER_UNICODE_14 = _members(
    """cf3 ece 2ffc-2fff 31ef 10efd-10eff 1123f-11241 11b00-11b09 11f00-11f10 11f12-11f3a 11f3e-11f59 1342f 13439-13455
    1b132 1b155 1d2c0-1d2d3 1df25-1df2a 1e030-1e06d 1e08f 1e4d0-1e4f9 1f6dc 1f774-1f776 1f77b-1f77f 1f7d9
    1fa75-1fa77 1fa87-1fa88 1faad-1faaf 1fabb-1fabd 1fabf 1face-1facf 1fada-1fadb 1fae8 1faf7-1faf8 2b739
    2ebf0-2ee5d 31350-323af"""
)
