"""The API in this process, and backends that reach it: the same suite over HTTP's semantics without its sockets."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import httpx
from apis import Served
from cutting import Proxy, Trick

from svcctl import tokens
from svcctl.api import Api
from svcctl.backend.base import Authority
from svcctl.backend.remote import Remote
from svcctl.model import Role, Token
from svcctl.sealing import SecretValue

URL = "http://localhost"
SECRET = tokens.new()
RUNTIME = tokens.new()


class Trusting:
    """An Authority that knows two tokens without a record of them (a change of its own would shift every number that a
    test names): an admin's, whose owner is whoever types at the moment, and a data plane's."""

    def __init__(self, authority: Authority, people: Callable[[], str]) -> None:
        self._authority = authority
        self._people = people

    def __getattr__(self, name: str) -> Any:
        return getattr(self._authority, name)

    def token(self, hash: str) -> Token | None:
        roles: dict[str, Role] = {tokens.hash_of(SECRET): "admin", tokens.hash_of(RUNTIME): "runtime"}
        role = roles.get(hash)
        return Token(name=self._people(), role=role, id=role, created="", actor="") if role else None

    def used(self, token: str) -> None:
        pass


class InProcess(httpx.BaseTransport):
    """From a client's thread to an application on a loop of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any) -> None:
        self._loop = loop
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = httpx.Headers(request.headers)
        if request.url.path == "/v1/reveal":  # no person's token does; the suite is one of everything
            headers["authorization"] = f"Bearer {RUNTIME.reveal().decode()}"
        whole = httpx.Request(request.method, request.url, headers=headers, content=request.read())
        return asyncio.run_coroutine_threadsafe(self._answer(whole), self._loop).result(60)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


@contextmanager
def api(connect: Callable[[], Authority], people: Callable[[], str]) -> Iterator[InProcess]:
    """An API over what `connect` opens, for as long as the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="api")
    thread.start()
    app = Api(lambda: Trusting(connect(), people), now=lambda: "", threads=4)  # type: ignore[arg-type,return-value]
    life = app._life(None)  # type: ignore[arg-type]
    try:
        asyncio.run_coroutine_threadsafe(life.__aenter__(), loop).result(10)
        yield InProcess(loop, app)
        asyncio.run_coroutine_threadsafe(life.__aexit__(None, None, None), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


class Sockets(httpx.HTTPTransport):
    """As InProcess, over real ones."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/reveal":
            request.headers["authorization"] = f"Bearer {RUNTIME.reveal().decode()}"
        return super().handle_request(request)


@contextmanager
def troubled(
    connect: Callable[[], Authority], people: Callable[[], str], troubles: Sequence[Trick]
) -> Iterator[Callable[[], Remote]]:
    """An API over what `connect` opens, behind a proxy with these troubles; opens a backend that goes there."""
    with closing(Served(lambda: Trusting(connect(), people))) as served, Proxy(served.port, troubles) as proxy:  # type: ignore[arg-type,return-value]
        yield lambda: Remote(proxy.url, SECRET, Sockets())


def remote(transport: httpx.BaseTransport, secret: SecretValue = SECRET) -> Remote:
    return Remote(URL, secret, transport)
