"""SQLite as a Database (sqlite3's only home). In WAL mode readers never wait; writers take the write lock, then BEGIN
IMMEDIATE, so that what they read is what they write upon.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from svcctl.backend.store.database import Definition, Hold, Row, Statement, Taken
from svcctl.backend.store.lock import WriteLock
from svcctl.errors import Damage, Refused, SvcctlError, Unreachable

_BACKUP = "restore it from a backup; the packs beside it hold the code"


class SQLite:
    alone = True

    def __init__(self, path: Path, lock: WriteLock, *, patience: float = 30.0, backup: str = _BACKUP) -> None:
        """`patience` is for SQLite's own locks, in seconds: readers meet one where a process died in the middle of a
        write. `backup` is what to do where it is damaged."""
        self.name = str(path)
        self._lock = lock
        self._path = path
        self._backup = backup
        with self._mapped():
            self._sqlite = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
            try:
                self._sqlite.execute("PRAGMA synchronous=FULL")
                self._sqlite.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")
            except sqlite3.Error:
                self.close()
                raise

    def close(self) -> None:
        self._sqlite.close()
        self._lock.close()

    @property
    def in_transaction(self) -> bool:
        return self._sqlite.in_transaction

    def shrink(self, pages: int) -> bool:
        """Gives up to `pages` unused pages back to the disk, of a file that was begun with auto_vacuum; whether there
        are more."""
        with self._mapped(), self._lock.held():
            self._sqlite.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            ((left,),) = self._sqlite.execute("PRAGMA freelist_count").fetchall()
        return bool(left)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        try:
            return self._sqlite.execute(sql, parameters).rowcount
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        with self._mapped():
            yield from self._sqlite.execute(sql, parameters)

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        try:
            self._sqlite.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        try:
            row: Row | None = self._sqlite.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise self._explained(error) from error
        return row

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        try:
            return self._sqlite.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Everything read inside is of one instant."""
        with self._mapped():
            if self._sqlite.in_transaction:
                yield
                return
            self._sqlite.execute("BEGIN")
            try:
                yield
            finally:
                self._sqlite.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Commits at the end, or leaves no trace."""
        with self._mapped(), self._lock.held():
            self._sqlite.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._sqlite.execute("COMMIT")
            except BaseException:
                if self._sqlite.in_transaction:
                    self._sqlite.execute("ROLLBACK")
                raise

    def together(self, statements: Sequence[Statement]) -> list[list[Row]]:
        return [self.all(sql, parameters) for sql, parameters in statements]

    def conclude(self, early: Sequence[Statement], ordered: Sequence[Statement]) -> list[Row | None]:
        for sql, parameters in early:
            self.execute(sql, parameters)
        return [self.one(sql, parameters) for sql, parameters in ordered]

    def hold(self, what: Hold, *, alone: bool = True) -> None:
        """The write lock holds all."""

    def settle(self) -> None:
        """What readers see was synchronised before."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def beside(self) -> "SQLite":
        raise NotImplementedError  # a connection of its own, which its opener makes

    def hurried(self, seconds: float) -> "SQLite":
        raise NotImplementedError  # the same

    # ---- the schema

    def schema(self, part: str) -> int:  # noqa: ARG002 - a file holds one part
        row = self.one("PRAGMA user_version")
        return int(row[0]) if row else 0

    def begin_schema(self) -> None:
        """From now on readers never wait. SQLite waits for nobody here, so the lock must."""
        with self._mapped(), self._lock.held():
            self._sqlite.execute("PRAGMA journal_mode=WAL")

    def define(self, statement: Definition) -> None:
        text = statement if isinstance(statement, str) else statement.sqlite
        if text:
            self.execute(text)

    def set_schema(self, part: str, version: int) -> None:  # noqa: ARG002 - a file holds one part
        self.execute(f"PRAGMA user_version={version}")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> SvcctlError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return Refused(
                f"{self._path}: {error}", hint="nothing was changed; make room on the disk and type the command again"
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return Damage(f"{self._path}: {error}", hint=self._backup)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Unreachable(
                f"{self._path} is locked", hint="nothing was changed; another program holds the database"
            )
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
            return Unreachable(f"{self._path}: {error}", hint="is the folder yours and writable?")
        if name.startswith("SQLITE_CONSTRAINT"):
            return Taken(f"another change took it first: {error}", hint="nothing was changed; look, then try again")
        return Damage(f"{self._path}: {error}", next="svcctl verify")
