"""KV on this machine: `kv.db` (SQLite, WAL, synchronous=FULL) beside the ledger, with a write lock of its own; or in
tables beside the ledger's, on PostgreSQL.

Every write is one transaction with one fsync, about a millisecond. Readers never wait. Long work, a copy or the removal
of a whole namespace, goes in steps of a few megabytes, so that writers are never held up for longer than a step; what
it does shows at once, at its end, by giving a namespace its name or taking it. Whatever dies in between leaves entries
that no name leads to, which the next such work removes.

Entries whose time is over are invisible at once. Writers remove them, a few with each write and only an hour later: a
clock that is set back by less finds all that it should.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from svcctl import faults
from svcctl.backend.store import migrations
from svcctl.backend.store.connection import SQLite
from svcctl.backend.store.database import Database, Dialects, Row, repeated, translated_types
from svcctl.backend.store.lock import WriteLock
from svcctl.errors import Conflict, Refused, Unreachable
from svcctl.keyvalues import Entry, Key, Larger, Page, cursor_after, key_before

T = TypeVar("T")
PATIENCE = 1.0
"""Seconds that a call waits for others before it raises Unreachable."""
FILE = "kv.db"
_LATER = 3600
"""Seconds from an entry's expiry to its removal."""
_SWEPT = 8  # entries that one write may remove
_STEP = 4_000_000  # bytes of values
_ROWS = 500
_PAGES = 500
_ABANDONED = 24 * 3600  # a copy that did not end by then never will
_UNLIMITED = 1 << 62


def _with_ids(table: str) -> Dialects:
    given = table.replace("id INTEGER PRIMARY KEY", "id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    return Dialects(sqlite=table, postgres=translated_types(given))


MIGRATIONS = (
    (
        # `name`: None until a copy is whole, and after a drop. `copying`: the name that an unfinished copy will have.
        _with_ids("""CREATE TABLE namespaces (
            id INTEGER PRIMARY KEY, name TEXT UNIQUE, copying TEXT, begun REAL, copied_from TEXT
        )"""),
        # The value comes last: what stands before a long one is read without it.
        _with_ids("""CREATE TABLE entries (
            id INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, key BLOB NOT NULL, expires INTEGER, metadata TEXT,
            value BLOB NOT NULL, UNIQUE (namespace, key)
        )"""),
        Dialects(
            sqlite="CREATE INDEX expiring ON entries (expires) WHERE expires IS NOT NULL",
            postgres="CREATE INDEX entries_expiring ON entries (expires) WHERE expires IS NOT NULL",
        ),
    ),
)

_GET = (
    "SELECT CASE WHEN length(e.value) <= ? THEN e.value END, e.metadata, e.expires "
    "FROM namespaces n JOIN entries e ON e.namespace = n.id "
    "WHERE n.name = ? AND e.key = ? AND (e.expires IS NULL OR e.expires > ?)"
)
_LIST = (
    "SELECT e.key, e.expires, e.metadata FROM namespaces n JOIN entries e ON e.namespace = n.id "
    "WHERE n.name = ? AND e.key >= ? AND e.key > ? AND e.key < ? AND (e.expires IS NULL OR e.expires > ?) "
    "ORDER BY e.key LIMIT ?"
)
_PUT = (
    "INSERT INTO entries (namespace, key, expires, metadata, value) VALUES (?,?,?,?,?) ON CONFLICT (namespace, key) "
    "DO UPDATE SET expires = excluded.expires, metadata = excluded.metadata, value = excluded.value"
)
_DELETE = "DELETE FROM entries WHERE namespace = (SELECT id FROM namespaces WHERE name = ?) AND key = ?"
_SWEEP = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires < ? ORDER BY expires LIMIT ?{})"
_NAMELESS = "SELECT id FROM namespaces WHERE name IS NULL AND copying IS NULL"
_UNREACHED = f"SELECT id, length(value) FROM entries WHERE namespace IN ({_NAMELESS}) LIMIT ?"  # noqa: S608
_FORGET = (
    "DELETE FROM namespaces WHERE name IS NULL AND copying IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM entries WHERE namespace = namespaces.id)"
)


class KeyValueStore:
    """KeyValues in the folder of a store, or on its server. Opened by its first call, anew in each process after a
    fork."""

    def __init__(
        self, place: Path | Database, *, patience: float = PATIENCE, clock: Callable[[], float] = time.time
    ) -> None:
        """`clock` decides what is over, and what a write may remove."""
        self._clock = clock
        self._quick: _Connection | _Server
        self._slow: _Connection | _Server
        self._writing: _Connection | _Server
        self._copied: _Connection | _Server
        self._moving: _Connection | _Server
        if isinstance(place, Path):
            self._quick, self._slow, self._writing = (_Connection(place, patience) for _ in range(3))
            self._copied, self._moving = self._slow, self._writing
        else:
            self._quick = self._slow = self._writing = _Server(place.hurried(patience))
            # Nobody waits for these; a copy reads while it writes.
            self._copied, self._moving = _Server(place), _Server(place.beside())
        self.near = isinstance(place, Path)

    def close(self) -> None:
        for each in (self._quick, self._slow, self._writing):
            each.close()

    # ---- entries

    def get(self, namespace: str, key: str, now: float | None = None, *, most: int | None = None) -> Entry | None:
        # What must not take long has a connection that nothing long is done with.
        connection = self._slow if most is None else self._quick
        at = self._clock() if now is None else now
        row = connection.one(_GET, (_UNLIMITED if most is None else most, namespace, key.encode(), at))
        if row is None:
            return None
        if row[0] is None:
            raise Larger
        return Entry(*row)

    def put(self, namespace: str, key: str, value: bytes, metadata: str | None, expires: int | None) -> None:
        self.put_all(namespace, ((key, Entry(value, metadata, expires)),))

    def put_all(self, namespace: str, entries: Sequence[tuple[str, Entry]]) -> None:
        def put(database: Database) -> None:
            id = _begun(database, namespace)
            now = self._clock()
            rows = [(id, key.encode(), entry.end(now), entry.metadata, entry.value) for key, entry in entries]
            # In one order for all writers: each waits for those who write the same.
            database.many(_PUT, sorted(rows, key=lambda row: row[1]))
            sweep = _SWEEP.format("" if database.alone else " FOR UPDATE SKIP LOCKED")
            database.execute(sweep, (int(now) - _LATER, _SWEPT))
            faults.point("kv.before-commit")

        self._writing.repeated(put)
        faults.point("kv.committed")

    def delete(self, namespace: str, key: str) -> None:
        self._writing.repeated(lambda database: database.execute(_DELETE, (namespace, key.encode())))

    def list(self, namespace: str, prefix: str, limit: int, cursor: str | None, now: float | None = None) -> Page:
        at = self._clock() if now is None else now
        first = prefix.encode()
        after = key_before(cursor) if cursor else b""
        # No UTF-8 holds the byte FF.
        rows = self._slow.all(_LIST, (namespace, first, after, first + b"\xff", at, limit + 1))
        keys = tuple(Key(key.decode(), expires, metadata) for key, expires, metadata in rows[:limit])
        return Page(keys, cursor_after(rows[limit - 1][0]) if len(rows) > limit else None)

    # ---- namespaces

    def namespaces(self) -> tuple[str, ...]:
        """Those that anything was ever put into, sorted."""
        rows = self._slow.all("SELECT name FROM namespaces WHERE name IS NOT NULL ORDER BY name")
        return tuple(name for (name,) in rows)

    def drop(self, namespaces: Sequence[str]) -> None:
        """They are empty at once; their bytes are given back to the disk, in steps, before this returns. A kill in
        between leaves that to the next call."""

        def unname(database: Database) -> None:
            # In one order for all: each waits for those who drop the same.
            database.many("UPDATE namespaces SET name = NULL WHERE name = ?", [(name,) for name in sorted(namespaces)])
            since = self._clock() - _ABANDONED
            database.execute("UPDATE namespaces SET copying = NULL WHERE copying IS NOT NULL AND begun < ?", (since,))

        self._moving.repeated(unname)
        faults.point("kv.dropped")
        self._remove_nameless()
        while self._moving.shrink(_PAGES):
            pass

    def copy(self, source: str, target: str) -> int | None:
        def begin(database: Database) -> int | None:
            if database.one("SELECT 1 FROM namespaces WHERE name = ? AND copied_from = ?", (target, source)):
                return None
            database.execute("UPDATE namespaces SET copying = NULL WHERE copying = ?", (target,))
            ((id,),) = database.all(
                "INSERT INTO namespaces (copying, begun) VALUES (?,?) RETURNING id", (target, self._clock())
            )
            return int(id)

        def add(database: Database) -> None:
            _check_unfinished(database, id, target)
            database.many(
                "INSERT INTO entries (namespace, key, expires, metadata, value) VALUES (?,?,?,?,?)",
                [(id, *each) for each in step],
            )

        def show(database: Database) -> None:
            _check_unfinished(database, id, target)
            # Begun here if need be: else one that another begins meanwhile would be in the way of the name.
            present = _begun(database, target)
            database.all(_locking(database, "SELECT 1 FROM namespaces WHERE id = ?"), (present,))
            database.execute(
                "DELETE FROM entries WHERE namespace = ? AND key IN (SELECT key FROM entries WHERE namespace = ?)",
                (id, present),
            )
            database.execute("UPDATE entries SET namespace = ? WHERE namespace = ?", (id, present))
            database.execute("UPDATE namespaces SET name = NULL WHERE id = ?", (present,))
            database.execute(
                "UPDATE namespaces SET name = ?, copying = NULL, begun = NULL, copied_from = ? WHERE id = ?",
                (target, source, id),
            )
            faults.point("kv.before-commit")

        id = self._moving.repeated(begin)
        if id is None:
            return None
        count = 0
        for step in self._steps(source):
            count += len(step)
            self._moving.repeated(add)
            faults.point("kv.copying")
        self._moving.repeated(show)
        faults.point("kv.committed")
        self._remove_nameless()
        return count

    def _steps(self, source: str) -> Iterator[Sequence[Row]]:
        """All that is alive in `source` at one instant, a few megabytes at a time."""
        step: list[Row] = []
        size = 0
        with self._copied.reading() as database:
            for row in database.stream(
                "SELECT e.key, e.expires, e.metadata, e.value FROM namespaces n JOIN entries e ON e.namespace = n.id "
                "WHERE n.name = ? AND (e.expires IS NULL OR e.expires > ?) ORDER BY e.key",
                (source, self._clock()),
            ):
                step.append(row)
                size += len(row[3])
                if size >= _STEP or len(step) >= _ROWS:
                    yield step
                    step, size = [], 0
            if step:
                yield step

    def _remove_nameless(self) -> None:
        def remove(database: Database) -> bool:
            database.execute(_FORGET)
            going = _step(database.all(_UNREACHED, (_ROWS,)))
            database.many("DELETE FROM entries WHERE id = ?", [(id,) for id, _ in going])
            return bool(going)

        while self._moving.repeated(remove):
            pass


def _check_unfinished(database: Database, id: int | None, target: str) -> None:
    wanted = _locking(database, "SELECT 1 FROM namespaces WHERE id = ? AND copying = ?")
    if not database.one(wanted, (id, target)):
        raise Conflict(f"another copy into {target} began", hint="nothing of this one is kept")


def _begun(database: Database, namespace: str) -> int:
    """Its id; the namespace keeps its name to the end of the transaction."""
    text = "SELECT id FROM namespaces WHERE name = ?"
    wanted = text if database.alone else f"{text} FOR KEY SHARE"
    while True:
        if row := database.one(wanted, (namespace,)):
            return int(row[0])
        database.execute("INSERT INTO namespaces (name) VALUES (?) ON CONFLICT DO NOTHING", (namespace,))


def _locking(database: Database, text: str) -> str:
    return text if database.alone else f"{text} FOR UPDATE"


def _step(rows: Sequence[Row]) -> Sequence[Row]:
    """The first rows that together hold a few megabytes, by their last column."""
    size = 0
    for number, (*_, length) in enumerate(rows, 1):
        size += length
        if size >= _STEP:
            return rows[:number]
    return rows


class _Connection:
    """One connection, for one thread at a time."""

    def __init__(self, folder: Path, patience: float) -> None:
        self._folder = folder
        self._patience = patience
        self._lock = threading.Lock()
        self._database: SQLite | None = None
        self._process = 0
        self._inherited: list[SQLite] = []

    def close(self) -> None:
        if self._database is not None and self._process == os.getpid():
            self._database.close()
        self._database = None

    def one(self, sql: str, parameters: Sequence[object]) -> Row | None:
        with self._used() as database:
            return database.one(sql, parameters)

    def all(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        with self._used() as database:
            return database.all(sql, parameters)

    @contextmanager
    def reading(self) -> Iterator[SQLite]:
        with self._used() as database, database.reading():
            yield database

    def repeated(self, work: Callable[[Database], T]) -> T:
        with self._used() as database:
            return repeated(database, lambda: work(database))

    def shrink(self, pages: int) -> bool:
        with self._used() as database:
            return database.shrink(pages)

    @contextmanager
    def _used(self) -> Iterator[SQLite]:
        if self._process != os.getpid():
            self._begin()
        if not self._lock.acquire(timeout=self._patience):
            raise Unreachable(f"{self._folder / FILE} is busy", hint="nothing was changed; another thread writes to it")
        try:
            if self._database is None:
                self._database = _opened(self._folder, self._patience)
            yield self._database
        except OSError as error:
            hint = "nothing was changed; is there room on the disk?"
            raise Refused(f"{error.filename or self._folder}: {error.strerror}", hint=hint) from error
        finally:
            self._lock.release()

    def _begin(self) -> None:
        if self._database is not None:
            # Closed here, it would be closed under the process that it came from.
            self._inherited.append(self._database)
        self._database, self._lock, self._process = None, threading.Lock(), os.getpid()


class _Server:
    """Connections of a pool, for many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        """The ledger's own are used."""

    def one(self, sql: str, parameters: Sequence[object]) -> Row | None:
        return self._database.one(sql, parameters)

    def all(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        return self._database.all(sql, parameters)

    @contextmanager
    def reading(self) -> Iterator[Database]:
        with self._database.reading():
            yield self._database

    def repeated(self, work: Callable[[Database], T]) -> T:
        return repeated(self._database, lambda: work(self._database))

    def shrink(self, pages: int) -> bool:  # noqa: ARG002 - the server's own business
        return False


def _opened(folder: Path, patience: float) -> SQLite:
    path = folder / FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
        lock = WriteLock(folder / "kv.lock", patience)
        database = SQLite(path, lock, patience=patience, backup="restore it from a backup; the ledger is not touched")
    except OSError as error:
        raise Unreachable(f"{path}: {error.strerror}", hint="is the folder there, yours and writable?") from error
    try:
        database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        database.execute("PRAGMA journal_size_limit=64000000")
        migrations.migrate(database, "kv", MIGRATIONS)
    except BaseException:
        database.close()
        raise
    return database
