"""From what ASGI says of a request to the `Request` that a handler gets. Nothing is parsed before it is asked for."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Self

from svcctl.runtime.workers.body import Content
from svcctl.runtime.workers.headers import Headers
from svcctl.runtime.workers.request import Request
from svcctl.runtime.workers.stream import ReadableStream

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WAITING = 256 * 1024
"""How much of a body that nobody reads is taken in while somebody waits for the client to leave."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_LATER: Any = object()


class ClientDisconnected(ConnectionError):
    """By whoever reads a request's body, when the client is gone before its end."""

    def __init__(self) -> None:
        super().__init__("The client disconnected before it had sent the whole body")


def request_of(scope: Scope, receive: Receive) -> "IncomingRequest":
    return IncomingRequest(scope, receive)


class IncomingRequest(Request):
    __slots__ = ("_inbox", "_receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self._inbox: Inbox | None = None
        self._url = self._headers = None
        self._content = _LATER
        self._used = False

    @property
    def url(self) -> str:
        url = self._url
        if url is None:
            url = self._url = _url(self.scope)
        return url

    @property
    def headers(self) -> Headers:
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers.of_raw(self.scope["headers"], fixed=True)
        return headers

    @property
    def raw_method(self) -> str:
        method: str = self.scope["method"]
        return method

    @property
    def redirect(self) -> str:
        """Redirects of what it is passed on to are the client's to follow."""
        return "manual"

    _redirect = redirect

    @property
    def cf(self) -> dict[str, Any]:
        return {}

    def content(self) -> Content:
        content = self._content
        if content is _LATER:
            content = self._content = ReadableStream(self.inbox) if self._has_body() else None
        return content

    @property
    def body_used(self) -> bool:
        return self._content is not _LATER and super().body_used

    bodyUsed = body_used  # noqa: N815  # the platform's name

    def _has_body(self) -> bool:
        return any(name in _FRAMING and value != b"0" for name, value in self.scope["headers"])

    @property
    def inbox(self) -> "Inbox":
        if self._inbox is None:
            self._inbox = Inbox(self._receive)
        return self._inbox

    def clone(self) -> Request:
        """Its headers stay immutable, and so does nothing else."""
        copy = IncomingRequest(self.scope, self._receive)
        copy._content = self.split()  # the same class
        copy._inbox = self._inbox
        return copy

    async def disconnected(self) -> None:
        """Returns when the client is gone, or was answered."""
        await self.inbox.gone()


class Inbox:
    """The one reader of `receive`: of the body, and of the message that the client is gone."""

    __slots__ = ("_complete", "_gone", "_lock", "_receive", "_room", "_waiting", "_weight")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._waiting: deque[bytes] = deque()
        self._weight = 0
        self._complete = self._gone = False
        self._lock = asyncio.Lock()
        self._room: asyncio.Event | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._complete:
                raise StopAsyncIteration
            if self._gone:
                raise ClientDisconnected
            async with self._lock:
                if not (self._waiting or self._complete or self._gone):
                    await self._pull()
        chunk = self._waiting.popleft()
        self._weight -= len(chunk)
        if self._room is not None:
            self._room.set()
        return chunk

    async def gone(self) -> None:
        while not self._gone:
            if self._weight > WAITING:
                self._room = asyncio.Event()
                await self._room.wait()
                self._room = None
            async with self._lock:
                if not self._gone:
                    await self._pull()

    async def _pull(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone = True
            return
        if chunk := message.get("body", b""):
            self._waiting.append(chunk)
            self._weight += len(chunk)
        self._complete = not message.get("more_body", False)


def _url(scope: Scope) -> str:
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    if host is None:
        server = scope.get("server") or ("localhost", None)
        where = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
    else:
        where = host.decode("latin-1")
    scheme = scope.get("scheme", "http")
    where = where.removesuffix(":80" if scheme == "http" else ":443").lower()
    raw = scope.get("raw_path")
    path = (raw if raw is not None else scope["path"].encode()).decode("latin-1")
    query = scope.get("query_string", b"")
    return f"{scheme}://{where}{path}?{query.decode('latin-1')}" if query else f"{scheme}://{where}{path}"
