"""`svcctl serve` and what it is compared with, as processes on loopback; what they cost, and a raw client."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import QUIET, SVCCTL

HELLO = """\
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("Hello, world!")
"""
RAW = """\
async def app(scope, receive, send):
    headers = [(b"content-type", b"text/plain;charset=UTF-8"), (b"content-length", b"13")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""
_PATIENCE = 20.0


class Plane(NamedTuple):
    process: subprocess.Popen[bytes]
    port: int

    @property
    def workers(self) -> list[int]:
        return [worker for parent in children(self.process.pid) for worker in children(parent)]

    def get(self, service: str, path: str = "/") -> bytes:
        return get(self.port, f"{service}.localhost", path)


def project(folder: Path, services: Mapping[str, str], more: str = "", environment: str = "production") -> Path:
    """Of services and their code, deployed. `more`: tables of services.toml."""
    folder.mkdir(parents=True)
    tables = [f'[services.{name}]\nmain = "{name}/{_main(code)}"\n' for name, code in services.items()]
    text = f'project = "bench"\ndefault_environment = "{environment}"\n' + "".join(tables) + more
    (folder / "services.toml").write_text(text)
    for name, code in services.items():
        (folder / name).mkdir()
        (folder / name / "worker.py").write_text(code)
    svcctl(folder, "deploy")
    return folder


def _main(code: str) -> str:
    return "worker.py:app" if "async def app(" in code else "worker.py"


def svcctl(folder: Path, *arguments: str) -> None:
    subprocess.run([SVCCTL, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, env=_environ(folder))


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[Plane]:
    """`svcctl serve`, or other arguments that serve, from its announcement on."""
    command = [SVCCTL, *(arguments or ("serve",)), "--port", "0", "--json"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=_environ(folder))
    rest = threading.Thread(target=_read_on, args=(process,))
    try:
        port = _announced(process)
        rest.start()
        yield Plane(process, port)
    finally:
        end(process)
        if rest.ident is not None:
            rest.join()


def _read_on(process: subprocess.Popen[bytes]) -> None:
    """Who logs into a full pipe waits."""
    assert process.stdout is not None
    with process.stdout as lines:
        for _ in lines:
            pass


def _announced(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    text = b""
    for line in process.stdout:
        text += line
        with suppress(json.JSONDecodeError):
            port: int = json.loads(text)["port"]
            return port
    raise RuntimeError(f"{process.args} ended with {process.wait()}")


@contextmanager
def bare_uvicorn(folder: Path) -> Iterator[Plane]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hello.py").write_text(RAW)
    process, port = start_uvicorn(folder)
    try:
        first_answer(port, "localhost")
        yield Plane(process, port)
    finally:
        end(process)


def start_uvicorn(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    command = [sys.executable, "-m", "uvicorn", "hello:app", "--port", str(port), *options]
    return subprocess.Popen(command, cwd=folder, env=_environ(folder)), port


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _environ(folder: Path) -> dict[str, str]:
    return {**os.environ, **QUIET, "XDG_CACHE_HOME": str(folder / ".cache")}


# ---- what a process costs


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]  # fmt: skip


def cpu(*pids: int) -> float:
    """Seconds on a processor so far."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e9
        for pid in pids
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def unique(pid: int) -> float:
    """Megabytes that no other process shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


# ---- a raw client


def request(host: str, path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode()


def get(port: int, host: str, path: str = "/") -> bytes:
    """The body of a small answer; RuntimeError for any but 200."""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as sock:
        sock.sendall(request(host, path))
        return answer(sock)


def answer(sock: socket.socket) -> bytes:
    data = b""
    while (found := whole(data)) is None:
        chunk = sock.recv(65536)
        if not chunk:
            raise RuntimeError(f"the connection ended after {data!r}")
        data += chunk
    return found


def whole(data: bytes) -> bytes | None:
    """The body of an answer with a length, once it is there."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(data.decode("latin-1"))
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return body if len(body) >= length else None


def first_answer(port: int, host: str) -> None:
    """Knocks until somebody answers."""
    until = time.monotonic() + _PATIENCE
    while True:
        with suppress(ConnectionError):
            get(port, host)
            return
        if time.monotonic() > until:
            raise RuntimeError(f"nothing answers on port {port}")
        time.sleep(0.002)


def load(port: int, host: str, *, connections: int, requests: int) -> list[float]:
    """So many requests over kept-alive connections, each with one at a time under way; the seconds that each took."""
    asked = request(host)
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    received: dict[int, bytes] = {}
    sent: dict[int, float] = {}
    taken: list[float] = []
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        socks[sock.fileno()] = sock
        received[sock.fileno()] = b""
        poll.register(sock, select.EPOLLIN)
        sent[sock.fileno()] = time.perf_counter()
        sock.send(asked)
    begun = connections
    while len(taken) < requests:
        for descriptor, _ in poll.poll(_PATIENCE):
            sock = socks[descriptor]
            received[descriptor] += sock.recv(65536)
            if whole(received[descriptor]) is None:
                continue
            received[descriptor] = b""
            now = time.perf_counter()
            taken.append(now - sent[descriptor])
            if begun < requests:
                sent[descriptor] = now
                sock.send(asked)
                begun += 1
    poll.close()
    for sock in socks.values():
        sock.close()
    return taken
