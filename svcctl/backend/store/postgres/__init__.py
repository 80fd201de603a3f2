"""PostgreSQL as a Database (psycopg's only home). A thread works on one connection at a time (`pool`), by a thin layer
of our own (`link`). A connection that ends in the middle of a transaction raises Lost.

Statements are the store's, in SQLite's words: `?` becomes `$1`, and of the schema's types INTEGER becomes BIGINT, BLOB
BYTEA, and TEXT is compared byte by byte, as SQLite does, whatever the database's locale.
"""

import copy
import math
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from svcctl.backend.store.database import (
    Again,
    Definition,
    Hold,
    Lost,
    NotGranted,
    Row,
    Statement,
    Taken,
    repeated,
    translated_types,
)
from svcctl.backend.store.postgres.link import Answer, Link
from svcctl.backend.store.postgres.pool import Pool, Session
from svcctl.errors import Damage, Refused, SvcctlError, Unreachable, UsageError

CONNECTIONS = 20
"""At most, for one process."""
_SETTINGS = {
    "connect_timeout": "10",
    # A server that was cut off, or lost its power, says nothing: it is given up after half a minute.
    "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "4", "tcp_user_timeout": "30000",
}  # fmt: skip
"""Where the URL says nothing else."""
_REACHED_SOON = "2"  # the least that there is
_STOPPED = "60s"  # a transaction whose client says nothing for so long is ended: others wait for it
_LOCKS = 0x73766374  # this program's advisory locks among others'

_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
_HURRY = "SELECT set_config('lock_timeout', ?, true)"
_NUMBERING = (
    "SELECT pg_advisory_xact_lock(CAST(? AS int), CAST(? AS int)), set_config('synchronous_commit', 'off', true)"
)
_NOW = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
_MINUTE = 60.0
_FLUSH = "SELECT pg_logical_emit_message(true, 'svcctl', '')"
"""A commit of its own: the log is on disk up to here once it returns."""

_WHERE = re.compile(
    r"^(?:connection|consuming input|flushing|sending [a-z ]+) (?:failed|is bad): "
    r"|connection to server (?:at|on) .*? failed: |FATAL: +"
)

_OLDEST = (
    "SELECT application_name, to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
    "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1"
)


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
        self._hurry: float | None = None
        self._parameters = _parameters(url, self.name)
        self._pool = Pool(self._connect, connections, patience, self.name)
        self._local = threading.local()
        self._asked_at, self._told = -math.inf, 0.0

    def close(self) -> None:
        self._pool.close()

    def now(self) -> datetime:
        """Asked once a minute; between, this machine's clock is trusted to run, not to be right."""
        elapsed = time.monotonic() - self._asked_at
        if elapsed > _MINUTE:
            row = self.one(_NOW)
            self._asked_at, self._told, elapsed = time.monotonic(), row[0] if row else 0.0, 0.0
        return datetime.fromtimestamp(self._told + elapsed, UTC)

    def beside(self) -> "Postgres":
        other = copy.copy(self)
        other._local = threading.local()  # noqa: SLF001 - of this class
        return other

    def hurried(self, seconds: float) -> "Postgres":
        other = self.beside()
        other._hurry = seconds  # noqa: SLF001 - of this class
        return other

    @property
    def in_transaction(self) -> bool:
        return self._session is not None

    # ---- statements

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return self._answer(sql, parameters).touched

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        session = self._session
        if session is None:
            repeated(self, lambda: self.many(sql, rows))
            return
        with self._explained():
            session.send([(sql, row) for row in rows])

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        rows = self._answer(sql, parameters).rows
        return rows[0] if rows else None

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return self._answer(sql, parameters).rows

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        session = self._session
        assert session is not None  # noqa: S101 - of the protocol
        with self._explained():
            yield from session.stream(sql, parameters)

    def _answer(self, sql: str, parameters: Sequence[Any]) -> Answer:
        with self._explained():
            if session := self._session:
                return session.send([(sql, parameters)])[0]
            with self._pool.borrowed((), self._silence) as session:
                return session.send([(sql, parameters)])[0]

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
        beginning: list[Statement] = [(begin, ())]
        if self._hurry is not None:
            beginning.append((_HURRY, (str(int(self._hurry * 1000)),)))
        with self._explained(), self._pool.borrowed(beginning, self._silence) as session:
            self._local.session = session
            try:
                yield
                session.commit()
            finally:
                self._local.session = None

    def hold(self, what: Hold, *, alone: bool = True) -> None:
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        self.execute(f"SELECT {lock}(CAST(? AS int), CAST(? AS int))", (_LOCKS, int(what)))

    def together(self, statements: Sequence[Statement]) -> list[list[Row]]:
        session = self._session
        assert session is not None  # noqa: S101 - of the protocol
        with self._explained():
            return [answer.rows for answer in session.send(statements)]

    def conclude(self, early: Sequence[Statement], ordered: Sequence[Statement]) -> list[Row | None]:
        session = self._session
        assert session is not None  # noqa: S101 - of the protocol
        with self._explained():
            numbering: Statement = (_NUMBERING, (_LOCKS, int(Hold.NUMBERING)))
            answers = session.send([*early, numbering, *ordered, ("COMMIT", ()), (_FLUSH, ())])
            session.ended = True
        return [answer.rows[0] if answer.rows else None for answer in answers[len(early) + 1 : -2]]

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
    def _silence(self) -> float | None:
        """The server says first, and to more purpose, that somebody's lock was waited for."""
        return None if self._hurry is None else self._hurry * 1.5

    @property
    def _session(self) -> Session | None:
        return getattr(self._local, "session", None)

    def _connect(self, hurry: float | None) -> Link:
        sooner = {} if hurry is None else {"connect_timeout": _REACHED_SOON}
        connection = psycopg.connect(**self._parameters | sooner, autocommit=True)
        connection.execute(
            f"SET lock_timeout = {max(1, int(self._patience * 1000))}; "
            f"SET idle_in_transaction_session_timeout = '{_STOPPED}'; "
            # Statements look rows up by their keys: planning each anew costs as much as doing it.
            "SET plan_cache_mode = force_generic_plan"
        )
        link = Link(connection)
        link.patience = hurry
        return link

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._explanation(error) from error

    def _explanation(self, error: psycopg.Error) -> SvcctlError:
        """Where the server is, only Unreachable says: an API hands all others on."""
        state, text = error.sqlstate or "", _said(error)
        waited = self._patience if self._hurry is None else self._hurry
        match state[:2], state:
            case ("40", _) | (_, "22012"):  # a deadlock, or a guard's division by zero (racing)
                return Again()
            case "23", _:
                return Taken(f"another change took it first: {text}", hint="nothing was changed; look, then try again")
            case _, "55P03":
                return Unreachable(
                    f"{self.name}: the store is locked by {self._holder()}",
                    hint=f"nothing was changed; waited {waited:g} s. If that process hangs, end it, try again",
                )
            case _, "53100" | "53200":
                return Refused(
                    f"PostgreSQL: {text}", hint="nothing was changed; make room there and type the command again"
                )
            case _, "42501":
                return NotGranted(f"PostgreSQL: {text}", hint="the role of this connection was not granted it")
            case "22", _:
                return UsageError(f"what can't be stored: {text}")
            case ("XX", _) | ("42", _):
                return Damage(f"PostgreSQL: {text}", next="svcctl verify")
            case ("28" | "3D" | "25", _) | (_, "53300"):
                return Unreachable(f"{self.name}: {text}", hint="is that the right server, database and user?")
            case ("" | "08" | "57", _) if isinstance(error, psycopg.OperationalError):
                return Lost(f"{self.name} can't be reached: {text}", hint="is it running there? try again")
            case _:
                return Damage(f"PostgreSQL: {text}", next="svcctl verify")

    def _holder(self) -> str:
        """Who has been in a transaction for longest."""
        with self._pool.borrowed() as session:
            answers = session.send([(_OLDEST, ())])
        row = answers[0].rows[0] if answers[0].rows else None
        return f"{row[0] or 'another program'} since {row[1]}" if row else "another process"


def _said(error: psycopg.Error) -> str:
    """One line of what libpq tells in several, without the address: the store's name has it."""
    first, *_ = (error.diag.message_primary or str(error)).strip().splitlines() or ["no reason was given"]
    said = _WHERE.sub("", first)
    return said if said[1:2].isupper() else said[:1].lower() + said[1:]


def _parameters(url: str, name: str) -> dict[str, Any]:
    try:
        known = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:  # whose text may quote a password
        raise UsageError(
            f"{name}: that is no URL of a database", hint="postgresql://USER@HOST:PORT/DATABASE", next=None
        ) from None
    for setting, value in _SETTINGS.items():
        known.setdefault(setting, value)
    known.setdefault("application_name", f"svcctl pid {os.getpid()} on {os.uname().nodename}")
    return known


def grants(role: str) -> tuple[str, ...]:
    """What makes a role fit to serve the store and unfit to rewrite it: changes, records and settings can be read and
    added to, nothing else. For the owner to execute, once the store is there and again after each upgrade."""
    name = '"' + role.replace('"', '""') + '"'
    return (
        f"GRANT SELECT, INSERT ON changes, records, settings TO {name}",
        f"GRANT SELECT ON schema_versions TO {name}",
        f"GRANT SELECT, INSERT, UPDATE ON store, projects, services, environments, former_names, tokens TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON tags, routes, bindings, secrets, token_uses, refusals TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON packs, chunks, blobs, artifacts, artifact_packs TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON namespaces, entries TO {name}",
    )
