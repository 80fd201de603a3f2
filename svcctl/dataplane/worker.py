"""A worker process: one deployment, answering on connections that the router accepted.

It starts as a fork of the warm parent, is told what to run over its channel, loads it, says READY, and from then on
adopts each connection that comes in. It ends when it was told to drain, or when the router is gone: idle connections
go back to the router, running requests and what `waitUntil` was given are finished, within a deadline.

Three things end what runs too long. A request that has no answer by its deadline is cancelled and answered with 504; a
sync handler's thread can't be cancelled, so it is abandoned, and after a few of those the worker gets a successor.
A blocked event loop answers no PING: the router then has the stacks of all threads written into the log, and kills.
"""

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any, NoReturn

import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from svcctl import wire
from svcctl.dataplane import confinement
from svcctl.dataplane.channel import Channel, Garbled, Kind
from svcctl.dataplane.exchange import App, Exchange
from svcctl.dataplane.forwarding import TrustedProxies
from svcctl.dataplane.gate import BadRequest, Head
from svcctl.dataplane.lifespan import Lifespans
from svcctl.dataplane.protocol import Connection
from svcctl.dataplane.routes import Routes
from svcctl.keyvalues import KeyValues
from svcctl.model import Model
from svcctl.runtime import capture, threads
from svcctl.runtime.answering import Answering
from svcctl.runtime.assembly import Assembly
from svcctl.runtime.explaining import explaining
from svcctl.runtime.running import LoadFailed, Running
from svcctl.runtime.tracebacks import Explained, readable
from svcctl.runtime.workers import outbound

DUMP = signal.SIGUSR2
"""Writes the stacks of all threads into the log."""
_WATCH = 0.25
_LAST_WORDS = 2.0
"""Seconds for the answers to those who got none, and for the ends of lifespans."""
_RETRY = 0.02
"""Seconds until a connection that its client is still reading from is looked at again."""
_STALLED = 60.0
"""Seconds in which a client must take at least a byte of what it is sent."""


_NOBODY = TrustedProxies(())


class Orders(Model):
    """How to run an assembly; what the operator chose."""

    assembly: Assembly
    key: str = ""
    """What the routes call this deployment."""
    request_timeout: float = 30.0
    """Seconds until a handler must have answered."""
    drain_timeout: float = 30.0
    keep_alive: float = 75.0
    memory: int | None = None
    """Bytes that the process may allocate."""
    allow_private: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    access_log: bool = False
    explain: bool = False
    """As in development: errors are shown to the client, and code that does not start answers with why."""


class Busy(Model):
    """A PONG."""

    active: int
    connections: int
    requests: int
    """Answered since the start."""
    abandoned: int
    """Threads of sync handlers that nobody waits for any more."""
    cpu: float
    """Seconds on a processor since the start."""


class Worker:
    def __init__(self, channel: socket.socket, open_keyvalues: Callable[[], KeyValues]) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended = self.loop.create_future()
        self.state: dict[str, Any] = {}
        self.server_state = ServerState()
        self.trust = _NOBODY
        self.config: Config
        self.own_lines = b""
        """Header lines of every answer."""
        self._open_keyvalues = open_keyvalues
        self._orders = Orders(assembly=Assembly(parts=()))
        self._running: Running
        self._answering: Answering | None = None
        self._lifespans: Lifespans | None = None
        self._entering: asyncio.Task[None] | None = None
        self._routes = Routes(())
        self._key = ""
        self._connections: set[Connection] = set()
        self._exchanges: dict[Exchange, asyncio.Task[None]] = {}
        self._app: App
        self._draining = False
        self._leaving: asyncio.Task[None] | None = None
        self._adopting = 0
        self._shedding = 0
        """Connections that are too many."""
        self._untold = 0
        """Connections that the router has not heard were adopted."""
        self._watching: asyncio.TimerHandle | None = None
        self._channel = Channel(channel, self.loop, self._received, self._router_gone)

    # ---- frames

    def _received(self, kind: Kind, payload: bytes, descriptor: int | None) -> None:
        match kind:
            case Kind.ASSEMBLY:
                self._start(wire.decode(payload, Orders))
            case Kind.CLAIMS:
                self._routes = Routes(wire.decode(payload, list[tuple[str, str]]))
            case Kind.CONNECTION:
                self._tell_adopted()
                if descriptor is not None:
                    self._adopt(socket.socket(fileno=descriptor), payload)
                else:
                    capture.log_event("error", "a connection was lost: this process can open no more files")
            case Kind.PING:
                busy = Busy(
                    active=self._answering.active if self._answering else 0,
                    connections=len(self._connections),
                    requests=self.server_state.total_requests,
                    abandoned=threads.abandoned(),
                    cpu=time.process_time(),
                )
                self._channel.send(Kind.PONG, wire.canonical(busy))
            case Kind.SHED:
                self._shedding = int(payload)
            case Kind.DRAIN:
                self._drain()
            case _:
                raise Garbled(f"{kind.name}: not the router's to say")

    def _router_gone(self) -> None:
        """Nobody is left to hand connections to: what runs is finished, what is idle closed."""
        self._drain()

    # ---- start

    def _start(self, orders: Orders) -> None:
        self._orders = orders
        self.trust = TrustedProxies(orders.trusted_proxies)
        self._key = orders.key
        capture.install(1, orders.assembly.front)
        capture.redact([value for part in orders.assembly.parts for value in part.secrets.values.values()])
        try:
            self._load(orders)
        except LoadFailed as error:
            self._fail(str(error), readable(error.__cause__ or error, _folders(orders.assembly)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the router is waiting to hear of it
            self._fail(f"{orders.assembly.front.ref} does not start: {error}", readable(error))

    def _load(self, orders: Orders) -> None:
        outbound.allow(orders.allow_private)
        confinement.hold(orders.assembly.parts)
        confinement.limit(orders.memory)
        try:
            os.chdir(orders.assembly.front.folder)
        except OSError as error:  # in development somebody may have moved it
            gone = f"{error.filename}: {error.strerror}"
            raise LoadFailed(orders.assembly.front, gone) from Explained(gone)
        self._running = Running(orders.assembly, self._open_keyvalues)
        self._answering = Answering(
            self._running, timeout=orders.request_timeout, explain=orders.explain, log=orders.access_log
        )
        self._entering = self.loop.create_task(self._enter(self._answering.app))

    async def _enter(self, app: App) -> None:
        self._lifespans = Lifespans(self._running)
        failed = await self._lifespans.enter()
        if failed is not None:
            self._fail(failed, failed)
            return
        self.state = self._running.front.state
        self._be_ready(app)

    def _be_ready(self, app: App) -> None:
        self._app = app
        self.config = Config(
            app=app,
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,  # uvicorn's server would keep it up
            timeout_keep_alive=self._orders.keep_alive,  # type: ignore[arg-type]
        )
        self.config.load()
        # It would tell once more, with its own frames on top, what `Answering` has told.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        gc.collect()
        gc.freeze()
        self._watch()
        self._end_stalled()
        self._channel.send(Kind.READY, str(os.getpid()).encode())

    def _fail(self, message: str, text: str) -> None:
        capture.log_exception(text)
        if self._orders.explain:  # in development: every request is shown it, until it is mended
            self._be_ready(explaining(self._orders.assembly.front.ref, message, text))
            return
        self._channel.send(Kind.FAILED, capture.redacted(message).encode("utf-8", "replace"))
        self._finish()

    # ---- connections

    def _adopt(self, sock: socket.socket, first: bytes) -> None:
        if self._draining:
            self._channel.send(Kind.CONNECTION, first, os.dup(sock.fileno()))
            sock.close()
            return
        self._adopting += 1
        task = self.loop.create_task(self._connect(sock, first))
        task.add_done_callback(self._adopted)

    async def _connect(self, sock: socket.socket, first: bytes) -> None:
        try:
            await self.loop.connect_accepted_socket(partial(Connection, self, first), sock)
        except OSError:
            sock.close()
            raise

    def _tell_adopted(self) -> None:
        """Once for all that came together, and before a handler runs that might never end."""
        if not self._untold:
            self.loop.call_soon(self._adopted_so_far)
        self._untold += 1

    def _adopted_so_far(self) -> None:
        count, self._untold = self._untold, 0
        self._channel.send(Kind.ADOPTED, str(count).encode())

    def _adopted(self, task: asyncio.Task[None]) -> None:
        self._adopting -= 1
        if not task.cancelled() and (error := task.exception()):
            capture.log_event("debug", f"a connection was gone before it was adopted: {error}")

    def arrived(self, connection: Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._finish_if_empty()

    def is_ours(self, head: Head) -> bool:
        return not self._draining and self._routes.find(head.host, head.path) == self._key

    def idle(self, connection: Connection) -> None:
        """It is at a boundary."""
        if self._draining:
            connection.leave()
        elif self._shedding:
            self._shedding -= 1
            connection.leave()

    def start(self, exchange: Exchange) -> None:
        self._exchanges[exchange] = self.loop.create_task(exchange.run(self._app))
        if self._watching is None:
            self._watch()

    def ran(self, exchange: Exchange) -> None:
        del self._exchanges[exchange]

    def refused(self, wrong: BadRequest) -> None:
        capture.log_event("debug", f"refused: {wrong.status} {wrong.reason}")

    def retry(self, connection: Connection) -> None:
        self.loop.call_later(_RETRY, connection.leave)

    def return_connection(self, descriptor: int, unread: bytes) -> None:
        self._channel.send(Kind.CONNECTION, unread, descriptor)

    # ---- end

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        for connection in list(self._connections):
            connection.leave()
        self.loop.call_later(self._orders.drain_timeout, self._give_up)
        if self._watching is None:
            self._watch()

    def _give_up(self) -> None:
        """Who has no answer yet gets one that says so; what streams is cut."""
        if self._answering is not None:
            self._answering.give_up()
        self.loop.call_later(_LAST_WORDS, self._finish)

    def _finish_if_empty(self) -> None:
        left = self._connections or self._adopting or self._channel.waiting
        if self._draining and not left and not (self._answering and self._answering.active):
            self._finish()

    def _finish(self) -> None:
        if self._leaving is None:
            self._leaving = self.loop.create_task(self._leave())

    async def _leave(self) -> None:
        if self._entering is not None:
            self._entering.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                if self._lifespans is not None:
                    await self._lifespans.leave()
        self.ended.set_result(None)

    # ---- watching

    def _watch(self) -> None:
        """Every quarter of a second while something runs: a timer for each request would cost more than the requests,
        and one that never rests more than a hundred idle workers."""
        self.own_lines = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        if self._answering:
            self._answering.end_overdue(self.loop.time())
        self._finish_if_empty()
        busy = self._exchanges or self._draining or (self._answering and self._answering.active)
        self._watching = self.loop.call_later(_WATCH, self._watch) if busy else None

    def _end_stalled(self) -> None:
        for connection in list(self._connections):
            if connection.is_stuck():
                connection.transport.abort()
        self.loop.call_later(_STALLED, self._end_stalled)


def _folders(assembly: Assembly) -> dict[str, str]:
    return {part.folder: part.ref for part in assembly.parts}


def run(channel: socket.socket, open_keyvalues: Callable[[], KeyValues]) -> NoReturn:
    """In a fresh fork. Never returns to what the parent was doing."""
    faulthandler.enable(2)
    faulthandler.register(DUMP, 2, all_threads=True)
    status = 1
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(channel, open_keyvalues))
        status = 0
    finally:
        capture.end()
        os._exit(status)  # threads that hang must not keep the process


async def _main(channel: socket.socket, open_keyvalues: Callable[[], KeyValues]) -> None:
    worker = Worker(channel, open_keyvalues)
    await worker.ended
    await asyncio.sleep(0)
