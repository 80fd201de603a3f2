"""ASGI applications behind `fetch`: what handlers import as `asgi`, and how a binding calls one.

The application runs in a task of its own. Its answer is handed on at `http.response.start`, as a stream that waits for
its reader; one that is complete before the event loop turns (nearly all are) stays bytes. Whatever the application does
after its answer goes on.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Context as Variables
from typing import Any, Never, Self
from urllib.parse import unquote_to_bytes, urlsplit
from weakref import WeakSet

from svcctl.runtime.incoming import ClientDisconnected, IncomingRequest, Message, Receive, Scope, Send
from svcctl.runtime.invocation import current
from svcctl.runtime.workers.body import Content
from svcctl.runtime.workers.entrypoint import WorkerEntrypoint
from svcctl.runtime.workers.headers import Raw
from svcctl.runtime.workers.request import Request
from svcctl.runtime.workers.response import NULL_BODY, Response
from svcctl.runtime.workers.stream import ReadableStream
from svcctl.runtime.workers.urls import PORTS

Application = Callable[[Scope, Receive, Send], Awaitable[Any]]

ASGI = {"version": "3.0", "spec_version": "2.3"}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_log = logging.getLogger("asgi")
_kept: set[asyncio.Task[None]] = set()
_without_lifespan: WeakSet[Any] = WeakSet()


async def fetch(
    app: Application, request: Request, env: Any, ctx: Any = None, state: MutableMapping[str, Any] | None = None
) -> Response:
    """The application's answer to the request. With `state` (of a lifespan that somebody else runs) its lifespan is
    left alone; without, it starts before the request and ends after it, as on Cloudflare."""
    del ctx  # what goes on after the answer is known to the request without it
    exchange = _Exchange(request)
    scope = request_to_scope(request, env, state=state)
    task = asyncio.create_task(exchange.run(app, scope, lifespan=state is None and _may_have_lifespan(app)))
    try:
        response = await exchange.answer
    except asyncio.CancelledError:
        task.cancel()
        raise
    exchange.forget()
    if not task.done():
        _keep(task)
    return response


def entrypoint(app: Application) -> type[WorkerEntrypoint]:
    """`Default = asgi.entrypoint(app)`"""

    class Default(WorkerEntrypoint):
        asgi_app = staticmethod(app)

        async def fetch(self, request: Request) -> Response:
            return await fetch(app, request, self.env, self.ctx)

    return Default


async def websocket(_app: Application, _request: Request, _env: Any = None) -> Never:  # as it is called
    raise NotImplementedError("WebSockets are not supported: svcctl answers HTTP alone")


def request_to_scope(
    request: Request, env: Any, ws: bool = False, state: MutableMapping[str, Any] | None = None
) -> Scope:
    if ws:
        raise NotImplementedError("WebSockets are not supported: svcctl answers HTTP alone")
    if isinstance(request, IncomingRequest):
        scope: Scope = {**request.scope, "headers": list(request.scope["headers"])}
    else:
        scope = _scope(request)
    scope["env"] = env
    if state is not None:
        scope["state"] = dict(state)
    return scope


def _scope(request: Request) -> Scope:
    """Of a request that a handler made: it gets the headers that would have made it one on the wire."""
    url = urlsplit(request.url)
    headers = list(request.headers.raw)
    names = {name for name, _ in headers}
    if b"host" not in names:
        headers.insert(0, (b"host", url.netloc.encode()))
    content = request.content()
    if isinstance(content, bytes) and b"content-length" not in names:
        headers.append((b"content-length", b"%d" % len(content)))
    path = url.path or "/"
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": "1.1",
        "method": request.raw_method,
        "scheme": url.scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": headers,
        "server": (url.hostname, url.port or PORTS[url.scheme]),
        "client": None,
    }


def _keep(task: asyncio.Task[None]) -> None:
    invocation = current.get(None)
    if invocation is not None:
        invocation.outer.wait_until(task)
    else:
        _kept.add(task)
        task.add_done_callback(_kept.discard)


class _Exchange:
    """One request and its answer, between an application's `receive` and `send` and a Response."""

    __slots__ = (
        "_asked", "_chunks", "_error", "_finished", "_gone", "_handed_over", "_headers", "_left", "_loop", "_reader",
        "_request", "_status", "_writer", "answer",
    )  # fmt: skip

    def __init__(self, request: Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = request
        self.answer: asyncio.Future[Response] = self._loop.create_future()
        self._handed_over = False
        self._asked: Content | None = request.take()
        """What of the request's body was not received yet; None: nothing."""
        self._left = True
        """The message that ends it was not received yet."""
        self._status = 0
        self._headers: list[Raw] = []
        self._chunks: deque[bytes] = deque()
        self._finished = False
        self._error: BaseException | None = None
        self._gone = asyncio.Event()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def forget(self) -> None:
        """The answer is its reader's alone: when that one drops it, nobody else must hold it."""
        del self.answer

    async def run(self, app: Application, scope: Scope, *, lifespan: bool) -> None:
        try:
            if lifespan:
                await _within_lifespan(app, scope, self)
            else:
                await app(scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001  # raised by whoever waits for the answer, or logged
            self._fail(error)
        except asyncio.CancelledError:
            self._fail(ConnectionError("The application was cancelled before its response was complete"))
            raise
        else:
            if not self._status:
                self._fail(RuntimeError("The application did not generate a response"))
            elif not self._finished:
                self._fail(RuntimeError("The application ended before its response was complete"))

    def _fail(self, error: BaseException) -> None:
        if not self._handed_over:
            self._handed_over = True
            if not self.answer.done():
                self.answer.set_exception(error)
        elif self._finished or self._gone.is_set():
            _log.error("Exception in ASGI application after its response", exc_info=error)
        else:
            self._error = error
            _wake(self._reader)

    # ---- the application's side

    async def receive(self) -> Message:
        if self._left:
            return await self._receive_body()
        if not self._gone.is_set():
            if isinstance(self._request, IncomingRequest):
                await self._request.disconnected()
            else:
                await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _receive_body(self) -> Message:
        asked = self._asked
        if isinstance(asked, ReadableStream):
            try:
                chunk = await asked.next_chunk()
            except ClientDisconnected:
                self._left = False
                return {"type": "http.disconnect"}
            if chunk is not None:
                return {"type": "http.request", "body": chunk, "more_body": True}
            asked = None
        self._left, self._asked = False, None
        return {"type": "http.request", "body": asked or b"", "more_body": False}

    async def send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                self._start(message)
            case "http.response.body":
                await self._send_body(message.get("body", b""), more=message.get("more_body", False))
            case other:
                raise RuntimeError(f"Unexpected ASGI message {other!r}")

    def _start(self, message: Message) -> None:
        if self._status:
            raise RuntimeError("The application sent http.response.start twice")
        headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
        for name, value in headers:
            if _NAME.fullmatch(name) is None:
                raise RuntimeError(f"Invalid header name: {name!r}")
            if b"\n" in value or b"\r" in value or b"\0" in value:
                raise RuntimeError(f"Invalid header value for {name!r}: it holds a line break or NUL: {value!r}")
        self._status, self._headers = message["status"], headers
        self._loop.call_soon(self._hand_over_stream)

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if not self._status:
            raise RuntimeError("The application sent http.response.body before http.response.start")
        if self._finished:
            raise RuntimeError("The application sent http.response.body after the last one")
        if not more and not self._handed_over:
            self._finished = True
            self._hand_over(None if self._status in NULL_BODY else bytes(body))
            self._gone.set()
            return
        self._hand_over_stream()
        if body and not self._gone.is_set():
            self._chunks.append(bytes(body))
        self._finished = not more
        _wake(self._reader)
        while len(self._chunks) > 1 and not self._gone.is_set():
            self._writer = self._loop.create_future()
            await self._writer

    def _hand_over_stream(self) -> None:
        if not self._handed_over:
            self._hand_over(ReadableStream(_Answer(self)))

    def _hand_over(self, content: Content) -> None:
        self._handed_over = True
        if not self.answer.done():
            self.answer.set_result(Response.of_raw(self._status, self._headers, content))

    # ---- the reader's side

    async def next_chunk(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._finished:
                self._gone.set()
                raise StopAsyncIteration
            self._reader = self._loop.create_future()
            await self._reader
        chunk = self._chunks.popleft()
        _wake(self._writer)
        return chunk

    def leave(self) -> None:
        self._gone.set()
        self._chunks.clear()
        _wake(self._writer)

    def leave_from_anywhere(self) -> None:
        if not self._gone.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.leave)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class _Answer:
    """The body as its reader has it: closed or dropped, the application learns that nobody listens."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return await self._exchange.next_chunk()

    async def aclose(self) -> None:
        self._exchange.leave()

    def __del__(self) -> None:
        self._exchange.leave_from_anywhere()


# ---- lifespans


def _may_have_lifespan(app: Application) -> bool:
    try:
        return app not in _without_lifespan
    except TypeError:  # it can't be hashed
        return True


async def _within_lifespan(app: Application, scope: Scope, exchange: _Exchange) -> None:
    state: dict[str, Any] = {}
    lifespan = _Lifespan(app, state)
    try:
        if await lifespan.start():
            scope["state"] = dict(state)
        await app(scope, exchange.receive, exchange.send)
    finally:
        await lifespan.stop()


class _Lifespan:
    """Startup, and shutdown, of an application that knows them."""

    def __init__(self, app: Application, state: dict[str, Any]) -> None:
        self._app = app
        self._scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._started: asyncio.Future[bool] = loop.create_future()
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Whether the application has a lifespan. Raises RuntimeError if it failed to start."""
        self._told.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Variables())
        return await self._started

    async def stop(self) -> None:
        if self._started.done() and not self._started.cancelled() and self._started.exception() is None:
            self._told.put_nowait({"type": "lifespan.shutdown"})
            await self._stopped
        elif self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._told.get, self._send)
        except Exception as error:  # noqa: BLE001  # of an application: one without a lifespan raises any
            if self._started.done():
                _log.error("Exception in the ASGI application's lifespan", exc_info=error)
            else:
                _log.debug("The ASGI application has no lifespan", exc_info=error)
        finally:
            if not self._started.done():
                self._remember()
                self._started.set_result(False)
            if not self._stopped.done():
                self._stopped.set_result(None)

    def _remember(self) -> None:
        try:
            _without_lifespan.add(self._app)
        except TypeError:  # it can't be referred to weakly
            return

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._settle(self._started, result=True)
            case "lifespan.startup.failed":
                text = message.get("message") or "ASGI lifespan startup failed"
                if not self._started.done():
                    self._started.set_exception(RuntimeError(text))
            case "lifespan.shutdown.complete":
                self._settle(self._stopped, result=None)
            case "lifespan.shutdown.failed":
                _log.error("ASGI lifespan shutdown failed: %s", message.get("message", ""))
                self._settle(self._stopped, result=None)
            case other:
                raise RuntimeError(f"Unexpected lifespan event {other!r}")

    @staticmethod
    def _settle(future: asyncio.Future[Any], *, result: Any) -> None:
        if not future.done():
            future.set_result(result)
