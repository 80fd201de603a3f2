"""The application: routes as data on a framework's router, each asked in a thread with a backend of its own.

It keeps nothing between requests that another replica would need: any number of them on one store give the same
answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Response
from litestar.enums import HttpMethod
from litestar.handlers import HTTPRouteHandler

from svcctl import __version__
from svcctl.api import changing, document, downloading, moving, reading, running
from svcctl.api.answers import answered, failed, fresh
from svcctl.api.asking import Asked, Asking
from svcctl.api.callers import Callers
from svcctl.api.door import LOOPBACK, Door
from svcctl.api.guarded import Guarded
from svcctl.api.pool import Pool
from svcctl.api.route import Route
from svcctl.api.uploading import Arriving, whole
from svcctl.api.watching import Watch
from svcctl.backend.base import Authority
from svcctl.backend.messages import Live, Newest, frames

ROUTES: tuple[Route, ...] = (
    *reading.ROUTES, *changing.ROUTES, *running.ROUTES, *moving.ROUTES, *document.ROUTES,
)  # fmt: skip

_LOOKING = [HttpMethod.GET, HttpMethod.HEAD]


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
            exception_handlers={Exception: failed},
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
            return fresh(Live(version=__version__))

        async def ready(request: Asked) -> Response[Any]:  # noqa: ARG001
            async with self._pool.lease() as lease:
                await lease.run(lambda backend: backend.check())
            return fresh(Live(version=__version__))

        return [
            HTTPRouteHandler("/health/live", http_method=_LOOKING)(live),
            HTTPRouteHandler("/health/ready", http_method=_LOOKING)(ready),
        ]

    async def _answer(self, route: Route, request: Asked) -> Response[Any]:
        asking = Asking(route, request, self._callers)
        match route.kind:
            case "frames":
                return await self._stored(asking)
            case "blob":
                return await downloading.blob(self._pool, asking)
            case "poll" if "after" in request.query_params:
                return await self._poll(asking)

        async def identify() -> None:
            async with self._pool.lease() as lease:
                await lease.run(asking.known)

        body = await whole(request.stream(), route.limit, request.headers.get("content-length"), identify)
        async with self._pool.lease() as lease:
            found = await lease.run(asking.answering(body))
        return answered(found, request)

    async def _stored(self, asking: Asking) -> Response[Any]:
        arriving = Arriving(asking.request.stream(), asking.route.limit)
        async with self._uploads, self._pool.lease() as lease:
            found = await lease.run(asking.doing(lambda backend: asking.route.handler(backend, frames(arriving))))
        return fresh(found)

    async def _poll(self, asking: Asking) -> Response[Any]:
        def known(backend: Guarded) -> tuple[int, reading.ChangesPage]:
            return backend.newest(), asking.asked

        async with self._pool.lease() as lease:
            newest, asked = await lease.run(asking.doing(known))
        return fresh(Newest(number=await self._watch.after(asked.after or 0, newest, asked.timeout)))
