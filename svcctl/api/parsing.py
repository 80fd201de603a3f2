"""From a request's bytes to what a handler takes. Limits first: nothing is parsed that is too large or too deep."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from svcctl import wire
from svcctl.api.route import sequences
from svcctl.errors import UsageError

T = TypeVar("T")
DEEPEST = 64
"""Arrays and objects inside each other."""
_PARAMETERS = 100
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def query_of(query: bytes, path: dict[str, str], kind: type[T]) -> T:
    """`path` are the values that the path holds."""
    several = sequences(kind)
    found: dict[str, Any] = dict(path)
    for name, value in _pairs(query):
        if name in path or (name in found and name not in several):
            raise UsageError(f"{name!r} is given twice")
        if name in several:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error


def _pairs(query: bytes) -> Iterable[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(query),
            errors="strict",
            max_num_fields=_PARAMETERS,
        )
    except ValueError as error:
        raise UsageError("the query is none that can be read") from error


def body_of(content: bytes, kind: Any) -> Any:
    _refuse_depth(content)
    try:
        return wire.decode(content, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the body is not what is asked for: {error}") from error


def _refuse_depth(content: bytes) -> None:
    if content.count(b"[") + content.count(b"{") <= DEEPEST:
        return
    depth = 0
    for bracket in _STRINGS.sub(b"", content).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise UsageError(f"the body is nested more than {DEEPEST} deep")
