"""A data plane from its begin to its end, the same for `svcctl serve` and `svcctl dev`: listen, tell, run, drain."""

import asyncio
import errno
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Protocol

import uvloop

from svcctl.dataplane.crowd import Scale
from svcctl.dataplane.logbook import Level, LogRecord
from svcctl.dataplane.processes import WarmParent
from svcctl.dataplane.router import Changed, Router, Source
from svcctl.dataplane.runner import Patience
from svcctl.dataplane.worker import Orders
from svcctl.errors import Refused

_FIRST_PASSED = 3
"""The first descriptor that systemd passes on."""
_SPARE_DESCRIPTORS = 200
_PATIENCE = Patience()
_ALONE = Scale()
_MOST = 1 << 20


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
        patience: Patience = _PATIENCE,
        scale: Scale = _ALONE,
        given: bytes = b"",
    ) -> None:
        """`program` starts the warm parent; it is given `drain_timeout` and
        the number of its descriptor, and `given` on its standard input: what no other process should see."""
        self.orders = orders
        self._program = [*program, str(orders.drain_timeout)]
        self._environ = environ
        self._given = given
        self._record = record
        self._patience = patience
        self._scale = scale

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
        loop.set_exception_handler(self._unexpected)
        most = most_connections()  # before any process starts: they all get as many descriptors
        parent = WarmParent(loop, self._program, self._environ, self._record, self.say, self._given)
        asked = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._asked, each, asked, parent)
        router = Router(source, parent, self.orders, self.say, self._patience, most=most, scale=self._scale)
        try:
            await source.start(router.changed)
            await router.listen(sock)
            announce()
            _notify(self._environ, "READY=1")
            await asked.wait()
            _notify(self._environ, "STOPPING=1")
        finally:
            await router.close()
            await source.close()

    @staticmethod
    def _asked(number: int, asked: asyncio.Event, parent: WarmParent) -> None:
        if asked.is_set():
            parent.kill_all()
            os._exit(128 + number)
        asked.set()

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, what: dict[str, Any]) -> None:
        """A bug, in a callback: what it belongs to is lost, and everything else goes on."""
        error = what.get("exception")
        details = "".join(traceback.format_exception(error)) if error else ""
        self.say("error", f"a bug in svcctl: {what['message']}\n{details}".rstrip())


def listener(host: str, port: int, environ: Mapping[str, str]) -> socket.socket:
    """A bound socket; the one that systemd passed on, where it did. Raises Refused."""
    if environ.get("LISTEN_PID") == str(os.getpid()) and environ.get("LISTEN_FDS", "0") != "0":
        return _passed(environ["LISTEN_FDS"])
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        raise Refused(f"{host}:{port}: {error.strerror}", hint=_why_not(error)) from error
    return sock


def _why_not(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program listens there; --port chooses another, --port 0 a free one"
        case errno.EACCES:
            return "ports below 1024 are the administrator's; --port chooses another, or let systemd open it"
        case _:
            return "--host takes an address of this machine; 0.0.0.0 is all of them"


def next_free(host: str, port: int) -> int | None:
    """A port above that nobody listens on."""
    for each in range(port + 1, min(port + 100, 1 << 16)):
        with suppress(Refused):
            listener(host, each, {}).close()
            return each
    return None


def _passed(count: str) -> socket.socket:
    if count != "1":
        raise Refused(f"systemd passed {count} sockets", hint="one ListenStream= is served, not more")
    try:
        sock = socket.socket(fileno=_FIRST_PASSED)
        is_listener = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise Refused(f"what systemd passed is no socket: {error.strerror}") from error
    if not is_listener or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        raise Refused("what systemd passed is no TCP listener", hint="ListenStream=8787, and Accept=no")
    sock.set_inheritable(False)
    return sock


def _notify(environ: Mapping[str, str], state: str) -> None:
    """Tells systemd, where it asked to be told."""
    if address := environ.get("NOTIFY_SOCKET"):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(state.encode())


def most_connections() -> int:
    """As many as descriptors allow, some kept for everything else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(100, min(soft, _MOST) - _SPARE_DESCRIPTORS)
