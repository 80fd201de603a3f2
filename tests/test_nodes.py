"""Data planes on an API: several nodes, the API killed and started again, what a node keeps and what it shows."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from postgres import KEY
from postgres import Server as Database
from serving import PATIENCE, Server, Site
from test_api_processes import Process

HANDLER = """\
import os
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.partition("//")[2].partition("/")[2]
        if path.startswith("put/"):
            await self.env.CARTS.put("k", path[4:])
            return Response("kept")
        if path == "get":
            return Response(await self.env.CARTS.get("k") or "nothing")
        if path == "secret":
            return Response(self.env.KEY)
        if path == "seen":
            return Response("\\n".join([*os.environ.values(), *open("/proc/self/cmdline").read().split("\\0")]))
        return Response("{}")
"""
CANARY = "canary-8b1f-of-shop"


class Team:
    """One API on a store, a project that is deployed through it, and nodes."""

    def __init__(self, folder: Path, store: str = "store") -> None:
        self.store = store
        self.site = Site.new(folder)
        self.folder = folder
        services = self.site.folder / "services.toml"
        services.write_text(services.read_text() + 'bindings.CARTS = { kv = "carts" }\n')
        self.write("v1")
        self.port = 0
        made = {role: self._token(role) for role in ("admin", "runtime")}
        self.admin, self.runtime = made["admin"], made["runtime"]
        self.api: Process
        self.start()

    def _token(self, role: str) -> str:
        done = self.site.done("--backend", self.store, "token", "create", "--name", role, "--role", role, "--json")
        return str(done.json["secret"])

    def write(self, answer: str) -> None:
        self.site.write(answer)
        self.site.code("shop", HANDLER.replace('"{}"', f'"shop {answer}"'))

    def start(self) -> None:
        arguments = ("--store", self.store, *(("--port", str(self.port)) if self.port else ()))
        self.api = Process(self.site, *arguments, SVCCTL_SECRET_KEY=KEY)
        self.port = self.api.port

    def kill(self) -> None:
        if self.api.process.poll() is None:
            self.api.ended(signal.SIGKILL)

    @property
    def url(self) -> str:
        return self.api.url

    def done(self, *words: str, **more: Any) -> Any:
        return self.site.done(*words, SVCCTL_BACKEND=self.url, SVCCTL_TOKEN=self.admin, **more)

    @contextmanager
    def node(self, name: str, **more: str) -> Iterator[Server]:
        own = {"XDG_CACHE_HOME": str(self.folder / name / "cache"), "XDG_STATE_HOME": str(self.folder / name / "state")}
        known = {"SVCCTL_BACKEND": self.url, "SVCCTL_TOKEN": self.runtime} | own | more
        with self.site.serving(**known) as server:
            yield server

    def files(self, name: str) -> bytes:
        return b"".join(path.read_bytes() for path in (self.folder / name).rglob("*") if path.is_file())


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    team = Team(tmp_path)
    yield team
    team.kill()


SHOP = "staging--shop.localhost"


def test_two_nodes_run_what_is_deployed_through_the_api(team: Team) -> None:
    team.done("secrets", "set", "KEY", "--env", "staging", "-s", "shop", typed=CANARY)
    team.done("deploy")
    with team.node("one") as one, team.node("two") as two:
        for node in (one, two):
            assert node.get(SHOP).text == "shop v1"
            assert node.get(SHOP, "/secret").text == CANARY
        assert one.get(SHOP, "/put/basket").text == "kept"
        assert two.get(SHOP, "/get").text == "basket"
        team.write("v2")
        team.done("deploy")
        for node in (one, two):
            node.becomes(SHOP, "shop v2")


def test_nodes_go_on_and_start_again_while_the_api_is_gone(team: Team) -> None:
    team.done("secrets", "set", "KEY", "--env", "staging", "-s", "shop", typed=CANARY)
    team.done("deploy")
    with ExitStack() as stack:
        one = stack.enter_context(team.node("one"))
        with team.node("two") as two:
            assert two.get(SHOP, "/secret").text == CANARY
            assert one.get(SHOP, "/get").text == "nothing"
            team.kill()
            two.says("the store can't be read")
            for node in (one, two):
                assert node.get(SHOP).text == "shop v1"
        silent = stack.enter_context(socket.create_server(("127.0.0.1", team.port)))  # accepts, and says nothing
        with team.node("two") as two:
            two.says("what was last seen of it is served")
            assert two.get(SHOP).text == "shop v1"
            assert two.get(SHOP, "/secret").text == CANARY
            began = time.monotonic()
            assert two.get(SHOP, "/get").status == 503
            assert one.get(SHOP, "/get").status == 503
            assert time.monotonic() - began < PATIENCE
            silent.close()
            team.start()
            team.write("v2")
            team.done("deploy")
            for node in (one, two):
                node.becomes(SHOP, "shop v2")
                assert node.get(SHOP, "/get").text == "nothing"
    assert CANARY.encode() not in team.files("two")
    assert team.runtime.encode() not in team.files("two")


def test_i11_a_database_that_is_killed_and_started_again_stops_no_request(
    tmp_path: Path, server: Database, database: str
) -> None:
    team = Team(tmp_path, database)
    try:
        team.done("deploy")
        with team.node("one") as one:
            assert one.get(SHOP, "/put/basket").text == "kept"
            server.kill()
            try:
                with team.api.client(team.admin) as client:
                    assert client.get("/health/ready").status_code == 503
                assert one.get(SHOP).text == "shop v1"
                assert one.get(SHOP, "/get").status == 503
            finally:
                server.start()
            assert one.get(SHOP, "/get").text == "basket"
            with server.stopped():  # it takes what it is asked, and says nothing
                assert one.get(SHOP, "/get").status == 503
                assert one.get(SHOP).text == "shop v1"
            assert one.get(SHOP, "/get").text == "basket"
            team.write("v2")
            team.done("deploy")
            one.becomes(SHOP, "shop v2")
    finally:
        team.kill()


def test_handlers_are_not_shown_the_token_of_their_node(team: Team) -> None:
    team.done("deploy")
    with team.node("one") as one:
        seen = one.get(SHOP, "/seen").text
        assert one.get(SHOP, "/get").text == "nothing"
        assert team.runtime not in seen
        for pid in (one.parent, *one.workers):
            for what in ("cmdline", "environ"):
                assert team.runtime.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
        assert team.runtime not in one.log


def test_a_node_whose_token_was_revoked_says_so_and_serves_what_it_saw(team: Team) -> None:
    team.done("deploy")
    with team.node("one") as one:
        assert one.get(SHOP).text == "shop v1"
        team.done("token", "revoke", "runtime")
        one.says("was revoked")
        assert one.get(SHOP).text == "shop v1"
        assert one.get(SHOP, "/get").status == 503


def test_a_person_s_token_runs_no_secrets(team: Team) -> None:
    team.done("secrets", "set", "KEY", "--env", "staging", "-s", "shop", typed=CANARY)
    team.done("deploy")
    with team.node("one", SVCCTL_TOKEN=team.admin) as one:
        answer = one.get(SHOP)
        assert answer.status == 503
        assert CANARY not in answer.text
        one.says("may not reveal")
        assert one.get("staging--auth.localhost").text == "auth v1"
