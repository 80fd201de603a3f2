"""What a var may hold: any JSON value but null, that every JSON reader gives back the same."""

import datetime as dt
import math
from collections.abc import Iterator
from typing import Any

from svcctl import wire
from svcctl.config.positions import Path
from svcctl.config.table import described

INTEGER = 2**53


def check_value(value: Any, size: int) -> Iterator[tuple[Path, str]]:
    """What is wrong with the value of a var, and where inside it; `size` is `limits.var_size`."""
    problems = list(_check(value, ()))
    yield from problems
    if not problems and (held := len(wire.canonical(value))) > size:
        yield (), f"holds {held:,} bytes as JSON; {size:,} is the limit (limits.var_size)"


def _check(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, list | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _check(item, (*path, key))
    elif wrong := _check_scalar(value):
        yield path, wrong


def _check_scalar(value: Any) -> str | None:
    match value:
        case bool() | str():
            return None
        case int():
            beyond = f"{described(value)} is beyond 2^53, where JSON loses digits; write it as a string"
            return beyond if abs(value) > INTEGER else None
        case float():
            return None if math.isfinite(value) else f"{value} has no JSON form; leave it out, or write it as a string"
        case dt.date() | dt.time():
            return f"{value} is a date or time; write it as a string, in quotes"
    return f"must be a string, number, boolean, array or table, not {described(value)}"
