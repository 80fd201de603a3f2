"""Who is being called right now: one `Request` for each request from outside, one `Invocation` for each handler on
the way.

A binding call costs a microsecond, so what is kept per call is one small object in one context variable. Deadlines
and counts are kept per outer request.
"""

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any

import msgspec

from svcctl.runtime.assembly import Part
from svcctl.runtime.threads import home

DEPTH = 32
SUBREQUESTS = 1_000


class Outer:
    """One request from outside, or one `svcctl call`."""

    __slots__ = ("background", "deadline", "id", "status", "subrequests")

    def __init__(self, id: str) -> None:
        self.id = id
        self.subrequests = SUBREQUESTS
        """How many more outbound requests and binding calls it may make."""
        self.background: set[asyncio.Task[Any]] | None = None
        """What `waitUntil` was given."""
        self.deadline = 0.0
        """On the loop's clock; 0: none."""
        self.status = 0
        """Of the answer, once it has begun."""

    def wait_until(self, work: Awaitable[Any]) -> None:
        if (loop := home()) is not None:  # a sync handler's thread has no loop of its own
            loop.call_soon_threadsafe(self.wait_until, work)
            return
        task = asyncio.ensure_future(work)
        if self.background is None:
            self.background = set()
        self.background.add(task)


class Invocation(msgspec.Struct, eq=False):
    """One handler at work. Handlers are given it as `ctx`."""

    outer: Outer
    part: Part
    env: Any
    caller: "Invocation | None" = None
    depth: int = 0
    """How many callers there are."""

    @property
    def chain(self) -> list[str]:
        """The places on the way here, the outermost first."""
        found: list[str] = []
        each: Invocation | None = self
        while each is not None:
            found.append(each.part.place)
            each = each.caller
        return found[::-1]

    # ---- what handlers use of it

    def wait_until(self, work: Awaitable[Any]) -> None:
        """Goes on after the response; the worker process waits for it before it ends."""
        self.outer.wait_until(work)

    waitUntil = wait_until  # noqa: N815 - Cloudflare's name

    def pass_through_on_exception(self) -> None:
        """There is no origin behind a handler: an exception is always answered with 500."""

    passThroughOnException = pass_through_on_exception  # noqa: N815 - Cloudflare's name

    @property
    def props(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        return f"<ctx of {self.part.ref}, request {self.outer.id}>"


current: ContextVar[Invocation] = ContextVar("svcctl.invocation")
"""Set while modules are loaded too; not set in lifespans."""
