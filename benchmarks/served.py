"""`svcctl api` as a process, tokens for whoever asks, and what it is sent: a raw client, and a proxy that counts."""

import json
import os
import select
import socket
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import h11

from benchmarks.measure import QUIET, SVCCTL
from benchmarks.plane import end
from svcctl import commands, tokens
from svcctl.backend.store import Store
from svcctl.model import Grant, Role

_PATIENCE = 60.0


class Api(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def api(folder: Path, store: Path | str) -> Iterator[Api]:
    """From its announcement on; it logs into a file, as a service does."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [SVCCTL, "api", "--store", str(store), "--port", "0", "--json"]
    with (folder / "api.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **QUIET})
    try:
        yield Api(_announced(process), process)
    finally:
        end(process)
        assert process.stdout is not None
        process.stdout.close()


def _announced(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    text = b""
    for line in process.stdout:
        text += line
        with suppress(json.JSONDecodeError):
            url: str = json.loads(text)["url"]
            return url
    raise RuntimeError(f"{process.args} ended with {process.wait()}")


def token(store: Store, name: str, role: Role) -> str:
    secret = tokens.new()
    grant = Grant(name=name, role=role)
    store.apply(commands.CreateToken(id=commands.new_id(), grant=grant, hash=tokens.hash_of(secret)))
    return secret.reveal().decode()


# ---- a raw client


def posts(apis: list[Api], secret: str, writers: int, body: Callable[[int], bytes], seconds: float) -> "Sent":
    """Each writer posts commands to /v1/changes, one at a time over a connection that it keeps, on the APIs in turn."""
    poll = select.epoll()
    known: dict[int, _Writer] = {}
    for number in range(writers):
        writer = _Writer(number, apis[number % len(apis)].port, secret)
        known[writer.sock.fileno()] = writer
        poll.register(writer.sock, select.EPOLLIN)
    began = time.perf_counter()
    for writer in known.values():
        writer.send(body(writer.number))
    sent = Sent([], [], 0)
    while known:
        for descriptor, _ in poll.poll(_PATIENCE):
            writer = known[descriptor]
            answer = writer.answer()
            if answer is None:
                continue
            now = time.perf_counter()
            sent.answers.append(answer)
            sent.seconds.append(now - writer.sent)
            if now - began < seconds:
                writer.send(body(writer.number))
            else:
                poll.unregister(descriptor)
                known.pop(descriptor).sock.close()
    poll.close()
    return sent._replace(took=time.perf_counter() - began)


class Sent(NamedTuple):
    answers: list[bytes]
    """Bodies; any status but 200 raises."""
    seconds: list[float]
    took: float


class _Writer:
    def __init__(self, number: int, port: int, secret: str) -> None:
        self.number = number
        self.sent = 0.0
        self.sock = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            f"POST /v1/changes HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {secret}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._received = b""

    def send(self, body: bytes) -> None:
        self.sent = time.perf_counter()
        self.sock.sendall(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    def answer(self) -> bytes | None:
        """The body, once it is there."""
        part = self.sock.recv(65536)
        self._received += part
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not part or (blank and not head.startswith(b"HTTP/1.1 200")):
            raise RuntimeError(self._received.decode("latin-1"))
        if not blank or len(body) < int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return None
        self._received = b""
        return body


# ---- a proxy that counts


class Counting:
    """Between clients and an API: bytes of bodies on their way up, by method and first part of the path."""

    def __init__(self, port: int) -> None:
        self.sent: Counter[str] = Counter()
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: deque[threading.Thread] = deque()
        self._run(self._accept)

    def _run(self, work: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                count = self._counter()
                self._run(lambda c=client, s=server, count=count: _pass(c, s, count))
                self._run(lambda c=client, s=server: _pass(s, c, lambda _: None))

    def _counter(self) -> Callable[[bytes], None]:
        parser, what = h11.Connection(h11.SERVER), ""

        def count(data: bytes) -> None:
            nonlocal parser, what
            parser.receive_data(data)
            while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Request(method=method, target=target):
                        what = f"{method.decode()} /{'/'.join(target.decode().split('/')[1:3])}"
                    case h11.Data(data=part):
                        self.sent[what] += len(part)
                    case h11.EndOfMessage():
                        rest, _ = parser.trailing_data
                        parser = h11.Connection(h11.SERVER)
                        parser.receive_data(rest) if rest else None
                    case _:
                        return

        return count

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pass(source: socket.socket, target: socket.socket, count: Callable[[bytes], None]) -> None:
    with suppress(OSError):
        while data := source.recv(262_144):
            count(data)
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
