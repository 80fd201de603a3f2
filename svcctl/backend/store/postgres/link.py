"""One connection: statements to the server and their rows back, many in one round trip.

psycopg's own cursors cost 60 us a statement, half of all that a change takes, and lose track of what is prepared when a
pipeline ends with an error, as it does whenever a guard fails. This stands directly on its libpq: each text is prepared
once and bound afterwards, everything is binary, and the types are the few that the store has.
"""

import select
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg import errors, pq

from svcctl.backend.store.database import Row, Statement

_PREPARED = 300
"""Texts, for one connection; others are prepared each time."""
_BATCH = 500  # rows of a stream
_RATE = 4_000_000
_BINARY = pq.Format.BINARY
_COMMAND_OK, _TUPLES_OK = pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK
_SYNCHRONISED = pq.ExecStatus.PIPELINE_SYNC
_TEXT = 25

Text = tuple[str, tuple[int, ...]]
"""And the types of its parameters."""


class Answer(NamedTuple):
    rows: list[Row]
    touched: int


class Silent(psycopg.OperationalError):
    """The server was not heard of for too long. It may be stopped, or cut off."""


class Link:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.patience: float | None = None
        """Seconds that the server may be silent, and one more for every `_RATE` bytes that it is sent."""
        self._silence: float | None = None
        self._connection = connection
        self._pg = connection.pgconn
        self._prepared: dict[Text, bytes] = {}
        self._names = 0
        self._streams = 0
        self._poll = select.poll()
        self._poll.register(self._pg.socket, select.POLLIN)

    def close(self) -> None:
        self._connection.close()

    @property
    def lost(self) -> bool:
        return self._pg.status != pq.ConnStatus.OK

    @property
    def idle(self) -> bool:
        return not self.lost and self._pg.transaction_status == pq.TransactionStatus.IDLE

    def send(self, statements: Sequence[Statement]) -> list[Answer]:
        """The first error ends them all, and is raised."""
        dumped = [(sql, [_dumped(each) for each in parameters]) for sql, parameters in statements]
        if self.patience is None:
            self._silence = None
        else:
            size = sum(len(value or b"") for _, values in dumped for _, value in values)
            self._silence = (self.patience + size / _RATE) * 1000
        self._pg.enter_pipeline_mode()
        try:
            preparing = [self._sent(sql, values) for sql, values in dumped]
            self._pg.pipeline_sync()
            self._flush()
            results = [self._result_of(key) for key in preparing]
            self._result()  # of the synchronisation
        except BaseException:  # an interrupt, too, leaves answers behind that belong to nobody
            self.close()
            raise
        self._pg.exit_pipeline_mode()
        for result in results:
            if result.status not in (_TUPLES_OK, _COMMAND_OK):
                raise errors.error_from_result(result)
        return [Answer(_rows(result), result.command_tuples or 0) for result in results]

    def stream(self, sql: str, parameters: Sequence[Any]) -> Iterator[Row]:
        """Inside a transaction."""
        self._streams += 1
        name = f"stream{self._streams}"
        self.send([(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", parameters)])
        while rows := self.send([(f"FETCH FORWARD {_BATCH} FROM {name}", ())])[0].rows:
            yield from rows
        self.send([(f"CLOSE {name}", ())])

    # ---- sending

    def _sent(self, sql: str, values: Sequence[tuple[int, bytes | None]]) -> Text | None:
        """What is prepared with it, to be remembered."""
        key = sql, tuple(oid for oid, _ in values)
        name = self._prepared.get(key)
        preparing = None
        if name is None:
            keeps = len(self._prepared) < _PREPARED and "stream" not in sql
            self._names += keeps
            name = b"s%d" % self._names if keeps else b""
            self._pg.send_prepare(name, _numbered(sql), key[1])
            preparing = key
            if keeps:
                self._prepared[key] = name
        self._pg.send_query_prepared(name, [value for _, value in values], [_BINARY] * len(values), _BINARY)
        return preparing

    def _flush(self) -> None:
        while self._pg.flush():
            self._poll.modify(self._pg.socket, select.POLLIN | select.POLLOUT)
            try:
                events = self._wait()
            finally:
                self._poll.modify(self._pg.socket, select.POLLIN)
            if events and events[0][1] & ~select.POLLOUT:
                self._pg.consume_input()

    def _wait(self) -> list[tuple[int, int]]:
        events = self._poll.poll(self._silence)
        if not events:
            raise Silent(f"no answer within {self.patience:g} s")
        return events

    # ---- receiving

    def _result_of(self, preparing: Text | None) -> pq.abc.PGresult:
        if preparing is None:
            return self._result()
        prepared, result = self._result(), self._result()
        if prepared.status == _COMMAND_OK:
            return result
        self._prepared.pop(preparing, None)
        return prepared

    def _result(self) -> pq.abc.PGresult:
        """And the end of it, which is there with it. `is_busy` gives the interpreter's lock away, and is asked no more
        than it must be: each time, threads that wait for the lock are woken."""
        while self._pg.is_busy():
            self._wait()
            self._pg.consume_input()
        result = self._pg.get_result()
        if result is None:
            raise psycopg.OperationalError("the server ended the connection")
        if result.status != _SYNCHRONISED:
            self._pg.get_result()
        return result


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> bytes:
    first, *others = sql.split("?")
    return (first + "".join(f"${number}{part}" for number, part in enumerate(others, 1))).encode()


# ---- values


def _dumped(value: object) -> tuple[int, bytes | None]:
    """(type, bytes)"""
    if value is None:
        return 0, None
    kind = type(value)
    if kind is str:
        return _TEXT, value.encode()  # type: ignore[attr-defined]
    if kind is int:
        return 20, struct.pack("!q", value)
    if kind is bytes:
        return 17, value  # type: ignore[return-value]
    if kind is float:
        return 701, struct.pack("!d", value)
    if kind is list:
        return 1009, _texts(value)  # type: ignore[arg-type]
    if isinstance(value, str):
        return _TEXT, str(value).encode()
    raise TypeError(kind)


def _texts(values: Sequence[str]) -> bytes:
    if not values:
        return struct.pack("!iii", 0, 0, _TEXT)
    encoded = [value.encode() for value in values]
    parts = [struct.pack("!iiiii", 1, 0, _TEXT, len(encoded), 1)]
    for each in encoded:
        parts += struct.pack("!i", len(each)), each
    return b"".join(parts)


def _integer(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def _float(value: bytes) -> float:
    found: float = struct.unpack("!d", value)[0]
    return found


_LOADED: dict[int, Callable[[bytes], Any]] = {
    16: lambda value: value == b"\x01",
    17: bytes,
    20: _integer,
    21: _integer,
    23: _integer,
    25: bytes.decode,
    26: _integer,
    701: _float,
    2205: _integer,  # regclass
    2278: bytes,  # void
    3220: bytes,  # a place in the log
}


def _rows(result: pq.abc.PGresult) -> list[Row]:
    columns = range(result.nfields)
    if not columns:
        return []
    loaders = [_LOADED[result.ftype(column)] for column in columns]
    value = result.get_value
    return [
        tuple(None if (found := value(row, column)) is None else loaders[column](found) for column in columns)
        for row in range(result.ntuples)
    ]
