"""Times for people. Models hold them as text in UTC: `2026-11-23T11:12:39.123Z`."""

import re
from datetime import UTC, datetime, timedelta

from svcctl import ages
from svcctl.errors import UsageError

_DURATION = re.compile(r"([0-9]{1,6})(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(at: str) -> datetime:
    return datetime.fromisoformat(at)


def ago(at: str, now: datetime) -> str:
    """`3 min ago`; `in 6 days` for what is to come, also when the clock that wrote `at` was ahead."""
    seconds = (now - moment(at)).total_seconds()
    if abs(seconds) < 1:
        return "now"
    # A time to live of 7 days is "in 7 days", not in 6, a moment after it was given.
    return f"{ages.span(seconds)} ago" if seconds > 0 else f"in {ages.span(59 - seconds)}"


def absolute(at: str) -> str:
    """`2026-11-23T11:12:39Z`: one word for awk, sorts as text."""
    return f"{moment(at).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def of_day(at: str, now: datetime) -> str:
    """`11:12:39.123` on this machine's clock, after `11-22 ` on another day."""
    local = moment(at).astimezone()
    day = "" if local.date() == now.astimezone().date() else f"{local:%m-%d} "
    return f"{day}{local:%H:%M:%S}.{local.microsecond // 1000:03}"


def seconds(text: str) -> int:
    """`7d`, `12h`, `30min`, `90s`."""
    found = _DURATION.fullmatch(text)
    if not found or not int(found[1]):
        raise UsageError(f"{text!r} is no length of time", hint="such as 7d, 12h, 30min or 90s")
    return int(found[1]) * _SECONDS[found[2]]


def since(text: str, now: datetime) -> str:
    """A date, a time, or so long ago, in the form of models."""
    if _DURATION.fullmatch(text):
        return ages.timestamp(now - timedelta(seconds=seconds(text)))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", hint="such as 2026-11-23, 2026-11-23T10:00, 7d or 12h") from None
    return ages.timestamp(found if found.tzinfo else found.astimezone())
