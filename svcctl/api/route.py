"""A route as data: what it takes, gives and may carry. The application, its document and its tests read the same.

A handler is a function of a `Guarded` backend and, by the names of its parameters, of what the request holds: `asked`
(a Struct of what stands in path and query) and `body` (a model). It runs in a thread, for backends block.
"""

import inspect
import re
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_type_hints

import msgspec

from svcctl.rules.access import Power

Method = Literal["GET", "POST", "PUT", "DELETE"]

KB = 1 << 10
MB = 1 << 20
_PATH_NAME = re.compile(r"\{(\w+)\}")


class Raw(msgspec.Struct, frozen=True):
    """Bytes to be answered as they are."""

    content: bytes
    media_type: str
    etag: str


class Route(msgspec.Struct, frozen=True):
    method: Method
    path: str
    summary: str
    handler: Callable[..., Any]
    limit: int = 0
    """Bytes that the body may have; 0: there is none."""
    media_type: str = "application/json"
    """Of the body."""
    answers: str = "application/json"
    status: int = 200
    power: Power = "govern"
    """What the role of a token must allow before anything of the request is looked at; scope comes later. A route that
    says nothing is for admins."""
    kind: Literal["plain", "blob", "frames", "bytes", "poll"] = "plain"
    """How body and answer travel: `bytes` is a body handed on as it came; the others are streams and the long poll."""

    @property
    def asked(self) -> type[Any] | None:
        found: type[Any] | None = self._hints.get("asked")
        return found

    @property
    def body(self) -> Any:
        return self._hints.get("body")

    @property
    def answer(self) -> Any:
        return self._hints.get("return")

    @property
    def path_names(self) -> tuple[str, ...]:
        return tuple(_PATH_NAME.findall(self.path))

    @property
    def operation(self) -> str:
        return self.handler.__name__

    @property
    def _hints(self) -> dict[str, Any]:
        return _hints_of(self.handler)


@cache
def _hints_of(handler: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(inspect.unwrap(handler), include_extras=True)


@cache
def sequences(kind: type[Any]) -> frozenset[str]:
    """Fields of `asked` that a query may name several times."""
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if "tuple" in str(hint))
