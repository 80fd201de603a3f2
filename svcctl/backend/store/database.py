"""A database as the store uses it: plain SQL with `?`, rows as tuples, transactions with a name each.

Two kinds stand behind it: SQLite in a file (`connection`), whose writers come one after another, and PostgreSQL
(`postgres`), whose writers work side by side (`racing`). A text that fits both is written once.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple, Protocol, TypeVar

from svcctl.errors import Conflict, Refused, Unreachable

T = TypeVar("T")
Row = tuple[Any, ...]
Statement = tuple[str, Sequence[Any]]
"""A text and its parameters."""


class Hold(IntEnum):
    """What must not happen beside something else. On SQLite nothing does."""

    MIGRATING = 1
    """Alone: the schema is brought up."""
    NUMBERING = 2
    """Alone: a change takes its number."""
    STORING = 3
    """Alone: gc looks for what nobody reaches. Together: uploads make artifacts of blobs."""
    SEALING = 4
    """Alone: every secret is sealed anew. Together: changes bring secrets."""
    REFUSING = 5
    """Alone: a refusal takes its number."""


class Dialects(NamedTuple):
    """A statement of the schema in its two texts."""

    sqlite: str | None
    postgres: str | None


Definition = str | Dialects

_TYPES = {"INTEGER": "BIGINT", "BLOB": "BYTEA", "REAL": "DOUBLE PRECISION", "TEXT": 'TEXT COLLATE "C"'}


def translated_types(statement: str) -> str:
    """SQLite's types in PostgreSQL's. Texts are compared byte by byte, whatever the database's locale."""
    return re.sub(r"\b(INTEGER|BLOB|REAL|TEXT)\b", lambda found: _TYPES[found[0]], statement)


class Again(Conflict):
    """Another writer was faster: the whole transaction has to be made anew, on what there is now (`repeated`)."""

    def __init__(self) -> None:
        super().__init__("another writer was faster", hint="nothing was changed", next="type the command again")


class Taken(Refused):
    """A row was there first that must be the only one of its kind."""


class NotGranted(Refused):
    """The role that speaks may not do this."""


class Lost(Unreachable):
    """The connection ended in the middle: whether a commit that was under way was done is not known."""


class Database(Protocol):
    name: str
    """What its errors call it."""
    alone: bool
    """Whether what a writing transaction reads can change before it ends by nobody's hand but its own."""

    @property
    def in_transaction(self) -> bool: ...

    def close(self) -> None: ...

    # ---- statements

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """How many rows it touched."""

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None: ...

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]: ...

    def stream(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Row]:
        """Rows as they are read, for results that are large. In a transaction; other statements may come between."""

    # ---- transactions

    def reading(self) -> AbstractContextManager[None]:
        """Everything read inside is of one instant."""

    def writing(self) -> AbstractContextManager[None]:
        """Commits at the end, or leaves no trace."""

    def hold(self, what: Hold, *, alone: bool = True) -> None:
        """To the end of the transaction."""

    def together(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Their rows, inside a transaction. One round trip, if the database is far."""

    def conclude(self, early: Sequence[Statement], ordered: Sequence[Statement]) -> list[Row | None]:
        """The last statements of a writing transaction, in one go; returns the first row of each of `ordered`. Between
        those no other writer's come. The transaction may be over, committed and durable, when this returns."""

    def settle(self) -> None:
        """Returns once everything that was read so far is durable: before a number is told that others build on."""

    def now(self) -> datetime:
        """By the clock that all share who use it: the server's, where machines might disagree."""

    def beside(self) -> "Database":
        """The same, with transactions of its own."""

    def hurried(self, seconds: float) -> "Database":
        """As `beside`, for those who would rather be told that it is away or busy than wait for longer."""

    # ---- the schema

    def schema(self, part: str) -> int:
        """How many of the part's migrations it has seen."""

    def begin_schema(self) -> None:
        """Of a new database, before its first migration."""

    def define(self, statement: Definition) -> None: ...

    def set_schema(self, part: str, version: int) -> None: ...


_ATTEMPTS = 20


def repeated(database: Database, work: Callable[[], T]) -> T:
    """What `work` returns, done in one writing transaction: anew, on what there is then, while other writers are in its
    way. Changes need more (`racing`)."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(Again), database.writing():
            return work()
    with database.writing():
        return work()
