"""Who a note or a record is about: one normaliser for every identifier of a patient, wherever it is read."""

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from clinicalbert_jax.errors import UserError

# Outside an identifier: white space, quotation marks, control and invisible characters such as a byte-order mark, and
# the = of ="00123", by which spreadsheets keep leading zeros.
_SURROUNDING = r"[\s\x00-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\"'`\u2018-\u201f\xab\xbb]"
_OUTER = re.compile(rf"\A(?:{_SURROUNDING}|=(?=[\"']))+|{_SURROUNDING}+\Z")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]+)\.0*")
# How pandas and R write a missing value (pandas' default `na_values`), and MySQL.
_MISSING = re.compile(r"-?[Nn]a[Nn]|-?1\.#(IND|QNAN)|<NA>|#?N/?A|n/a|NULL|null|NaT|None|\\N")
_FLOATS_SKIP_INTEGERS = 2**53


def identifier(value: Any) -> str:
    """The one spelling of a patient's identifier; '' where it is missing.

    `value` is a cell as any reader gives it. Text loses outer white space, quotation marks and byte-order marks, and is
    in Unicode's NFC. The text `123.0`, the floats and decimals 123.0 and the integer 123 are all '123'. Leading zeros
    and case are kept (see `count_lookalikes`), and so is text such as '1e3'. A list or a mapping identifies nobody.

    Raises `UserError` for a float from 2^53 on, whose last digits are lost.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, str):
        text = _OUTER.sub("", value if value.isascii() else unicodedata.normalize("NFC", value))
        whole = _WHOLE_NUMBER.fullmatch(text)
        return "" if _MISSING.fullmatch(text) else whole[1] if whole else text
    if value is None or value != value or isinstance(value, list | tuple | dict | set):  # NaN differs from itself
        return ""
    if isinstance(value, float) and abs(value) >= _FLOATS_SKIP_INTEGERS and math.isfinite(value):
        raise UserError(
            "expected identifiers as text or integers, found a float from 2^53 on, whose last digits are lost: "
            "write the column of identifiers as text"
        )
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def count_lookalikes(identifiers: Iterable[str]) -> int:
    """How many distinct identifiers differ from another only by leading zeros or case: probably one person twice."""
    distinct = set(identifiers)
    return len(distinct) - len({without_zeros_and_case(one) for one in distinct})


def without_zeros_and_case(one: str) -> str:
    """An identifier without what `count_lookalikes` overlooks."""
    return one.casefold().lstrip("0")
