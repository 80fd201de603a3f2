"""Code that does not start, and code that misbehaves, while others are served (T20)."""

from collections.abc import Iterator

import pytest
from serving import ANSWERS, Server, Site, get, is_alive, until

STAGING = "staging--shop.localhost"
PREVIEW = "preview--shop.localhost"

ROGUE = """\
import asyncio, os, signal, sys, time
from urllib.parse import urlsplit
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match urlsplit(request.url).path:
            case "/loop":
                while True:
                    pass
            case "/exit":
                os._exit(3)
            case "/crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "/allocate":
                return Response(str(len(bytearray(2 << 30))))
            case "/never":
                await asyncio.sleep(3600)
            case "/raise":
                raise ValueError("as it was told")
        return Response(str(os.getpid()))
"""

HANGING = """\
import os, threading
from urllib.parse import urlsplit
from workers import Response


def fetch(request, env, ctx):
    if urlsplit(request.url).path == "/hang":
        threading.Event().wait()
    return Response(str(os.getpid()))
"""

UNMADE = """\
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    def __init__(self, ctx, env):
        raise RuntimeError("can't be made")

    async def fetch(self, request):
        return Response("made")
"""

SLOW = """\
import sys, pathlib, time
from workers import Response

pathlib.Path({folder!r}, "began").touch()
while not pathlib.Path({folder!r}, "go").exists():
    time.sleep(0.01)


async def fetch(request, env, ctx):
    return Response("slow and there")
"""

BROKEN_APP = """\
class App:
    def __init__(self):
        raise RuntimeError("no database")

    async def __call__(self, scope, receive, send): ...


app = App()
"""

BROKEN_LIFESPAN = """\
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""

STARTS_NEVER = {
    "import error": ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
    "loop": ("while True:\n    pass\n", "not ready after 1 s in shop/staging@"),
    "exit": ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    "end of the process": ("import os\nos._exit(4)\n", "its process exited with status 4"),
    "exception of an application's own": (
        BROKEN_APP,
        "RuntimeError: no database",
    ),
    "lifespan": (
        BROKEN_LIFESPAN,
        "its lifespan failed",
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site.new(tmp_path_factory.mktemp("site"))
    site.live("v1")
    return site


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    """With short patience; and staging runs v1 when a test begins."""
    limits = ("--blocked", "1", "--memory", "400", "--request-timeout", "1", "--start-timeout", "1")
    with site.serving(*limits) as server:
        yield server


@pytest.mark.parametrize(("code", "said"), STARTS_NEVER.values(), ids=STARTS_NEVER)
def test_t20_what_does_not_start_is_not_switched_to(code: str, said: str, site: Site, server: Server):
    site.code("shop", ANSWERS.format("good"))
    site.done("deploy")
    server.becomes(STAGING, "good")
    with server.client() as kept:
        assert kept.ask(get(STAGING)).text == "good"
        site.code("shop", code if "app" in code else code + ANSWERS.format("bad"))
        bad = next(each for each in site.done("deploy", "--no-check", "--json").json["versions"])
        line = server.says(f"{bad['ref']} does not start")
        assert said in line
        assert f"shop/staging@{bad['number'] - 1} stays live" in line
        assert kept.ask(get(STAGING)).text == "good"
        assert server.get(STAGING).text == "good"

        site.code("shop", ANSWERS.format("mended"))
        site.done("deploy")
        server.becomes(STAGING, "mended")
        assert kept.ask(get(STAGING)).text == "mended"


def test_t20_the_first_request_for_what_does_not_start_is_told_so(tmp_path):
    site = Site.new(tmp_path)
    site.live("v1")
    site.code("shop", "raise RuntimeError('the password is hunter2')\n" + ANSWERS.format("never"))
    site.done("deploy", "--no-check")
    with site.serving() as server:
        answer = server.get(STAGING)
        assert (answer.status, answer.text) == (
            502,
            "shop/staging@2 does not start: svcctl logs shop/staging says why\n",
        )
        server.says("shop/staging@2 does not start: RuntimeError: the password is hunter2")
        assert server.get("shop.localhost").text == "shop v1"
        logged = site.done("logs", "shop/staging").out
        assert 'worker.py", line 1, in <module>' in logged
        assert "RuntimeError: the password is hunter2" in logged

        site.write("v2")
        site.done("deploy")
        server.becomes(STAGING, "shop v2")


# ---- previews


@pytest.fixture(scope="module")
def rogue(site: Site, server: Server) -> str:
    """A preview of code that does all that it should not."""
    site.code("shop", ROGUE)
    site.done("env", "create", "preview")
    site.done("deploy", "--env", "preview")
    server.takes_in(PREVIEW)
    return PREVIEW


def production_answers(server: Server) -> None:
    with server.client() as client:
        for _ in range(20):
            assert client.ask(get("shop.localhost")).text == "shop v1"
            assert server.get("auth.localhost").text == "auth v1"


def test_an_endless_loop_is_ended_and_named(rogue: str, server: Server):
    pid = server.get(rogue).text
    with server.client() as looping, server.client() as behind:
        looping.send(get(rogue, "/loop"))
        production_answers(server)
        behind.send(get(rogue))
        said = server.says("its event loop was blocked for 1 s in shop/preview@1, worker.py:")
        line = next(number for number, text in enumerate(ROGUE.splitlines(), 1) if "pass" in text)
        assert f"worker.py:{line} in fetch" in said or f"worker.py:{line - 1} in fetch" in said
        production_answers(server)
        assert looping.is_closed()
        assert behind.answer().text not in (pid, ""), "who was not looked at yet is answered by the next"


@pytest.mark.parametrize(("path", "how"), [("/exit", "exited with status 3"), ("/crash", "was killed by SIGSEGV")])
def test_a_worker_that_dies_takes_only_its_own_requests_along(path: str, how: str, rogue: str, server: Server):
    with server.client() as ended, server.client() as other:
        assert other.ask(get(rogue)).status == 200
        ended.send(get(rogue, path))
        assert ended.is_closed()
        server.says(f"shop/preview@1: its worker {how}; the next request starts another")
        production_answers(server)
        assert server.get(rogue).status == 200


def test_too_large_an_allocation_ends_in_the_handler(rogue: str, server: Server):
    pid = server.get(rogue).text
    assert server.get(rogue, "/allocate").status == 500
    production_answers(server)
    assert server.get(rogue).text == pid, "its worker goes on"


def test_a_handler_that_never_returns_ends_in_504(rogue: str, server: Server):
    with server.client() as client:
        client.send(get(rogue, "/never"))
        production_answers(server)
        assert client.answer().status == 504
        assert client.ask(get(rogue)).status == 200


def test_an_exception_is_one_requests_own(rogue: str, server: Server):
    with server.client() as client:
        answer = client.ask(get(rogue, "/raise"))
        assert answer.status == 500
        assert "as it was told" not in answer.text
        assert client.ask(get(rogue)).status == 200


def test_threads_that_hang_cost_the_worker_its_place(site: Site, server: Server):
    site.code("shop", HANGING)
    site.done("env", "create", "hanging")
    site.done("deploy", "--env", "hanging")
    host = "hanging--shop.localhost"
    pid = server.takes_in(host).text
    clients = [server.client() for _ in range(4)]
    for client in clients:
        client.thing.send(get(host, "/hang"))
    production_answers(server)
    for client in clients:
        with client:
            assert client.thing.answer().status == 504
    server.says("shop/hanging@1: too many sync handlers hang; its worker is replaced")
    until(lambda: server.get(host).text != pid)
    until(lambda: not is_alive(int(pid)))


def test_an_entrypoint_that_can_not_be_made_answers_500(site: Site, server: Server):
    site.code("shop", UNMADE)
    site.done("env", "create", "unmade")
    site.done("deploy", "--env", "unmade")
    assert server.takes_in("unmade--shop.localhost").status == 500
    production_answers(server)


def test_who_waits_for_a_slow_start_is_answered_and_nobody_else_waits(tmp_path):
    site = Site.new(tmp_path)
    site.live("v1")
    site.code("shop", SLOW.format(folder=str(tmp_path)))
    site.done("deploy", "--no-check")
    with site.serving() as server, server.client() as first, server.client() as second:
        first.send(get(STAGING))
        until((tmp_path / "began").exists)
        second.send(get(STAGING))
        production_answers(server)
        (tmp_path / "go").touch()
        assert [first.answer().text, second.answer().text] == ["slow and there"] * 2


LIFE = """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the pool would not close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"up"})
"""


def test_a_lifespan_that_fails_at_its_end_is_logged_and_what_the_server_thinks_is_not(site: Site):
    site.code("shop", LIFE)
    site.done("deploy")
    with site.serving() as server:
        assert server.get("staging--shop.localhost").text == "up"
    logged = [each["message"] for each in site.done("logs", "shop/staging", "--json").json["logs"]]
    assert "svcctl.lifespan: the pool would not close" in logged
    assert not any("Waiting for application" in each for each in logged), logged
