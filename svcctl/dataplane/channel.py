"""Frames and descriptors between two processes, over a Unix stream socket, without ever blocking the event loop.

A frame is a length, a kind and a payload; a frame that brings a descriptor says so. Descriptors arrive in the order in
which they were sent and not after their frame's last byte, so the receiver keeps them in a queue and each frame that
brings one takes the oldest. A stream may be cut anywhere by the kernel; unlike packets it has no limit of size, and it
tells when the other side died.
"""

import array
import errno
import os
import socket
import struct
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Final

_HEADER: Final = struct.Struct("!IBB")
_ROOM: Final = 1 << 18
_MOST_DESCRIPTORS: Final = 64
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)  # Linux alone has it
_DESCRIPTOR_ROOM: Final = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
_UNLIMITED: Final = 1 << 32
_AGAIN: Final = 0.05
"""Seconds until descriptors are sent again, when too many were under way."""


class Kind(IntEnum):
    """What a frame says. From the router to a worker, unless noted."""

    ASSEMBLY = 1
    """What to run."""
    CLAIMS = 2
    """Which hosts and paths are this deployment's."""
    CONNECTION = 3
    """An accepted connection and the bytes read from it; back to the router: the same, at a request's boundary."""
    DRAIN = 4
    """Hand back what is idle, end what runs, then exit."""
    PING = 5
    PONG = 6
    """From a worker: how busy it is."""
    READY = 7
    """From a worker: it takes connections."""
    FAILED = 8
    """From a worker: it can't be started, and why."""
    SPAWN = 9
    """To the warm parent: fork a worker. Brings its end of the channel."""
    OUTPUT = 10
    """To the warm parent, after SPAWN: the pipe that the worker writes its log into."""
    SPAWNED = 11
    """From the warm parent: the process id."""
    EXITED = 12
    """From the warm parent: how a worker ended."""
    SIGNAL = 13
    """To the warm parent: send a signal to a worker."""
    ADOPTED = 14
    """From a worker: it has so many more of the connections that it was sent."""
    SHED = 15
    """Hand back so many connections, each when it next is at a request's boundary."""


class Garbled(Exception):
    """The other side does not speak this protocol."""


Frame = tuple[Kind, bytes, int | None]
Receive = Callable[[Kind, bytes, int | None], None]


def pack(kind: Kind, payload: bytes, *, brings: bool = False) -> bytes:
    return _HEADER.pack(len(payload), kind, brings) + payload


class FrameReader:
    """Bytes and descriptors to frames. A descriptor that this process had no room for is None."""

    def __init__(self, limit: int = _UNLIMITED) -> None:
        """`limit`: of a payload. Beyond it the other side is not to be believed."""
        self._limit = limit
        self._incoming = bytearray()
        self._descriptors: deque[int | None] = deque()

    def read(self, sock: socket.socket) -> list[Frame] | None:
        """The frames that are whole now; None when the other side is gone. Raises Garbled."""
        try:
            data, ancillary, flags, _ = sock.recvmsg(_ROOM, _DESCRIPTOR_ROOM, _CLOSE_ON_EXEC)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            return None
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors.extend(found)
        if flags & socket.MSG_CTRUNC:  # one message brings one descriptor, and this process can have no more
            self._descriptors.append(None)
        if not data:
            return None
        self._incoming += data
        return self._whole()

    def _whole(self) -> list[Frame]:
        frames: list[Frame] = []
        start = 0
        while len(self._incoming) - start >= _HEADER.size:
            size, kind, brings = _HEADER.unpack_from(self._incoming, start)
            if size > self._limit:
                raise Garbled(f"a frame of {size} bytes")
            end = start + _HEADER.size + size
            if len(self._incoming) < end:
                break
            payload = bytes(self._incoming[start + _HEADER.size : end])
            start = end
            frames.append((self._kind(kind), payload, self._taken() if brings else None))
        del self._incoming[:start]
        return frames

    def _kind(self, number: int) -> Kind:
        try:
            return Kind(number)
        except ValueError as error:
            raise Garbled(f"a frame of kind {number}") from error

    def _taken(self) -> int | None:
        if not self._descriptors:
            raise Garbled("a frame without the descriptor that it should bring")
        return self._descriptors.popleft()

    def close(self) -> None:
        while self._descriptors:
            descriptor = self._descriptors.popleft()
            if descriptor is not None:
                os.close(descriptor)


class Channel:
    """One end. `receive(kind, payload, descriptor)` owns the descriptors it is given, and may raise Garbled. `closed`
    is called once, by the loop and never from inside a call, when the other side is gone or talks nonsense."""

    def __init__(
        self,
        sock: socket.socket,
        loop: AbstractEventLoop,
        receive: Receive,
        closed: Callable[[], None],
        *,
        limit: int = _UNLIMITED,
    ) -> None:
        sock.setblocking(False)
        self.nonsense: str | None = None
        """What the other side said that it should not."""
        self._socket = sock
        self._loop = loop
        self._receive = receive
        self._closed = closed
        self._frames = FrameReader(limit)
        self._outgoing: deque[tuple[memoryview, int | None, bool]] = deque()
        self._open = True
        loop.add_reader(sock.fileno(), self._read)

    def send(self, kind: Kind, payload: bytes = b"", descriptor: int | None = None, *, keep: bool = False) -> None:
        """Takes over `descriptor`, unless the caller keeps it: it is closed here once it went. After the end, all is
        dropped."""
        if not self._open:
            if descriptor is not None and not keep:
                os.close(descriptor)
            return
        frame = memoryview(pack(kind, payload, brings=descriptor is not None))
        self._outgoing.append((frame, descriptor, keep))
        if len(self._outgoing) == 1:
            self._write()

    @property
    def waiting(self) -> int:
        """Frames that the other side has not taken yet."""
        return len(self._outgoing)

    def read_rest(self) -> None:
        """The other side died: what it still said is all there will be."""
        with suppress(Garbled):
            while self._open and (frames := self._frames.read(self._socket)):
                self._hand_on(frames)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for _, descriptor, keep in self._outgoing:
            if descriptor is not None and not keep:
                os.close(descriptor)
        self._outgoing.clear()
        self._frames.close()

    def _write(self) -> None:
        while self._outgoing:
            frame, descriptor, keep = self._outgoing[0]
            try:
                sent = self._send(frame, descriptor)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._socket.fileno(), self._write)
                return
            except OSError as error:
                self._loop.remove_writer(self._socket.fileno())
                if error.errno == errno.ETOOMANYREFS:
                    self._loop.call_later(_AGAIN, self._write_again)
                return  # else its end: the reader notices, when what it still said has been read
            if descriptor is not None and not keep:
                os.close(descriptor)  # it went along with the first byte
            if sent < len(frame):
                self._outgoing[0] = (frame[sent:], None, False)
            else:
                self._outgoing.popleft()
        self._loop.remove_writer(self._socket.fileno())

    def _write_again(self) -> None:
        if self._open:
            self._write()

    def _send(self, frame: memoryview, descriptor: int | None) -> int:
        if descriptor is None:
            return self._socket.send(frame)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        return self._socket.sendmsg([frame], [rights])

    def _read(self) -> None:
        try:
            frames = self._frames.read(self._socket)
            if frames is not None:
                self._hand_on(frames)
                return
        except Garbled as error:
            self.nonsense = str(error)
        if self._open:
            self.close()
            self._closed()

    def _hand_on(self, frames: list[Frame]) -> None:
        """Each, also when one can't be understood: a descriptor is closed by somebody."""
        wrong: Garbled | None = None
        for kind, payload, descriptor in frames:
            if self._open and wrong is None:
                try:
                    self._receive(kind, payload, descriptor)
                except Garbled as error:
                    wrong = error
            elif descriptor is not None:
                os.close(descriptor)
        if wrong is not None:
            raise wrong
