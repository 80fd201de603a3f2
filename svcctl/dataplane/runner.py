"""One deployment, from cold to running and on: which worker answers, and what happens when that changes.

    cold ──first request──▶ starting ──READY──▶ serving ──idle──▶ cold
                               │                  │  ▲
                             fails              change, or a worker that wants a successor:
                               ▼                  ▼  │
                          resting (back-off)    a successor starts; when it is READY it takes all new requests,
                               │                and the old one drains. One that fails leaves the old one serving.
                               └──next request, or a change──▶ starting

Connections that come while there is no worker wait here. A worker that dies takes its running requests along; the next
request starts another, after a pause that grows while they die young.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from svcctl import digest, wire
from svcctl.dataplane import gate
from svcctl.dataplane.assembling import NotLive
from svcctl.dataplane.logbook import Level
from svcctl.dataplane.processes import Events, WarmParent, WorkerProcess
from svcctl.dataplane.worker import Orders
from svcctl.errors import SvcctlError
from svcctl.runtime.assembly import Assembly

_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the next start, after so many failures in a row."""
_GROWN_UP = 10.0
"""Seconds after which a worker that dies did not die young."""
_WAITING = 4_096
"""Connections that may wait for a start."""
_BLOCKED_STARTS = 10.0
"""Seconds that a start may take."""

Assemble = Callable[[str], Awaitable[Assembly]]
Say = Callable[[Level, str], None]
"""Into the log, and to the operator."""


class Runner(Events):
    def __init__(
        self,
        key: str,
        loop: asyncio.AbstractEventLoop,
        parent: WarmParent,
        assemble: Assemble,
        orders: Orders,
        claims: Callable[[str], bytes],
        take_back: Callable[[int, bytes], None],
        say: Say,
    ) -> None:
        """`orders` are the operator's; their assembly is replaced."""
        self.key = key
        self.place = key
        self.current: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.used_at = loop.time()
        self.trouble: str | None = None
        """Why what the ledger asks for does not run."""
        self._loop = loop
        self._parent = parent
        self._assemble = assemble
        self._orders = orders
        self._claims = claims
        self._take_back = take_back
        self._say = say
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._draining: set[WorkerProcess] = set()
        self._failures = 0
        self._rest_until = 0.0
        self._runs: str | None = None
        """The fingerprint of what the newest worker was told."""
        self._started_at: dict[int, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock = asyncio.Lock()

    # ---- connections

    def give(self, descriptor: int, unread: bytes) -> None:
        self.used_at = self._loop.time()
        if self.current is not None:
            self.current.adopt(descriptor, unread)
            return
        if len(self._waiting) >= _WAITING:
            say_goodbye(self._loop, descriptor, gate.answer(503, f"{self.place} is starting; try again"))
            return
        self._waiting.append((descriptor, unread))
        if self.successor is None:
            self._do(self._start_cold())

    async def _start_cold(self) -> None:
        if self._lock.locked():  # whoever holds it looks at the queue
            return
        pause = self._rest_until - self._loop.time()
        if pause > 0 and self.trouble:
            self._answer_all(503, f"{self.trouble}; the next try is in {pause:.0f} s")
            return
        if pause > 0:
            await asyncio.sleep(pause)
        await self.refresh(start=True)

    async def refresh(self, *, start: bool = False) -> None:
        """Makes what runs what should run. Without `start`, a deployment that is cold stays so."""
        async with self._lock:
            if not start and self.current is None and self.successor is None and not self._waiting:
                self._rest_until, self._failures, self.trouble = 0.0, 0, None
                return
            try:
                assembly = await self._assemble(self.key)
            except NotLive as error:
                self._retire(str(error))
                return
            except SvcctlError as error:
                self._not_now(error.message)
                return
            self.place = assembly.front.ref
            fingerprint = digest.of_blob(wire.canonical(assembly))
            newest = self.successor or self.current
            if newest is not None and fingerprint == self._runs:
                return
            if not start:
                self._failures = 0
            self._runs = fingerprint
            self._spawn(assembly)

    def _retire(self, why: str) -> None:
        """It must not run any more, as it is: its head can't answer."""
        self.trouble = why
        self._runs = None
        self._let_go()
        self._answer_all(503, why)

    def _not_now(self, why: str) -> None:
        """It can't be made ready: what is live stays live."""
        self.trouble = why
        self._say("error", f"{self.place}: {why}")
        if self.current is None:
            self._rest()
            self._answer_all(503, why)

    def _spawn(self, assembly: Assembly) -> None:
        if self.successor is not None:
            self.successor.kill()
        worker = self._parent.spawn(replace(self._orders, assembly=assembly, key=self.key), self)
        self.successor = worker
        self._started_at[worker.id] = self._loop.time()
        self._loop.call_later(_BLOCKED_STARTS, self._too_slow, worker)

    def _too_slow(self, worker: WorkerProcess) -> None:
        if self.successor is worker and not worker.ready:
            worker.dump()
            self._loop.call_later(0.2, worker.kill)
            self._failed(worker, f"{worker.ref} did not start within {_BLOCKED_STARTS:g} s")

    # ---- what happens to workers

    def ready(self, worker: WorkerProcess) -> None:
        if worker is not self.successor:
            worker.drain()
            return
        old, self.current, self.successor = self.current, worker, None
        self.trouble = None
        worker.claim(self._claims(self.key))
        while self._waiting:
            worker.adopt(*self._waiting.popleft())
        if old is not None:
            self._draining.add(old)
            old.drain()

    def failed(self, worker: WorkerProcess, message: str) -> None:
        if worker is self.successor:
            self._failed(worker, message)

    def _failed(self, worker: WorkerProcess, message: str) -> None:
        self.successor = None
        self.trouble = message
        if self.current is not None and not self._orders.explain:
            stays = self.current.ref
            self._say("error", f"{message}; {stays} stays live")
            return
        self._let_go()  # whoever edits must not be shown what was before
        self._say("error", message)
        self._runs = None
        self._rest()
        self._answer_all(502, f"{worker.ref} does not start; its log says why")

    def gone(self, worker: WorkerProcess, how: str) -> None:
        age = self._loop.time() - self._started_at.pop(worker.id, 0.0)
        if worker in self._draining:
            self._draining.discard(worker)
        elif worker is self.successor:
            self._failed(worker, f"{worker.ref} {how} while it started")
        elif worker is self.current:
            self.current = None
            self._runs = None
            self._say("error", f"{worker.ref}: its worker {how}")
            if age < _GROWN_UP:
                self._rest()
            else:
                self._failures = 0
            if self._waiting:
                self._do(self._start_cold())

    def returned(self, descriptor: int, unread: bytes) -> None:
        self._take_back(descriptor, unread)

    def wants_successor(self, worker: WorkerProcess) -> None:
        if worker is self.current and self.successor is None:
            self._say("warning", f"{self.place}: too many sync handlers hang; its worker is replaced")
            self._spawn(worker.orders.assembly)

    # ---- rest

    def _rest(self) -> None:
        self._failures += 1
        self._rest_until = self._loop.time() + _PAUSES[min(self._failures - 1, len(_PAUSES) - 1)]

    def stop_if_idle(self, now: float, after: float) -> None:
        worker = self.current
        if worker is None or self.successor is not None or worker.busy.active:
            return
        if worker.busy.requests != self._answered or worker.pinged_at is not None:
            self._answered = worker.busy.requests
            self.used_at = now
        elif now - self.used_at > after:
            self._let_go()
            self._runs = None

    _answered = 0

    def _let_go(self) -> None:
        if self.successor is not None:
            self.successor.kill()
            self.successor = None
        if self.current is not None:
            self._draining.add(self.current)
            self.current.drain()
            self.current = None

    def claim(self) -> None:
        """Routes changed."""
        if self.current is not None:
            self.current.claim(self._claims(self.key))

    @property
    def workers(self) -> list[WorkerProcess]:
        return [each for each in (self.current, self.successor, *self._draining) if each is not None]

    def close(self) -> None:
        self._let_go()
        self._answer_all(503, "svcctl is ending")

    def _answer_all(self, status: int, text: str) -> None:
        retry = (("retry-after", "1"),) if status == 503 else ()
        while self._waiting:
            descriptor, _ = self._waiting.popleft()
            say_goodbye(self._loop, descriptor, gate.answer(status, text, headers=retry))

    def _do(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def say_goodbye(loop: asyncio.AbstractEventLoop, descriptor: int, answer: bytes) -> None:
    """An answer on a connection that nobody reads from any more. It is closed a moment later: closed at once, with
    bytes unread, the kernel would reset it and the client lose the answer."""
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    try:
        sock.send(answer)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        sock.close()
        return
    loop.call_later(1.0, sock.close)
