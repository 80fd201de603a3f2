"""The last answer on a connection that nobody will read from any more.

Closed with bytes unread, the kernel would reset the connection, and the client would lose the answer. So what still
comes is read and dropped until the client closes too, or for a few seconds. There is room for so many who linger;
beyond that a connection is closed at once.
"""

import asyncio
import socket
from contextlib import suppress

_PATIENCE = 3.0
_READ = 1 << 16


class Goodbyes:
    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._lingering: dict[socket.socket, asyncio.TimerHandle] = {}

    def say(self, descriptor: int, answer: bytes) -> None:
        """Takes over the descriptor."""
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        try:
            sock.send(answer)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        if len(self._lingering) >= self._most:
            sock.close()
            return
        self._lingering[sock] = self._loop.call_later(_PATIENCE, self._end, sock)
        self._loop.add_reader(sock, self._drop, sock)

    def close(self) -> None:
        for sock in list(self._lingering):
            self._end(sock)

    def _drop(self, sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            try:
                if sock.recv(_READ):
                    return
            except ConnectionError:
                pass
            self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        self._lingering.pop(sock).cancel()
        self._loop.remove_reader(sock)
        sock.close()
