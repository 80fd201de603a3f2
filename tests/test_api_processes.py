"""`svcctl api` as a process: its first token, several on one store, how it ends, and what a kill leaves."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from apis import BODY
from postgres import KEY
from processes import Acme

from svcctl import commands, digest, tokens, wire
from svcctl.backend.messages import frame_head
from svcctl.backend.store import Store
from svcctl.model import Project

PATIENCE = 30


class Process:
    """`svcctl api`, once it has said where."""

    def __init__(self, acme: Acme, *arguments: str, **environ: str) -> None:
        running = acme.start("api", "--port", "0", "--json", *arguments, **environ)
        self.process = running.process
        self._err: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        text = ""
        assert self.process.stdout is not None
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, self.err
            text += line
        self.url: str = json.loads(text)["url"]

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            self._err.extend(self.process.stderr)

    @property
    def err(self) -> str:
        return "".join(self._err)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, secret: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {secret}"}, timeout=PATIENCE)

    def ended(self, by: signal.Signals) -> int:
        self.process.send_signal(by)
        return self.gone()

    def gone(self) -> int:
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextmanager
def serving(acme: Acme, *arguments: str, **environ: str) -> Iterator[Process]:
    process = Process(acme, *arguments, **environ)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.ended(signal.SIGKILL)


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    return Acme.new(tmp_path)


@pytest.fixture
def secret(acme: Acme) -> str:
    """An admin's."""
    made = acme.done("token", "create", "--name", "ada", "--role", "admin", "--json").json
    return str(made["secret"])


def configure(client: httpx.Client, name: str) -> httpx.Response:
    command = commands.Configure(
        id=commands.new_id(), project=Project(name="acme"), environment="staging", services=("shop",), vars={name: "1"}
    )
    return client.post("/v1/changes", content=wire.canonical(command), headers=BODY)


def test_an_empty_store_gets_one_token_which_is_told_once(acme: Acme) -> None:
    with serving(acme) as first:
        pass
    told = [word for word in first.err.split() if tokens.is_token(word)]
    assert len(told) == 1
    with serving(acme) as second:
        with second.client(told[0]) as client:
            assert client.get("/v1/whoami").json() == {"name": "admin", "role": "admin"}
        assert second.ended(signal.SIGTERM) == 0
    assert not [word for word in second.err.split() if tokens.is_token(word)]
    assert told[0] not in second.err


def test_the_first_token_goes_into_a_file_of_ones_own(acme: Acme) -> None:
    with serving(acme, "--token-file", "first.token") as api:
        file = acme.folder / "first.token"
        text = file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
        with api.client(text.strip()) as client:
            assert client.get("/v1/whoami").status_code == 200
        api.ended(signal.SIGTERM)
        assert text.strip() not in api.err


def test_a_store_of_ones_own_moves_to_a_team(acme: Acme, database: str) -> None:
    """As docs/moving.md says: into the database, before an API first starts on it."""
    key = {"SVCCTL_SECRET_KEY": KEY}
    acme.done("deploy")
    acme.done("backend", "copy", ".svcctl", database, **key)
    with serving(acme, "--store", database, "--token-file", "first.token", **key) as api:
        secret = (acme.folder / "first.token").read_text().strip()
        with api.client(secret) as client:
            assert client.get("/v1/services", params={"project": "acme"}).json()
        team = {"SVCCTL_BACKEND": api.url, "SVCCTL_TOKEN": secret}
        assert [each["number"] for each in acme.done("audit", "--json", **team).json["changes"]] == [2, 1]
    with serving(acme, "--store", "new", "--token-file", "other.token") as api:
        late = acme("backend", "copy", ".svcctl", api.url, SVCCTL_TOKEN=(acme.folder / "other.token").read_text())
        assert late.status == 4
        assert "before `svcctl api` first starts on it" in late.err


def test_two_processes_on_one_store_give_the_same_answers(acme: Acme, secret: str) -> None:
    acme.done("deploy")
    with serving(acme) as one, serving(acme) as other, one.client(secret) as left, other.client(secret) as right:
        newest = left.get("/v1/changes?after=0").json()["number"]
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(right.get, f"/v1/changes?after={newest}&timeout=20")
            assert configure(left, "A").status_code == 200
            assert waiting.result().json() == {"number": newest + 1}
        with ThreadPoolExecutor(8) as threads:
            changed = [threads.submit(configure, (left, right)[each % 2], f"V{each}") for each in range(40)]
            assert {each.result().status_code for each in changed} == {200}
        numbers = sorted(each.result().json()["versions"][0]["number"] for each in changed)
        assert numbers == list(range(numbers[0], numbers[0] + 40))
        for url in ("/v1/heads?project=acme", "/v1/history?project=acme&limit=100"):
            assert left.get(url).content == right.get(url).content
        acme.done("token", "revoke", "ada")
        assert [each.get("/v1/projects").status_code for each in (left, right)] == [401, 401]
    assert acme.found().problems == ()


def test_sigterm_answers_who_waits_and_ends_what_runs(acme: Acme, secret: str) -> None:
    acme.done("deploy")
    with serving(acme) as api, api.client(secret) as client, ThreadPoolExecutor(10) as threads:
        newest = client.get("/v1/changes?after=0").json()["number"]
        waiting = [threads.submit(client.get, f"/v1/changes?after={newest}&timeout=60") for _ in range(9)]
        upload = slow_upload(api.port, secret)
        begun = time.monotonic()
        api.process.send_signal(signal.SIGTERM)
        assert [each.result().json() for each in waiting] == [{"number": newest}] * 9
        upload.sendall(b"d")
        assert upload.recv(100).startswith(b"HTTP/1.1 200")
        upload.close()
        assert api.gone() == 0
        assert time.monotonic() - begun < PATIENCE
    assert acme.found().leftovers == ()


def slow_upload(port: int, secret: str) -> socket.socket:
    """All of it but the last byte, and known to have arrived."""
    raw = socket.create_connection(("127.0.0.1", port), PATIENCE)
    body = frame_head(digest.of_blob(b"abcd"), 4) + b"abc"
    head = f"POST /v1/blobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nExpect: 100-continue\r\n"
    raw.sendall(f"{head}Content-Length: 44\r\n\r\n".encode())
    assert raw.recv(100).startswith(b"HTTP/1.1 100")
    raw.sendall(body)
    return raw


def test_a_second_signal_is_at_once(acme: Acme, secret: str) -> None:
    with serving(acme) as api:
        upload = slow_upload(api.port, secret)
        api.process.send_signal(signal.SIGTERM)
        while "refused" not in _connects(api.port):
            time.sleep(0.01)
        assert api.ended(signal.SIGTERM) == 0
        upload.close()
    assert acme.found().problems == ()


def _connects(port: int) -> str:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return "refused"
    return "taken"


@pytest.mark.parametrize(
    "point", ["upload.pack-written", "upload.pack-named", "upload.before-commit", "upload.committed"]
)
def test_an_api_killed_during_an_upload_has_stored_all_of_it_or_nothing(point: str, acme: Acme, secret: str) -> None:
    body = b"".join(frame_head(digest.of_blob(each), len(each)) + each for each in (b"one", b"two"))
    with serving(acme, SVCCTL_FAULT=point) as api, api.client(secret) as client:
        with pytest.raises(httpx.TransportError):
            client.post("/v1/blobs", content=body)
        assert api.gone() == -signal.SIGKILL
    names = [digest.of_blob(each) for each in (b"one", b"two")]
    with closing(Store.open(acme.store)) as store:
        assert store.missing(names) == (frozenset() if point == "upload.committed" else set(names))
    with serving(acme) as again, again.client(secret) as client:
        assert client.post("/v1/blobs", content=body).status_code == 200
    assert acme.found().problems == ()


@pytest.mark.parametrize("point", ["apply.locked", "apply.before-commit", "apply.committed"])
def test_t11_an_api_killed_during_a_change_did_it_once_or_not_at_all(point: str, acme: Acme, secret: str) -> None:
    acme.done("deploy")
    command = wire.canonical(
        commands.Configure(
            id=commands.new_id(),
            project=Project(name="acme"),
            environment="staging",
            services=("shop",),
            vars={"A": "1"},
        )
    )
    with serving(acme, SVCCTL_FAULT=point) as api, api.client(secret) as client:
        with pytest.raises(httpx.TransportError):
            client.post("/v1/changes", content=command)
        api.gone()
    with serving(acme) as again, again.client(secret) as client:
        change = client.post("/v1/changes", content=command).json()
        assert [version["number"] for version in change["versions"]] == [2]
        assert client.get("/v1/version?ref=shop/staging").json()["number"] == 2
    assert acme.found().problems == ()


def test_port_and_host_that_can_not_be(acme: Acme) -> None:
    with serving(acme) as api:
        taken = acme("api", "--port", str(api.port))
        assert taken.status == 1
        assert "another program listens there" in taken.err
    away = acme.start("api", "--port", "0", "--host", "0.0.0.0")
    assert away.process.stdout is not None
    assert away.process.stdout.readline().startswith(("note: this is plain http", "serving"))
    away.process.terminate()
    away.process.communicate(timeout=PATIENCE)
