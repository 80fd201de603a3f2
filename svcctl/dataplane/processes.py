"""The processes that the router has: the warm parent, and the workers that it forks.

The router holds one end of each worker's channel, so workers outlive a parent that was killed: a new one is started and
forks the next.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress

from svcctl import wire
from svcctl.dataplane.channel import Channel, Kind
from svcctl.dataplane.logbook import Decoder, LogRecord
from svcctl.dataplane.parent import Exited, Spawned
from svcctl.dataplane.worker import DUMP, Busy, Orders

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE")
"""Of the environment: what handlers are given comes by `env`, and nothing of who started svcctl leaks to them."""
_PIPE_READ = 1 << 16

Records = Callable[[list[LogRecord]], None]


class WarmParent:
    """`program` starts it; it is given the number of its descriptor."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, program: list[str], environ: Mapping[str, str], said: Records
    ) -> None:
        self._loop = loop
        self._program = program
        self._environ = {name: environ[name] for name in _PASSED_ON if name in environ}
        self._said = said
        self._workers: dict[int, WorkerProcess] = {}
        self._unborn: dict[int, WorkerProcess] = {}
        self._numbers = 0
        self._closing = False
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def spawn(self, orders: Orders, events: "Events") -> "WorkerProcess":
        self._numbers += 1
        worker = WorkerProcess(self._numbers, self._loop, orders, events, self, self._said)
        self._unborn[worker.id] = worker
        channel, output = worker.ends()
        self._channel.send(Kind.SPAWN, str(worker.id).encode(), channel)
        self._channel.send(Kind.OUTPUT, b"", output)
        return worker

    def kill(self, worker: "WorkerProcess") -> None:
        if worker.id in self._workers and self._process.poll() is None:
            self._channel.send(Kind.KILL, str(worker.id).encode())
        elif worker.pid is not None:  # an orphan of a parent that died
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def forget(self, worker: "WorkerProcess") -> None:
        self._unborn.pop(worker.id, None)

    def close(self) -> None:
        """It ends when its workers have."""
        self._closing = True
        self._channel.close()

    # ----

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*self._program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=self._environ,
                stdin=subprocess.DEVNULL,
            )
        self._channel = Channel(ours, self._loop, self._received, self._gone)

    def _received(self, kind: Kind, payload: bytes, _descriptor: int | None) -> None:
        match kind:
            case Kind.SPAWNED:
                born = wire.decode(payload, Spawned)
                if worker := self._unborn.pop(born.id, None):
                    worker.pid = born.pid
                    self._workers[born.id] = worker
            case Kind.EXITED:
                exited = wire.decode(payload, Exited)
                if worker := self._workers.pop(exited.id, None):
                    worker.exited(exited.how)
            case _:
                raise ValueError(f"the router is not sent {kind!r} by the warm parent")

    def _gone(self) -> None:
        self._process.wait()
        if self._closing:
            return
        orphans, self._workers = self._workers, {}
        for worker in orphans.values():
            worker.orphaned = True
        self._start()
        for worker in list(self._unborn.values()):
            worker.exited("lost its parent")


class Events:
    """What happens to a worker; the router's side overrides."""

    def ready(self, worker: "WorkerProcess") -> None: ...

    def failed(self, worker: "WorkerProcess", message: str) -> None: ...

    def gone(self, worker: "WorkerProcess", how: str) -> None: ...

    def returned(self, descriptor: int, unread: bytes) -> None: ...

    def wants_successor(self, worker: "WorkerProcess") -> None: ...


class WorkerProcess:
    def __init__(
        self,
        id: int,
        loop: asyncio.AbstractEventLoop,
        orders: Orders,
        events: Events,
        parent: WarmParent,
        said: Records,
    ) -> None:
        self.id = id
        self.pid: int | None = None
        self.orders = orders
        self.ready = False
        self.orphaned = False
        self.busy = Busy(active=0, connections=0, requests=0)
        self.pinged_at: float | None = None
        """When the oldest PING without an answer was sent."""
        self.given = 0
        """Connections that it was sent."""
        self._loop = loop
        self._events = events
        self._parent = parent
        self._said = said
        self._ended = False
        self._how: str | None = None
        self._claims: bytes | None = None

    def ends(self) -> tuple[int, int]:
        """The child's, made once: its channel, and the pipe for its log. Nobody else keeps them, so their closing says
        that it died."""
        ours, theirs = socket.socketpair()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        front = self.orders.assembly.front
        refs = {part.ref for part in self.orders.assembly.parts}
        self._decoder = Decoder(front.place, front.version, refs)
        self._loop.add_reader(self._output, self._read_output)
        self._channel = Channel(ours, self._loop, self._received, self._gone)
        self._channel.send(Kind.ASSEMBLY, wire.canonical(self.orders))
        return theirs.detach(), output

    def claim(self, entries: bytes) -> None:
        if entries != self._claims:
            self._claims = entries
            self._channel.send(Kind.CLAIMS, entries)

    @property
    def ref(self) -> str:
        return self.orders.assembly.front.ref

    def adopt(self, descriptor: int, unread: bytes) -> None:
        self.given += 1
        self._channel.send(Kind.CONNECTION, unread, descriptor)

    def drain(self) -> None:
        self._channel.send(Kind.DRAIN)

    def ping(self) -> None:
        if self.pinged_at is None:
            self.pinged_at = self._loop.time()
            self._channel.send(Kind.PING)

    def dump(self) -> None:
        """Has the stacks of all its threads written into its log."""
        if self.pid is not None and not self._ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, DUMP)

    def kill(self) -> None:
        self._parent.kill(self)

    # ---- what it says

    def _received(self, kind: Kind, payload: bytes, descriptor: int | None) -> None:
        match kind:
            case Kind.READY:
                self.ready = True
                self._events.ready(self)
            case Kind.FAILED:
                self._events.failed(self, payload.decode("utf-8", "replace"))
            case Kind.CONNECTION if descriptor is not None:
                self._events.returned(descriptor, payload)
            case Kind.PONG:
                self.pinged_at = None
                self.busy = wire.decode(payload, Busy)
            case Kind.REPLACE:
                self._events.wants_successor(self)
            case _:
                raise ValueError(f"the router is not sent {kind!r} by a worker")

    def exited(self, how: str) -> None:
        self._how = how
        self._channel.close()
        self._gone()

    def _gone(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._parent.forget(self)
        self._read_output()
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._said(self._decoder.end())
        self._events.gone(self, self._how or "is gone")

    def _read_output(self) -> None:
        while True:
            try:
                data = os.read(self._output, _PIPE_READ)
            except BlockingIOError:
                return
            if not data:
                if not self._ended:
                    self._loop.remove_reader(self._output)
                return
            self._said(self._decoder.feed(data))
            if len(data) < _PIPE_READ:
                return


def program(module: str) -> list[str]:
    """A fresh Python that imports nothing from the current folder."""
    return [sys.executable, "-P", "-m", module]
