"""The API on a real port, in a thread; tokens for whoever asks."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from postgres import KEY
from scene import Clock, People, Scene

from svcctl import ages, commands, tokens, wire
from svcctl.api import Api
from svcctl.backend.base import Authority
from svcctl.backend.store import Store
from svcctl.cli.apiconnections import LIMITS, Limits
from svcctl.cli.apiserver import Server
from svcctl.model import Grant, Role

_PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS, and the real certificates take 30 ms to read."""
BODY = {"content-type": "application/json"}


class _InThread(Server):
    """Signals are for main threads."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served:
    """`connect` opens the store again, as the API does for each of its threads."""

    def __init__(self, connect: Callable[[], Authority], threads: int = 8, limits: Limits = LIMITS) -> None:
        self.lines: list[str] = []
        api = Api(connect, log=self.lines.append, now=lambda: ages.timestamp(Clock()()), threads=threads)
        self._server = _InThread(api, lambda: None, proxies=(), drain=5, limits=limits)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.answer, args=(self._socket,))
        self._thread.start()

    def client(self, secret: str | None = None, **headers: str) -> httpx.Client:
        given = {"authorization": f"Bearer {secret}"} | headers if secret else headers
        return httpx.Client(base_url=self.url, headers=given, timeout=30, trust_env=False, verify=_PLAIN)

    def close(self) -> None:
        """Once every request that was begun has ended."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    @property
    def log(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.lines]


class Team:
    """A store with a project in it, its API, and people with tokens."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder = folder / ".svcctl"
        place, environ = (database, {"SVCCTL_SECRET_KEY": KEY}) if database else (self.folder, {})
        self.store = Store.open(place, actor=People(), environ=environ)
        self.clock = Clock()
        self.scene = Scene(self.store, self.clock, People())
        self.api = Served(lambda: Store.open(place, environ=environ))
        self._clients: list[httpx.Client] = []

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.api.close()
        self.store.close()

    def secret(self, name: str, role: Role, **scope: Any) -> str:
        secret = tokens.new()
        grant = Grant(name=name, role=role, **scope)
        command = commands.CreateToken(id=commands.new_id(), grant=grant, hash=tokens.hash_of(secret))
        self.store.apply(command)
        return secret.reveal().decode()

    def holder(self, name: str, role: Role, **scope: Any) -> httpx.Client:
        """Who has a new token."""
        return self.anyone(self.secret(name, role, **scope))

    def anyone(self, secret: str | None = None, **headers: str) -> httpx.Client:
        self._clients.append(self.api.client(secret, **headers))
        return self._clients[-1]

    def send(self, client: httpx.Client, kind: type[commands.Base], **fields: Any) -> httpx.Response:
        return client.post("/v1/changes", content=wire.canonical(self.scene.ask(kind, **fields)), headers=BODY)


@contextmanager
def team(folder: Path, database: str | None = None) -> Iterator[Team]:
    with closing(Team(folder, database)) as found:
        yield found


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]
