"""From a request's bytes to what a handler takes. Limits first: nothing is parsed that is too large or too deep."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from svcctl import wire
from svcctl.api.route import sequences
from svcctl.commands import Command
from svcctl.errors import UsageError

T = TypeVar("T")


class Malformed(UsageError):
    """Not what this API takes; another version of it might."""


DEEPEST = 64
"""Arrays and objects inside each other."""
_PARAMETERS = 100
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def query_of(query: bytes, path: dict[str, str], kind: type[T]) -> T:
    """`path` are the values that the path holds."""
    several = sequences(kind)  # type: ignore[arg-type]  # a class can be hashed
    found: dict[str, Any] = dict(path)
    for name, value in _pairs(query):
        if name in path or (name in found and name not in several):
            raise UsageError(f"{name!r} is given twice")
        if name in several:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
    try:
        return wire.convert(found, kind)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from error


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
        found = wire.decode(content, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is not what is asked for: {error}") from error
    if kind == Command and wire.canonical(found) != content:  # a command as Remote sends it holds nothing else
        for unknown in _unknown(msgspec.json.decode(content), found, "$"):
            raise Malformed(f"a command has no {unknown} here", hint="what it asks for would have been left out")
    return found


def _unknown(sent: Any, found: Any, where: str) -> Iterator[str]:
    """Fields that are not understood. Elsewhere they are ignored; a command that loses one is another command."""
    if isinstance(found, msgspec.Struct) and isinstance(sent, dict):
        known = dict(zip(found.__struct_encode_fields__, found.__struct_fields__, strict=True))
        for name, value in sent.items():
            if name in known:
                yield from _unknown(value, getattr(found, known[name]), f"{where}.{name}")
            elif name != found.__struct_config__.tag_field:
                yield f"{where}.{name}"
    elif isinstance(found, dict) and isinstance(sent, dict):
        for name, value in sent.items():
            yield from _unknown(value, found.get(name), f"{where}.{name}")
    elif isinstance(found, tuple) and isinstance(sent, list):
        for number, (value, one) in enumerate(zip(sent, found, strict=False)):
            yield from _unknown(value, one, f"{where}[{number}]")


def _refuse_depth(content: bytes) -> None:
    if content.count(b"[") + content.count(b"{") <= DEEPEST:
        return
    depth = 0
    for bracket in _STRINGS.sub(b"", content).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEEPEST:
            raise UsageError(f"the body is nested more than {DEEPEST} deep")
