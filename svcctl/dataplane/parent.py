"""The warm parent: a process that has imported the runtime and forks a worker whenever the router asks for one.

It is exec'ed fresh, has one thread (checked before each fork: a lock that another thread holds would stay held in the
child for ever), and imports no service code. A fork costs a few milliseconds and shares the parent's memory. It knows
its children until they are reaped, so a KILL never meets a process that took over a dead one's number.

A worker leads a process group, which ends with it: what a handler started does not outlive the deployment. When the
router is gone the parent lets its workers end by themselves, then ends those that do not.
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

_SPARE = 5.0
"""Seconds that workers get to end, beyond those for running requests."""


class Spawned(Model):
    id: int
    """The router's number for the worker."""
    pid: int


class Exited(Model):
    id: int
    how: str
    """`exited with status 3`, `was killed by SIGSEGV`."""


class Signal(Model):
    id: int
    number: int


class Parent:
    def __init__(self, router: socket.socket, open_keyvalues: Callable[[], KeyValues], drain_timeout: float) -> None:
        self._router = router
        self._patience = drain_timeout + _SPARE
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
        router = self._router.fileno()
        while True:
            ready, _, _ = select.select([router, wakes], [], [])
            if wakes in ready:
                with suppress(BlockingIOError):
                    os.read(wakes, 4096)
                self._reap()
            if router in ready and not self._listen():
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
                case Kind.SIGNAL:
                    self._signal(wire.decode(payload, Signal))
                case _:
                    raise ValueError(f"the warm parent is not sent {kind!r}")
        return True

    def _fork(self, id: int, channel: int, output: int) -> None:
        if threading.active_count() != 1:
            raise RuntimeError(f"the warm parent has threads: {threading.enumerate()}")
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(Kind.EXITED, Exited(id=id, how=f"could not be forked: {error.strerror}"))
            pid = -1
        if pid == 0:
            self._become_worker(channel, output)
        os.close(channel)
        os.close(output)
        if pid < 0:
            return
        with suppress(OSError):  # it was faster, and ended already
            os.setpgid(pid, pid)
        self._children[pid] = id
        self._tell(Kind.SPAWNED, Spawned(id=id, pid=pid))

    def _become_worker(self, channel: int, output: int) -> NoReturn:
        from svcctl.dataplane import worker

        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # The router decides when a worker ends, also where systemd signals all processes. Not SIG_IGN: programs
            # that a handler starts would inherit it.
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, lambda *_: None)
            os.setpgid(0, 0)
            self._router.close()
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            worker.run(socket.socket(fileno=channel), self._open_keyvalues)
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(found.si_pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            pid, status = os.waitpid(found.si_pid, 0)
            if (id := self._children.pop(pid, None)) is not None:
                self._tell(Kind.EXITED, Exited(id=id, how=describe(os.waitstatus_to_exitcode(status))))

    def _signal(self, wanted: Signal) -> None:
        for pid, id in self._children.items():
            if id == wanted.id:
                os.kill(pid, wanted.number)

    def _tell(self, kind: Kind, what: Model) -> None:
        with suppress(OSError):  # its going is noticed where frames are read
            self._router.sendall(pack(kind, wire.canonical(what)))

    def _end(self) -> NoReturn:
        deadline = time.monotonic() + self._patience
        while self._children and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.02)
        for pid in self._children:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        os._exit(0)


def describe(code: int) -> str:
    """An exit code as `Popen` has it, in words that follow a process's name."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
