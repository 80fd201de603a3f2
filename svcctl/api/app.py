"""The application: routes as data on a framework's router, each asked in a thread with a backend of its own.

It keeps nothing between requests that another replica would need: any number of them on one store give the same
answers.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream as Streamed

from svcctl import __version__, tokens
from svcctl.api import changing, document, moving, reading, running
from svcctl.api.callers import Callers, note
from svcctl.api.door import LOOPBACK, Door
from svcctl.api.guarded import Guarded
from svcctl.api.parsing import Malformed, body_of, query_of
from svcctl.api.pool import Busy, Lease, Pool
from svcctl.api.problems import apart, away, bug, of_status, problem
from svcctl.api.ranges import wanted_of
from svcctl.api.route import Raw, Route
from svcctl.api.uploading import Arriving, whole
from svcctl.api.watching import Watch
from svcctl.backend.base import Authority, Stream
from svcctl.backend.messages import BLOB, VERSION_HEADER, Live, Newest, Registered, frames
from svcctl.commands import Command
from svcctl.digest import Digest
from svcctl.errors import Forbidden, SvcctlError, Throttled, Unauthorized, Unreachable
from svcctl.model import Kind, Refusal, Token

Asked = Request[Any, Any, Any]
ROUTES: tuple[Route, ...] = (
    *reading.ROUTES, *changing.ROUTES, *running.ROUTES, *moving.ROUTES, *document.ROUTES,
)  # fmt: skip
_CHUNK = 1 << 18
_FOREVER = "private, immutable, max-age=31536000"


class Api:
    """An ASGI application."""

    def __init__(
        self,
        connect: Callable[[], Authority],
        *,
        hosts: Collection[str] = LOOPBACK,
        log: Callable[[str], None] = lambda _: None,
        now: Callable[[], str],
        threads: int = 16,
    ) -> None:
        """`connect` opens the one store, each time as another process would; `log` takes a line for each request;
        `now` is the time, in the form of models."""
        self._callers = Callers()
        self._now = now
        self._log = log
        self._connect = connect
        self._pool = Pool(connect, threads)
        self._uploads = asyncio.Semaphore(max(1, threads // 2))
        self._watch = Watch(connect)
        inner = Litestar(
            [*(self._handler(route) for route in ROUTES), *self._health()],
            openapi_config=None,
            exception_handlers={Exception: self._failed},
            lifespan=[self._life],
            logging_config=None,
            request_max_body_size=None,  # each route has its own, kept by `whole` and `Arriving`
        )
        self._door = Door(inner, hosts=hosts, log=log, now=now)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._door(scope, receive, send)

    def stop(self) -> None:
        """No new waiting: who waits for a change is answered now. Called before connections are drained."""
        self._watch.stop()

    @asynccontextmanager
    async def _life(self, _: Litestar) -> AsyncIterator[None]:
        yield
        self._watch.stop()
        await asyncio.to_thread(self._watch.close)
        await asyncio.to_thread(self._pool.close)

    # ---- routes

    def _handler(self, route: Route) -> HTTPRouteHandler:
        async def handle(request: Asked) -> Response[Any]:
            return await self._answer(route, request)

        path = route.path
        for name in route.path_names:
            path = path.replace(f"{{{name}}}", f"{{{name}:str}}")
        handler: HTTPRouteHandler = HTTPRouteHandler(
            path, http_method=HttpMethod(route.method), name=route.operation, status_code=route.status
        )(handle)
        return handler

    def _health(self) -> list[HTTPRouteHandler]:
        async def live(request: Asked) -> Response[Any]:  # noqa: ARG001  # every handler takes one
            return _json(Live(version=__version__))

        async def ready(request: Asked) -> Response[Any]:  # noqa: ARG001
            async with self._pool.lease() as lease:
                await lease.run(lambda backend: backend.check())
            return _json(Live(version=__version__))

        return [
            HTTPRouteHandler("/health/live", http_method=HttpMethod.GET)(live),
            HTTPRouteHandler("/health/ready", http_method=HttpMethod.GET)(ready),
        ]

    async def _answer(self, route: Route, request: Asked) -> Response[Any]:
        peer = request.client.host if request.client else ""
        hash = self._callers.hash_of(request.headers.get("authorization"), peer)
        if route.kind == "frames":
            return await self._stored(route, request, hash, peer)
        body = await whole(request.stream(), route.limit, request.headers.get("content-length"))

        def work(backend: Authority) -> Any:
            guarded = self._enter(backend, route, request, hash, peer)
            return self._ask(guarded, route, request, body)

        if route.kind == "blob":
            return await self._blob(route, request, hash, peer)
        if route.kind == "poll" and "after" in request.query_params:
            return await self._poll(route, request, hash, peer)
        async with self._pool.lease() as lease:
            found = await lease.run(self._audited(work, route, request, peer, body))
        return _answered(found, request)

    def _enter(self, backend: Authority, route: Route, request: Asked, hash: Digest, peer: str) -> Guarded:
        token = self._callers.identify(backend, hash, peer, f"{route.method} {route.path}")
        request.scope["state"]["token"] = token.name
        request.scope["state"]["holder"] = token
        guarded = Guarded(backend, token)
        guarded.require(route.power)
        return guarded

    @staticmethod
    def _ask(backend: Guarded, route: Route, request: Asked, body: bytes) -> Any:
        given: dict[str, Any] = {}
        if route.asked:
            given["asked"] = query_of(request.scope["query_string"], request.path_params, route.asked)
        if route.limit:
            given["body"] = body if route.kind == "bytes" else body_of(body, route.body)
        return route.handler(backend, **given)

    def _audited(
        self, work: Callable[[Authority], Any], route: Route, request: Asked, peer: str, body: bytes = b""
    ) -> Callable[[Authority], Any]:
        """A refusal of somebody known is kept; one of a token that is not, `Callers` keeps."""

        def audited(backend: Authority) -> Any:
            try:
                return work(backend)
            except Unauthorized:
                raise
            except Forbidden as error:
                holder: Token = request.scope["state"]["holder"]
                what = _kind_of(route, body) or f"{route.method} {tokens.masked(request.url.path[:200])}"
                refusal = Refusal(at="", actor=holder.name, peer=peer, what=what, why=error.message, token=holder.id)
                note(backend, refusal)
                raise

        return audited

    # ---- streams

    async def _stored(self, route: Route, request: Asked, hash: Digest, peer: str) -> Response[Any]:
        arriving = Arriving(request.stream(), route.limit)

        def work(backend: Authority) -> Any:
            guarded = self._enter(backend, route, request, hash, peer)
            return route.handler(guarded, frames(arriving))

        async with self._uploads, self._pool.lease() as lease:
            found = await lease.run(self._audited(work, route, request, peer))
        return _json(found)

    async def _blob(self, route: Route, request: Asked, hash: Digest, peer: str) -> Response[Any]:
        """One part at a time, and the backend is held until the last: its stream may need it."""
        closing = _Closing(self._pool)
        lease = await closing.enter()
        try:
            opened = await lease.run(
                self._audited(
                    lambda backend: self._opened(self._enter(backend, route, request, hash, peer), route, request),
                    route,
                    request,
                    peer,
                )
            )
        except BaseException:
            await closing.leave()
            raise
        stream, size, digest = opened
        etag = f'"{digest}"'
        wanted = wanted_of(request.headers.get("range"), size)
        headers = {"etag": etag, "cache-control": _FOREVER, "accept-ranges": "bytes"}
        if request.headers.get("if-none-match") == etag:
            await closing.leave(stream)
            return Response(None, status_code=304, headers=headers)
        if wanted is None:
            await closing.leave(stream)
            return Response(b"", status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
        start, length, is_part = wanted
        if is_part:
            headers["content-range"] = f"bytes {start}-{start + length - 1}/{size}"
        headers["content-length"] = str(length)
        parts = _parts(lease, stream, start, length, closing)
        return Streamed(parts, media_type=BLOB, headers=headers, status_code=206 if is_part else 200)

    @staticmethod
    def _opened(backend: Guarded, route: Route, request: Asked) -> tuple[Stream, int, str]:
        assert route.asked is not None  # noqa: S101  # a blob is asked for by its digest
        asked = query_of(request.scope["query_string"], request.path_params, route.asked)
        size = backend.blob_size(Digest(asked.digest))
        return route.handler(backend, asked), size, asked.digest

    async def _poll(self, route: Route, request: Asked, hash: Digest, peer: str) -> Response[Any]:
        def work(backend: Authority) -> tuple[int, int, float]:
            self._enter(backend, route, request, hash, peer)
            asked = query_of(request.scope["query_string"], request.path_params, reading.ChangesPage)
            return backend.wait(0, 0), asked.after or 0, asked.timeout

        async with self._pool.lease() as lease:
            known, after, timeout = await lease.run(self._audited(work, route, request, peer))
        return _json(Newest(number=await self._watch.after(after, known, timeout)))

    # ---- failures

    def _failed(self, request: Asked, error: Exception) -> Response[Any]:
        state = request.scope["state"]
        unknown = isinstance(error, HTTPException | Malformed)
        if isinstance(error, HTTPException):
            error = of_status(error.status_code) if error.status_code < 500 else error
        if isinstance(error, RecursionError):
            error = of_status(400)
        if not isinstance(error, SvcctlError):
            state["error"] = f"bug: {type(error).__name__}"
            return Response(bug(state["request"]), status_code=500, media_type="application/json")
        state["error"] = error.code
        if unknown:
            error.hint = apart(request.headers.get(VERSION_HEADER)) or error.hint
        if isinstance(error, Unreachable) and not isinstance(error, Busy | Throttled):
            state["detail"] = error.message
            error = away(state["request"])
        headers = {"connection": "close"} if request.method in {"POST", "PUT"} else {}
        if isinstance(error, Unauthorized):
            headers["www-authenticate"] = "Bearer"
        if isinstance(error, Throttled | Unreachable):
            headers["retry-after"] = "6" if isinstance(error, Throttled) else "1"
        return Response(problem(error), status_code=error.http_status, media_type="application/json", headers=headers)


class _Closing:
    """A lease that ends with an answer, not with the function that began it."""

    def __init__(self, pool: Pool) -> None:
        self._context = pool.lease()
        self._lease: Lease | None = None

    async def enter(self) -> Lease:
        self._lease = await self._context.__aenter__()
        return self._lease

    async def leave(self, stream: Stream | None = None) -> None:
        if self._lease is None:
            return
        lease, self._lease = self._lease, None
        try:
            if stream is not None:
                await lease.run(lambda _: stream.close())
        finally:
            await self._context.__aexit__(None, None, None)


async def _parts(lease: Lease, stream: Stream, start: int, length: int, closing: _Closing) -> AsyncIterator[bytes]:
    try:
        await lease.run(lambda _: _skip(stream, start))
        while length:
            part = await lease.run(partial(_next, stream, min(_CHUNK, length)))
            if not part:
                return  # shorter than its answer said: the client sees a cut body
            length -= len(part)
            yield part
    finally:
        with suppress(asyncio.CancelledError):
            await asyncio.shield(closing.leave(stream))


class _OfKind(msgspec.Struct):
    kind: Kind


def _kind_of(route: Route, body: bytes) -> Kind | None:
    """Of the command that a request carries, also where it was refused before it was looked at."""
    if route.body == Command:
        with suppress(msgspec.MsgspecError, RecursionError):
            return msgspec.json.decode(body, type=_OfKind).kind
    return None


def _next(stream: Stream, size: int, _: Authority) -> bytes:
    return stream.read(size)


def _skip(stream: Stream, count: int) -> None:
    while count and (part := stream.read(min(1 << 20, count))):
        count -= len(part)


def _answered(found: Any, request: Asked) -> Response[Any]:
    if isinstance(found, Raw):
        return _tagged(found.content, found.media_type, f'"{found.etag}"', _FOREVER, request)
    if isinstance(found, Registered) and found.missing:
        return _json(found, status=409)
    content = msgspec.json.encode(found)
    if request.method != "GET":
        return Response(content, media_type="application/json")
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _tagged(content, "application/json", etag, "private, no-cache", request)


def _tagged(content: bytes, media_type: str, etag: str, cache: str, request: Asked) -> Response[Any]:
    headers = {"etag": etag, "cache-control": cache}
    if request.headers.get("if-none-match") == etag:
        return Response(None, status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _json(found: Any, status: int = 200) -> Response[Any]:
    return Response(
        msgspec.json.encode(found), status_code=status, media_type="application/json",
        headers={"cache-control": "no-store"},
    )  # fmt: skip
