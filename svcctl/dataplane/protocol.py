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
from asyncio import TimerHandle, Transport
from enum import Enum, auto
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from svcctl.dataplane import forwarding, gate
from svcctl.dataplane.exchange import Exchange
from svcctl.dataplane.gate import BadRequest, Head

if TYPE_CHECKING:
    from svcctl.dataplane.worker import Worker

_HELD = 1 << 16
"""Bytes of further requests that are held before reading pauses."""
_HEAD_TIMEOUT = 15.0
"""Seconds for a further request's head, from its first byte."""


class _Body(Enum):
    NONE = auto()
    """At a boundary, or the request was read whole."""
    COUNTED = auto()
    CHUNKED = auto()


_NONE = _Body.NONE  # a member of an Enum costs more to reach than all else that is asked of it


class Connection(HttpToolsProtocol):
    """Adopted with `first`, the bytes that the router read."""

    on_url = None  # type: ignore[assignment]  # the gate has read it

    def __init__(self, worker: "Worker", first: bytes) -> None:
        super().__init__(worker.config, worker.server_state, worker.state, worker.loop)
        self.worker = worker
        self._held = bytearray(first)
        self._body = _NONE
        self._left = 0
        self._answered = True
        self._gone = False
        self._head: Head | None = None
        self._exchange: Exchange | None = None
        self._marks: list[tuple[bytes, bytes]] = []
        self._sent = 0
        self._is_partial = False
        """A head has begun and not ended."""
        self._timer: TimerHandle | None = None
        self._patient_until = 0.0

    # ---- bytes in

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._marks = forwarding.marks(self.client[0] if self.client else "", "http")
        self.worker.arrived(self)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.left(self)
        self._gone = True
        self._stop_timer()
        if self._exchange is not None:
            self._exchange.disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._gone:
            return
        if self._body is _NONE:
            if not self._answered:
                self._hold(data)
            elif self._held:
                self._held += data
                if b"\n" in data or len(self._held) > gate.HEAD_LIMIT:
                    self._next()
            else:
                self._begin(data)
        elif self._body is _Body.COUNTED:
            self._feed_counted(data)
        else:
            self._feed(data)
            self._settle()

    @property
    def at_boundary(self) -> bool:
        return self._answered and self._body is _NONE

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > _HELD:
            self.flow.pause_reading()

    def _next(self) -> None:
        if self._gone or not self.at_boundary:
            return
        if self._held:
            data, self._held = bytes(self._held), bytearray()
            self._begin(data)
        else:
            self._rest()

    def _begin(self, data: bytes) -> None:
        """`data` is all there is since the boundary."""
        try:
            head = gate.parse(data)
        except BadRequest as wrong:
            self._refuse(wrong)
            return
        if head is None:
            self._wait_for_more(data)
            return
        self._is_partial = False
        if not self.worker.is_ours(head):
            self._held[:0] = data
            self.hand_back()
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
            if self._left:
                self._body = _Body.COUNTED
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
            self._body = _NONE
        self._feed(data)
        self._settle()

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._spoilt()

    def _spoilt(self) -> None:
        """The body broke the rules, or another request followed a chunked one at once."""
        self._body = _NONE
        self._held.clear()
        exchange = self._exchange
        if self._answered or exchange is None or not exchange.started:
            self.transport.write(gate.answer(400, "the request's body is malformed"))
            self.transport.close()
            if exchange is not None:
                exchange.disconnect()
        else:
            exchange.keep_alive = False
            self.flow.pause_reading()

    def _refuse(self, wrong: BadRequest) -> None:
        self.worker.refused(wrong)
        self.transport.write(gate.answer(wrong.status, wrong.reason))
        self.transport.close()

    # ---- what the parser says

    def on_message_begin(self) -> None:
        if self._head is None:
            raise ValueError("a request that did not come through the gate: one after a chunked body, in its segment")
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        head, self._head = self._head, None
        assert head is not None  # noqa: S101 - on_message_begin looked
        path = head.path.decode("ascii")
        query = head.target.find(b"?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": head.version.decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "method": head.method.decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.path,
            "query_string": b"" if query < 0 else head.target[query + 1 :],
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        if head.forwarding:
            self._clean(scope)
        else:
            self.headers += self._marks
        self._exchange = exchange = Exchange(
            self,
            scope,
            keep_alive=not head.close and head.version == b"1.1" and self.parser.should_keep_alive(),
            asked_100=self.expect_100_continue,
        )
        self.worker.start(exchange)

    def _clean(self, scope: dict[str, Any]) -> None:
        """Nobody but a trusted proxy says who the client is."""
        trust, peer = self.worker.trust, self.client[0] if self.client else ""
        marks = self._marks
        if trusted := trust.trusts(peer):
            address, scheme = trust.client(peer, self.headers)
            scope["client"], scope["scheme"] = (address, 0), scheme
            marks = forwarding.marks(address, scheme)
        forwarding.strip(self.headers, trusted=trusted)
        self.headers += marks

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None and self._exchange.feed(body) > _HELD:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._body = _NONE
        if self._exchange is not None:
            self._exchange.end()

    # ---- between two requests

    def answered(self) -> None:
        """By the exchange, with its last byte."""
        self.server_state.total_requests += 1
        self._answered = True
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._settle()

    def _settle(self) -> None:
        if self._gone or not self.at_boundary or self.transport.is_closing():
            return
        if self._held:
            self.loop.call_soon(self._next)
        else:
            self._rest()

    def _rest(self) -> None:
        """One timer lives through many requests: it looks at the clock when it rings."""
        self._patient_until = self.loop.time() + self.timeout_keep_alive
        if self._timer is None:
            self._timer = self.loop.call_at(self._patient_until, self._ring)
        self.worker.idle(self)

    def _wait_for_more(self, data: bytes) -> None:
        self._held += data
        if not self._is_partial:
            self._is_partial = True
            self._stop_timer()
            self._patient_until = self.loop.time() + _HEAD_TIMEOUT
            self._timer = self.loop.call_at(self._patient_until, self._ring)
        self.worker.idle(self)

    def _ring(self) -> None:
        self._timer = None
        if self._gone or not self.at_boundary or self.transport.is_closing():
            return
        if self.loop.time() < self._patient_until:
            self._timer = self.loop.call_at(self._patient_until, self._ring)
        elif self._is_partial:
            self._refuse(BadRequest(408, "the request's head did not come in time"))
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- leaving

    def hand_back(self) -> None:
        """To the router, at a boundary, with what is held. What was written must have reached the kernel first."""
        if self._gone or self.transport.is_closing():
            return
        transport = self.transport
        transport.pause_reading()
        if transport.get_write_buffer_size():
            self.worker.retry(self)
            return
        self._gone = True
        self._stop_timer()
        sock: socket.socket = transport.get_extra_info("socket")
        self.worker.return_connection(os.dup(sock.fileno()), bytes(self._held))
        transport.abort()

    def leave(self) -> None:
        """As soon as it is at a boundary: now, or after the answer."""
        if self.at_boundary:
            self.hand_back()

    def is_stuck(self) -> bool:
        """Whether not a byte of what is waiting was taken since the last time this was asked."""
        waiting = self.transport.get_write_buffer_size()
        stuck = bool(waiting) and waiting == self._sent
        self._sent = waiting
        return stuck
