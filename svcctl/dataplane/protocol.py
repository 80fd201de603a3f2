"""One connection in a worker: uvicorn's protocol, asked only for requests that are whole, strict and this deployment's.

Between two requests a connection is at a *boundary*: everything read was answered, nothing of the next is parsed. Only
there may it leave the worker. So the bytes are looked at before the parser sees them: the gate reads a head, says where
the request ends, and whether it is for this deployment. If it is, exactly its bytes are fed; what follows is held until
it was answered. If not, the connection goes back to the router, with every byte since the boundary.

A chunked body ends where the parser says so; bytes behind it in the same segment can't be told apart, so the connection
closes after the answer, as HTTP allows.
"""

import os
import socket
from asyncio import Transport
from enum import Enum, auto
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from svcctl.dataplane import forwarding, gate
from svcctl.dataplane.gate import BadRequest, Head

if TYPE_CHECKING:
    from svcctl.dataplane.worker import Worker

_HELD = 1 << 16
"""Bytes of further requests that are held before reading pauses."""


class _Body(Enum):
    NONE = auto()
    """At a boundary, or the request was read whole."""
    COUNTED = auto()
    CHUNKED = auto()


class Connection(HttpToolsProtocol):
    """Adopted with `first`, the bytes that the router read."""

    def __init__(self, worker: "Worker", first: bytes) -> None:
        super().__init__(worker.config, worker.server_state, worker.state, worker.loop)
        self._worker = worker
        self._held = bytearray(first)
        self._body = _Body.NONE
        self._left = 0
        self._answered = True
        self._gone = False
        self._head: Head | None = None
        self._marks: list[tuple[bytes, bytes]] = []
        self._sent = 0

    # ---- bytes in

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._marks = forwarding.marks(self.client[0] if self.client else "", "http")
        self._worker.arrived(self)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.left(self)
        self._gone = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._gone:
            return
        if self.at_boundary:
            self._unset_keepalive_if_required()
            if self._held:
                self._held += data
                self._next()
            else:
                self._begin(data)
        elif self._body is _Body.COUNTED:
            self._feed_counted(data)
        elif self._body is _Body.CHUNKED:
            self._feed(data)
            self._settle()
        else:
            self._hold(data)

    @property
    def at_boundary(self) -> bool:
        return self._answered and self._body is _Body.NONE

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD:
            self.flow.pause_reading()

    def _next(self) -> None:
        if self._held and self.at_boundary and not self._gone:
            data = bytes(self._held)
            self._held.clear()
            self._begin(data)
        elif self.at_boundary and not self._gone:
            self._worker.idle(self)

    def _begin(self, data: bytes) -> None:
        """`data` is all there is since the boundary."""
        try:
            head = gate.parse(data)
        except BadRequest as wrong:
            self._refuse(wrong)
            return
        if head is None:
            self._held += data
            self._worker.idle(self)
            return
        if not self._worker.is_ours(head):
            self.hand_back(data)
            return
        self._head = head
        self._answered = False
        if head.chunked:
            self._body = _Body.CHUNKED
        else:
            end = head.size + (head.length or 0)
            if len(data) > end:
                self._held += data[end:]
                data = data[:end]
            self._left = end - len(data)
            self._body = _Body.COUNTED if self._left else _Body.NONE
        if head.upgrade:
            data = gate.without_upgrade(data[: head.size]) + data[head.size :]
        self._feed(data)
        if head.chunked:
            self._settle()

    def _feed_counted(self, data: bytes) -> None:
        if len(data) > self._left:
            self._hold(data[self._left :])
            data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self._body = _Body.NONE
        self._feed(data)
        self._settle()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._spoilt()

    def _spoilt(self) -> None:
        """The body broke the rules, or another request followed a chunked one at once."""
        self._body = _Body.NONE
        self._held.clear()
        if self._answered or self.cycle is None or not self.cycle.response_started:
            self.transport.write(gate.answer(400, "the request's body is malformed"))
            self.transport.close()
            if self.cycle is not None:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
        else:
            self.cycle.keep_alive = False
            self.flow.pause_reading()

    def _refuse(self, wrong: BadRequest) -> None:
        self._worker.refused(wrong)
        self.transport.write(gate.answer(wrong.status, wrong.reason))
        self.transport.close()

    # ---- what the parser says

    def on_message_begin(self) -> None:
        if self._head is None:
            raise ValueError("a request that did not come through the gate: one after a chunked body, in its segment")
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        head, self._head = self._head, None
        assert head is not None  # noqa: S101 - on_message_begin looked
        if head.forwarding:
            self._clean()
        else:
            self.headers += self._marks
        super().on_headers_complete()
        if head.close:
            self.cycle.keep_alive = False

    def _clean(self) -> None:
        """Nobody but a trusted proxy says who the client is."""
        trust, peer = self._worker.trust, self.client[0] if self.client else ""
        marks = self._marks
        if trusted := trust.trusts(peer):
            address, scheme = trust.client(peer, self.headers)
            self.scope["client"], self.scope["scheme"] = (address, 0), scheme  # type: ignore[typeddict-item]
            marks = forwarding.marks(address, scheme)
        forwarding.strip(self.headers, trusted=trusted)
        self.headers += marks

    def on_message_complete(self) -> None:
        self._body = _Body.NONE
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._answered = True
        self._settle()

    def _settle(self) -> None:
        if self._gone or not self.at_boundary or self.transport.is_closing():
            return
        if self._held:
            self._unset_keepalive_if_required()
            self.loop.call_soon(self._next)
        else:
            self._worker.idle(self)

    # ---- leaving

    def hand_back(self, unread: bytes = b"") -> None:
        """To the router, at a boundary. What was written must have reached the kernel first."""
        if self._gone or self.transport.is_closing():
            return
        transport = self.transport
        transport.pause_reading()
        if transport.get_write_buffer_size():
            self._held[:0] = unread
            self._worker.retry(self)
            return
        self._gone = True
        self._unset_keepalive_if_required()
        sock: socket.socket = transport.get_extra_info("socket")
        self._worker.return_connection(os.dup(sock.fileno()), bytes(unread))
        transport.abort()

    def leave(self) -> None:
        """As soon as it is at a boundary: now, or after the answer."""
        if self.at_boundary:
            self.hand_back(bytes(self._held))

    def is_stuck(self) -> bool:
        """Whether not a byte of what is waiting was taken since the last time this was asked."""
        waiting = self.transport.get_write_buffer_size()
        stuck = bool(waiting) and waiting == self._sent
        self._sent = waiting
        return stuck
