"""One request and its answer: an application's `receive` and `send`, as on uvicorn but for half of the price.

What is saved: the head of an answer leaves with its first bytes, in one write, if they follow before the event loop
turns; an answer that is whole is one call, `respond`, and no messages; header lines are checked and made once; nothing
is set up for waiting until somebody waits.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from svcctl.runtime import capture
from svcctl.runtime.invocation import current

if TYPE_CHECKING:
    from svcctl.dataplane.protocol import Connection

Raw = tuple[bytes, bytes]
Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[Any]]
"""`app(scope, receive, send, respond)`."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"connection: close\r\n"
_CHUNKED: Final = b"transfer-encoding: chunked\r\n"
_JOINED: Final = 1 << 16
"""A body of up to so many bytes is copied to leave with its head."""
_LINES_KEPT: Final = 2048
_LINE_KEPT: Final = 128
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_BODILESS: Final = frozenset({204, 304})
_PHRASES: Final = {each.value: each.phrase for each in HTTPStatus}
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(100, 600)
}

_lines: dict[Raw, bytes] = {}
"""Of headers that were sent before."""


def line(header: Raw) -> bytes:
    """As it stands in an answer's head. Raises RuntimeError for what would not stay in one line."""
    known = _lines.get(header)
    if known is not None:
        return known
    name, value = header
    if not _NAME.fullmatch(name):
        raise RuntimeError(f"Invalid HTTP header name: {name!r}")
    if not _VALUE.fullmatch(value):
        raise RuntimeError(f"Invalid HTTP header value for {name!r}: {value!r}")
    made = b"%b: %b\r\n" % (name.lower(), value)
    if len(made) <= _LINE_KEPT:
        if len(_lines) >= _LINES_KEPT:
            _lines.clear()
        _lines[header] = made
    return made


class Exchange:
    __slots__ = (
        "_asked_100", "_bodiless", "_body", "_chunked", "_connection", "_event", "_head", "_length", "_more", "_news",
        "complete", "disconnected", "keep_alive", "scope", "started",
    )  # fmt: skip

    def __init__(
        self, connection: "Connection", scope: MutableMapping[str, Any], *, keep_alive: bool, asked_100: bool
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.disconnected = False
        self.started = False
        """The answer has begun."""
        self.complete = False
        self._connection = connection
        self._asked_100 = asked_100
        self._body = b""
        self._more = True
        self._news = False
        """Something that `receive` has not told yet."""
        self._event: asyncio.Event | None = None
        self._head = b""
        """Of an answer that has begun, until its first bytes."""
        self._bodiless = False
        self._chunked = False
        self._length: int | None = None
        """Bytes that the answer's Content-Length still promises."""

    async def run(self, app: App) -> None:
        try:
            await app(self.scope, self.receive, self.send, self.respond)
            if not self.complete and not self.disconnected:
                what = "before the end of its answer" if self.started else "without an answer"
                capture.log_event("error", f"the application returned {what}")
                self._break_off()
        except BaseException:  # noqa: BLE001 - uvicorn's rule; whoever raised has told
            self._break_off()
        finally:
            self._connection.worker.ran(self)

    def _break_off(self) -> None:
        """An answer that has begun is cut, so that nobody takes it for whole."""
        if self.complete or self.disconnected:
            return
        if not self.started:
            self.keep_alive = False
            invocation = current.get(None)
            text = f"Internal Server Error (request {invocation.outer.id if invocation else '-'})\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
            if self.respond(500, headers, b"" if self.scope["method"] == "HEAD" else text):
                return
        self._send_head()
        self._connection.transport.close()

    # ---- the request

    def feed(self, body: bytes) -> int:
        """Returns how much waits to be received."""
        if self.complete:
            return 0
        self._body = self._body + body if self._body else body
        self.stir()
        return len(self._body)

    def end(self) -> None:
        """The request is whole."""
        self._more = False
        self.stir()

    def disconnect(self) -> None:
        self.disconnected = not self.complete
        self.stir()

    def stir(self) -> None:
        self._news = True
        if self._event is not None:
            self._event.set()

    async def receive(self) -> Message:
        if self._asked_100 and not self.started:
            self._connection.transport.write(_CONTINUE)
            self._asked_100 = False
        if not self.disconnected and not self.complete:
            self._connection.flow.resume_reading()
            if not self._news:
                if self._event is None:
                    self._event = asyncio.Event()
                await self._event.wait()
            self._news = False
            if self._event is not None:
                self._event.clear()
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, b""
        return {"type": "http.request", "body": body, "more_body": self._more}

    # ---- the answer

    def respond(self, status: int, headers: Iterable[Raw], body: bytes) -> bool:
        """A whole answer at once. `headers` say the length and nothing of the connection. False: `send` it instead."""
        connection = self._connection
        if connection.flow.write_paused or self.disconnected or self.started:
            return False
        content = [_STATUS_LINES[status], connection.worker.own_lines, *map(line, headers)]
        if not self.keep_alive:
            content.append(_CLOSE)
        content.append(b"\r\n")
        content.append(body)
        self.started = True
        connection.transport.write(b"".join(content))
        self._finish()
        return True

    async def send(self, message: Message) -> None:
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got {kind!r}.")
            self._start(message["status"], message.get("headers", ()))
        elif self.complete:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} sent, after response already completed.")
        elif kind != "http.response.body":
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got {kind!r}.")
        else:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))

    def _start(self, status: int, headers: Iterable[Raw]) -> None:
        content = [_STATUS_LINES[status], self._connection.worker.own_lines]
        closes = False
        for raw_name, raw_value in headers:
            name, value = bytes(raw_name).lower(), bytes(raw_value)
            content.append(line((name, value)))
            if name == b"content-length" and self._length is None:
                self._length = int(value)
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self._chunked = True
            elif name == b"connection" and b"close" in [each.strip() for each in value.lower().split(b",")]:
                closes, self.keep_alive = True, False
        if not self.keep_alive and not closes:
            content.append(_CLOSE)
        if self.scope["method"] == "HEAD" or status in _BODILESS:
            self._bodiless = True
        elif self._length is None and not self._chunked and self.scope["http_version"] == "1.1":
            self._chunked = True
            content.append(_CHUNKED)
        content.append(b"\r\n")
        self.started = True
        self._head = b"".join(content)
        self._connection.loop.call_soon(self._send_head)

    def _send_head(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._connection.transport.write(head)

    def _go_on(self, body: bytes, *, more: bool) -> None:
        if self._bodiless:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        elif self._length is not None:
            self._length -= len(body)
            if self._length < 0:
                raise RuntimeError("Response content longer than Content-Length")
            if self._length and not more:
                raise RuntimeError("Response content shorter than Content-Length")
        head, self._head = self._head, b""
        if head and len(body) <= _JOINED:
            self._connection.transport.write(head + body)
        elif head or body:
            self._connection.transport.writelines([head, body])
        if not more:
            self._finish()

    def _finish(self) -> None:
        self.complete = True
        self.stir()
        if not self.keep_alive:
            self._connection.transport.close()
        self._connection.answered()
