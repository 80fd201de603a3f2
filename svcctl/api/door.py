"""What every request passes before any route: one known Host, a request id, a line in the log.

The log has a line of JSON for each request: never a body, a query, a header or a token.
"""

import re
import time
from collections.abc import Callable, Collection
from typing import Any
from uuid import uuid4

from svcctl import __version__, tokens, wire
from svcctl.api.problems import problem
from svcctl.backend.messages import REQUEST_HEADER, VERSION_HEADER
from svcctl.errors import Forbidden, SvcctlError
from svcctl.text import clean

Scope = Any
Receive = Callable[[], Any]
Send = Callable[[Any], Any]
Asgi = Callable[[Scope, Receive, Send], Any]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PORT = re.compile(r":\d{1,5}\Z")


class Door:
    def __init__(
        self, inner: Asgi, *, hosts: Collection[str], log: Callable[[str], None], now: Callable[[], str]
    ) -> None:
        self._inner = inner
        self._hosts = frozenset(host.lower() for host in hosts)
        self._log = log
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        started = time.perf_counter()
        headers = scope["headers"]
        id = _given_id(headers) or uuid4().hex
        scope.setdefault("state", {})["request"] = id
        status = 0

        async def answer(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = ((REQUEST_HEADER, id), (VERSION_HEADER, __version__), ("x-content-type-options", "nosniff"))
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in more)]
            await send(message)

        try:
            if wrong := self._wrong_host(headers):
                await _refuse(wrong, answer)
            else:
                await self._inner(scope, receive, answer)
        finally:
            self._write(scope, id, status, time.perf_counter() - started)

    def _wrong_host(self, headers: Any) -> SvcctlError | None:
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) == 1 and _PORT.sub("", hosts[0].decode("latin-1").lower()) in self._hosts:
            return None
        return Forbidden("this is not the host that was asked for", hint="svcctl api --allow-host names the right ones")

    def _write(self, scope: Scope, id: str, status: int, seconds: float) -> None:
        client = scope.get("client")
        state = scope["state"]
        line = {
            "at": self._now(),
            "request": id,
            "peer": client[0] if client else None,
            "token": state.get("token"),
            "method": scope["method"],
            "path": clean(tokens.masked(scope["path"][:200])),
            "status": status or None,
            "ms": round(seconds * 1000, 1),
            "error": state.get("error"),
        }
        if "detail" in state:
            line["detail"] = clean(state["detail"])
        self._log(wire.line(line))


def _given_id(headers: Any) -> str | None:
    for name, value in headers:
        if name == REQUEST_HEADER.encode():
            text = value.decode("latin-1")
            return text if _ID.fullmatch(text) else None
    return None


async def _refuse(error: SvcctlError, send: Send) -> None:
    content = problem(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": content})
