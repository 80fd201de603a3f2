"""Stores of other schemas (T12): one from the future is refused as it is; one that was begun and not finished is
finished by whoever comes next, alone or with others."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from processes import Acme

from svcctl.backend.store import Store
from svcctl.backend.store.migrations import MIGRATIONS
from svcctl.errors import Damage, Refused


def schema_of(store: Path) -> int:
    with closing(sqlite3.connect(store / "ledger.db")) as ledger:
        ((version,),) = ledger.execute("PRAGMA user_version")
    return int(version)


def files_of(store: Path) -> dict[str, bytes]:
    """But SQLite's own index of its log, which every reader makes."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    return Acme.new(tmp_path)


@pytest.mark.parametrize("words", ["deploy", "history", "vars set A=1", "verify", "gc --yes"])
def test_t12_a_store_from_the_future_is_refused_with_its_bytes_untouched(words: str, acme: Acme):
    Store.open(acme.store).close()
    newest = len(MIGRATIONS)
    with closing(sqlite3.connect(acme.store / "ledger.db")) as ledger:
        ledger.execute(f"PRAGMA user_version={newest + 1}")
    before = files_of(acme.store)

    refused = acme(*words.split())
    assert refused.status == 1
    assert f"this store is of schema {newest + 1}; this svcctl knows {newest}" in refused.err
    assert "upgrade this one" in refused.err
    after = files_of(acme.store)
    assert {name: after[name] for name in before} == before
    assert [name for name in after if name not in before and not name.startswith("cache/")] == []


def test_an_empty_ledger_is_a_store_that_was_just_begun(acme: Acme):
    acme.store.mkdir(mode=0o700)
    (acme.store / "ledger.db").touch(mode=0o600)
    acme.done("deploy")
    assert schema_of(acme.store) == len(MIGRATIONS)
    with closing(sqlite3.connect(acme.store / "ledger.db")) as ledger:
        assert ledger.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
        ((id,),) = ledger.execute("SELECT value FROM store WHERE name = 'id'")
    assert len(id) == 32


@pytest.mark.parametrize("point", ["store.created", "migrate.before-commit"])
def test_a_creation_that_hangs_is_finished_by_others_or_waited_for(point: str, acme: Acme):
    first = acme.stopped("deploy", at=point)
    if point == "store.created":
        acme.done("vars", "set", "A=1")
    else:
        refused = acme("vars", "set", "A=1", SVCCTL_LOCK_TIMEOUT="0.05")
        assert (refused.status, f"pid {first.pid}" in refused.err) == (7, True)
    assert first.goes_on().status == 0
    assert acme.found().problems == ()


def test_eight_first_deploys_at_once_make_one_store(acme: Acme):
    started = [acme.start("deploy", "--json") for _ in range(8)]
    answers = [running.ended() for running in started]
    assert [ended.status for ended in answers] == [0] * 8
    assert sorted(ended.json["changed"] for ended in answers) == [False] * 7 + [True]
    assert acme.changes() == 1
    assert acme.found().problems == ()


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + bytes(5000)])
def test_a_ledger_that_is_no_database_is_damage(content: bytes, acme: Acme):
    acme.store.mkdir(mode=0o700)
    (acme.store / "ledger.db").write_bytes(content)
    for words in ("history", "deploy", "verify"):
        refused = acme(*words.split(), "--json")
        assert (refused.status, refused.json["error"]["code"]) == (9, "damage"), refused
        assert str(acme.store / "ledger.db") in refused.json["error"]["message"]
    assert (acme.store / "ledger.db").read_bytes() == content


def test_a_refused_store_is_let_go_of(tmp_path: Path):
    """A server that tries each of its stores must not run out of descriptors."""
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 100)
    before = set(Path("/dev/fd").iterdir())
    for _ in range(5):
        with pytest.raises((Damage, Refused)):
            Store.open(tmp_path)
    assert set(Path("/dev/fd").iterdir()) == before
