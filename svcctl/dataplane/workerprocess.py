"""A worker as the router has it: a channel, a pipe, and what it last said of itself.

The router keeps each connection that it sends until the worker says that it has it. So whatever becomes of a worker,
connections that it never looked at come back and go to the next one.
"""

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from svcctl import wire
from svcctl.dataplane.channel import Channel, Garbled, Kind
from svcctl.dataplane.output import Output, Records
from svcctl.dataplane.worker import DUMP, Busy, Orders

_LONGEST_FRAME = 1 << 22
"""Of what a worker says: the unread bytes of a connection are the longest."""
_LATE = 0.5
"""Seconds until the parent says how a worker ended whose channel closed."""
_PING = 1.0
"""Seconds between two PINGs."""
_DUMPING = 0.25
"""Seconds that writing all stacks may take."""


class Events(Protocol):
    """What happens to a worker."""

    def ready(self, worker: "WorkerProcess") -> None: ...

    def failed(self, worker: "WorkerProcess", message: str) -> None:
        """It says that it can't be started; it ends by itself."""

    def gone(self, worker: "WorkerProcess", how: str) -> None: ...

    def returned(self, descriptor: int, unread: bytes) -> None:
        """A connection, between two requests."""


class Signals(Protocol):
    """Whoever can send a signal to a worker."""

    def signal(self, worker: "WorkerProcess", number: int) -> None: ...

    def forget(self, worker: "WorkerProcess") -> None: ...


class WorkerProcess:
    def __init__(
        self,
        id: int,
        loop: asyncio.AbstractEventLoop,
        orders: Orders,
        events: Events,
        signals: Signals,
        said: Records,
        fingerprint: str,
    ) -> None:
        self.id = id
        self.fingerprint = fingerprint
        """Of what it was told to run."""
        self.pid: int | None = None
        self.orders = orders
        self.begun_at = loop.time()
        self.drained_at: float | None = None
        """When it was told to end."""
        self.ready = False
        self.lost = False
        """Its parent died before it said that it was forked: nothing is wrong with what it was to run."""
        self.busy = Busy(active=0, connections=0, requests=0, abandoned=0, cpu=0.0)
        self.share = 0.0
        """Of one processor, between its last two PONGs."""
        self.condemned = False
        self._pinged_at: float | None = None
        """When the oldest PING without an answer was sent."""
        self._next_ping = 0.0
        self._heard_at: float | None = None
        self._uncounted = 0
        """Connections that it was sent since its last PONG."""
        self._loop = loop
        self._events = events
        self._signals = signals
        self._output = Output(loop, orders.assembly.parts, said)
        self._ended = False
        self._how: str | None = None
        self._claims: bytes | None = None
        self._sent: deque[tuple[int, bytes]] = deque()
        """Connections that it has not said it has."""

    def ends(self) -> tuple[int, int]:
        """The child's, made once: its channel, and the pipe for its log. Nobody else keeps them, so their closing says
        that it died. Raises OSError where there are no descriptors left."""
        ours, theirs = socket.socketpair()
        try:
            output = self._output.begin()
        except OSError:
            ours.close()
            theirs.close()
            raise
        self._channel = Channel(ours, self._loop, self._received, self._closed, limit=_LONGEST_FRAME)
        self._channel.send(Kind.ASSEMBLY, wire.canonical(self.orders))
        return theirs.detach(), output

    @property
    def ref(self) -> str:
        return self.orders.assembly.front.ref

    @property
    def behind(self) -> int:
        """Connections that it was sent and has not taken yet."""
        return len(self._sent)

    @property
    def connections(self) -> int:
        """That it has, by what it last said and what it was sent since."""
        return self.busy.connections + self._uncounted

    # ---- what it is told

    def claim(self, entries: bytes) -> None:
        if entries != self._claims:
            self._claims = entries
            self._channel.send(Kind.CLAIMS, entries)

    def adopt(self, descriptor: int, unread: bytes) -> None:
        self._uncounted += 1
        self._sent.append((descriptor, unread))
        self._channel.send(Kind.CONNECTION, unread, descriptor, keep=True)

    def shed(self, count: int) -> None:
        """So many of its connections are to be handed back."""
        if count:
            self._channel.send(Kind.SHED, str(count).encode())

    def drain(self) -> None:
        if self.drained_at is None:
            self.drained_at = self._loop.time()
            self._channel.send(Kind.DRAIN)

    def ping(self, now: float) -> None:
        if self._pinged_at is None and now >= self._next_ping:
            self._pinged_at, self._next_ping = now, now + _PING
            self._channel.send(Kind.PING)

    def silent_for(self, now: float) -> float:
        """Seconds since the PING that it does not answer."""
        return 0.0 if self._pinged_at is None else now - self._pinged_at

    def kill(self) -> None:
        self.condemned = True
        self._signals.signal(self, signal.SIGKILL)

    def kill_hanging(self, say: Callable[[str], None]) -> None:
        """Not before its stacks were written into its log. `say` is given the line that it hangs in, ` in …`, or
        nothing."""
        if self.condemned:
            return
        self.condemned = True
        self._output.expect_stacks()
        self._signals.signal(self, DUMP)
        self._loop.call_later(_DUMPING, self._end_hanging, say)

    def _end_hanging(self, say: Callable[[str], None]) -> None:
        where = self._output.blamed()
        say(f" in {where}" if where else "")
        self.kill()

    # ---- what it says

    def _received(self, kind: Kind, payload: bytes, descriptor: int | None) -> None:
        try:
            self._understood(kind, payload, descriptor)
        except (msgspec.MsgspecError, ValueError) as error:
            if descriptor is not None:
                os.close(descriptor)
            raise Garbled(f"{kind.name}: {error}") from error

    def _understood(self, kind: Kind, payload: bytes, descriptor: int | None) -> None:
        match kind:
            case Kind.READY:
                self.ready, self.pid = True, int(payload)
                self._events.ready(self)
            case Kind.FAILED:
                self._events.failed(self, payload.decode("utf-8", "replace"))
            case Kind.CONNECTION:
                if descriptor is not None:
                    self._events.returned(descriptor, payload)
            case Kind.ADOPTED:
                for _ in range(min(int(payload), len(self._sent))):
                    os.close(self._sent.popleft()[0])
            case Kind.PONG:
                self._pinged_at = None
                self._hear(wire.decode(payload, Busy))
            case _:
                raise Garbled(f"{kind.name}: not a worker's to say")

    def _hear(self, busy: Busy) -> None:
        now = self._loop.time()
        if self._heard_at is not None and now > self._heard_at:
            self.share = (busy.cpu - self.busy.cpu) / (now - self._heard_at)
        self._heard_at, self.busy, self._uncounted = now, busy, 0

    def exited(self, how: str) -> None:
        """The parent says so."""
        self._how = how
        self._loop.call_soon(self._gone)

    def _closed(self) -> None:
        """It died, most likely. Connections that come meanwhile are kept like those that it did not take."""
        self._loop.call_later(_LATE, self._gone)

    def _gone(self) -> None:
        if self._ended:
            return
        self._channel.read_rest()
        self._ended = True
        if self._how is None:  # it lives, and can't be spoken to
            self._signals.signal(self, signal.SIGKILL)
            nonsense = self._channel.nonsense
            self._how = f"spoke nonsense ({nonsense})" if nonsense else "is gone"
        self._channel.close()
        self._signals.forget(self)
        self._output.end()
        self._events.gone(self, self._how)
        while self._sent:
            self._events.returned(*self._sent.popleft())
