"""KV on disk: entries in order, their ends, namespaces copied and dropped; many processes, kill -9, a full disk."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import Acme

from svcctl.backend.store.kv import KeyValueStore
from svcctl.backend.store.lock import WriteLock
from svcctl.backend.store.postgres import Postgres
from svcctl.errors import Damage, Refused, Unreachable
from svcctl.keyvalues import Entry, Key, KVError, Larger, Page

NOW = 1_000_000
HOUR = 3600


class Hands:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(params=["folder", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A folder, or the URL of a database."""
    return tmp_path if request.param == "folder" else str(request.getfixturevalue("database"))


in_a_folder = pytest.mark.parametrize("place", ["folder"], indirect=True)
"""What files, locks and processes of this machine do; of PostgreSQL, test_postgres.py says more."""


@pytest.fixture
def open_store(place: Path | str, clock: Hands) -> Iterator[Callable[[], KeyValueStore]]:
    """Each time as another process would."""
    with ExitStack() as opened:

        def open_again() -> KeyValueStore:
            if isinstance(place, Path):
                return opened.enter_context(closing(KeyValueStore(place, clock=clock)))
            server = opened.enter_context(closing(Postgres(place, patience=5)))
            return KeyValueStore(server, clock=clock)

        yield open_again


@pytest.fixture
def store(open_store: Callable[[], KeyValueStore]) -> KeyValueStore:
    return open_store()


def names(page: Page) -> list[str]:
    return [key.name for key in page.keys]


def rows(place: Path | str) -> int:
    """Entries on disk, also those that nobody sees."""
    if isinstance(place, str):
        with psycopg.connect(place) as connection:
            return connection.execute("SELECT count(*) FROM entries").fetchall()[0][0]
    with closing(sqlite3.connect(place / "kv.db")) as database:
        ((count,),) = database.execute("SELECT count(*) FROM entries")
    return int(count)


# ---- entries


def test_what_is_put_is_there_for_every_process(store: KeyValueStore, open_store: Callable[[], KeyValueStore]):
    assert store.get("n", "k", NOW) is None
    store.put("n", "k", b"\x00\xff", '{"a":1}', NOW + 60)
    assert open_store().get("n", "k", NOW) == Entry(b"\x00\xff", '{"a":1}', NOW + 60)
    open_store().put("n", "k", b"", None, None)
    assert store.get("n", "k", NOW) == Entry(b"", None, None)
    store.delete("n", "k")
    store.delete("n", "k")
    assert open_store().get("n", "k", NOW) is None


def test_one_namespace_never_sees_anothers_keys(store: KeyValueStore):
    for namespace in ("a.0.carts", "a.0.cart", "a.1.carts", "b.0.carts"):
        store.put(namespace, "k", namespace.encode(), None, None)
    store.delete("a.0.cart", "k")
    found = [store.get(namespace, "k", NOW) for namespace in ("a.0.carts", "a.1.carts", "b.0.carts", "c.0.carts")]
    assert [each and each.value for each in found] == [b"a.0.carts", b"a.1.carts", b"b.0.carts", None]
    assert names(store.list("a.0.carts", "", 10, None, NOW)) == ["k"]
    assert store.namespaces() == ("a.0.cart", "a.0.carts", "a.1.carts", "b.0.carts")


@pytest.mark.parametrize("key", ["'; DROP TABLE entries; --", "a\x00b", "\x1b[31m", "é", "e\u0301", "\u202e", "%", "_"])
def test_t29_any_key_comes_back_as_it_went(key: str, store: KeyValueStore):
    store.put("n", key, key.encode(), None, None)
    assert names(store.list("n", "", 10, None, NOW)) == [key]
    assert names(store.list("n", key[0], 10, None, NOW)) == [key]
    found = store.get("n", key, NOW)
    assert found is not None
    assert found.value == key.encode()


def test_a_long_value_is_not_read_by_who_cannot_wait(store: KeyValueStore):
    store.put("n", "k", bytes(100_000), None, None)
    with pytest.raises(Larger):
        store.get("n", "k", NOW, most=99_999)
    found = store.get("n", "k", NOW, most=100_000)
    assert found is not None
    assert len(found.value) == 100_000


def test_several_are_put_together_or_not_at_all(store: KeyValueStore):
    store.put("n", "k", b"old", None, None)
    with pytest.raises(UnicodeEncodeError):
        store.put_all("n", [("k", Entry(b"new")), ("\ud800", Entry(b"x"))])
    assert store.get("n", "k", NOW) == Entry(b"old")
    store.put_all("n", [("k", Entry(b"1")), ("l", Entry(b"2", "3", NOW + 60)), ("k", Entry(b"4"))])
    assert store.get("n", "k", NOW) == Entry(b"4")
    assert store.get("n", "l", NOW) == Entry(b"2", "3", NOW + 60)


@in_a_folder
def test_the_file_is_its_owners_alone(store: KeyValueStore, tmp_path: Path):
    before = os.umask(0)
    try:
        store.put("n", "k", b"v", None, None)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("kv.db", "kv.db-wal", "kv.db-shm", "kv.lock"), 0o600)


# ---- lists


def test_keys_are_in_the_order_of_their_utf8(store: KeyValueStore):
    keys = ["b", "a", "", "é", "Z", "a/", "a0", "\uffff", "😀", "aa"]
    for key in keys[:2] + keys[3:]:
        store.put("n", key, b"", None, None)
    assert names(store.list("n", "", 100, None, NOW)) == ["Z", "a", "a/", "a0", "aa", "b", "é", "\uffff", "😀"]
    assert names(store.list("n", "a", 100, None, NOW)) == ["a", "a/", "a0", "aa"]


def test_a_page_goes_on_where_the_one_before_ended(store: KeyValueStore):
    store.put_all("n", [(f"k{number}", Entry(b"", f"{number}", NOW + 60)) for number in (1, 3, 5)])
    first = store.list("n", "k", 2, None, NOW)
    assert first.keys == (Key("k1", NOW + 60, "1"), Key("k3", NOW + 60, "3"))
    assert not first.list_complete
    store.put_all("n", [("k2", Entry(b"")), ("k4", Entry(b""))])
    store.delete("n", "k3")
    second = store.list("n", "k", 5, first.cursor, NOW)
    assert names(second) == ["k4", "k5"]
    assert second.list_complete
    assert second.cursor is None


def test_a_full_last_page_is_the_last(store: KeyValueStore):
    store.put_all("n", [("a", Entry(b"")), ("b", Entry(b""))])
    assert store.list("n", "", 2, None, NOW).list_complete
    assert store.list("empty", "", 2, None, NOW) == Page((), None)


def test_a_cursor_of_nobody_is_refused(store: KeyValueStore):
    with pytest.raises(KVError, match="Invalid cursor"):
        store.list("n", "", 2, "!", NOW)


@given(
    keys=st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), max_size=20),
    prefix=st.text(st.characters(exclude_categories=["Cs"]), max_size=2),
    limit=st.integers(1, 7),
)
def test_pages_hold_each_key_once(keys: set[str], prefix: str, limit: int, tmp_path_factory: pytest.TempPathFactory):
    with closing(KeyValueStore(tmp_path_factory.mktemp("kv"))) as store:
        store.put_all("n", [(key, Entry(b"")) for key in keys])
        store.put_all("m", [("other", Entry(b""))])
        found, cursor = [], None
        while True:
            page = store.list("n", prefix, limit, cursor, NOW)
            assert len(page.keys) <= limit
            found += names(page)
            if page.list_complete:
                break
            cursor = page.cursor
    assert found == sorted((key for key in keys if key.startswith(prefix)), key=str.encode)


# ---- ends


def test_an_entry_is_there_until_its_end(store: KeyValueStore):
    store.put("n", "k", b"v", None, NOW + 60)
    assert store.get("n", "k", NOW + 59.9) is not None
    assert store.get("n", "k", NOW + 60) is None
    assert store.list("n", "", 10, None, NOW + 60) == Page((), None)
    store.put("n", "k", b"again", None, None)
    assert store.get("n", "k", NOW + 60) == Entry(b"again")


def test_t24_a_clock_that_steps_back_finds_what_it_should(store: KeyValueStore, clock: Hands):
    store.put("n", "k", b"v", None, NOW + 60)
    clock.now = NOW + 60 + HOUR
    store.put("n", "other", b"", None, None)
    assert store.get("n", "k", clock.now) is None
    clock.now = NOW
    assert store.get("n", "k", clock.now) is not None


def test_writers_remove_what_ended_an_hour_ago_a_few_at_a_time(store: KeyValueStore, clock: Hands, place: Path | str):
    store.put_all("n", [(f"k{number}", Entry(b"", None, NOW + 60)) for number in range(20)])
    clock.now = NOW + 61 + HOUR
    left = []
    for _ in range(4):
        store.put("m", "k", b"", None, None)
        left.append(rows(place) - 1)
    assert left == [12, 4, 0, 0]


# ---- namespaces


@in_a_folder
def test_a_dropped_namespace_is_empty_and_its_bytes_are_given_back(store: KeyValueStore, tmp_path: Path):
    store.put_all("n", [(f"k{number}", Entry(bytes(10_000))) for number in range(1000)])
    store.put("m", "k", b"kept", None, None)
    store.drop(("n", "never there"))
    assert store.get("n", "k1", NOW) is None
    assert store.namespaces() == ("m",)
    assert store.get("m", "k", NOW) == Entry(b"kept")
    assert rows(tmp_path) == 1
    store.close()
    assert (tmp_path / "kv.db").stat().st_size < 100_000


def test_a_copy_has_everything_that_is_alive(store: KeyValueStore, clock: Hands):
    store.put_all("n", [(f"k{number:04}", Entry(b"v", '"m"', NOW + 99)) for number in range(1200)])
    store.put("n", "short", b"", None, NOW + 60)
    clock.now = NOW + 60
    assert store.copy("n", "c") == 1200
    assert store.get("c", "k1199", clock.now) == Entry(b"v", '"m"', NOW + 99)
    assert store.get("c", "short", NOW) is None
    assert store.namespaces() == ("c", "n")


def test_a_copy_is_made_once(store: KeyValueStore):
    store.put("n", "k", b"v", None, None)
    assert store.copy("n", "c") == 1
    store.delete("c", "k")
    assert store.copy("n", "c") is None
    assert store.get("c", "k", NOW) is None
    assert store.copy("never there", "d") == 0
    assert store.copy("never there", "d") is None


def test_what_the_target_wrote_itself_stays(store: KeyValueStore, place: Path | str):
    store.put_all("n", [("a", Entry(b"theirs")), ("b", Entry(b"theirs"))])
    store.put("c", "a", b"its own", None, None)
    assert store.copy("n", "c") == 2
    assert [store.get("c", key, NOW) for key in "ab"] == [Entry(b"its own"), Entry(b"theirs")]
    assert rows(place) == 4


def test_writers_go_on_while_a_copy_is_made(store: KeyValueStore, open_store: Callable[[], KeyValueStore]):
    store.put_all("n", [(f"k{number:04}", Entry(b"old")) for number in range(1200)])
    other = open_store()
    steps = store._steps("n")
    first = next(steps)
    other.put("n", "k1199", b"new", None, None)
    other.delete("n", "k1198")
    copied = {key: value for step in (first, *steps) for key, _, _, value in step}
    assert (len(copied), copied[b"k1199"]) == (1200, b"old")


# ---- processes

WRITER = """
import sys
from pathlib import Path
from svcctl.backend.store.kv import KeyValueStore

store, name, count = KeyValueStore(Path(sys.argv[1]), patience=30), sys.argv[2], int(sys.argv[3])
for number in range(count):
    store.put("n", f"{name}-{number}", name.encode(), None, None)
    store.put("n", "shared", f"{name}-{number}".encode() * 1000, None, None)
    print(number, flush=True)
"""


def writer(folder: Path, name: str, count: int, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environ,
    )


@pytest.mark.xdist_group("both cores")
@in_a_folder
def test_sixteen_processes_lose_no_write(store: KeyValueStore, tmp_path: Path):
    writers = [writer(tmp_path, f"w{number}", 25) for number in range(16)]
    for each in writers:
        each.communicate(timeout=120)
        assert each.returncode == 0
    found = names(store.list("n", "w", 1000, None, NOW))
    assert len(found) == 400
    shared = store.get("n", "shared", NOW)
    assert shared is not None
    assert shared.value == shared.value[: len(shared.value) // 1000] * 1000


@in_a_folder
def test_what_was_told_before_a_kill_is_there(store: KeyValueStore, tmp_path: Path):
    for round in range(4):
        process = writer(tmp_path, f"r{round}", 1_000_000)
        assert process.stdout is not None
        for _ in range(20):
            told = int(process.stdout.readline())
        process.kill()
        told = max([told, *map(int, process.stdout.read().split("\n")[:-1])])
        process.wait()
        process.stdout.close()
        found = {f"r{round}-{number}" for number in range(told + 1)}
        assert found <= set(names(store.list("n", f"r{round}-", 1000, None, NOW)))
        store.put("n", "next", b"works", None, None)


@pytest.mark.parametrize(("point", "written"), [("kv.before-commit", False), ("kv.committed", True)])
@in_a_folder
def test_a_put_killed_anywhere_was_done_or_not(point: str, written: bool, store: KeyValueStore, tmp_path: Path):
    store.put("n", "w-0", b"before", None, None)
    process = writer(tmp_path, "w", 1, SVCCTL_FAULT=point)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert store.get("n", "w-0", NOW) == Entry(b"w" if written else b"before")
    store.put("n", "k", b"works", None, None)


LONG_WORK = """
import sys
from pathlib import Path
from svcctl.backend.store.kv import KeyValueStore

store = KeyValueStore(Path(sys.argv[1]), patience=30)
if sys.argv[2] == "copy":
    store.copy("n", "c")
else:
    store.drop(("n",))
"""


def long_work(folder: Path, work: str, point: str) -> subprocess.Popen[str]:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "SVCCTL_FAULT": point}
    words = [sys.executable, "-c", LONG_WORK, str(folder), work]
    return subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True)


def killed(folder: Path, work: str, point: str) -> None:
    process = long_work(folder, work, point)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("point", "whole"),
    [("kv.copying", False), ("kv.copying:2", False), ("kv.before-commit", False), ("kv.committed", True)],
)
@in_a_folder
def test_a_copy_killed_anywhere_shows_nothing_or_all(point: str, whole: bool, store: KeyValueStore, tmp_path: Path):
    store.put_all("n", [(f"k{number:04}", Entry(b"")) for number in range(1200)])
    store.put("c", "own", b"", None, None)
    killed(tmp_path, "copy", point)
    seen = [name for name in ("k0000", "k1199", "own") if store.get("c", name, NOW)]
    assert seen == (["k0000", "k1199", "own"] if whole else ["own"])
    assert store.copy("n", "c") == (None if whole else 1200)
    assert store.get("c", "k1199", NOW) is not None
    store.drop(())
    assert rows(tmp_path) == 2401


@in_a_folder
def test_of_two_copies_into_one_namespace_the_later_one_counts(store: KeyValueStore, tmp_path: Path):
    store.put("n", "k", b"v", None, None)
    process = long_work(tmp_path, "copy", "kv.copying:1:STOP")
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT) is not None
    assert store.copy("n", "c") == 1
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert "Conflict: another copy into c began" in err
    assert store.get("c", "k", NOW) == Entry(b"v")


@in_a_folder
def test_a_drop_killed_in_between_is_finished_by_the_next(store: KeyValueStore, tmp_path: Path):
    store.put_all("n", [(f"k{number}", Entry(b"")) for number in range(700)])
    killed(tmp_path, "drop", "kv.dropped")
    assert store.get("n", "k1", NOW) is None
    assert (store.namespaces(), rows(tmp_path)) == ((), 700)
    store.drop(())
    assert rows(tmp_path) == 0


@in_a_folder
def test_a_copy_that_was_given_up_is_removed_a_day_later(store: KeyValueStore, clock: Hands, tmp_path: Path):
    store.put("n", "k", b"", None, None)
    killed(tmp_path, "copy", "kv.copying")
    store.drop(())
    assert rows(tmp_path) == 2
    clock.now = 2e12
    store.drop(())
    assert rows(tmp_path) == 1


def test_a_child_opens_its_own(store: KeyValueStore):
    store.put("n", "k", b"parent's", None, None)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            found = store.get("n", "k", NOW)
            store.put("n", "child", b"written", None, None)
            status = 0 if found == Entry(b"parent's") else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0) == (child, 0)
    assert store.get("n", "child", NOW) == Entry(b"written")
    store.put("n", "k", b"still works", None, None)


# ---- what goes wrong


def test_a_folder_that_is_not_there_is_said_at_once(tmp_path: Path):
    with closing(KeyValueStore(tmp_path / "gone")) as store, pytest.raises(Unreachable, match="No such file"):
        store.get("n", "k", NOW)


@in_a_folder
def test_a_lock_that_is_held_is_said_with_its_holder(store: KeyValueStore, tmp_path: Path):
    store.put("n", "k", b"v", None, None)
    with WriteLock(tmp_path / "kv.lock").held(), closing(KeyValueStore(tmp_path, patience=0.05)) as other:
        with pytest.raises(Unreachable, match=f"locked by pid {os.getpid()}"):
            other.put("n", "k", b"w", None, None)
        assert other.get("n", "k", NOW) == Entry(b"v")
    assert store.get("n", "k", NOW) == Entry(b"v")


@in_a_folder
def test_damage_is_called_damage(store: KeyValueStore, tmp_path: Path):
    store.put("n", "k", b"v", None, None)
    store.close()
    for path in tmp_path.glob("kv.db*"):
        path.unlink()
    (tmp_path / "kv.db").write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(Damage):
        store.get("n", "k", NOW)


@in_a_folder
def test_a_database_from_the_future_is_refused(store: KeyValueStore, tmp_path: Path):
    store.put("n", "k", b"v", None, None)
    store.close()
    with closing(sqlite3.connect(tmp_path / "kv.db")) as database:
        database.execute("PRAGMA user_version=99")
    with pytest.raises(Refused, match="schema 99"):
        store.get("n", "k", NOW)


FULL_AT = (0, 4_096, 10_000, 20_000, 33_000, 40_000, 60_000)


@pytest.mark.parametrize("words", ["put carts large", "delete carts small"])
def test_t18_a_full_disk_loses_nothing(words: str, tmp_path: Path):
    acme = Acme.new(tmp_path)
    with (acme.folder / "services.toml").open("a") as file:
        file.write('bindings.CARTS = { kv = "carts" }\n')
    acme.done("deploy")
    where = ("-s", "shop")
    acme.done("kv", "key", "put", "carts", "small", "1", *where)
    (acme.folder / "value").write_bytes(bytes(50_000))
    path = ("--path", "value") if "put" in words else ()
    refused = 0
    for size in FULL_AT:
        ended = acme.short_of_space(size, "kv", "key", *words.split(), *path, *where)
        if ended.status == 0:
            break
        assert acme.done("kv", "key", "get", "carts", "small", *where).out == "1"
        assert ended.status in (1, 7), ended
        assert ended.err.startswith("error: "), ended
        refused += 1
    else:
        acme.done("kv", "key", *words.split(), *path, *where)
    assert refused >= 1
    assert acme.found().problems == ()
