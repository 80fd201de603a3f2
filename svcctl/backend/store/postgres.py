"""PostgreSQL as a Database (psycopg's only home).

A thread works on one connection at a time, taken from those that are idle or made anew; a transaction begins with its
first statement, in the same round trip. A process that was forked makes its own. A connection that the server ended
while it was idle is replaced unnoticed; one that ends in the middle of a transaction raises Lost.

Statements are the store's, in SQLite's words: `?` becomes `%s`, and of the schema's types INTEGER becomes BIGINT, BLOB
BYTEA, and TEXT is compared byte by byte, as SQLite does, whatever the database's locale.
"""

import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from svcctl.backend.store.database import Again, Definition, Hold, Lost, Row, Statement, Taken, translated_types
from svcctl.errors import Damage, Refused, SvcctlError, Unreachable, UsageError

T = TypeVar("T")
Connection = psycopg.Connection[Row]
Cursor = psycopg.Cursor[Row]

CONNECTIONS = 20
"""At most, for one process."""
_REACHED_WITHIN = "10"  # seconds for a connection to be made
_STOPPED = "60s"  # a transaction whose client says nothing for so long is ended: others wait for it
_LOCKS = 0x73766374  # this program's advisory locks among others'

_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
_NUMBERING = "SELECT pg_advisory_xact_lock(%s, %s), set_config('synchronous_commit', 'off', true)"
_FLUSH = "SELECT pg_logical_emit_message(true, 'svcctl', '')"
"""A commit of its own: the log is on disk up to here once it returns."""


def masked(url: str) -> str:
    """Without what must not be seen: password and parameters."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or "localhost"
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "postgresql://…"
    return f"postgresql://{host}{port}{parts.path}"


class Postgres:
    alone = False

    def __init__(self, url: str, *, patience: float, connections: int = CONNECTIONS) -> None:
        """`patience` is for other writers' locks and for a free connection, in seconds."""
        self.name = masked(url)
        self._patience = patience
        self._parameters = _parameters(url, self.name)
        self._pool = _Pool(self._connect, connections, patience, self.name)
        self._local = threading.local()

    def close(self) -> None:
        self._pool.close()

    def beside(self) -> "Postgres":
        other = copy.copy(self)
        other._local = threading.local()  # noqa: SLF001 - of this class
        return other

    @property
    def in_transaction(self) -> bool:
        return self._session is not None

    # ---- statements

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self._run(sql, parameters, lambda cursor: cursor.rowcount)

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        session = self._session
        if session is None:
            with self.writing():
                self.many(sql, rows)
            return
        with self._explained():
            session.together([(sql, row) for row in rows])

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        return self._run(sql, parameters, lambda cursor: cursor.fetchone())

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._run(sql, parameters, lambda cursor: cursor.fetchall())

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        session = self._session
        assert session is not None  # noqa: S101 - of the protocol
        with self._explained():
            session.begin()
            name = f"stream{session.number()}"
            with session.connection.cursor(name, binary=True) as cursor:
                cursor.execute(_translated(sql), parameters)
                yield from cursor

    def _run(self, sql: str, parameters: Sequence[Any], read: Callable[[Cursor], T]) -> T:
        with self._explained():
            if session := self._session:
                return read(session.execute(sql, parameters))
            with self._pool.borrowed() as session:
                return read(session.execute(sql, parameters))

    # ---- transactions

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._transaction(_BEGIN_READING):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        assert self._session is None  # noqa: S101 - a transaction inside another would be none
        with self._transaction(_BEGIN_WRITING):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        if self._session is not None:
            yield
            return
        with self._explained(), self._pool.borrowed(begin) as session:
            self._local.session = session
            try:
                yield
                session.commit()
            finally:
                self._local.session = None

    def hold(self, what: Hold, *, alone: bool = True) -> None:
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        self.execute(f"SELECT {lock}(?, ?)", (_LOCKS, int(what)))

    def together(self, statements: Sequence[Statement]) -> list[list[Row]]:
        session = self._session
        assert session is not None  # noqa: S101 - of the protocol
        with self._explained():
            return [cursor.fetchall() for cursor in session.together(statements)]

    def conclude(self, early: Sequence[Statement], ordered: Sequence[Statement]) -> list[Row | None]:
        session = self._session
        assert session is not None  # noqa: S101 - of the protocol
        with self._explained():
            numbering: Statement = (_NUMBERING, (_LOCKS, int(Hold.NUMBERING)))
            cursors = session.together([*early, numbering, *ordered, ("COMMIT", ()), (_FLUSH, ())])
            session.ended = True
            return [cursor.fetchone() if cursor.description else None for cursor in cursors[len(early) + 1 : -2]]

    def settle(self) -> None:
        row = self.one("SELECT pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()")
        if row and row[0]:
            self.one(_FLUSH)

    # ---- the schema

    def schema(self, part: str) -> int:
        if self.one("SELECT to_regclass('schema_versions')") == (None,):
            return 0
        row = self.one("SELECT version FROM schema_versions WHERE part = ?", (part,))
        return int(row[0]) if row else 0

    def begin_schema(self) -> None:
        with self.writing():
            self.hold(Hold.MIGRATING)
            self.execute("CREATE TABLE IF NOT EXISTS schema_versions (part TEXT PRIMARY KEY, version INTEGER NOT NULL)")

    def define(self, statement: Definition) -> None:
        if text := translated_types(statement) if isinstance(statement, str) else statement.postgres:
            self.execute(text)

    def set_schema(self, part: str, version: int) -> None:
        self.execute(
            "INSERT INTO schema_versions VALUES (?,?) ON CONFLICT (part) DO UPDATE SET version = excluded.version",
            (part, version),
        )

    # ---- connections and what goes wrong with them

    @property
    def _session(self) -> "_Session | None":
        return getattr(self._local, "session", None)

    def _connect(self) -> Connection:
        connection = psycopg.connect(**self._parameters, autocommit=True)
        connection.execute(
            f"SET lock_timeout = {max(1, int(self._patience * 1000))}; "
            f"SET idle_in_transaction_session_timeout = '{_STOPPED}'"
        )
        return connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._explanation(error) from error

    def _explanation(self, error: psycopg.Error) -> SvcctlError | Again:
        state, text = error.sqlstate or "", error.diag.message_primary or str(error).strip().splitlines()[-1]
        match state[:2], state:
            case ("40", _) | (_, "22012"):  # a deadlock, or a guard's division by zero (racing)
                return Again(text)
            case "23", _:
                return Taken(f"another change took it first: {text}", hint="nothing was changed; look, then try again")
            case _, "55P03":
                return Unreachable(
                    f"{self.name}: the store is locked by {self._holder()}",
                    hint=f"nothing was changed; waited {self._patience:g} s. If that process hangs, end it, try again",
                )
            case _, "53100" | "53200":
                return Refused(
                    f"{self.name}: {text}", hint="nothing was changed; make room there and type the command again"
                )
            case _, "42501":
                return Refused(f"{self.name}: {text}", hint="the role of this connection was not granted it")
            case ("XX", _) | ("42", _):
                return Damage(f"{self.name}: {text}", next="svcctl verify")
            case ("28" | "3D" | "25", _) | (_, "53300"):
                return Unreachable(f"{self.name}: {text}", hint="is that the right server, database and user?")
            case ("" | "08" | "57", _) if isinstance(error, psycopg.OperationalError):
                return Lost(f"{self.name} can't be reached: {text}", hint="is it running there? try again")
            case _:
                return Damage(f"{self.name}: {text}", next="svcctl verify")

    def _holder(self) -> str:
        """Who has been in a transaction for longest."""
        with self._pool.borrowed() as session:
            row = session.execute(
                "SELECT application_name, to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
                "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1",
                (),
            ).fetchone()
        return f"{row[0] or 'another program'} since {row[1]}" if row else "another process"


class _Session:
    """A connection in use, and how far its transaction is."""

    def __init__(self, pool: "_Pool", connection: Connection, begin: str | None, *, used: bool) -> None:
        self.connection = connection
        self.ended = False
        self._pool = pool
        self._begin = begin
        self._used = used  # so it may have ended while it was idle
        self._begun = begin is None
        self._streams = 0

    def number(self) -> int:
        self._streams += 1
        return self._streams

    def begin(self) -> None:
        if not self._begun:
            self.execute("SELECT 1", ())

    def execute(self, sql: str, parameters: Sequence[Any]) -> Cursor:
        if not self._begun:
            return self.together([(sql, parameters)])[0]
        return self._first(lambda: _execute(self.connection, sql, parameters))

    def together(self, statements: Sequence[Statement]) -> list[Cursor]:
        """One round trip. Their first error ends them all."""
        if self._begun:
            return self._first(lambda: self._pipelined(statements))
        begin: Statement = (self._begin or "", ())
        cursors = self._first(lambda: self._pipelined([begin, *statements]))[1:]
        self._begun = True
        return cursors

    def _pipelined(self, statements: Sequence[Statement]) -> list[Cursor]:
        with self.connection.pipeline():
            return [_execute(self.connection, sql, parameters) for sql, parameters in statements]

    def _first(self, send: Callable[[], T]) -> T:
        if not self._used:
            return send()
        self._used = False
        try:
            return send()
        except psycopg.OperationalError:
            # Nothing was done yet: a server that was restarted meanwhile is no reason to fail.
            if not self.connection.closed:
                raise
            self.connection = self._pool.anew()
            return send()

    def commit(self) -> None:
        if self._begun and self._begin and not self.ended:
            self.connection.execute("COMMIT")
            self.ended = True

    def roll_back(self) -> None:
        if not self.connection.closed and self.connection.info.transaction_status != pq.TransactionStatus.IDLE:
            self.connection.execute("ROLLBACK")


class _Pool:
    """Connections that are idle, the warmest first."""

    def __init__(self, connect: Callable[[], Connection], size: int, patience: float, name: str) -> None:
        self._connect = connect
        self._size = size
        self._patience = patience
        self._name = name
        self._inherited: list[list[Connection]] = []
        self._idle: list[Connection] = []
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._free = threading.Semaphore(self._size)
        # Ended here, they would be ended under the process that they came from.
        self._inherited.append(self._idle)
        self._idle = []

    @contextmanager
    def borrowed(self, begin: str | None = None) -> Iterator[_Session]:
        if self._process != os.getpid():
            self._begin()
        if not self._free.acquire(timeout=self._patience):
            raise Unreachable(
                f"{self._name} is busy", hint=f"nothing was changed; all {self._size} connections of this process are"
            )
        try:
            with self._session(begin) as session:
                yield session
        finally:
            self._free.release()

    @contextmanager
    def _session(self, begin: str | None) -> Iterator[_Session]:
        try:
            session = _Session(self, self._idle.pop(), begin, used=True)
        except IndexError:
            session = _Session(self, self._connect(), begin, used=False)
        try:
            yield session
        finally:
            self._take_back(session)

    def anew(self) -> Connection:
        """In the place of one that turned out to have ended; the others that idle have too."""
        while self._idle:
            self._idle.pop().close()
        return self._connect()

    def _take_back(self, session: _Session) -> None:
        try:
            session.roll_back()
        except psycopg.Error:
            session.connection.close()
        if session.connection.info.transaction_status == pq.TransactionStatus.IDLE:
            self._idle.append(session.connection)
        else:
            session.connection.close()

    def close(self) -> None:
        if self._process == os.getpid():
            while self._idle:
                self._idle.pop().close()


def _execute(connection: Connection, sql: str, parameters: Sequence[Any]) -> Cursor:
    return connection.cursor(binary=True).execute(_translated(sql), parameters)


@lru_cache(maxsize=1024)
def _translated(sql: str) -> Any:
    return sql.replace("?", "%s")


def _parameters(url: str, name: str) -> dict[str, Any]:
    try:
        known = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:  # whose text may quote a password
        raise UsageError(
            f"{name}: that is no URL of a database", hint="postgresql://USER@HOST:PORT/DATABASE", next=None
        ) from None
    known.setdefault("connect_timeout", _REACHED_WITHIN)
    known.setdefault("application_name", f"svcctl pid {os.getpid()} on {os.uname().nodename}")
    return known


def grants(role: str) -> tuple[str, ...]:
    """What makes a role fit to serve the store and unfit to rewrite it: changes, records and settings can be read and
    added to, nothing else. For the owner to execute, once the store is there and again after each upgrade."""
    name = '"' + role.replace('"', '""') + '"'
    return (
        f"GRANT SELECT, INSERT ON changes, records, settings TO {name}",
        f"GRANT SELECT ON schema_versions TO {name}",
        f"GRANT SELECT, INSERT, UPDATE ON store, projects, services, environments, former_names TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON tags, routes, bindings, secrets TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON packs, chunks, blobs, artifacts, artifact_packs TO {name}",
    )
