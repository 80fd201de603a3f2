"""Lengths of time in words."""

_UNITS = ((60, "s"), (60, "min"), (24, "h"), (7, "day"), (52, "week"))


def span(seconds: float) -> str:
    """`45 s`, `9 min`, `3 days`: whole, rounded down."""
    count = int(seconds)
    for size, unit in _UNITS:
        if count < size:
            return _counted(count, unit)
        count //= size
    return _counted(count, "year")


def _counted(count: int, unit: str) -> str:
    plural = "s" if count != 1 and unit in ("day", "week", "year") else ""
    return f"{count} {unit}{plural}"
