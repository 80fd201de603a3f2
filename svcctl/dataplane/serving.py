"""A data plane from its begin to its end, the same for `svcctl serve` and `svcctl dev`: listen, tell, run, drain."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import uvloop

from svcctl.dataplane.logbook import Level, LogRecord
from svcctl.dataplane.processes import WarmParent
from svcctl.dataplane.router import Changed, Router, Source
from svcctl.dataplane.worker import Orders
from svcctl.errors import Refused

_FIRST_PASSED = 3
"""The first descriptor that systemd passes on."""


class Followed(Source, Protocol):
    """A Source that tells when it changed."""

    async def start(self, changed: Changed) -> None: ...

    async def close(self) -> None: ...


class Plane:
    """How to serve. `record` is given every log record; `announce` is called once connections are accepted."""

    def __init__(
        self,
        *,
        program: list[str],
        environ: Mapping[str, str],
        orders: Orders,
        record: Callable[[list[LogRecord]], None],
        idle: float = 900.0,
        blocked: float = 10.0,
    ) -> None:
        self.orders = orders
        self._program = program
        self._environ = environ
        self._record = record
        self._idle = idle
        self._blocked = blocked

    def say(self, level: Level, message: str) -> None:
        """svcctl's own words, into the same log as the handlers'."""
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        self._record([LogRecord(at=at, level=level, source="system", message=message, service="", environment="")])

    def run(self, source: Followed, sock: socket.socket, announce: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT; a second one ends it at once."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._main(source, sock, announce))

    async def _main(self, source: Followed, sock: socket.socket, announce: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, lambda: os._exit(1) if asked.is_set() else asked.set())
        parent = WarmParent(loop, self._program, self._environ, self._record)
        router = Router(source, parent, self.orders, self.say, idle=self._idle, blocked=self._blocked)
        try:
            await source.start(router.changed)
            await router.listen(sock)
            announce()
            await asked.wait()
        finally:
            await router.close(self.orders.drain_timeout)
            await source.close()


def listener(host: str, port: int, environ: Mapping[str, str]) -> socket.socket:
    """A bound socket; the one that systemd passed on, where it did. Raises Refused."""
    if environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "0") != "0":
        return socket.socket(fileno=_FIRST_PASSED)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        raise Refused(
            f"{host}:{port}: {error.strerror}",
            hint="another program listens there; --port chooses another, --port 0 a free one",
        ) from error
    return sock
