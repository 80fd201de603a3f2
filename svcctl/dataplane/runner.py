"""One deployment, from cold to running and on: which worker answers, and what happens when that changes.

    cold ──first request──▶ starting ──READY──▶ serving ──idle──▶ cold
                               │                  │  ▲
                             fails              change, or too many threads hang:
                               ▼                  ▼  │
                            resting             a successor starts; when it is READY it takes all new requests,
                               │                and the old one drains. One that fails leaves the old one serving.
                               └──next request, or a change──▶ starting

There is one place where it is decided what should run: `_look`, one at a time, asked again whenever something may have
changed. Connections that come while there is no worker wait here. A worker that dies takes the requests that it was at
along; connections that it never looked at come back and wait for the next.

What is said to clients names the deployment and what its owner can do, never an error's own text: that may hold what
is nobody's business. The log has it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

from msgspec.structs import replace

from svcctl import digest, wire
from svcctl.dataplane import resting
from svcctl.dataplane.assembling import NotLive
from svcctl.dataplane.crowd import Crowd, Scale
from svcctl.dataplane.output import Say
from svcctl.dataplane.processes import WarmParent
from svcctl.dataplane.resting import Rest
from svcctl.dataplane.waiting import Trouble, Waiting
from svcctl.dataplane.worker import Orders
from svcctl.dataplane.workerprocess import Events, WorkerProcess
from svcctl.errors import Refused, SvcctlError
from svcctl.runtime.assembly import Assembly

_BEHIND: Final = 1_024
"""Connections that a worker may be sent before it takes them."""
_SHORT: Final = 1.0
"""Seconds of rest that a request waits for rather than be refused."""
_ABANDONED: Final = 4
"""Hanging threads after which a worker gets a successor."""
_SPARE: Final = 3.0
"""Seconds that a worker gets to end, beyond those for running requests."""


class Patience(NamedTuple):
    """Seconds."""

    idle: float = 900.0
    """After which an unused worker is stopped."""
    blocked: float = 10.0
    """For which a worker's event loop may answer nothing."""
    start: float = 30.0
    """Until a worker must be ready."""


class Means(NamedTuple):
    """What every runner works with."""

    loop: asyncio.AbstractEventLoop
    parent: WarmParent
    assemble: Callable[[str], Awaitable[Assembly]]
    """Raises NotLive, and what reading may raise."""
    orders: Orders
    """The operator's; their assembly is replaced."""
    claims: Callable[[str], bytes]
    take_back: Callable[[int, bytes], None]
    goodbye: Callable[[int, bytes], None]
    say: Say
    patience: Patience
    scale: Scale


class Runner(Events):
    def __init__(self, key: str, means: Means) -> None:
        self.key = key
        self.place = key
        """As people call it, once that is known."""
        self.current: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.trouble: Trouble | None = None
        self._means = means
        self._loop = means.loop
        self._crowd = Crowd(means.scale)
        self._draining: set[WorkerProcess] = set()
        self._waiting = Waiting(means.loop, means.goodbye)
        self._rest = Rest()
        self._failed: str | None = None
        """The fingerprint of what did not start."""
        self._complaint: str | None = None
        self._looking: asyncio.Task[None] | None = None
        self._look_again = False
        self._timer: asyncio.TimerHandle | None = None
        self._used_at = means.loop.time()
        self._answered = 0
        self._closed = False

    # ---- connections

    def give(self, descriptor: int, unread: bytes) -> None:
        now = self._used_at = self._loop.time()
        if self._closed:
            self._waiting.refuse(descriptor, unread, Trouble(503, "svcctl is ending"))
        elif self.current is not None:
            if (worker := self._crowd.least_busy(self.current)).behind < _BEHIND:
                worker.adopt(descriptor, unread)
            else:
                self._waiting.refuse(descriptor, unread, Trouble(503, f"{self.place} is busy; try again"))
        elif self.trouble and (left := self._rest.left(now)) > _SHORT:
            again = f"{self.trouble.text}; it is tried again in {left:.0f} s"
            self._waiting.refuse(descriptor, unread, Trouble(self.trouble.status, again), left)
        elif self._waiting.is_full:
            self._waiting.refuse(descriptor, unread, Trouble(503, f"{self.place} is starting; try again"))
        else:
            self._waiting.add(descriptor, unread)
            self._look_when_rested()

    def _refuse_waiting(self, trouble: Trouble) -> None:
        self.trouble = trouble
        self._waiting.refuse_all(trouble)

    # ---- what should run

    async def refresh(self, *, start: bool = False) -> None:
        """Something changed: makes what runs what should run, and returns when that was begun. Without `start`, a
        deployment that is cold stays so."""
        if start or self.current or self.successor or self._waiting:
            await asyncio.shield(self._look())
        else:
            self.trouble = None
            self._rest.end()

    def _look_when_rested(self) -> None:
        if (left := self._rest.left(self._loop.time())) == 0:
            self._look()
        elif self._timer is None:
            self._timer = self._loop.call_later(left, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if self._waiting:
            self._look()

    def _look(self) -> "asyncio.Task[None]":
        self._look_again = True
        if self._looking is None:
            self._looking = self._loop.create_task(self._look_until_settled())
        return self._looking

    async def _look_until_settled(self) -> None:
        try:
            while self._look_again and not self._closed:
                self._look_again = False
                await self._look_once()
        finally:
            self._looking = None

    async def _look_once(self) -> None:
        try:
            assembly = await self._means.assemble(self.key)
        except NotLive as error:
            self._retire(str(error))
        except Refused as error:
            self._not_now(error.message, explained=error.message)
        except SvcctlError as error:
            self._not_now(error.message)
        except Exception as error:  # noqa: BLE001 - a bug in one deployment's way must not stop the others
            self._not_now(f"{self.place} can't be started, because of a bug in svcctl")
            self._loop.call_exception_handler({"message": f"{self.place} can't be started", "exception": error})
        else:
            if not self._closed:
                self._want(assembly)

    def _want(self, assembly: Assembly) -> None:
        self.place = assembly.place
        fingerprint = digest.of_blob(wire.canonical(assembly))
        if self.current is not None and self.current.fingerprint == fingerprint:
            self._drop_successor()
            self.trouble = self._complaint = None
        elif self.successor is not None and self.successor.fingerprint == fingerprint:
            pass
        elif fingerprint != self._failed or self._rest.left(self._loop.time()) == 0:
            if fingerprint != self._failed and self._failed is not None:
                self._rest.end()
            self._spawn(assembly, fingerprint)

    def _spawn(self, assembly: Assembly, fingerprint: str) -> None:
        try:
            worker = self._begun(assembly, fingerprint)
        except OSError as error:
            self._not_now(f"{self.place} can't be started: there can be no other process: {error.strerror}")
            return
        self._drop_successor()
        self.successor = worker

    def _begun(self, assembly: Assembly, fingerprint: str) -> WorkerProcess:
        orders = replace(self._means.orders, assembly=assembly, key=self.key)
        return self._means.parent.spawn(orders, self, fingerprint)

    def _help(self, first: WorkerProcess) -> None:
        with suppress(OSError):  # then it goes on as it is, and is helped once there can be another process
            self._crowd.begin(self._begun(first.orders.assembly, first.fingerprint))

    # ---- what can't run

    def _retire(self, why: str) -> None:
        """It must not run any more as it is: the ledger says so."""
        self._let_go()
        self._failed = self._complaint = None
        self._rest.end()
        self._refuse_waiting(Trouble(503, why))

    def _not_now(self, why: str, explained: str | None = None) -> None:
        """It can't be made ready: what is live stays live. `explained`: to clients who develop it."""
        self._rest.begin(self._loop.time(), resting.START)
        self._complain(why)
        if self.current is None and self.successor is None:
            told = "this can't be started now: the log of svcctl serve says why"
            self._refuse_waiting(Trouble(503, explained if explained and self._means.orders.explain else told))

    def _start_failed(self, worker: WorkerProcess, why: str) -> None:
        self.successor = None
        self._failed = worker.fingerprint
        self._rest.begin(self._loop.time(), resting.START)
        self._drain(worker)
        if self.current is not None and self._means.orders.explain:
            self._let_go()  # whoever edits must not be shown what was before
        self._complain(why)
        if self.current is None:
            told = f"{worker.ref} does not start: svcctl logs {worker.orders.assembly.place} says why"
            self._refuse_waiting(Trouble(502, why if self._means.orders.explain else told))

    def _complain(self, what: str) -> None:
        if self.current is not None:
            what += f"; {self.current.ref} stays live"
        if self._rest.gives_up:
            what += ", and it is not tried again before something changes" if self.current else ""
        if what != self._complaint:
            self._complaint = what
            self._means.say("error", what)

    # ---- what workers say

    def ready(self, worker: WorkerProcess) -> None:
        if self.current is not None and self._crowd.join(worker, self.current):
            worker.claim(self._means.claims(self.key))
            return
        if worker is not self.successor:
            return  # it was told to end
        old, self.current, self.successor = self.current, worker, None
        self.trouble = self._failed = self._complaint = None
        self._answered = 0
        worker.claim(self._means.claims(self.key))
        self._waiting.hand_to(worker)
        if old is not None:
            for each in (old, *self._crowd.disperse(needed=True)):
                self._drain(each)

    def failed(self, worker: WorkerProcess, message: str) -> None:
        if worker is self.successor:
            self._start_failed(worker, message)
        elif self._crowd.leave(worker):
            self._drain(worker)

    def gone(self, worker: WorkerProcess, how: str) -> None:
        if worker is self.successor:
            if worker.lost:
                self.successor = None
                self._spawn(worker.orders.assembly, worker.fingerprint)
            else:
                self._start_failed(worker, f"{worker.ref} does not start: its process {how}")
        elif worker is self.current:
            self.current = self._crowd.promote()
            if self.current is None:
                for each in self._crowd.disperse(needed=True):
                    self._drain(each)
            self._crashed(worker, how)
        elif self._crowd.leave(worker):
            self._crashed(worker, how)
        self._draining.discard(worker)
        if self._waiting and self.successor is None:
            self._look_when_rested()

    def _crashed(self, worker: WorkerProcess, how: str) -> None:
        if not worker.condemned:
            then = "others go on" if self.current else "the next request starts another"
            self._means.say("error", f"{worker.ref}: its worker {how}; {then}")
        now = self._loop.time()
        if now - worker.begun_at < resting.GROWN_UP:
            self._rest.begin(now, resting.CRASH)
        else:
            self._rest.end()
        self.trouble = Trouble(503, f"the worker of {worker.ref} died")

    def returned(self, descriptor: int, unread: bytes) -> None:
        self._means.take_back(descriptor, unread)

    # ---- as time goes by

    def tick(self, now: float) -> None:
        for worker in self.workers:
            self._watch(worker, now)
        self._waiting.refuse_overdue(now, Trouble(503, f"{self.place} is still starting; try again"))
        if self.current is None or self.successor is not None:
            return
        if self._complaint is not None and not self._rest.gives_up and self._rest.left(now) == 0:
            self._look()
        elif any(each.busy.abandoned >= _ABANDONED for each in (self.current, *self._crowd.workers)):
            self._means.say("warning", f"{self.current.ref}: too many sync handlers hang; its worker is replaced")
            self._spawn(self.current.orders.assembly, self.current.fingerprint)
        elif self._crowd.is_too_small(self.current, now):
            self._help(self.current)
        elif spare := self._crowd.to_spare(self.current, now):
            self._drain(spare)
        elif not self._crowd:
            self._stop_if_idle(self.current, now)

    def _watch(self, worker: WorkerProcess, now: float) -> None:
        patience = self._means.patience
        if worker.condemned:
            return
        if worker.drained_at is not None and now - worker.drained_at > self._means.orders.drain_timeout + _SPARE:
            self._means.say("warning", f"{worker.ref}: its old worker did not end, and is killed")
            worker.kill()
        elif not worker.ready:
            if worker.drained_at is None and now - worker.begun_at > patience.start:
                worker.kill_hanging(lambda where: self._started_too_slowly(worker, where))
        elif worker.silent_for(now) > patience.blocked:
            worker.kill_hanging(lambda where: self._blocked(worker, where))
        else:
            worker.ping(now)

    def _started_too_slowly(self, worker: WorkerProcess, where: str) -> None:
        if worker is self.successor:
            seconds = f"{self._means.patience.start:g} s"
            self._start_failed(worker, f"{worker.ref} does not start: it is not ready after {seconds}{where}")

    def _blocked(self, worker: WorkerProcess, where: str) -> None:
        seconds = f"{self._means.patience.blocked:g} s"
        self._means.say("error", f"{worker.ref}: its event loop was blocked for {seconds}{where}; its worker is killed")

    def _stop_if_idle(self, worker: WorkerProcess, now: float) -> None:
        if worker.busy.active or worker.busy.requests != self._answered:
            self._answered = worker.busy.requests
            self._used_at = now
        elif now - self._used_at > self._means.patience.idle:
            self._let_go()

    # ---- ends

    def _drop_successor(self) -> None:
        if self.successor is not None:
            self._draining.add(self.successor)
            self.successor.kill()
            self.successor = None

    def _let_go(self) -> None:
        self._drop_successor()
        if self.current is not None:
            for each in (self.current, *self._crowd.disperse(needed=False)):
                self._drain(each)
            self.current = None

    def _drain(self, worker: WorkerProcess) -> None:
        self._draining.add(worker)
        worker.drain()

    def claim(self) -> None:
        """Routes changed."""
        for worker in (self.current, *self._crowd.workers):
            if worker is not None and worker.ready:
                worker.claim(self._means.claims(self.key))

    @property
    def workers(self) -> list[WorkerProcess]:
        mine = (self.current, self.successor, *self._crowd.workers, *self._draining)
        return [each for each in mine if each is not None]

    def is_over(self, now: float) -> bool:
        """Whether nothing would be missed."""
        busy = self.workers or self._waiting or self._looking is not None
        return not busy and now - self._used_at > self._means.patience.idle

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._let_go()
        self._refuse_waiting(Trouble(503, "svcctl is ending"))
