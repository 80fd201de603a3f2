"""`fetch`: requests to the world outside, and to that alone.

A handler that fetches a URL which somebody else chose must not be a way into the machine's own network. So a host is
resolved once, each of its addresses is looked at, and the connection goes to one of those that were looked at: no
second look-up can give another. It happens where connections are made, below the pool, so that a redirect, a name that
answers differently the second time, or an odd way to write 127.0.0.1 all pass the same gate; certificates are checked
against the name. `allow` opens the gate for networks, hosts or everything.

httpx does the HTTP, without its client: that would keep cookies from one service's request for the next one's, and obey
proxies named in the environment.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from svcctl.errors import UsageError
from svcctl.runtime.invocation import current
from svcctl.runtime.limits import TooManySubrequests
from svcctl.runtime.workers.body import Content
from svcctl.runtime.workers.headers import Raw
from svcctl.runtime.workers.request import Request, as_request
from svcctl.runtime.workers.response import NULL_BODY, Response
from svcctl.runtime.workers.stream import ReadableStream
from svcctl.runtime.workers.urls import joined

HOPS = 20
"""Redirects that one `fetch` follows."""
TIMEOUT = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 10.0}
"""Seconds. The request that a handler answers has a deadline of its own, which ends its fetches too."""
READ_ON = 64 * 1024
"""Of a redirect's own body."""
CONNECTIONS, IDLE, IDLE_SECONDS = 100, 20, 15.0

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_PASSED_ON = frozenset(
    {
        b"connection", b"content-length", b"host", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_OF_THE_BODY = frozenset({b"content-encoding", b"content-language", b"content-location", b"content-type"})
_FOR_ONE_ORIGIN = frozenset({b"authorization", b"cookie"})
_DECODED = frozenset({b"gzip", b"deflate"})


class FetchError(OSError):
    """The other side could not be reached, or did not answer as HTTP does."""


class FetchTimeout(FetchError, TimeoutError):
    pass


class AddressRefused(FetchError):
    """A private address, and the handler may not reach it."""


async def fetch(resource: Any, **options: Any) -> Response:
    """`fetch(url, method=…, headers=…, body=…, redirect="follow" | "manual" | "error")`, or of a Request. Raises
    FetchError (an OSError) where there is no answer; an answer with an error's status is an answer."""
    fetcher = options.pop("fetcher", None)
    request = as_request(resource, options)
    if fetcher is not None:
        answered: Response = await fetcher(request)
        return answered
    return await _follow(request)


async def _follow(request: Request) -> Response:
    url, method = request.url, request.raw_method
    headers = [each for each in request.headers.raw if each[0] not in _NOT_PASSED_ON]
    content = request.take()
    for hop in range(HOPS + 1):
        response = await _send(method, url, headers, content)
        location = response.headers.get("location")
        if response.status not in _REDIRECTS or location is None or request.redirect == "manual":
            response.redirected = hop > 0
            return response
        await _discard(response)
        if request.redirect == "error":
            raise FetchError(f'{url} redirects, and the request says redirect="error"')
        target = _target(url, location)
        if response.status == 303 or (response.status in {301, 302} and method == "POST"):
            if method != "HEAD":
                method = "GET"
            content = None
            headers = [each for each in headers if each[0] not in _OF_THE_BODY]
        elif isinstance(content, ReadableStream):
            raise FetchError(f"{url} redirects a streamed body, which can't be sent twice: fetch {target} itself")
        if _origin(target) != _origin(url):
            headers = [each for each in headers if each[0] not in _FOR_ONE_ORIGIN]
        url = target
    raise FetchError(f"Too many redirects: more than {HOPS}, the last to {url}")


def _target(url: str, location: str) -> str:
    try:
        return joined(url, location)
    except TypeError as error:
        raise FetchError(f"{url} redirects to what is no http or https URL: {location!r}") from error


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


async def _discard(response: Response) -> None:
    """A short body is read to its end, so that the connection can be used for the next hop."""
    length = response.headers.get("content-length", "")
    if length.isdecimal() and int(length) <= READ_ON:
        await response.bytes()
    elif (body := response.body) is not None:
        await body.cancel()


async def _send(method: str, url: str, headers: list[Raw], content: Content) -> Response:
    invocation = current.get(None)
    if invocation is not None:
        invocation.outer.subrequests -= 1
        if invocation.outer.subrequests < 0:
            raise TooManySubrequests
    httpx = _httpx()
    names = {name for name, _ in headers}
    sent = [
        *headers,
        *(pair for pair in ((b"accept", b"*/*"), (b"accept-encoding", b"gzip, deflate")) if pair[0] not in names),
    ]
    if isinstance(content, ReadableStream) and (whole := content.whole()) is not None:
        content = whole
    if content is None and method in {"POST", "PUT", "PATCH"}:
        content = b""
    try:
        request = httpx.Request(
            method, url.partition("#")[0], headers=sent, content=content, extensions={"timeout": TIMEOUT}
        )
        answer = await _transport().handle_async_request(request)
        if method == "HEAD" or answer.status_code in NULL_BODY:
            await answer.aread()
    except httpx.TimeoutException as error:
        raise FetchTimeout(f"{method} {_where(url)}: no answer in time ({_said(error)})") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FetchError(f"{method} {_where(url)}: {_said(error)}") from error
    return _response(url, answer)


def _where(url: str) -> str:
    """Queries hold keys: an error does not show them."""
    return url.partition("?")[0].partition("#")[0]


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _response(url: str, answer: Any) -> Response:
    raw: list[Raw] = [(name.lower(), value) for name, value in answer.headers.raw]
    coded = [value.strip().lower() for name, value in raw if name == b"content-encoding"]
    decode = bool(coded) and all(each.strip() in _DECODED for value in coded for each in value.split(b","))
    if decode:
        raw = [each for each in raw if each[0] not in {b"content-encoding", b"content-length"}]
    reason: bytes = answer.extensions.get("reason_phrase", b"")
    body = None if answer.is_closed else ReadableStream(_Download(answer, url, decode=decode))
    return Response.of_raw(answer.status_code, raw, body, url, reason.decode("latin-1"))


class _Download:
    """An answer's body, from its connection. Dropped before its end it closes that: a connection must not wait for a
    reader who is gone."""

    __slots__ = ("_answer", "_chunks", "_loop", "_url")

    def __init__(self, answer: Any, url: str, *, decode: bool) -> None:
        self._answer = answer
        self._chunks: AsyncIterator[bytes] = answer.aiter_bytes() if decode else answer.aiter_raw()
        self._loop = asyncio.get_running_loop()
        self._url = url

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        httpx = _httpx()
        try:
            return await self._chunks.__anext__()
        except httpx.TimeoutException as error:
            raise FetchTimeout(f"{_where(self._url)}: its body stopped coming ({_said(error)})") from error
        except httpx.HTTPError as error:
            raise FetchError(f"{_where(self._url)}: its body broke off ({_said(error)})") from error

    async def aclose(self) -> None:
        await self._answer.aclose()

    def __del__(self) -> None:
        if not self._answer.is_closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_close_later, self._answer)


_closing: set[asyncio.Task[None]] = set()


def _close_later(answer: Any) -> None:
    task = asyncio.ensure_future(answer.aclose())
    _closing.add(task)
    task.add_done_callback(_closing.discard)


# ---- connections

_transports: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


@cache
def _httpx() -> Any:
    """svcctl's own, not one that a service brings along: imported when first needed, 60 ms and 6 MB."""
    import httpx

    return httpx


@cache
def _httpcore() -> ModuleType:
    import httpcore

    return httpcore


def _transport() -> Any:
    """One pool of connections for each event loop."""
    loop = asyncio.get_running_loop()
    transport = _transports.get(loop)
    if transport is None:
        httpx, httpcore = _httpx(), _httpcore()
        transport = httpx.AsyncHTTPTransport(trust_env=False)
        # httpx has no parameter for where connections are made; its transport is this pool and a map of exceptions.
        transport._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=CONNECTIONS,
            max_keepalive_connections=IDLE,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=_Gate(httpcore),
        )
        _transports[loop] = transport
    return transport


async def close() -> None:
    """Ends this loop's connections."""
    transport = _transports.pop(asyncio.get_running_loop(), None)
    if transport is not None:
        await transport.aclose()


class _Gate:
    """Where httpcore makes its connections."""

    def __init__(self, httpcore: ModuleType) -> None:
        self._httpcore = httpcore
        self._backend: Any = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> Any:  # noqa: ASYNC109  # httpcore's signature
        failed: Exception | None = None
        for address in await self._addresses(host, port):
            try:
                return await self._backend.connect_tcp(str(address), port, timeout=timeout, **options)
            except (self._httpcore.ConnectError, self._httpcore.ConnectTimeout) as error:
                failed = failed or error
        raise failed or self._httpcore.ConnectError(f"{host} has no address")

    async def _addresses(self, host: str, port: int) -> list[Address]:
        import socket

        bare = host.strip("[]")
        try:
            found = await asyncio.get_running_loop().getaddrinfo(bare, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._httpcore.ConnectError(f"{host} can't be resolved: {error.strerror or error}") from error
        addresses = list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
        for address in addresses:
            if not _allowed(bare, address):
                raise AddressRefused(_refusal(bare, address))
        return addresses

    async def connect_unix_socket(self, path: str, *_args: Any, **_options: Any) -> Any:
        raise AddressRefused(f"fetch does not reach Unix sockets: {path}")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


# ---- which addresses

_hosts: frozenset[str] = frozenset()
_networks: tuple[Network, ...] = ()
_everything = False

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Public by number, but a cloud's own on its machines: Azure's."""
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def allow(entries: Sequence[str]) -> None:
    """What private handlers of this process may reach: `10.0.0.0/8`, `192.168.1.4`, `db.internal`, `localhost` (with
    the loopback networks), or `*`. Replaces what was allowed before."""
    global _everything, _hosts, _networks  # a worker process has one policy, said when it starts
    hosts: set[str] = set()
    networks: list[Network] = []
    for entry in entries:
        if entry == "*":
            continue
        if entry == "localhost":
            networks += _LOOPBACK
        network = _network(entry)
        if network is not None:
            networks.append(network)
        elif _is_host(entry):
            hosts.add(entry.lower().rstrip("."))
        else:
            raise UsageError(
                f"--allow-private {entry!r} is neither a network nor a host",
                hint="Such as 10.0.0.0/8, 192.168.1.4, db.internal, localhost, or * for everything.",
            )
    _everything, _hosts, _networks = "*" in entries, frozenset(hosts), tuple(networks)


def _network(entry: str) -> Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _is_host(entry: str) -> bool:
    return entry != "" and all(
        label.replace("-", "").replace("_", "").isalnum() and label.isascii() for label in entry.rstrip(".").split(".")
    )


def _allowed(host: str, address: Address) -> bool:
    if _everything or host.lower().rstrip(".") in _hosts:
        return True
    address = _behind(address)
    return is_public(address) or any(address in network for network in _networks)


def is_public(address: Address) -> bool:
    """Neither private, loopback, link-local, multicast, unspecified, reserved nor a cloud's metadata service."""
    address = _behind(address)
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and address not in _METADATA
    )


def _behind(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to: mapped, 6to4, or through a NAT64 gateway."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _refusal(host: str, address: Address) -> str:
    name = f"{host} is at {address}, a private address" if host != str(address) else f"{host} is a private address"
    return f"fetch: {name}, which handlers may not reach. To allow it: svcctl serve --allow-private {host}"
