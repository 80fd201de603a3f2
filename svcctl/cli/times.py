"""Times for people. Models hold them as text in UTC: `2026-11-23T11:12:39.123Z`."""

from datetime import UTC, datetime

_UNITS = ((60, "s"), (60, "min"), (24, "h"), (7, "day"), (52, "week"))


def moment(at: str) -> datetime:
    return datetime.fromisoformat(at)


def ago(at: str, now: datetime) -> str:
    """`3 min ago`; `in 6 days` for what is to come, also when the clock that wrote `at` was ahead."""
    seconds = (now - moment(at)).total_seconds()
    if abs(seconds) < 1:
        return "now"
    span = _span(abs(seconds))
    return f"{span} ago" if seconds > 0 else f"in {span}"


def absolute(at: str) -> str:
    """`2026-11-23T11:12:39Z`: one word for awk, sorts as text."""
    return f"{moment(at).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _span(seconds: float) -> str:
    count = int(seconds)
    for size, unit in _UNITS:
        if count < size:
            return _counted(count, unit)
        count //= size
    return _counted(count, "year")


def _counted(count: int, unit: str) -> str:
    plural = "s" if count != 1 and unit in ("day", "week", "year") else ""
    return f"{count} {unit}{plural}"
