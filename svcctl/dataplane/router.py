"""The router: accepts connections, reads each one's first request head, and hands the connection to a worker.

No byte is proxied. What a worker gets is the accepted socket itself, with the bytes that were read from it; from then
on client and worker talk alone. The worker hands a connection back at a request's boundary when the next request is not
for it, or when it drains; here it waits for its next head like a new one. So the router is busy with fresh connections
only, and a connection that says nothing, or half of a head, holds up nobody.

When routes or versions change, the routes are replaced first, then each deployment that runs is asked to become what it
should be (`runner`). The listener never closes meanwhile, so no connection is refused.
"""

import asyncio
import os
import socket
from asyncio import Transport
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Protocol

from svcctl import wire
from svcctl.dataplane import gate
from svcctl.dataplane.gate import BadRequest
from svcctl.dataplane.processes import WarmParent, WorkerProcess
from svcctl.dataplane.routes import Routes
from svcctl.dataplane.runner import Runner, Say, say_goodbye
from svcctl.dataplane.worker import Orders
from svcctl.runtime.assembly import Assembly

HEAD_TIMEOUT = 15.0
"""Seconds for a first request's head, from its first byte or the connection's begin."""
_BACKLOG = 4_096
_SWEEP = 1.0
_SPARE_DESCRIPTORS = 200


class Changed(Protocol):
    """What a source calls when it changed (`Router.changed`)."""

    def __call__(self, start: Iterable[str] = ()) -> Awaitable[None]: ...


class Source(Protocol):
    """Where deployments come from: the ledger, or a working tree."""

    def addresses(self) -> Iterable[tuple[str, str]]:
        """Hostnames and routes, each with the key of its deployment."""

    async def assemble(self, key: str) -> Assembly:
        """Raises NotLive, and what reading may raise."""


class Router:
    def __init__(
        self,
        source: Source,
        parent: WarmParent,
        orders: Orders,
        say: Say,
        *,
        idle: float = 900.0,
        blocked: float = 10.0,
    ) -> None:
        """`idle`: seconds after which an unused worker is stopped. `blocked`: seconds for which a worker's event loop
        may answer nothing."""
        self.loop = asyncio.get_running_loop()
        self.runners: dict[str, Runner] = {}
        self._source = source
        self._parent = parent
        self._orders = orders
        self._say = say
        self._idle = idle
        self._blocked = blocked
        self._routes = Routes(())
        self._fronts: set[Front] = set()
        self._adopting: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._most = _most_connections()
        self._changing = asyncio.Lock()
        self._closing = False

    # ---- listening

    async def listen(self, sock: socket.socket) -> None:
        self._routes = Routes(self._source.addresses())
        self._servers.append(await self.loop.create_server(lambda: Front(self), sock=sock, backlog=_BACKLOG))
        self._sweep()

    @property
    def connections(self) -> int:
        """Those that wait here for a request."""
        return len(self._fronts)

    # ---- what changes

    async def changed(self, start: Iterable[str] = ()) -> None:
        """Reads the source again and makes what runs what should run; returns when that was begun. The deployments in
        `start` are started though nobody asks for them yet."""
        async with self._changing:
            self._routes = Routes(self._source.addresses())
            wanted = set(start)
            for key in wanted:
                self._runner(key)
            for key, runner in list(self.runners.items()):
                runner.claim()
                await runner.refresh()
                if key in wanted:
                    await runner.refresh(start=True)

    def _claims(self, key: str) -> bytes:
        return wire.canonical(list(self._routes.around(key).entries))

    # ---- connections

    def arrived(self, front: "Front") -> bool:
        if len(self._fronts) >= self._most:
            return False
        self._fronts.add(front)
        return True

    def left(self, front: "Front") -> None:
        self._fronts.discard(front)

    def hand_over(self, head: gate.Head, descriptor: int, unread: bytes) -> None:
        key = self._routes.find(head.host, head.path)
        if key is None:
            text = f"nothing is deployed at {head.host}"
            say_goodbye(self.loop, descriptor, gate.answer(404, text, bodiless=head.method == b"HEAD"))
            return
        self._runner(key).give(descriptor, unread)

    def _runner(self, key: str) -> Runner:
        if (runner := self.runners.get(key)) is None:
            runner = self.runners[key] = Runner(
                key,
                self.loop,
                self._parent,
                self._source.assemble,
                self._orders,
                self._claims,
                self.take_back,
                self._say,
            )
        return runner

    def take_back(self, descriptor: int, unread: bytes) -> None:
        """A connection from a worker, between two requests."""
        if self._closing:
            os.close(descriptor)
            return
        task = self.loop.create_task(self._take_back(socket.socket(fileno=descriptor), unread))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _take_back(self, sock: socket.socket, unread: bytes) -> None:
        with suppress(OSError):  # the client was gone before
            await self.loop.connect_accepted_socket(lambda: Front(self, unread), sock)

    # ---- watching

    def _sweep(self) -> None:
        if self._closing:
            return
        now = self.loop.time()
        for front in [each for each in self._fronts if each.deadline < now]:
            front.expire()
        for key, runner in list(self.runners.items()):
            for worker in runner.workers:
                if worker.pinged_at is not None and now - worker.pinged_at > self._blocked:
                    self._end_blocked(worker)
                elif worker.ready:
                    worker.ping()
            runner.stop_if_idle(now, self._idle)
            if not runner.workers and now - runner.used_at > self._idle:
                del self.runners[key]
        self.loop.call_later(_SWEEP, self._sweep)

    def _end_blocked(self, worker: WorkerProcess) -> None:
        self._say("error", f"{worker.ref}: its event loop was blocked for {self._blocked:g} s; its worker is killed")
        worker.pinged_at = self.loop.time()
        worker.dump()
        self.loop.call_later(0.2, worker.kill)

    # ---- end

    async def close(self, patience: float) -> None:
        """No more connections; running requests are finished within `patience` seconds."""
        self._closing = True
        for server in self._servers:
            server.close()
        for front in list(self._fronts):
            front.expire()
        for runner in self.runners.values():
            runner.close()
        deadline = self.loop.time() + patience
        while self.loop.time() < deadline and any(  # noqa: ASYNC110
            runner.workers for runner in self.runners.values()
        ):
            await asyncio.sleep(0.02)  # each worker's end is its own event; this waits for all
        for runner in self.runners.values():
            for worker in runner.workers:
                worker.kill()
        self._parent.close()


class Front(asyncio.Protocol):
    """A connection that waits for a request's head."""

    def __init__(self, router: Router, unread: bytes = b"") -> None:
        self.deadline = router.loop.time() + HEAD_TIMEOUT
        self._router = router
        self._bytes = bytearray(unread)
        self._transport: Transport

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] - of a stream socket
        self._transport = transport
        if not self._router.arrived(self):
            self._answer(503, "too many connections wait for a request")
        elif self._bytes:
            self._look()

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._router.left(self)

    def _look(self) -> None:
        data = bytes(self._bytes)
        try:
            head = gate.parse(data)
        except BadRequest as wrong:
            self._answer(wrong.status, wrong.reason)
            return
        if head is None:
            return
        self._router.left(self)
        transport = self._transport
        transport.pause_reading()
        sock: socket.socket = transport.get_extra_info("socket")
        try:
            descriptor = os.dup(sock.fileno())
        except OSError:
            self._answer(503, "too many open files")
            return
        transport.abort()
        self._router.hand_over(head, descriptor, data)

    def expire(self) -> None:
        """A kept-alive connection ends without a word, as clients expect; half of a request is told."""
        if self._bytes:
            self._answer(408, "the request's head did not come in time")
        else:
            self._transport.close()

    def _answer(self, status: int, text: str) -> None:
        self._router.left(self)
        self._transport.pause_reading()
        sock: socket.socket = self._transport.get_extra_info("socket")
        with suppress(OSError):
            say_goodbye(self._router.loop, os.dup(sock.fileno()), gate.answer(status, text))
        self._transport.abort()


def _most_connections() -> int:
    """As many as descriptors allow, some kept for everything else."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(100, min(soft, 1 << 20) - _SPARE_DESCRIPTORS)
