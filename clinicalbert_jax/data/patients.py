"""Who a note or a record is about: the one spelling of an identifier, and the split, bucket and group of a patient."""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from clinicalbert_jax.errors import UserError

# Outside an identifier: white space, quotation marks, control and invisible characters such as a byte-order mark, and
# the = of ="00123", by which spreadsheets keep leading zeros.
_SURROUNDING = r"[\s\x00-\x1f\x7f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\"'`\u2018-\u201f\xab\xbb]"
_OUTER = re.compile(rf"\A(?:{_SURROUNDING}|=(?=[\"']))+|{_SURROUNDING}+\Z")
_WHOLE_NUMBER = re.compile(r"(-?[0-9]+)\.0*")
_SCIENTIFIC = re.compile(r"-?[0-9](\.[0-9]+)?([eE])\+[0-9]{2,3}")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:[.,' ][0-9]{3})+")
_DASH = re.compile(r"[\u2010-\u2015\u2212]")
# How pandas and R write a missing value (pandas' default `na_values`), and MySQL.
_MISSING = re.compile(r"-?[Nn]a[Nn]|-?1\.#(IND|QNAN)|<NA>|#?N/?A|n/a|NULL|null|NaT|None|\\N")
_FLOATS_SKIP_INTEGERS = 2**53

DEFAULT_SPLIT_KEY = "clinicalbert_jax"


class RoundedIdentifierError(UserError):
    """An identifier that a program has rounded, so that different people would be one."""


def identifier(value: Any) -> str:
    """The one spelling of a patient's identifier; '' where it is missing.

    `value` is a cell as any reader gives it. Text loses outer white space, quotation marks and byte-order marks, and is
    in Unicode's NFC with ASCII digits. The text `123.0`, the floats and decimals 123.0 and the integer 123 are all
    '123', and so is `1e+05`, as R writes it, '100000'. Leading zeros and case are kept (see `count_lookalikes`), and so
    is text such as '1e3'. A list or a mapping identifies nobody.

    Raises `RoundedIdentifierError` for a float from 2^53 on and for text such as `1.23457E+11`, as spreadsheets write
    long numbers: their last digits are lost.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, str):
        text = _OUTER.sub("", value if value.isascii() else _with_ascii_digits(unicodedata.normalize("NFC", value)))
        if "+" in text and (scientific := _SCIENTIFIC.fullmatch(text)):
            return _written_out(text, scientific[2])
        whole = _WHOLE_NUMBER.fullmatch(text)
        return "" if _MISSING.fullmatch(text) else whole[1] if whole else text
    if value is None or value != value or isinstance(value, list | tuple | dict | set):  # NaN differs from itself
        return ""
    if isinstance(value, float | Decimal) and math.isinf(value):
        return ""
    if isinstance(value, float) and abs(value) >= _FLOATS_SKIP_INTEGERS and math.isfinite(value):
        raise RoundedIdentifierError(
            "expected identifiers as text or integers, found a float from 2^53 on, whose last digits are lost: "
            "write the column of identifiers as text"
        )
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def _with_ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)


def _written_out(text: str, exponent_sign: str) -> str:
    """A number in scientific notation with all its digits.

    R writes whole numbers so where that is shorter, and exactly; spreadsheets (with a capital E) and `%g` round.
    """
    number = f"{Decimal(text):f}"
    if exponent_sign == "E" or "." in number or len(text) >= len(number) or abs(int(number)) >= _FLOATS_SKIP_INTEGERS:
        raise RoundedIdentifierError(
            "expected identifiers as text or integers, found a number in scientific notation, whose last digits may be "
            "lost: write the column of identifiers as text"
        )
    return number


def count_lookalikes(identifiers: Iterable[str]) -> int:
    """How many distinct identifiers differ from another only by what looks alike: probably one person twice."""
    distinct = set(identifiers)
    return len(distinct) - len({without_lookalikes(one) for one in distinct})


def without_lookalikes(one: str) -> str:
    """An identifier without leading zeros, case and separators of thousands, and with one form of each character."""
    if not one.isascii():
        one = "".join(c for c in unicodedata.normalize("NFKC", one) if unicodedata.category(c) != "Cf")
        one = _DASH.sub("-", one)
    if _THOUSANDS.fullmatch(one):
        one = re.sub("[^0-9]", "", one)
    return one.casefold().lstrip("0")


@dataclass(frozen=True)
class SplitRule:
    """How patients are assigned to splits. Equal rules assign a patient to the same split, whatever else differs.

    `key` is public: it says nothing about a patient without the patient's identifier.
    """

    key: str
    validation_fraction: float
    test_fraction: float

    def uniform_of(self, patient: str) -> float:
        """The number in [0, 1) that decides: the lowest ones are in the test split, the next ones in validation."""
        return _hash(patient, _digest(self.key.encode()), b"split") / 2**64

    def split_of(self, patient: str) -> str:
        """'train', 'validation' or 'test'."""
        uniform = self.uniform_of(patient)
        if uniform < self.test_fraction:
            return "test"
        if uniform < self.test_fraction + self.validation_fraction:
            return "validation"
        return "train"


def split_rule(options: Mapping[str, Any]) -> SplitRule | None:
    """The rule in the options of a manifest; None where they name none.

    Before there was a `split_key`, one salt keyed everything, and a manifest held its hash.
    """
    if "validation_fraction" not in options or not {"split_key", "salt_hash"} & options.keys():
        return None
    key = options.get("split_key")
    if key is None:
        by_default = hashlib.blake2b(DEFAULT_SPLIT_KEY.encode(), digest_size=16, person=b"manifest").hexdigest()
        old = options["salt_hash"]
        key = DEFAULT_SPLIT_KEY if old == by_default else f"the salt of hash {old}"
    return SplitRule(key, options["validation_fraction"], options["test_fraction"])


def bucket_of(patient: str, count: int, salt: bytes) -> int:
    """The number, among `count`, of a patient's bucket within their split."""
    return _hash(patient, _digest(salt), b"bucket") % count


def patient_group(patient: str, salt: bytes) -> int:
    """The 48-bit hash that stands for a patient in the examples; says nothing about them without the private salt."""
    return _hash(patient, _digest(salt), b"group") >> 16


def _digest(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=32).digest()


def _hash(patient: str, key: bytes, purpose: bytes) -> int:
    encoded = patient.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8, key=key, person=purpose).digest(), "big")
