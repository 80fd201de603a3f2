"""`svcctl serve` in a process of its own, on Acme's project, and a client that sees each byte.

site = Site.new(tmp_path)                    services that answer over HTTP
site.done("deploy")
with site.serving() as server:               until its announcement was read; ended at the end of the block
    server.get("staging--shop.localhost").text
    with server.client() as client:
        client.send(get("auth.localhost") + get("shop.localhost"))
        client.answer()
"""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from processes import Acme

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds for what must happen at all."""

ANSWERS = """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response({!r})
"""

WIRE = """\
import json, os
from urllib.parse import parse_qs, urlsplit
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        match url.path:
            case "/echo":  # as it comes
                return Response(request.body, headers={"content-type": request.headers.get("content-type") or "x/y"})
            case "/whole":  # when it is there
                body = await request.bytes()
                return Response(f"{len(body)} bytes")
            case "/headers":
                return Response.json(sorted(request.headers.items()))
            case "/begun":  # says 100 when it is at work, and answers when the client wants
                return Response(await request.text())
            case "/url":
                return Response(f"{request.method} {request.url}")
            case "/large":
                return Response(b"x" * int(parse_qs(url.query)["size"][0]))
            case "/pid":
                return Response(str(os.getpid()))
            case "/auth":
                return await self.env.AUTH.fetch(request)
        return Response("wire")
"""


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)


class Client:
    """One connection. Everything that waits gives up after PATIENCE."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._file = self.socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, request: bytes) -> Answer:
        self.send(request)
        return self.answer(head=request.startswith(b"HEAD"))

    def answer(self, *, head: bool = False) -> Answer:
        status, headers = self.head()
        if head or status in (100, 204, 304):
            return Answer(status, headers, b"")
        return Answer(status, headers, self._body(dict(headers)))

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        line = self._file.readline()
        if not line:
            raise ConnectionResetError("the connection ended before an answer")
        headers = []
        while (field := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = field.decode("latin-1").partition(":")
            headers.append((name.lower(), value.strip()))
        return int(line.split()[1]), headers

    def chunk(self) -> bytes:
        """Empty for the last one; ConnectionResetError where the connection ended before it."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the connection ended within a body")
        size = int(line, 16)
        data = self._file.read(size + 2)
        if len(data) < size + 2:
            raise ConnectionResetError("the connection ended within a chunk")
        return data[:-2]

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(iter(self.chunk, b""))
        if "content-length" not in headers:
            return self._file.read()
        size = int(headers["content-length"])
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionResetError("the connection ended within a body")
        return data

    def is_closed(self) -> bool:
        """Waits for the other side's end; nothing may come before it."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def get(host: str, path: str = "/", *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(host: str, path: str, body: bytes, *headers: str) -> bytes:
    return get(host, path, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


class Server:
    """`svcctl serve`, once it has announced itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.err: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        try:
            self.announced = self._announcement()
        except BaseException:
            self.kill()
            raise
        self.port: int = self.announced["port"]

    def client(self) -> "closing[Client]":
        return closing(Client(self.port))

    def ask(self, request: bytes) -> Answer:
        with self.client() as client:
            return client.ask(request)

    def get(self, host: str, path: str = "/", *headers: str) -> Answer:
        return self.ask(get(host, path, *headers))

    def becomes(self, host: str, text: str, path: str = "/") -> Answer:
        """Asks until the answer is this one."""
        until = time.monotonic() + PATIENCE
        while (answer := self.get(host, path)).body != text.encode():
            assert time.monotonic() < until, f"{host}{path} never became {text!r}; last: {answer}\n{self.log}"
        return answer

    def takes_in(self, host: str) -> Answer:
        """Asks until what was just deployed for this host is live; how it answers then."""
        return until(lambda: answer if (answer := self.get(host)).status not in (404, 503) else None)

    def says(self, text: str, times: int = 1) -> str:
        """Waits for this on standard error; the line."""

        def there() -> list[str]:
            return [line for line in self.err if text in line]

        with self._more:
            assert self._more.wait_for(lambda: len(there()) >= times, PATIENCE), f"never said {text!r}:\n{self.log}"
            return there()[-1]

    @property
    def log(self) -> str:
        return "".join(self.err)

    # ---- its processes

    @property
    def parent(self) -> int:
        (found,) = children(self.process.pid)
        return found

    @property
    def workers(self) -> list[int]:
        return children(self.parent)

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    # ---- end

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Its status, once it and all its processes are gone."""
        assert self.process.stdout is not None
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        self.process.stdout.close()
        return status

    def stop(self) -> int:
        self.terminate()
        return self.ended()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()

    # ----

    def _announcement(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            with suppress(json.JSONDecodeError):
                found: dict[str, Any] = json.loads(text)
                return found
        raise AssertionError(f"serve ended with {self.process.wait()}: {text}{self.log}")

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                with self._more:
                    self.err.append(line)
                    self._more.notify_all()


def children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def is_alive(pid: int) -> bool:
    """A zombie is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(there: Callable[[], T | None]) -> T:
    """Waits for what no event tells; what it is."""
    deadline = time.monotonic() + PATIENCE
    while not (found := there()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)
    return found


@contextmanager
def connected(port: int, count: int) -> Iterator[list[Client]]:
    """So many connections."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Client(port))) for _ in range(count)]


@contextmanager
def listening() -> Iterator[tuple[socket.socket, dict[str, Any]]]:
    """A listener that outlives whoever serves on it, as systemd's do; and what `serving` needs to pass it on."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        yield sock, passing(sock.fileno())


def passing(descriptor: int) -> dict[str, Any]:
    """What starts a program as systemd would, with this as its socket."""
    script = (
        f"import os, sys; os.dup2({descriptor}, 3); os.environ |= dict(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    return {"under": [sys.executable, "-c", script], "passed": [descriptor]}


class Site(Acme):
    """Acme, whose services answer over HTTP."""

    def write(self, answer: str) -> None:
        for service in ("auth", "shop"):
            self.code(service, ANSWERS.format(f"{service} {answer}"))

    def code(self, service: str, text: str) -> None:
        worker = self.folder / service / "worker.py"
        worker.parent.mkdir(exist_ok=True)
        worker.write_text(text)

    def copied(self, folder: Path) -> "Site":
        super().copied(folder)
        return Site(folder)

    def live(self, answer: str | None = None) -> None:
        """Deployed, and promoted to production."""
        if answer is not None:
            self.write(answer)
        self.done("deploy")
        self.done("promote", "staging", "production", "--yes")

    def starting(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        return self.start("serve", "--port", "0", "--json", *options, **more).process

    @contextmanager
    def serving(self, *options: str, **more: Any) -> Iterator[Server]:
        """It must end well, if the test did not end it."""
        server = Server(self.starting(*options, **more))
        try:
            yield server
            if server.process.returncode is None:
                assert server.stop() == 0, server.log
            assert "Traceback" not in server.log, server.log
        finally:
            server.kill()
