"""A pipe that the router reads, written without ever waiting for it.

What the pipe has no room for is held, up to a bound, and written when the event loop says that there is room again, or
along with what comes next; what is beyond the bound is dropped and counted. Any thread may write. A `__del__` that
prints may even interrupt a thread that is writing here: what it says is queued behind.
"""

import asyncio
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from svcctl.runtime.records import ATOMIC

_HELD = 1 << 20
"""Bytes that are held while the pipe is full."""


class LogPipe:
    """`dropped(count)` makes the frame that says how many were lost."""

    def __init__(
        self, descriptor: int, loop: asyncio.AbstractEventLoop | None, dropped: Callable[[int], bytes]
    ) -> None:
        self.lock = threading.RLock()
        self._loop = loop
        self._dropped = dropped
        self._descriptor, self._own = _without_blocking(descriptor)
        self._queue: deque[bytes] = deque()
        self._held = 0
        self._lost = 0
        self._writing = False
        self._waiting = False
        os.register_at_fork(after_in_child=self._forked)

    def send(self, pieces: Sequence[bytes]) -> None:
        """All of them or none; each at most ATOMIC bytes."""
        size = sum(map(len, pieces))
        with self.lock:
            if self._held + size > _HELD:
                self._lost += 1
            else:
                self._queue.extend(pieces)
                self._held += size
            self._write()

    def end(self, patience: float) -> None:
        """Writes what is held, for at most so many seconds."""
        deadline = time.monotonic() + patience
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while self._queue and (left := deadline - time.monotonic()) > 0:
            poll.poll(left * 1000)
            with self.lock:
                self._write()

    def _write(self) -> None:
        if self._writing:
            return
        self._writing = True
        try:
            while self._queue:
                if not self._put(self._queue[0]):
                    return
                self._held -= len(self._queue.popleft())
                if self._lost and not self._queue:
                    lost, self._lost = self._lost, 0
                    self._queue.append(self._dropped(lost))
                    self._held += len(self._queue[0])
        finally:
            self._writing = False

    def _put(self, piece: bytes) -> bool:
        """False where there is no room. So small a piece goes whole or not at all."""
        if not self._own and not _has_room(self._descriptor):
            self._wait()
            return False
        try:
            os.write(self._descriptor, piece)
        except BlockingIOError:
            self._wait()
            return False
        except OSError:
            pass  # nobody reads any more: the router is gone, and with it the log
        return True

    # ---- room

    def _wait(self) -> None:
        if self._waiting or self._loop is None:
            return
        self._waiting = True
        with suppress(RuntimeError):  # the loop is closed: `end` writes the rest
            self._loop.call_soon_threadsafe(self._watch)

    def _watch(self) -> None:
        if self._loop is not None:
            self._loop.add_writer(self._descriptor, self._has_room)

    def _has_room(self) -> None:
        with self.lock:
            self._write()
            if not self._queue and self._loop is not None:
                self._loop.remove_writer(self._descriptor)
                self._waiting = False

    def _forked(self) -> None:
        """In a child that a handler forked: another thread may have held the lock; what is held, the parent writes."""
        self.lock = threading.RLock()
        self._queue = deque()
        self._held = self._lost = 0
        self._writing = self._waiting = False
        self._loop = None


def _without_blocking(descriptor: int) -> tuple[int, bool]:
    """The pipe opened once more, without blocking: to set that on a descriptor would set it on every copy, and C code
    and child processes, which do not expect it, would lose what they print. False: this system can't."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), True
    except OSError:
        return os.dup(descriptor), False


def _has_room(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def pieces(payload: bytes) -> list[bytes]:
    """What `payload` takes: one frame, if it is short enough."""
    if len(payload) <= ATOMIC - 2:
        return [b"\x1e" + payload + b"\n"]
    room = ATOMIC - 3
    parts = [payload[at : at + room] for at in range(0, len(payload), room)]
    return [b"\x1e+" + part + b"\n" for part in parts[:-1]] + [b"\x1e." + parts[-1] + b"\n"]
