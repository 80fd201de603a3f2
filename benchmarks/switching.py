"""How soon a deploy is live, and what clients notice of many promotes and roll backs in a row."""

import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from socket import create_connection, socket

from benchmarks import plane
from benchmarks.measure import Figure
from svcctl import commands, config
from svcctl.backend.store import Store

DEPLOYS, SWITCHES, CLIENTS = 100, 200, 16
VERSIONED = """\
from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(self.env.VERSION.id)


CODE = {}
"""
_PAUSE = 0.002
"""Seconds that a client thinks between two requests."""
_PATIENCE = 20.0


def figures(folder: Path) -> list[Figure]:
    bindings = "[services.shop.bindings]\nVERSION = { version_metadata = true }\n"
    made = plane.project(folder / "project", {"shop": VERSIONED.format(0)}, bindings, "staging")
    with plane.serving(made) as served:
        live = sorted(_live_after_deploy(made, served, number) for number in range(1, DEPLOYS + 1))
        clients = _Clients(served.port)
        switched = _switch(made, served, clients)
        clients.end()
    told = f"{clients.asked:,} requests; {statistics.median(switched) * 1000:.0f} ms from a change to its first answer"
    failures = "".join(f"; {count} x {what}" for what, count in clients.failures.most_common(3))
    return [
        Figure(
            f"first answer by the new version after a deploy returned, p99 of {DEPLOYS}",
            live[DEPLOYS * 99 // 100 - 1] * 1000,
            300,
            "ms",
            f"median {statistics.median(live) * 1000:.0f} ms",
        ),
        Figure(
            f"failed requests of {CLIENTS} clients without retry during {SWITCHES} promotes and roll backs",
            sum(clients.failures.values()),
            0,
            "",
            told + failures,
        ),
        Figure("answers by an older version than the same connection had seen", clients.older, 0, ""),
    ]


def _live_after_deploy(project: Path, served: plane.Plane, number: int) -> float:
    """Versions of staging count the deploys; the first was made with the project."""
    (project / "shop/worker.py").write_text(VERSIONED.format(number))
    plane.svcctl(project, "deploy")
    return _until(served, "staging--shop", f"shop/staging@{number + 1}")


def _until(served: plane.Plane, service: str, version: str) -> float:
    start = time.perf_counter()
    while not _answers(served, service, version):
        if time.perf_counter() - start > _PATIENCE:
            raise RuntimeError(f"{version} is not live after {_PATIENCE:g} s")
        time.sleep(0.001)
    return time.perf_counter() - start


def _answers(served: plane.Plane, service: str, version: str) -> bool:
    try:
        return served.get(service) == version.encode()
    except RuntimeError:  # 503 before the first version is known
        return False


def _switch(folder: Path, served: plane.Plane, clients: "_Clients") -> list[float]:
    """Promote, roll back, promote, …, each begun when the one before is live."""
    store = Store.open(folder / ".svcctl", actor=lambda: "bench <bench@example.com>")
    project = config.load(folder / "services.toml")
    promote = commands.Promote(id=commands.new_id(), project=project, source="staging@1", target="production")
    store.apply(promote)
    _until(served, "shop", "shop/production@1")
    clients.begin()
    taken = []
    for number in range(SWITCHES):
        if number % 2:
            back = commands.RollBack(id=commands.new_id(), project=project, environment="production")
            change = store.apply(back)
        else:
            promote = commands.Promote(id=commands.new_id(), project=project, source="staging", target="production")
            change = store.apply(promote)
        (version,) = change.versions
        taken.append(_until(served, "shop", f"shop/production@{version.number}"))
    store.close()
    return taken


class _Clients:
    """Half of them keep their connection, half take a new one for each request. None asks twice."""

    def __init__(self, port: int) -> None:
        self.failures: Counter[str] = Counter()
        self.asked = 0
        self.older = 0
        self._port = port
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(bool(each % 2),)) for each in range(CLIENTS)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, keeps: bool) -> None:
        connection: socket | None = None
        newest = 0
        while not self._ending.wait(_PAUSE):
            try:
                if connection is None:
                    connection = create_connection(("127.0.0.1", self._port), _PATIENCE)
                connection.sendall(plane.request("shop.localhost"))
                version = int(plane.answer(connection).rpartition(b"@")[2])
                self.asked += 1
                self.older += version < newest
                newest = version
            except (OSError, RuntimeError) as error:
                self.failures[str(error)[:80]] += 1
                failed = True
            else:
                failed = False
            if connection is not None and (failed or not keeps):
                connection.close()
                connection = None
