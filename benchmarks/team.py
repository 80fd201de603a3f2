"""What a team pays for the API and PostgreSQL over a store of one's own."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from benchmarks import rates, scale, scenes, served
from benchmarks.database import Server, postgres
from benchmarks.measure import SVCCTL, Figure, in_turn, process, rounds
from benchmarks.plane import cpu, end
from svcctl import commands
from svcctl.backend.base import Filter
from svcctl.backend.store import Store
from svcctl.model import Project
from svcctl.reference import Reference

FILES, CHANGED, SIZE = 10_000, 100, 4096
SERVICES, ENVIRONMENTS, VERSIONS = 40, 50, 100
NODES, CHANGES, FEW, MANY = 20, 40, 1, 50
_PAGE = 20
_WAITING = 10.0  # two polls of each node
_HEAD = 40  # bytes of a frame before a blob's


def figures(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True)
    with postgres() as server:
        return [
            *_commands(folder / "commands"),
            *rates.figures(folder / "rates", server),
            *_versions(server),
            *_deploys(folder / "deploys", server),
            *_nodes(folder / "nodes", server),
        ]


# ---- whole commands


def _commands(folder: Path) -> list[Figure]:
    """The same store, asked as a folder and through its API."""
    scenes.tree(folder, 1, SIZE)
    store = Store.open(folder / ".svcctl", actor=lambda: "bench")
    made = scenes.project(["app"])
    scenes.deploy(store, made, {"app": {"worker.py": scenes.WORKER}})
    for number in range(99):
        command = commands.Configure(id=commands.new_id(), project=made, environment="staging", vars={"N": str(number)})
        store.apply(command)
    secret = served.token(store, "bench", "viewer")
    store.close()
    with served.api(folder, folder / ".svcctl") as api:
        away = {"SVCCTL_BACKEND": api.url, "SVCCTL_TOKEN": secret}
        asked = [SVCCTL, "history", "--json"]
        local, remote = in_turn(15, lambda: process(asked, folder), lambda: process(asked, folder, away))
    detail = f"{remote * 1000:.0f} ms; local {local * 1000:.0f} ms"
    return [Figure("`history --json` on an API / on the local store", remote / local, 2.2, detail=detail)]


# ---- many versions


def _versions(server: Server) -> list[Figure]:
    few = _Filled(server.database(), services=1, versions=_PAGE + 1)
    many = _Filled(server.database(), services=SERVICES, versions=VERSIONS)
    count = SERVICES * ENVIRONMENTS * VERSIONS
    found = []
    for what, call in (
        ("history page of the project", _Filled.history),
        ("history page of one environment", _Filled.history_of_one),
        ("changes page", _Filled.changes),
        ("promote", _Filled.promote),
        ("change feed: `follow` after a change", _Filled.follow),
    ):
        taken = rounds(60, lambda c=call: c(few), lambda c=call: c(many))
        small, large = (statistics.median(times) for times in zip(*taken, strict=True))
        found.append(
            Figure(
                f"{what}, {count:,} versions on PostgreSQL / few",
                statistics.median(much / little for little, much in taken),
                1.3,
                detail=f"{large * 1000:.2f} ms; few {small * 1000:.2f} ms",
            )
        )
    for each in (few, many):
        each.store.close()
        server.drop(each.url)
    return found


class _Filled:
    """One version of each environment by the front door, the rest straight into the chains."""

    def __init__(self, url: str, *, services: int, versions: int) -> None:
        self.url = url
        names = [f"s{number:03}" for number in range(services)]
        made = scenes.project(names)
        self.store = Store.open(url, actor=lambda: "bench")
        scenes.deploy(self.store, made, {name: {"worker.py": scenes.WORKER + name.encode()} for name in names})
        for number in range(ENVIRONMENTS - 2):
            self.store.apply(
                commands.Clone(id=commands.new_id(), project=made, source="staging", target=f"e{number:02}")
            )
        self.store.apply(commands.Promote(id=commands.new_id(), project=made, source="staging", target="production"))
        scenes.deploy(self.store, made, {"s000": {"worker.py": scenes.WORKER + b"# 2\n"}})
        self._lengthen(versions)
        self._made = scenes.project(["s000"])

    def _lengthen(self, versions: int) -> None:
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            for more in scale.longer(self.store, versions):
                for table, columns, rows in (
                    ("changes", scale.CHANGES, more.changes),
                    ("records", scale.RECORDS, more.records),
                ):
                    with cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                        for row in rows:
                            copy.write_row(row)
                cursor.execute(scale.ENVIRONMENT.replace("?", "%s"), more.environment)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")

    def history(self) -> float:
        return _took(lambda: self.store.history("bench", filter=Filter(), limit=_PAGE))

    def history_of_one(self) -> float:
        one = Reference("production", "s000")
        return _took(lambda: self.store.history("bench", one, filter=Filter(), limit=_PAGE))

    def changes(self) -> float:
        return _took(lambda: self.store.changes("bench", filter=Filter(), limit=_PAGE))

    def promote(self) -> float:
        """There and back, so that there is something to do; one of the two is timed."""
        taken = self._promote("staging")
        self._promote("e00")
        return taken

    def _promote(self, source: str) -> float:
        command = commands.Promote(
            id=commands.new_id(), project=self._made, services=("s000",), source=source, target="production"
        )
        return _took(lambda: self.store.apply(command))

    def follow(self) -> float:
        self._promote("staging")
        newest = self.store.wait(0, 0)
        self._promote("e00")
        return _took(lambda: self.store.follow(newest))


def _took(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# ---- deploys


def _deploys(folder: Path, server: Server) -> list[Figure]:
    here, there = scenes.tree(folder / "here", FILES, SIZE), scenes.tree(folder / "there", FILES, SIZE)
    url = server.database()
    store = Store.open(url, actor=lambda: "bench")
    secret = served.token(store, "bench", "admin")
    store.close()
    round = 0

    def change(tree: Path) -> None:
        nonlocal round
        round += 1
        for number in range(CHANGED):
            path = tree / f"app/d{number:03}/f{number * 100:05}.txt"
            path.write_bytes(f"{round:04}{number:04}".encode() * (SIZE // 8))

    with served.api(folder / "api", url) as api:
        away = {"SVCCTL_BACKEND": api.url, "SVCCTL_TOKEN": secret}

        def local() -> float:
            change(here)
            return process([SVCCTL, "deploy"], here)

        def remote() -> float:
            change(there)
            return process([SVCCTL, "deploy"], there, away)

        near, far = in_turn(3, local, remote)
        proxy = served.Counting(api.port)
        change(there)
        process([SVCCTL, "deploy"], there, away | {"SVCCTL_BACKEND": proxy.url})
        proxy.close()
    server.drop(url)
    sent = dict(proxy.sent)
    content = sent.pop("POST /v1/blobs", 0) - CHANGED * _HEAD
    rest = ", ".join(f"{what} {size:,}" for what, size in sent.items())
    return [
        Figure(
            f"bytes uploaded / changed, {FILES:,} files, {CHANGED} of them changed",
            content / (CHANGED * SIZE),
            1,
            detail=f"{content:,} bytes of content; beside it: {rest}",
        ),
        Figure(
            f"deploy of {FILES:,} files, {CHANGED} changed, over the API / into the local store",
            far / near,
            1.5,
            detail=f"{far:.2f} s; local {near:.2f} s",
        ),
    ]


# ---- nodes


def _nodes(folder: Path, server: Server) -> list[Figure]:
    few, many = (_followed(folder / f"of{count}", server, count) for count in (FEW, MANY))
    live = sorted(few.live + many.live)
    return [
        Figure(
            f"a change live on all of {NODES} nodes, p99 of {len(live)}",
            live[len(live) * 99 // 100 - 1] * 1000,
            1000,
            "ms",
            f"median {live[len(live) // 2] * 1000:.0f} ms",
        ),
        Figure(
            f"CPU of the API for {NODES} nodes following {CHANGES} changes, {MANY} services / {FEW}",
            many.spent / few.spent,
            1.3,
            detail=f"{many.spent / CHANGES * 1000:.1f} ms a change; one service {few.spent / CHANGES * 1000:.1f} ms",
        ),
        Figure(
            f"CPU of the API while {NODES} nodes wait, {MANY} services / {FEW}",
            many.idle / few.idle,
            1.3,
            detail=f"{many.idle * 1000:.0f} ms a second; one service {few.idle * 1000:.0f} ms",
        ),
    ]


class _Followed:
    """One store, its API and nodes that follow it, while one of so many services changes."""

    live: list[float]
    spent: float
    idle: float


def _followed(folder: Path, server: Server, services: int) -> "_Followed":
    url = server.database()
    store = Store.open(url, actor=lambda: "bench")
    made = scenes.project([f"s{number:03}" for number in range(services)])
    scenes.deploy(store, made, {name: {"worker.py": scenes.WORKER} for name in made.services})
    secret = served.token(store, "node", "runtime")
    found = _Followed()
    with served.api(folder, url) as api, _following(api, folder / "caches", secret) as seen:
        pid = api.process.pid
        before = cpu(pid)
        time.sleep(_WAITING)
        found.idle = (cpu(pid) - before) / _WAITING
        before = cpu(pid)
        found.live = [_live(store, made, seen, number) for number in range(CHANGES)]
        found.spent = cpu(pid) - before
    store.close()
    server.drop(url)
    return found


def _live(store: Store, made: Project, seen: "_Seen", number: int) -> float:
    command = commands.Configure(
        id=commands.new_id(), project=made, services=("s000",), environment="staging", vars={"N": str(number)}
    )
    change = store.apply(command)
    began = time.time()
    return seen.everywhere(change.number or 0) - began


class _Seen:
    """What nodes tell: how far each is, and since when."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._far = [0] * NODES
        self._at = [0.0] * NODES
        self._more = threading.Condition()
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "ready\n":
            if not line:
                raise RuntimeError("no node came up")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            node, number, at = line.split()
            with self._more:
                if int(number) > self._far[int(node)]:
                    self._far[int(node)], self._at[int(node)] = int(number), float(at)
                self._more.notify_all()

    def everywhere(self, number: int) -> float:
        """When the last of them was so far."""
        with self._more:
            if not self._more.wait_for(lambda: min(self._far) >= number, 30):
                raise RuntimeError(f"change {number} is not on all nodes: {self._far}")
            return max(self._at)


@contextmanager
def _following(api: served.Api, folder: Path, secret: str) -> Iterator[_Seen]:
    command = [sys.executable, "-m", "benchmarks.following", api.url, str(folder), str(NODES)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SVCCTL_TOKEN": secret},
    )
    try:
        yield _Seen(process)
    finally:
        end(process)  # type: ignore[arg-type]
