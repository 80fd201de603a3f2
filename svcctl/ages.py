"""Times as models hold them, and lengths of time in words."""

from datetime import UTC, datetime

_UNITS = ((60, "s"), (60, "min"), (24, "h"), (7, "day"), (52, "week"))


def timestamp(moment: datetime) -> str:
    """`2026-11-23T11:12:39.123Z`: UTC, cut to milliseconds; sorts as text."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


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
