"""The warm parent: a process that has imported the runtime and forks a worker whenever the router asks for one.

It is exec'ed fresh, has one thread (checked before each fork: a lock that another thread holds would stay held in the
child for ever), and imports no service code. A fork costs a few milliseconds and shares the parent's memory. It knows
its children until they are reaped, so a KILL never meets a process that took over a dead one's number.

When the router is gone it lets its workers end by themselves, then ends those that do not.
"""

import gc
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from svcctl import wire
from svcctl.dataplane.channel import FrameReader, Kind, pack
from svcctl.keyvalues import KeyValues
from svcctl.model import Model

_PATIENCE = 40.0
"""Seconds that workers have to drain when the router is gone."""


class Spawned(Model):
    id: int
    """The router's number for the worker."""
    pid: int


class Exited(Model):
    id: int
    how: str
    """`exited with status 3`, `was killed by SIGSEGV`."""


class Parent:
    def __init__(self, router: socket.socket, open_keyvalues: Callable[[], KeyValues]) -> None:
        self._router = router
        self._open_keyvalues = open_keyvalues
        self._children: dict[int, int] = {}
        """Worker ids by process."""
        self._frames = FrameReader()
        self._waiting: tuple[int, int] | None = None
        """A worker whose SPAWN came, and its end of the channel: its OUTPUT is next."""

    def run(self) -> NoReturn:
        wakes, woken = os.pipe()
        for end in (wakes, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (signal.SIGINT, signal.SIGTERM):  # a terminal's Ctrl-C goes to all: the router decides
            signal.signal(each, signal.SIG_IGN)
        gc.collect()
        gc.freeze()
        while True:
            ready, _, _ = select.select([self._router, wakes], [], [])
            if wakes in ready:
                with suppress(BlockingIOError):
                    os.read(wakes, 4096)
                self._reap()
            if self._router in ready and not self._listen():
                self._end()

    def _listen(self) -> bool:
        """False when the router is gone."""
        frames = self._frames.read(self._router)
        if frames is None:
            return False
        for kind, payload, descriptor in frames:
            match kind:
                case Kind.SPAWN if descriptor is not None:
                    self._waiting = (int(payload), descriptor)
                case Kind.OUTPUT if descriptor is not None and self._waiting:
                    id, channel = self._waiting
                    self._waiting = None
                    self._fork(id, channel, descriptor)
                case Kind.KILL:
                    self._kill(int(payload))
                case _:
                    raise ValueError(f"the warm parent is not sent {kind!r}")
        return True

    def _fork(self, id: int, channel: int, output: int) -> None:
        if threading.active_count() != 1:
            raise RuntimeError(f"the warm parent has threads: {threading.enumerate()}")
        pid = os.fork()
        if pid == 0:
            self._become_worker(channel, output)
        os.close(channel)
        os.close(output)
        self._children[pid] = id
        self._tell(Kind.SPAWNED, Spawned(id=id, pid=pid))

    def _become_worker(self, channel: int, output: int) -> NoReturn:
        from svcctl.dataplane import worker

        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for each in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.setpgid(0, 0)
            self._router.close()
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            worker.run(socket.socket(fileno=channel), self._open_keyvalues)
        finally:
            os._exit(status)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (id := self._children.pop(pid, None)) is not None:
                self._tell(Kind.EXITED, Exited(id=id, how=_how(status)))

    def _kill(self, id: int) -> None:
        for pid, known in self._children.items():
            if known == id:
                os.kill(pid, signal.SIGKILL)

    def _tell(self, kind: Kind, what: Model) -> None:
        with suppress(OSError):  # its going is noticed where frames are read
            self._router.sendall(pack(kind, wire.canonical(what)))

    def _end(self) -> NoReturn:
        deadline = time.monotonic() + _PATIENCE
        while self._children and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.05)
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
