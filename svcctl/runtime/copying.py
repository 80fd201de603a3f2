"""Values that cross a service binding: each side has its own, as if they had travelled.

Immutable ones pass as they are, and so do objects that are made to be handed on: requests, responses, streams and
callables. Everything else is copied.
"""

import copy
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import types
import uuid
from typing import Any

AS_THEY_ARE: set[type] = {
    str, int, float, bool, bytes, type(None), complex, range, type(Ellipsis),
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
    decimal.Decimal, fractions.Fraction, uuid.UUID, pathlib.PurePosixPath, pathlib.PosixPath,
    types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.CoroutineType, types.AsyncGeneratorType,
    types.GeneratorType,
}  # fmt: skip
"""Types whose values need no copy. The runtime adds those of `workers`."""


def copied(value: Any) -> Any:
    """Raises TypeError for what can't be copied, naming its type."""
    kind = type(value)
    if kind in AS_THEY_ARE:
        return value
    if kind is dict:
        return {copied(key): copied(item) for key, item in value.items()}
    if kind is list:
        return [copied(item) for item in value]
    if kind is tuple:
        return tuple(copied(item) for item in value)
    if isinstance(value, enum.Enum | type):
        return value
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise TypeError(f"a {kind.__qualname__} can't pass through a service binding: {error}") from error
