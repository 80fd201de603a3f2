"""Connections of one process, and transactions on them.

A transaction begins with its first statement, in the same round trip. A process that was forked makes connections of
its own. One that the server ended while it was idle is replaced unnoticed.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from svcctl.backend.store.database import Row, Statement
from svcctl.backend.store.postgres.link import Answer, Link, Silent
from svcctl.errors import Unreachable

T = TypeVar("T")


class Session:
    """A connection in use, and how far its transaction is."""

    def __init__(
        self, pool: "Pool", link: Link, begin: Sequence[Statement], hurry: float | None, *, used: bool
    ) -> None:
        self.link = link
        self.ended = False
        """Whether the transaction was committed by its last statements."""
        self._pool = pool
        self._begin = begin
        self._hurry = hurry
        self._used = used  # so it may have ended while it was idle
        self._begun = not begin

    def send(self, statements: Sequence[Statement]) -> list[Answer]:
        if self._begun:
            return self._sent(statements)
        answers = self._sent([*self._begin, *statements])[len(self._begin) :]
        self._begun = True
        return answers

    def stream(self, sql: str, parameters: Sequence[Any]) -> Iterator[Row]:
        if not self._begun:
            self.send(())
        return self.link.stream(sql, parameters)

    def _sent(self, statements: Sequence[Statement]) -> list[Answer]:
        if not self._used:
            return self.link.send(statements)
        self._used = False
        try:
            return self.link.send(statements)
        except psycopg.OperationalError as error:
            # Nothing was done yet: a server that was restarted meanwhile is no reason to fail.
            if not self.link.lost or isinstance(error, Silent):
                raise
            self.link.close()
            self.link = self._pool.anew(self._hurry)
            return self.link.send(statements)

    def commit(self) -> None:
        if self._begun and self._begin and not self.ended:
            self.link.send([("COMMIT", ())])
            self.ended = True

    def roll_back(self) -> None:
        if not self.link.lost and not self.link.idle:
            self.link.send([("ROLLBACK", ())])


class Pool:
    """Those that are idle, the warmest first."""

    def __init__(self, connect: Callable[[float | None], Link], size: int, patience: float, name: str) -> None:
        self._connect = connect
        self._size = size
        self._patience = patience
        self._name = name
        self._inherited: list[list[Link]] = []
        self._idle: list[Link] = []
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._free = threading.Semaphore(self._size)
        # Ended here, they would be ended under the process that they came from.
        self._inherited.append(self._idle)
        self._idle = []

    @contextmanager
    def borrowed(self, begin: Sequence[Statement] = (), hurry: float | None = None) -> Iterator[Session]:
        """`hurry`: seconds after which it is given up, where that is sooner than usual."""
        if self._process != os.getpid():
            self._begin()
        if not self._free.acquire(timeout=self._patience if hurry is None else hurry):
            raise Unreachable(
                f"{self._name} is busy", hint=f"nothing was changed; all {self._size} connections of this process are"
            )
        try:
            session = self._session(begin, hurry)
            try:
                yield session
            finally:
                self._take_back(session)
        finally:
            self._free.release()

    def _session(self, begin: Sequence[Statement], hurry: float | None) -> Session:
        try:
            link = self._idle.pop()
        except IndexError:
            return Session(self, self._connect(hurry), begin, hurry, used=False)
        link.patience = hurry
        return Session(self, link, begin, hurry, used=True)

    def anew(self, hurry: float | None) -> Link:
        """In the place of one that turned out to have ended; the others that idle have too."""
        while self._idle:
            self._idle.pop().close()
        return self._connect(hurry)

    def _take_back(self, session: Session) -> None:
        try:
            session.roll_back()
        except psycopg.Error:
            session.link.close()
        if session.link.idle:
            self._idle.append(session.link)
        else:
            session.link.close()

    def close(self) -> None:
        if self._process == os.getpid():
            while self._idle:
                self._idle.pop().close()
