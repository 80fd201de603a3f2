"""A million versions: history, promote and status must not notice."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import scenes
from benchmarks.measure import SVCCTL, Figure, in_turn, process
from svcctl import commands, digest, wire
from svcctl.backend.store import Store
from svcctl.model import Change, Half, Record
from svcctl.reference import Number, Reference

SERVICES, ENVIRONMENTS, VERSIONS = 100, 50, 200


def figures(folder: Path) -> list[Figure]:
    small, large = folder / "small", folder / "large"
    _build(small, services=1, versions=2)
    _build(large, services=SERVICES, versions=VERSIONS)
    found = []
    for what, arguments in (
        ("history --json", ["history", "--json"]),
        ("history of one environment", ["history", "s000/e00", "--json"]),
        ("status -s one", ["status", "-s", "s000", "--json"]),
    ):
        few, many = in_turn(
            11, lambda a=arguments: process([SVCCTL, *a], small), lambda a=arguments: process([SVCCTL, *a], large)
        )
        found.append(Figure(f"`{what}`, 1,000,000 versions / few", many / few, 1.3, detail=f"{many * 1000:.0f} ms"))
    few, many = in_turn(100, _promote(small), _promote(large))
    found.append(Figure("promote, 1,000,000 versions / few", many / few, 1.3, detail=f"{many * 1e6:.0f} us"))
    shutil.rmtree(folder)
    return found


def _build(folder: Path, *, services: int, versions: int) -> None:
    """One version of each environment by the front door, the rest straight into the chains, as the door would."""
    names = [f"s{number:03}" for number in range(services)]
    made = scenes.project(names)
    (folder / "app").mkdir(parents=True)
    (folder / "app/worker.py").write_bytes(scenes.WORKER)
    (folder / "services.toml").write_text(
        'project = "bench"\ndefault_environment = "staging"\n[services.s000]\nmain = "app/worker.py"\n'
        'vars = { LOG_LEVEL = "info" }\n'
    )
    store = Store.open(folder / ".svcctl", actor=lambda: "bench <bench@example.com>")
    scenes.deploy(store, made, {name: {"worker.py": scenes.WORKER + name.encode()} for name in names})
    for number in range(ENVIRONMENTS - 2):
        store.apply(commands.Clone(id=commands.new_id(), project=made, source="staging", target=f"e{number:02}"))
    store.apply(commands.Promote(id=commands.new_id(), project=made, source="staging", target="production"))
    scenes.deploy(store, made, {"s000": {"worker.py": scenes.WORKER + b"# 2\n"}})
    _lengthen(store, versions)
    store.close()


def _lengthen(store: Store, versions: int) -> None:
    database = store.database
    database.execute("PRAGMA synchronous=OFF")
    for more in longer(store, versions):
        with database.writing():
            database.many(f"INSERT INTO changes ({CHANGES}) VALUES (?,?,?,?,?,?,?)", more.changes)
            database.many(f"INSERT INTO records ({RECORDS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", more.records)
            database.execute(ENVIRONMENT, more.environment)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if store.verify().problems:
        raise AssertionError("the benchmark's store is not one that svcctl would have written")


CHANGES = "number, id, project, at, actor, digest, body"
RECORDS = (
    "environment, seq, change, number, digest, settings, settings_since, settings_under, code, code_since, code_under, "
    "body"
)
ENVIRONMENT = "UPDATE environments SET seq = ?, tip = ?, head = ?, changed = ?, identity = ? WHERE id = ?"


class More(NamedTuple):
    """Rows by which an environment's chain grows."""

    changes: list[tuple[object, ...]]
    records: list[tuple[object, ...]]
    environment: tuple[object, ...]


def longer(store: Store, versions: int) -> Iterator[More]:
    """More versions of the same halves, one change each: real records in real chains."""
    database = store.database
    rows = database.all("SELECT id, service, name, seq, tip, head, identity FROM environments")
    number = database.one("SELECT max(number) FROM changes")[0]
    heads = {row[0]: store.version(Reference(row[2], row[1], Number(row[5]))) for row in rows}
    for id, _, _, first, parent, head, identity in rows:
        seq, tip = first, parent
        version = heads[id]
        code, settings = version.code, version.settings
        halves = (settings.digest, settings.since, settings.under, code.digest, code.since, code.under)
        changes: list[tuple[object, ...]] = []
        records: list[tuple[object, ...]] = []
        for step in range(head + 1, versions + 1):
            number += 1
            change = Change(kind="configure", actor="bench", id=commands.new_id(), at=version.at, changed=True)
            body = wire.canonical(change)
            name = digest.of("change", body)
            changes.append((number, change.id, "bench", version.at, "bench", name, body))
            stored = wire.canonical(Record(change=name, parent=tip, entry=_plain(version, step)))
            seq, tip = seq + 1, digest.of("record", stored)
            records.append((id, seq, number, step, tip, *halves, stored))
        last = f'"last":{max(head, versions)}'
        body = identity.replace(f'"last":{head}'.encode(), last.encode())
        yield More(changes, records, (seq, tip, max(head, versions), number, body, id))


def _plain(version: object, number: int) -> object:
    from msgspec.structs import replace

    code = replace(version.code, since=0, under=None)
    settings = Half(digest=version.settings.digest)
    return replace(
        version, number=number, kind="configure", code=code, settings=settings, ref="", service="", environment="",
        digest=None, parent=None, source=None, change=None, tags=(), origin=None, note=None,
    )  # fmt: skip


def _promote(folder: Path):
    made = scenes.project(["s000"])
    store = Store.open(folder / ".svcctl", actor=lambda: "bench <bench@example.com>")

    def promote() -> float:
        taken = []
        for source in ("staging", "e00"):
            command = commands.Promote(
                id=commands.new_id(), project=made, services=("s000",), source=source, target="production"
            )
            start = time.perf_counter()
            change = store.apply(command)
            taken.append(time.perf_counter() - start)
            if not change.changed:
                raise AssertionError(f"promoting {source} changed nothing")
        return taken[0]

    return promote
