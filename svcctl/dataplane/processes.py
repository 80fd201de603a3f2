"""The warm parent as the router has it, and through it the workers that it forks.

The router holds one end of each worker's channel, so workers outlive a parent that was killed: another is started and
forks the next. Signals go through the parent, which knows its children until they are reaped, so none meets a process
that took over a dead one's number.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

from svcctl import wire
from svcctl.dataplane.channel import Channel, Garbled, Kind
from svcctl.dataplane.output import Records, Say
from svcctl.dataplane.parent import Exited, Signal, Spawned, describe
from svcctl.dataplane.worker import Orders
from svcctl.dataplane.workerprocess import Events, WorkerProcess

_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "SSL_CERT_FILE",
)
"""Of the environment: what handlers are given comes by `env`, and nothing of who started svcctl leaks to them."""
_PAUSES = (0.0, 0.2, 1.0, 5.0)
"""Seconds before the next parent, after so many that died young."""
_GROWN_UP = 10.0
_PATIENCE = 2.0


class WarmParent:
    """`program` starts it; it is given the number of its descriptor, and `given` on its standard input."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        program: list[str],
        environ: Mapping[str, str],
        said: Records,
        say: Say,
        given: bytes = b"",
    ) -> None:
        self._loop = loop
        self._program = program
        self._given = given
        self._environ = {name: environ[name] for name in _PASSED_ON if name in environ}
        self._said = said
        self._say = say
        self._unsent: list[tuple[WorkerProcess, int, int]] = []
        """To be forked once there is a parent."""
        self._unborn: dict[int, WorkerProcess] = {}
        """Asked for; not known to be forked."""
        self._workers: dict[int, WorkerProcess] = {}
        self._orphans: set[WorkerProcess] = set()
        self._numbers = 0
        self._deaths = 0
        self._closing = False
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def spawn(self, orders: Orders, events: Events, fingerprint: str) -> WorkerProcess:
        """Raises OSError where there are no descriptors left. What becomes of it, `events` is told, and never before
        this returns."""
        self._numbers += 1
        worker = WorkerProcess(self._numbers, self._loop, orders, events, self, self._said, fingerprint)
        self._unsent.append((worker, *worker.ends()))
        self._send()
        return worker

    def signal(self, worker: WorkerProcess, number: int) -> None:
        if worker in self._orphans:
            # Its channel is open, or it would have been forgotten: so the process lives, or died just now.
            if worker.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, number)
        elif self._channel is not None:
            self._channel.send(Kind.SIGNAL, wire.canonical(Signal(id=worker.id, number=number)))

    def forget(self, worker: WorkerProcess) -> None:
        self._orphans.discard(worker)

    async def close(self) -> None:
        """It ends when its workers have."""
        self._closing = True
        if self._channel is not None:
            self._channel.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self._process and self._process.poll() is None:  # noqa: ASYNC110 - no event of this loop
                    await asyncio.sleep(0.01)

    def kill_all(self) -> None:
        """At once, without the loop."""
        for worker in (*self._workers.values(), *self._orphans):
            if worker.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
        if self._process is not None:
            self._process.kill()

    # ----

    def _start(self) -> None:
        if self._closing:
            return
        try:
            self._channel = self._started()
        except OSError as error:
            self._say("error", f"no process can be started: {error.strerror}; it is tried again")
            self._loop.call_later(_PAUSES[-1], self._start)
            return
        self._started_at = self._loop.time()
        self._send()

    def _started(self) -> Channel:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*self._program, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=self._environ,
                    stdin=subprocess.PIPE,
                )
            except OSError:
                ours.close()
                raise
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(self._given)  # less than a pipe holds
        return Channel(ours, self._loop, self._received, self._gone)

    def _send(self) -> None:
        if self._channel is None:
            return
        for worker, channel, output in self._unsent:
            self._unborn[worker.id] = worker
            self._channel.send(Kind.SPAWN, str(worker.id).encode(), channel)
            self._channel.send(Kind.OUTPUT, b"", output)
        self._unsent.clear()

    def _received(self, kind: Kind, payload: bytes, _descriptor: int | None) -> None:
        match kind:
            case Kind.SPAWNED:
                born = wire.decode(payload, Spawned)
                if (worker := self._unborn.pop(born.id, None)) is not None:
                    self._workers[born.id] = worker
                    worker.pid = born.pid
            case Kind.EXITED:
                exited = wire.decode(payload, Exited)
                found = self._workers.pop(exited.id, None) or self._unborn.pop(exited.id, None)
                if found is not None:
                    found.exited(exited.how)
            case _:
                raise Garbled(f"{kind.name}: not the warm parent's to say")

    def _gone(self) -> None:
        self._channel = None
        assert self._process is not None  # noqa: S101 - whose channel it was
        self._process.kill()
        how = describe(self._process.wait())
        if self._closing:
            return
        self._say("error", f"the process that workers are forked from {how}; another is started, workers go on")
        lost = [worker for worker in self._unborn.values() if not worker.ready]
        self._orphans |= {*self._workers.values(), *self._unborn.values()} - {*lost}
        self._workers.clear()
        self._unborn.clear()
        self._deaths = 0 if self._loop.time() - self._started_at > _GROWN_UP else self._deaths + 1
        self._loop.call_later(_PAUSES[min(self._deaths, len(_PAUSES) - 1)], self._start)
        for worker in lost:
            worker.lost = True
            worker.exited("lost its parent")


def program(module: str) -> list[str]:
    """A fresh Python that imports nothing from the current folder."""
    return [sys.executable, "-P", "-m", module]
