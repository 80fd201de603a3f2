"""Promote, roll back and clone in process, durable, against one row committed to SQLite the same way."""

import itertools
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import scenes
from benchmarks.measure import Figure, in_turn
from svcctl import commands
from svcctl.backend.store import Store
from svcctl.model import Project

RUNS = 150
SERVICES = [f"s{number:02}" for number in range(11)]


def figures(folder: Path) -> list[Figure]:
    folder.mkdir(parents=True, exist_ok=True)
    made = scenes.project(SERVICES)
    store = _store(folder / "one", made, {})
    commit = _one_row(folder / "row.db")
    found: list[Figure] = []
    for name, mutate in (("promote", _promote), ("roll back", _roll_back), ("clone", _clone)):
        base, one, eleven = in_turn(RUNS, commit, mutate(store, made, SERVICES[:1]), mutate(store, made, SERVICES))
        found += [
            Figure(
                f"{name}, one service / one-row commit",
                one / base,
                3,
                detail=f"{one * 1e6:.0f} us; row {base * 1e6:.0f} us",
            ),
            Figure(
                f"{name}, each further service / one-row commit",
                (eleven - one) / 10 / base,
                0.3,
                detail=f"{(eleven - one) * 1e5:.0f} us",
            ),
        ]
    many = {f"f{number:05}.txt": f"{number}".encode() for number in range(9_999)}
    large = _store(folder / "large", made, many)
    small_time, large_time = in_turn(RUNS, _promote(store, made, SERVICES[:1]), _promote(large, made, SERVICES[:1]))
    found.append(Figure("promote of 10,000 files / of one file", large_time / small_time, 1.1))
    return found


def _store(folder: Path, made: Project, more: dict[str, bytes]) -> Store:
    """Two releases of every service: `old` and `staging`; production runs the first."""
    store = Store.open(folder / ".svcctl", actor=lambda: "bench <bench@example.com>")
    for release in (b"# 1\n", b"# 2\n"):
        for service in made.services:
            content = {"worker.py": scenes.WORKER + service.encode() + release}
            if service == SERVICES[0]:
                content |= more
            scenes.deploy(store, made, {service: content})
        if release == b"# 1\n":
            store.apply(commands.Clone(id=commands.new_id(), project=made, source="staging", target="old"))
    store.apply(commands.Promote(id=commands.new_id(), project=made, source="old", target="production"))
    return store


def _one_row(path: Path) -> Callable[[], float]:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE t (a INTEGER)")

    def commit() -> float:
        start = time.perf_counter()
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO t VALUES (1)")
        database.execute("COMMIT")
        return time.perf_counter() - start

    return commit


def _apply(store: Store, command: commands.Command, services: Sequence[str]) -> float:
    start = time.perf_counter()
    change = store.apply(command)
    taken = time.perf_counter() - start
    if len(change.versions) != len(services):
        raise AssertionError(f"{command} made {len(change.versions)} versions")
    return taken


def _promote(store: Store, made: Project, services: Sequence[str]) -> Callable[[], float]:
    """There and back, so that every promote has something to do; one of the two is timed."""

    def promote() -> float:
        def from_(source: str) -> commands.Promote:
            return commands.Promote(
                id=commands.new_id(), project=made, services=tuple(services), source=source, target="production"
            )

        taken = _apply(store, from_("staging"), services)
        store.apply(from_("old"))
        return taken

    return promote


def _roll_back(store: Store, made: Project, services: Sequence[str]) -> Callable[[], float]:
    def roll_back() -> float:
        store.apply(
            commands.Promote(
                id=commands.new_id(), project=made, services=tuple(services), source="staging", target="production"
            )
        )
        back = commands.RollBack(id=commands.new_id(), project=made, services=tuple(services), environment="production")
        return _apply(store, back, services)

    return roll_back


def _clone(store: Store, made: Project, services: Sequence[str]) -> Callable[[], float]:
    numbers = itertools.count()

    def clone() -> float:
        name = f"c{len(services)}-{next(numbers)}"
        return _apply(
            store,
            commands.Clone(id=commands.new_id(), project=made, services=tuple(services), source="staging", target=name),
            services,
        )

    return clone
