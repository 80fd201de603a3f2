"""What `svcctl serve` survives: kill -9 of each of its processes, a store that goes, is damaged or is another one,
commands killed beside it, full disks, and switches under load (FAULTS T1, T5, T15, T18, T19, T21, T30; I11, I12)."""

import base64
import os
import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
from serving import ANSWERS, PATIENCE, WIRE, Client, Server, Site, chunked, get, is_alive, listening, until

STAGING = "staging--shop.localhost"

CALLING = """\
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        answer = await self.env.AUTH.fetch(request)
        return Response({!r} + " " + await answer.text())
"""

SETTINGS = """\
from workers import Response

async def fetch(request, env, ctx):
    return Response(f"{env.LOG} {getattr(env, 'KEY', None)}")
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.new(tmp_path)


@pytest.fixture
def wired(site: Site) -> Site:
    site.code("shop", WIRE)
    site.done("deploy")
    return site


def at_work(client: Client) -> None:
    """A request whose handler has begun and waits for four bytes."""
    client.send(get(STAGING, "/begun", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert client.head()[0] == 100


# ---- kill -9 (the table in docs/data-plane.md)


def test_a_killed_worker_takes_its_own_requests_along_and_nothing_else(wired: Site):
    with wired.serving() as server, server.client() as at_it, server.client() as idle, server.client() as other:
        assert other.ask(get("staging--auth.localhost")).status == 200
        pid = int(idle.ask(get(STAGING, "/pid")).text)
        at_work(at_it)
        os.kill(pid, signal.SIGKILL)
        assert at_it.is_closed()
        assert idle.is_closed()
        assert int(server.get(STAGING, "/pid").text) != pid
        assert other.ask(get("staging--auth.localhost")).status == 200
        server.says("shop/staging@1: its worker was killed by SIGKILL; the next request starts another")


def test_a_killed_parent_costs_no_request(wired: Site):
    with wired.serving() as server, server.client() as at_it, server.client() as idle:
        pid = int(idle.ask(get(STAGING, "/pid")).text)
        at_work(at_it)
        parent = server.parent
        os.kill(parent, signal.SIGKILL)
        server.says("the process that workers are forked from was killed by SIGKILL; another is started")
        assert server.get("staging--auth.localhost").text == "auth v1", "a worker that was not there before"
        at_it.send(b"done")
        assert at_it.answer().text == "done"
        assert int(idle.ask(get(STAGING, "/pid")).text) == pid

        wired.write("v2")
        wired.done("deploy")
        server.becomes(STAGING, "shop v2")
        assert idle.ask(get(STAGING)).text == "shop v2"
        until(lambda: not is_alive(pid))


def test_an_orphan_that_dies_is_noticed(wired: Site):
    with wired.serving() as server:
        pid = int(server.get(STAGING, "/pid").text)
        os.kill(server.parent, signal.SIGKILL)
        server.says("another is started")
        os.kill(pid, signal.SIGKILL)
        until(lambda: server.get(STAGING, "/pid").text != str(pid))
        server.says("shop/staging@1: its worker is gone")


def test_a_killed_router_leaves_running_requests_to_end(wired: Site):
    """And who connects before there is another one waits in the listener, where something keeps that."""
    with ExitStack() as stack:
        sock, passed = stack.enter_context(listening())
        first = stack.enter_context(wired.serving(**passed))
        at_it, idle = stack.enter_context(first.client()), stack.enter_context(first.client())
        assert idle.ask(get(STAGING)).status == 200
        at_work(at_it)
        processes = [first.parent, *first.workers]
        first.process.kill()
        assert first.process.wait() == -signal.SIGKILL
        assert idle.is_closed()
        early = stack.enter_context(closing(Client(sock.getsockname()[1])))
        early.send(get(STAGING))
        at_it.send(b"done")
        assert at_it.answer().text == "done"
        assert at_it.is_closed()
        until(lambda: not any(map(is_alive, processes)))
        stack.enter_context(wired.serving(**passed))
        assert early.answer().text == "wire"


# ---- commands killed beside it


class Load:
    """Raw clients without retry, each on one connection that it keeps and on fresh ones."""

    def __init__(self, server: Server, host: str, clients: int) -> None:
        self.answers: list[list[tuple[int, str]]] = []
        """By client, in order: status and body."""
        self.errors: list[str] = []
        self._server = server
        self._request = get(host)
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self, fresh: bool) -> None:
        answers: list[tuple[int, str]] = []
        self.answers.append(answers)
        try:
            client = Client(self._server.port)
            while not self._ending.is_set():
                if fresh:
                    client.close()
                    client = Client(self._server.port)
                answer = client.ask(self._request)
                answers.append((answer.status, answer.text))
                time.sleep(0.001)  # the commands need a core too
            client.close()
        except (OSError, ValueError) as error:
            self.errors.append(f"{'fresh' if fresh else 'kept'}, after {len(answers)}: {error!r}")

    def texts(self) -> set[str]:
        assert self.errors == []
        assert {status for each in self.answers for status, _ in each} == {200}
        return {text for each in self.answers for _, text in each}


UPLOAD = ("upload.pack-written", "upload.pack-named", "upload.before-commit", "upload.committed")
APPLY = ("pending.kept", "plan.agreed", "apply.locked", "apply.planned", "apply.written", "apply.before-commit")
COMMITTED = ("apply.committed", "answer.printed")


def kill_beside(site: Site, deploy: Sequence[str], promote: Sequence[str]) -> None:
    site.live("v0")
    known = {"shop v0"}
    with site.serving() as server, Load(server, STAGING, 2) as staging, Load(server, "shop.localhost", 2) as production:
        for number, point in enumerate(deploy, 1):
            known.add(f"shop v{number}")
            site.write(f"v{number}")
            site.killed("deploy", at=point)
            if point in COMMITTED:
                server.becomes(STAGING, f"shop v{number}")
            else:
                assert server.get(STAGING).text == f"shop v{number - 1}"
                site.done("deploy")
        for point in promote:
            site.killed("promote", "staging", "production", "--yes", at=point)
        server.becomes("shop.localhost", f"shop v{number}")
    assert staging.texts() <= known
    assert production.texts() <= {"shop v0", f"shop v{number}"}


def test_t5_commands_that_are_killed_beside_it(site: Site):
    kill_beside(site, ("upload.committed", "apply.before-commit", "apply.committed"), ("apply.written", COMMITTED[0]))


@pytest.mark.soak
def test_t5_commands_that_are_killed_beside_it_anywhere(site: Site):
    kill_beside(site, (*UPLOAD, *APPLY, *COMMITTED), (*APPLY, *COMMITTED))


# ---- damage (T1)


@pytest.mark.parametrize("damage", ["flipped", "cut", "deleted"])
def test_t1_what_is_live_stays_live_when_the_next_is_damaged(damage: str, site: Site):
    site.live("v1")
    with site.serving() as server:
        assert server.get(STAGING).text == "shop v1"
        server.process.send_signal(signal.SIGSTOP)  # it sees the deploy and the damage at once
        packs = set((site.store / "packs").iterdir())
        site.write("v2")
        site.done("deploy")
        for pack in set((site.store / "packs").iterdir()) - packs:
            harm(pack, damage)
        server.process.send_signal(signal.SIGCONT)
        server.says("shop/staging@1 stays live")
        assert server.get(STAGING).text == "shop v1"
        assert server.get("shop.localhost").text == "shop v1"
        site.write("v3")
        site.done("deploy")
        server.becomes(STAGING, "shop v3")


def harm(pack: Path, how: str) -> None:
    pack.chmod(0o600)
    match how:
        case "flipped":
            pack.write_bytes(bytes(byte ^ 1 for byte in pack.read_bytes()))
        case "cut":
            os.truncate(pack, pack.stat().st_size // 2)
        case "deleted":
            pack.unlink()


def test_t1_a_damaged_cache_is_fetched_again(site: Site, tmp_path: Path):
    site.live("v1")
    with site.serving("--cache", str(tmp_path / "cache")) as server:
        assert server.get(STAGING).text == "shop v1"
    for worker in (tmp_path / "cache/artifacts").glob("*/files/worker.py"):
        worker.chmod(0o600)
        worker.write_text(ANSWERS.format("altered"))
    with site.serving("--cache", str(tmp_path / "cache")) as server:
        assert server.get(STAGING).text == "shop v1"


# ---- every version (T15)


def test_t15_every_version_answers_as_when_it_was_made(site: Site):
    for service in ("auth", "shop"):
        site.code(service, SETTINGS)
    site.done("deploy")
    site.done("vars", "set", "LOG=debug", "--env", "staging")
    site.done("secrets", "set", "KEY", "--env", "staging", typed="hunter2")
    site.code("shop", CALLING.format("second"))
    site.done("deploy")
    site.done("vars", "set", "LOG=warn", "--env", "staging", "-s", "auth")
    site.done("rollback", "staging", "--yes")
    site.done("rollback", "staging", "--to", "1", "--yes", "-s", "shop")
    said = {each["number"]: site.done("call", each["ref"]).out for each in versions(site, "shop/staging")}
    assert said[1] == "info None"
    assert said[2].startswith("debug")
    assert said[3] == "debug hunter2"
    assert said[4].startswith("second ")
    assert len(said) == 5

    site.write("v9")
    site.done("deploy")
    site.done("promote", "staging", "production", "--yes")
    site.done("env", "clone", "staging", "other")
    for number, text in said.items():
        if number != 4:  # it calls auth as it is now
            assert site.done("call", f"shop/staging@{number}").out == text


def versions(site: Site, place: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = site.done("history", place, "--json").json["versions"]
    return found


# ---- full disks (T18)

TALKATIVE = """\
from workers import Response

async def fetch(request, env, ctx):
    print("x" * 10_000)
    return Response("said")
"""


def no_file_beyond(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def has_room_again(server: Server) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_t18_a_full_disk_stops_the_log_and_nothing_else(site: Site):
    site.code("shop", TALKATIVE)
    site.done("deploy")
    with site.serving(before=lambda: no_file_beyond(200_000)) as server, server.client() as client:
        for _ in range(60):
            assert client.ask(get(STAGING)).text == "said"
        has_room_again(server)
        until(lambda: client.ask(get(STAGING)).text == "said" and "log records were lost here" in site.done("logs").out)


def test_t18_what_the_disk_has_no_room_for_is_not_switched_to(site: Site):
    site.live("v1")
    with site.serving(before=lambda: no_file_beyond(200_000)) as server:
        assert server.get(STAGING).text == "shop v1"
        site.write("v2")
        (site.folder / "shop/large.bin").write_bytes(os.urandom(400_000))
        site.done("deploy")
        assert "File too large; shop/staging@1 stays live" in server.says("shop/staging can't be started")
        assert server.get(STAGING).text == "shop v1"
        assert server.get("shop.localhost").text == "shop v1"
        has_room_again(server)
        server.becomes(STAGING, "shop v2")


# ---- switches (T19, I12)


@contextmanager
def switched(site: Site, server: Server, times: int) -> Iterator[None]:
    """Forwards and back: each is live when the next is begun."""
    yield
    for number in range(times):
        back = number % 3 == 2
        if back:
            site.done("rollback", "staging", "--yes")
        else:
            site.code("shop", CALLING.format(f"v{number}"))
            site.code("auth", ANSWERS.format(f"v{number}"))
            site.done("deploy")
        live = number - 2 if back else number
        server.becomes(STAGING, f"v{live} v{live}")


def switch_under_load(site: Site, switches: int, clients: int) -> None:
    """Beside a stream that was begun before, and whose end is not hurried."""
    site.code("shop", CALLING.format("first"))
    site.code("auth", ANSWERS.format("first"))
    site.done("deploy")
    site.code("shop", WIRE)
    site.done("env", "create", "stream")
    site.done("deploy", "--env", "stream")
    with site.serving("--drain", "600") as server, server.client() as stream:
        assert server.get(STAGING).text == "first first"
        stream.send(get("stream--shop.localhost", "/echo", "Transfer-Encoding: chunked", method="POST"))
        stream.send(b"4\r\nping\r\n")
        assert stream.head()[0] == 200
        assert stream.chunk() == b"ping"
        site.write("not streaming")
        site.done("deploy", "--env", "stream")
        server.becomes("stream--shop.localhost", "shop not streaming")
        with Load(server, STAGING, clients) as load, switched(site, server, switches):
            pass
        stream.send(chunked(b"pong"))
        assert [stream.chunk(), stream.chunk()] == [b"pong", b""], "it ends as it began"
        texts = load.texts()
        assert {text.split()[0] for text in texts} == {text.split()[1] for text in texts}
        assert all(len(set(text.split())) == 1 for text in texts), "a call sees what the caller sees"
        for answers in load.answers:
            moves = [(before[1], after[1]) for before, after in pairwise(answers) if before != after]
            assert len(moves) <= switches, f"a connection went back and forth: {moves}"


def test_t19_i12_switches_fail_no_request(site: Site):
    switch_under_load(site, 3, 4)


@pytest.mark.soak
@pytest.mark.xdist_group("both cores")
def test_t19_i12_sixty_switches_under_sixteen_clients(site: Site):
    switch_under_load(site, 60, 16)


# ---- many deploys (T21)


def deploy_many(site: Site, count: int) -> None:
    site.live("v0")
    with site.serving() as server:
        for host in (STAGING, "shop.localhost"):
            assert server.get(host).status == 200
        assert server.get("staging--auth.localhost").status == 200
        before, memory = server.descriptors(), 0
        for number in range(count):
            site.write(f"v{number}")
            site.done("deploy")
            server.becomes(STAGING, f"shop v{number}")
            if number == count // 3:
                memory = resident(server.process.pid)
        until(lambda: len(server.workers) == 3)
        until(lambda: server.descriptors() <= before + 2)
        assert resident(server.process.pid) < memory + 8_000_000 + 20_000 * count


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_t21_deploys_in_a_row_leave_nothing_behind(site: Site):
    deploy_many(site, 8)


@pytest.mark.soak
def test_t21_five_hundred_deploys_in_a_row_leave_nothing_behind(site: Site):
    deploy_many(site, 500)


# ---- without the store (I11)


def test_i11_it_goes_on_and_restarts_without_the_store(site: Site):
    site.code("shop", SETTINGS)
    site.done("secrets", "set", "KEY", "--env", "staging", typed="hunter2")
    site.done("deploy")
    site.done("env", "clone", "staging", "other")
    with site.serving() as server:
        assert server.get("other--shop.localhost").text == "info hunter2"
        until(lambda: len(list((site.home / ".cache/svcctl").glob("*/secrets/*"))) == 2)
        site.store.rename(site.folder / "away")
        server.says("the store can't be read")
        assert server.get("other--shop.localhost").text == "info hunter2"
        assert server.get(STAGING).text == "info hunter2", "what nobody had asked for before"

    with site.serving() as server:
        states = {each["ref"]: each["state"] for each in server.announced["addresses"]}
        assert states["shop/staging@2"] == "live"
        assert server.get(STAGING).text == "info hunter2"
        (site.folder / "away").rename(site.store)
        server.says("the store is there again")
        site.done("vars", "set", "LOG=debug", "--env", "staging")
        server.becomes(STAGING, "debug hunter2")


def test_i11_a_command_that_hangs_in_the_store_holds_up_nobody(site: Site):
    site.live("v1")
    holder = site.stopped("vars", "set", "A=1", at="apply.written")
    with site.serving() as server:
        assert server.get(STAGING).text == "shop v1"
        holder.is_killed()


def test_i11_another_store_in_its_place_is_served(site: Site, tmp_path: Path):
    other = Site.new(tmp_path / "other")
    other.live("other's")
    other.done("env", "clone", "staging", "extra")
    site.live("v1")
    site.done("env", "clone", "staging", "preview")
    with site.serving() as server:
        assert server.get("preview--shop.localhost").text == "shop v1"
        site.store.rename(tmp_path / "away")
        other.store.rename(site.store)
        server.becomes("extra--shop.localhost", "shop other's")
        server.becomes(STAGING, "shop other's")
        assert server.get("preview--shop.localhost").status == 404


def test_i11_a_store_that_was_set_back_is_served_as_it_is(site: Site, tmp_path: Path):
    site.live("v1")
    shutil.copytree(site.store, tmp_path / "backup")
    with site.serving() as server:
        site.write("v2")
        site.done("deploy")
        server.becomes(STAGING, "shop v2")
        site.store.rename(tmp_path / "away")
        (tmp_path / "backup").rename(site.store)
        server.becomes(STAGING, "shop v1")


# ---- secrets (T30)

CANARY = 'canary-7f3a"é/+&zzz'
TELLING = """\
import os, sys
from workers import Response, env

{at_import}

async def fetch(request, env, ctx):
    print("printed", env.KEY, repr(env.KEY))
    sys.stderr.write(env.KEY + "\\n")
    if request.url.endswith("/raise"):
        raise ValueError(env.KEY)
    return Response("told")
"""


def test_t30_secrets_are_nowhere(site: Site):
    site.done("secrets", "set", "KEY", "--env", "staging", typed=CANARY)
    site.code("shop", TELLING.format(at_import=""))
    site.done("deploy")
    site.done("env", "clone", "staging", "broken")
    site.code("shop", TELLING.format(at_import="raise RuntimeError(env.KEY)"))
    site.done("deploy", "--no-check", "--env", "broken")
    with site.serving("--access-log") as server:
        assert server.get(STAGING).text == "told"
        seen = [server.get(STAGING, "/raise").body, server.get("broken--shop.localhost").body]
        server.says("shop/broken@2 does not start: RuntimeError: ***")
        for pid in (server.process.pid, server.parent, *server.workers):
            with suppress(ProcessLookupError, FileNotFoundError):  # the worker that failed may just have gone
                seen += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    seen.append(server.log.encode())
    seen.append(site.done("logs", "--json").out.encode())
    files = [path for folder in (site.store, site.home) for path in folder.rglob("*") if path.is_file()]
    assert any("artifacts" in path.parts for path in files)
    assert any("logs" in path.parts for path in files)
    seen += [path.read_bytes() for path in files]
    assert b"printed" in b"".join(seen), "the log is among them"
    content = CANARY.encode()
    forms = [content, base64.b64encode(content), content.hex().encode(), quote(CANARY).encode(), repr(CANARY).encode()]
    assert not [form for form in forms for each in seen if form in each]


def test_a_listener_of_another_program_is_named(site: Site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = site("serve", "--port", str(taken.getsockname()[1]))
    assert ended.status == 1
    assert "Address already in use" in ended.err
