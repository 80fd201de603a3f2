"""WSGI applications behind `fetch`: what handlers import as `wsgi`.

PEP 3333 on top of ASGI: the application runs in one thread from its call to its `close()`, with the caller's context
variables; what it writes waits for whoever reads.
"""

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

from svcctl.runtime import asgi
from svcctl.runtime.incoming import Inbox, Receive, Scope, Send
from svcctl.runtime.threads import in_thread, run_sync
from svcctl.runtime.workers.entrypoint import WorkerEntrypoint
from svcctl.runtime.workers.headers import Raw, raw_name, raw_value
from svcctl.runtime.workers.request import Request
from svcctl.runtime.workers.response import Response

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

READ_FIRST = 1024 * 1024
"""A body up to here is read before a thread is taken: a slow client holds none."""


async def fetch(app: Application, request: Request, env: Any, ctx: Any = None) -> Response:
    return await asgi.fetch(as_asgi(app), request, env, ctx, state={})


def entrypoint(app: Application) -> type[WorkerEntrypoint]:
    """`Default = wsgi.entrypoint(app)`"""

    class Default(WorkerEntrypoint):
        wsgi_app = staticmethod(app)

        async def fetch(self, request: Request) -> Response:
            return await fetch(app, request, self.env, self.ctx)

    return Default


def as_asgi(app: Application) -> asgi.Application:
    """`scope["env"]`, where there is one, becomes `environ["workers.env"]`."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"A WSGI application answers HTTP alone, not {scope['type']}")
        inbox = Inbox(receive)
        environ = environ_of(scope, await _input(scope, inbox))
        serving = _Serving(app, environ, inbox, send)
        try:
            await in_thread(serving.run)
        finally:
            serving.end()

    return serve


def build_environ(request: Request, env: Any, body: "bytes | io.IOBase") -> Environ:
    """As on Cloudflare; `body` is `wsgi.input`."""
    return environ_of(asgi.request_to_scope(request, env), io.BytesIO(body) if isinstance(body, bytes) else body)


def environ_of(scope: Scope, body: Any) -> Environ:
    server = scope.get("server") or ("localhost", None)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _native(scope.get("root_path", "")),
        "PATH_INFO": _native(scope["path"]),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": server[0] or "localhost",
        "SERVER_PORT": str(server[1] or (443 if scope["scheme"] == "https" else 80)),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "workers.env": scope.get("env"),
    }
    if raw := scope.get("raw_path"):
        environ["RAW_URI"] = environ["REQUEST_URI"] = raw.decode("latin-1")
    if client := scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], str(client[1])
    for name, value in scope["headers"]:
        _add_header(environ, name, value.decode("latin-1"))
    return environ


def _add_header(environ: Environ, name: bytes, value: str) -> None:
    # `x_user: admin` must not pass for `x-user`, nor `proxy` set the HTTP_PROXY that clients obey.
    if b"_" in name or name == b"proxy":
        return
    key = name.decode("latin-1").upper().replace("-", "_")
    if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
        key = f"HTTP_{key}"
    if key in environ:
        value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
    environ[key] = value


def _native(text: str) -> str:
    """PEP 3333's strings: each character a byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


async def _input(scope: Scope, inbox: Inbox) -> Any:
    length, chunked = None, False
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = True
    if chunked or (length or 0) > READ_FIRST:
        return io.BufferedReader(_Input(inbox))
    return io.BytesIO(b"".join([chunk async for chunk in inbox]) if length else b"")


class _Input(io.RawIOBase):
    """A body that is read from the application's thread, as it arrives."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = run_sync(self._next())
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    async def _next(self) -> bytes:
        try:
            return await self._inbox.__anext__()
        except StopAsyncIteration:
            return b""


class _Serving:
    """One request, in the application's thread."""

    def __init__(self, app: Application, environ: Environ, inbox: Inbox, send: Send) -> None:
        self._app = app
        self._environ = environ
        self._inbox = inbox
        self._send = send
        self._status = 0
        self._headers: list[Raw] = []
        self._sent = False
        self._client_left = False
        self._watcher: asyncio.Task[None] | None = None

    def end(self) -> None:
        self._client_left = True
        if self._watcher is not None:
            self._watcher.cancel()

    def run(self) -> None:
        result = self._app(self._environ, self._start_response)
        try:
            self._pass_on(result)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., None]:
        if exc_info is not None:
            try:
                if self._sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # its traceback refers to this frame
        elif self._status:
            raise AssertionError("start_response() was called twice without exc_info")
        self._status = int(status.partition(" ")[0])
        self._headers = [(raw_name(name), raw_value(value, name)) for name, value in headers]
        return self._write

    def _pass_on(self, result: Iterable[bytes]) -> None:
        if isinstance(result, list | tuple):
            # Its length is known, so it need not be sent in pieces.
            body = b"".join(result)
            if not self._sent:
                self._require_start()
                run_sync(self._send_whole(body))
                return
            result = [body]
        whole = False
        for chunk in result:
            if self._client_left:
                return
            if not chunk or whole:
                continue
            whole = not self._sent and self._is_whole(chunk)
            if whole:
                run_sync(self._send_whole(chunk))
            else:
                self._write(chunk)
        if not self._sent:
            self._require_start()
            run_sync(self._send_whole(b""))
        elif not whole:
            run_sync(self._send_chunk(b"", more=False))

    def _write(self, chunk: bytes) -> None:
        self._require_start()
        run_sync(self._send_chunk(chunk, more=True))

    def _require_start(self) -> None:
        if not self._status:
            raise RuntimeError("The WSGI application did not call start_response()")

    def _is_whole(self, chunk: bytes) -> bool:
        self._require_start()
        return (b"content-length", b"%d" % len(chunk)) in self._headers

    # ---- on the event loop

    async def _send_whole(self, body: bytes) -> None:
        self._sent = True
        headers = self._headers
        if not any(name == b"content-length" for name, _ in headers) and self._status not in {204, 304}:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": self._status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _send_chunk(self, chunk: bytes, *, more: bool) -> None:
        if not self._sent:
            self._sent = True
            await self._send({"type": "http.response.start", "status": self._status, "headers": self._headers})
            self._watcher = asyncio.create_task(self._watch())
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _watch(self) -> None:
        await self._inbox.gone()
        self._client_left = True
