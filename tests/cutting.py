"""A proxy between a client and a server that cuts, delays and doubles what passes.

with Proxy(api.port) as proxy:
    proxy.next(Trick(up=100))          of the next connection, 100 bytes reach the server, then both ends are closed
    remote = Remote(proxy.url, secret)
"""

import itertools
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, Self

_RESET = struct.pack("ii", 1, 0)


class Trick(NamedTuple):
    up: int | None = None
    """So many bytes pass to the server."""
    down: int | None = None
    """So many bytes pass back."""
    delay: float = 0.0
    """Seconds before each part that passes back."""
    double: bool = False
    """What was sent is sent again on a connection of its own, at the same time."""


PLAIN = Trick()


class Proxy:
    def __init__(self, port: int, always: Iterable[Trick] = (PLAIN,)) -> None:
        """`always`: of connections for which there is no `next` one, again and again."""
        self.up = self.down = 0
        """Bytes that passed."""
        self.connections = 0
        self._port = port
        self._always = itertools.cycle(always)
        self._tricks: deque[Trick] = deque()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def next(self, *tricks: Trick) -> None:
        self._tricks.extend(tricks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._listener)
        self._threads[0].join()
        for each in self._open:
            _close(each)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            trick = self._tricks.popleft() if self._tricks else next(self._always)
            server = socket.create_connection(("127.0.0.1", self._port))
            other = socket.create_connection(("127.0.0.1", self._port)) if trick.double else None
            self._open += [each for each in (client, server, other) if each]
            if other is not None:
                self._run(self._drain, other)
            self._run(self._pass_up, client, server, other, trick)
            self._run(self._pass_down, client, server, trick)

    def _run(self, work: object, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _pass_up(self, client: socket.socket, server: socket.socket, other: socket.socket | None, trick: Trick) -> None:
        left = trick.up
        while part := _read(client):
            part = part if left is None else part[:left]
            self.up += len(part)
            for each in (server, other):
                if each is not None:
                    with suppress(OSError):
                        each.sendall(part)
            if left is not None:
                left -= len(part)
                if not left:
                    break
        _close(client, server)
        if other is not None:
            with suppress(OSError):
                other.shutdown(socket.SHUT_WR)

    def _pass_down(self, client: socket.socket, server: socket.socket, trick: Trick) -> None:
        left = trick.down
        while part := _read(server):
            time.sleep(trick.delay)
            part = part if left is None else part[:left]
            self.down += len(part)
            with suppress(OSError):
                client.sendall(part)
            if left is not None:
                left -= len(part)
                if not left:
                    break
        _close(client, server)

    def _drain(self, sock: socket.socket) -> None:
        while _read(sock):
            pass


def _read(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65_536)
    except OSError:
        return b""


def _close(*sockets: socket.socket) -> None:
    """Also for a thread that waits for it."""
    for sock in sockets:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
