"""Connections to the API, as uvicorn's with limits that it has not: how long a request's head may take, how large it
may be, how long an answer may wait to be taken, and how many connections there may be. A body has its own
(`api.uploading`)."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol


class Limits(msgspec.Struct, frozen=True):
    head: float = 20.0
    """Seconds from the first byte of a head to its last."""
    size: int = 1 << 16
    """Bytes of a head, beside those that came first."""
    idle: float = 75.0
    """Seconds without a request; longer than balancers keep their connections."""
    taken: float = 60.0
    """Seconds in which a client must take something of its answer; what it waits for keeps a thread."""
    connections: int = 1_000


LIMITS = Limits()


class Gathered:
    """A transport whose writes of one turn of the loop leave together: a head and its body in one packet, which takes
    one call to the system and wakes the client once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def _send(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        self._send()
        self._transport.close()


def protocol(limits: Limits) -> Callable[..., "Connection"]:
    return partial(Connection, limits)


class Connection(HttpToolsProtocol):
    def __init__(self, limits: Limits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._late: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._head = 0
        """Bytes of a head that is not whole yet."""
        self._in_head = self._in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(Gathered(transport, self.loop))  # type: ignore[arg-type]  # all that is asked of one
        if len(self.connections) > self._limits.connections:
            self._end(503)
        else:
            self.timeout_keep_alive_task = self.loop.call_later(self._limits.idle, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._taken()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self._is_answered or self._in_head:
            self._wait(data)

    @property
    def _is_answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, data: bytes) -> None:
        """For the rest of a head (empty lines before it are some of it), or of a body that nobody reads any more."""
        if self._late is None:
            self._late = self.loop.call_later(self._limits.head, self._end, 408)
        elif not self._in_body:
            self._head += len(data)
            if self._head > self._limits.size:
                self._end(431)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_time()
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._untaken is None:
            self._untaken = self.loop.call_later(self._limits.taken, self.transport.abort)

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()

    def _taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._head = 0

    def _end(self, status: int) -> None:
        if self.transport.is_closing():
            return
        if self._is_answered:
            more = b"retry-after: 1\r\n" if status == 503 else b""
            self.transport.write(STATUS_LINE[status] + more + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
