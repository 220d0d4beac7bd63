"""How numbers are written on every page and card: one form for each kind."""

import math
from collections.abc import Mapping


def count(value: float | str) -> str:
    """A whole number: '12,345'; or the text that stands for one that is not shown, such as '<11'."""
    return value if isinstance(value, str) else f"{value:,.0f}"


def large(value: float) -> str:
    """A number whose magnitude matters: '12.35 k', '3.111 M'; below 10,000 in full."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= (10 * unit if unit == 1e3 else unit):
            return f"{value / unit:,.4g} {name}"
    return count(value)


def score(value: float | None, missing: str = "–") -> str:
    """A loss, a score or a ratio with three decimals; `missing` where there is none or it was not finite."""
    return missing if value is None or not math.isfinite(value) else f"{value:.3f}"


def percent(part: float | None, whole: float = 1, digits: int = 1, missing: str = "–") -> str:
    """A fraction as a percentage: '12.5%'; `missing` where there is none, or nothing to divide by."""
    return missing if part is None or not math.isfinite(part) or not whole else f"{100 * part / whole:.{digits}f}%"


def ratio(part: float, whole: float) -> str:
    """A ratio: '1.04', or '–' where there is nothing to divide by."""
    return f"{part / whole:.2f}" if whole else "–"


def interval(estimate: Mapping[str, float | None], value: bool = True) -> str:
    """An estimate (`value`, `low`, `high`) with its interval: '0.123 [0.100, 0.150]'; without `value` the interval."""
    bounds = "" if estimate["low"] is None else f"[{score(estimate['low'])}, {score(estimate['high'])}]"
    return f"{score(estimate['value'])} {bounds}".rstrip() if value else bounds or "–"


def duration(seconds: float) -> str:
    """A time: '1.5 s', '2 min 05 s', '3 h 07 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"
