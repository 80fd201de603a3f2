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
from typing import Final, Protocol

from svcctl import wire
from svcctl.dataplane import gate
from svcctl.dataplane.crowd import Scale
from svcctl.dataplane.gate import BadRequest
from svcctl.dataplane.goodbyes import Goodbyes
from svcctl.dataplane.output import Say
from svcctl.dataplane.processes import WarmParent
from svcctl.dataplane.routes import Routes
from svcctl.dataplane.runner import Means, Patience, Runner
from svcctl.dataplane.worker import Orders
from svcctl.dataplane.workerprocess import WorkerProcess
from svcctl.runtime.assembly import Assembly

HEAD_TIMEOUT: Final = 15.0
"""Seconds for a request's head, from the connection's begin, or from its first byte on one that was kept."""
_BACKLOG: Final = 4_096
_TICK: Final = 0.5
_LINGERING: Final = 4
"""One of so many connections may be there for the rest of a last answer alone."""
_LONGEST_DRAIN: Final = 2.0
"""Seconds beyond those that workers have to end."""


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
        patience: Patience,
        *,
        most: int,
        scale: Scale,
    ) -> None:
        """`most`: connections that may wait here at once."""
        self.loop = asyncio.get_running_loop()
        self.runners: dict[str, Runner] = {}
        self.keep_alive = orders.keep_alive
        self._source = source
        self._parent = parent
        self._orders = orders
        self._goodbyes = Goodbyes(self.loop, most // _LINGERING)
        self._means = Means(
            loop=self.loop,
            parent=parent,
            assemble=source.assemble,
            orders=orders,
            claims=self._claims,
            take_back=self.take_back,
            goodbye=self._goodbyes.say,
            say=say,
            patience=patience,
            scale=scale,
        )
        self._routes = Routes(())
        self._fronts: set[Front] = set()
        self._adopting: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._most = most
        self._changing = asyncio.Lock()
        self._closing = False

    # ---- listening

    async def listen(self, sock: socket.socket) -> None:
        self._routes = Routes(self._source.addresses())
        self._server = await self.loop.create_server(lambda: Front(self), sock=sock, backlog=_BACKLOG)
        self._tick()

    # ---- what changes

    async def changed(self, start: Iterable[str] = ()) -> None:
        """Reads the source again and makes what runs what should run; returns when that was begun. The deployments in
        `start` are started though nobody asks for them yet."""
        async with self._changing:
            self._routes = Routes(self._source.addresses())
            wanted = set(start)
            for key in wanted:
                self._runner(key)
            for runner in self.runners.values():
                runner.claim()
            await asyncio.gather(*(runner.refresh(start=key in wanted) for key, runner in self.runners.items()))

    def _claims(self, key: str) -> bytes:
        return wire.canonical(list(self._routes.around(key).entries))

    # ---- connections

    def arrived(self, front: "Front") -> bool:
        """Whether there is room for it."""
        if len(self._fronts) >= self._most:
            return False
        self._fronts.add(front)
        return True

    def left(self, front: "Front") -> None:
        self._fronts.discard(front)

    def hand_over(self, head: gate.Head, descriptor: int, unread: bytes) -> None:
        key = self._routes.find(head.host, head.path)
        if key is None:
            text = self._nobody(head.host)
            self.say_goodbye(descriptor, gate.answer(404, text, bodiless=head.method == b"HEAD"))
        else:
            self._runner(key).give(descriptor, unread)

    def _nobody(self, host: str) -> str:
        """Who develops is told what there is; who comes from outside is not."""
        if not self._orders.explain:
            return f"nothing is deployed at {host}"
        return f"no service answers at {host}; there is {', '.join(each for each, _ in self._routes.entries)}"

    def say_goodbye(self, descriptor: int, answer: bytes) -> None:
        self._goodbyes.say(descriptor, answer)

    def _runner(self, key: str) -> Runner:
        if (runner := self.runners.get(key)) is None:
            runner = self.runners[key] = Runner(key, self._means)
            if self._closing:
                runner.close()
        return runner

    def take_back(self, descriptor: int, unread: bytes) -> None:
        """A connection from a worker, between two requests."""
        if self._closing and not unread:
            os.close(descriptor)
            return
        task = self.loop.create_task(self._take_back(socket.socket(fileno=descriptor), unread))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _take_back(self, sock: socket.socket, unread: bytes) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Front(self, unread, kept=True), sock)
        except OSError:  # the client was gone before
            sock.close()

    # ---- as time goes by

    def _tick(self) -> None:
        if self._closing:
            return
        self.loop.call_later(_TICK, self._tick)
        now = self.loop.time()
        for front in [each for each in self._fronts if each.deadline < now]:
            front.expire()
        for key, runner in list(self.runners.items()):
            runner.tick(now)
            if runner.is_over(now):
                del self.runners[key]

    # ---- end

    async def close(self) -> None:
        """No more connections; running requests are finished while they have time."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for front in list(self._fronts):
            front.expire()
        for runner in self.runners.values():
            runner.close()
        deadline = self.loop.time() + self._orders.drain_timeout + _LONGEST_DRAIN
        while self._workers and self.loop.time() < deadline:  # noqa: ASYNC110 - each end is an event of its own
            await asyncio.sleep(0.01)
        for worker in self._workers:
            worker.kill()
        self._goodbyes.close()
        await self._parent.close()

    @property
    def _workers(self) -> list[WorkerProcess]:
        return [worker for runner in self.runners.values() for worker in runner.workers]


class Front(asyncio.Protocol):
    """A connection that waits for a request's head."""

    def __init__(self, router: Router, unread: bytes = b"", *, kept: bool = False) -> None:
        """`kept`: it had requests before, and may rest between two for longer."""
        self._patient = kept and not unread
        self.deadline = router.loop.time() + (router.keep_alive if self._patient else HEAD_TIMEOUT)
        self._router = router
        self._bytes = bytearray(unread)
        self._transport: Transport

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # of a stream socket
        self._transport = transport
        if not self._router.arrived(self):
            self._answer(503, "too many connections wait for a request")
        elif self._bytes:
            self._look()

    def data_received(self, data: bytes) -> None:
        is_first = not self._bytes
        self._bytes += data
        if self._patient:
            self._patient, self.deadline = False, self._router.loop.time() + HEAD_TIMEOUT
        if is_first or b"\n" in data or len(self._bytes) > gate.HEAD_LIMIT:
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
        descriptor = self._leave()
        if descriptor is not None:
            self._router.hand_over(head, descriptor, data)

    def expire(self) -> None:
        """A kept-alive connection ends without a word, as clients expect; half of a request is told."""
        if self._bytes:
            self._answer(408, "the request's head did not come in time")
        else:
            self._transport.close()

    def _answer(self, status: int, text: str) -> None:
        descriptor = self._leave()
        if descriptor is not None:
            self._router.say_goodbye(descriptor, gate.answer(status, text))

    def _leave(self) -> int | None:
        """The connection, as a descriptor of its own; None where there is none left to have."""
        self._router.left(self)
        self._transport.pause_reading()
        sock: socket.socket = self._transport.get_extra_info("socket")
        with suppress(OSError):
            descriptor = os.dup(sock.fileno())
            self._transport.abort()
            return descriptor
        self._transport.abort()
        return None
