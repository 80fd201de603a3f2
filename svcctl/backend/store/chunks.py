"""Packs in tables: rows of a megabyte at most, written one by one, the last of them in the transaction that names what
is in them. A writer that dies leaves rows that no pack names; gc removes them an hour after the last was written.

A row's look is PostgreSQL's `xmin`: the transaction that wrote it. It changes with every UPDATE, and with a dump that
is restored, as a file's times do when it is altered or copied. So a pack is taken for what was hashed when it was
stored while the `xmin` of its rows are what they were.
"""

import os
from collections.abc import Collection, Iterator

from svcctl.backend.base import Stream
from svcctl.backend.store.database import Database, Hold, repeated
from svcctl.backend.store.packs import CHUNK, NewPack, Pack
from svcctl.digest import Digest
from svcctl.errors import Refused

_ABANDONED = 3600
"""Seconds without a row, after which a pack that nobody names will never be named."""
_LOOK = (
    "SELECT CAST(sum(octet_length(data)) AS bigint), max(stored), "
    "CAST(sum(CAST(CAST(xmin AS text) AS bigint)) AS bigint), count(*) FROM chunks WHERE pack = ?"
)
_READ = "SELECT substr(data, CAST(? AS integer), CAST(? AS integer)) FROM chunks WHERE pack = ? AND part = ?"
_UNNAMED = (
    "SELECT pack FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM packs p WHERE p.name = c.pack) "
    "GROUP BY pack HAVING max(stored) < ? ORDER BY pack"
)
_GONE = "DELETE FROM chunks WHERE pack = ?"


class Chunks:
    """A Shelf."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def new(self) -> NewPack:
        return _TablePack(self._db, self)

    def look(self, pack: str) -> Pack | None:
        row = self._db.one(_LOOK, (pack,))
        return Pack(*row) if row and row[3] else None

    def read(self, pack: str, position: int, size: int) -> Iterator[bytes]:
        while size:
            content = self.part(pack, position, size)
            if content is None:
                raise FileNotFoundError(pack)
            if not content:
                return
            yield content
            position += len(content)
            size -= len(content)

    def part(self, pack: str, position: int, size: int) -> bytes | None:
        """To the end of its row at most."""
        number, offset = divmod(position, CHUNK)
        row = self._db.one(_READ, (offset + 1, min(size, CHUNK - offset), pack, number))
        return bytes(row[0]) if row else None

    def open(self, blob: Digest, pack: str, position: int, size: int) -> Stream:  # noqa: ARG002 - it may move
        return _Stream(self._db, self, blob, size)

    def keep(self, artifacts: Collection[Digest]) -> None:
        self._db.all(
            "SELECT 1 FROM artifacts WHERE digest = ANY(?) ORDER BY digest FOR KEY SHARE", (sorted(artifacts),)
        )

    def claim(self, artifacts: Collection[str]) -> None:
        self._db.all("SELECT 1 FROM artifacts WHERE digest = ANY(?) ORDER BY digest FOR UPDATE", (sorted(artifacts),))

    def forget(self, packs: Collection[str]) -> None:
        self._db.many(_GONE, [(name,) for name in packs])

    def leftovers(self, *, remove: bool) -> tuple[str, ...]:
        def look() -> list[str]:
            return [name for (name,) in self._db.all(_UNNAMED, (_now(self._db) - _ABANDONED * 10**9,))]

        def sweep() -> list[str]:
            self._db.hold(Hold.STORING)  # else one could be named between the look and its end
            found = look()
            self._db.many(_GONE, [(name,) for name in found])
            return found

        return tuple(repeated(self._db, sweep) if remove else look())


class _TablePack(NewPack):
    def __init__(self, database: Database, shelf: Chunks) -> None:
        super().__init__(os.urandom(16).hex() + ".chunks")
        self._db = database
        self._shelf = shelf
        self._buffer = bytearray()
        self._parts = 0

    def write(self, content: bytes) -> None:
        self._buffer += content
        while len(self._buffer) >= CHUNK:
            self._store(bytes(self._buffer[:CHUNK]))
            del self._buffer[:CHUNK]

    def _store(self, content: bytes) -> None:
        self._insert(content)
        self._parts += 1

    def _insert(self, content: bytes) -> None:
        self._db.execute("INSERT INTO chunks VALUES (?,?,?,?)", (self.name, self._parts, _now(self._db), content))

    def known(self) -> Pack:
        if self._buffer or not self._parts:
            # The buffer stays: where the transaction is made anew, so is this row.
            self._insert(bytes(self._buffer))
        look = self._shelf.look(self.name)
        if look is None or look.size != self.size:
            raise Refused(f"{self.name} vanished while it was being written", hint="nothing was changed")
        return look

    def discard(self) -> None:
        if self._parts or self._buffer:
            self._db.execute(_GONE, (self.name,))


def _now(database: Database) -> int:
    """In nanoseconds, as files have it."""
    return int(database.now().timestamp() * 1e9)


class _Stream:
    def __init__(self, database: Database, shelf: Chunks, blob: Digest, size: int) -> None:
        self._db = database
        self._shelf = shelf
        self._blob = blob
        self._size = size
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        parts = []
        left = self._size - self._read if size < 0 else min(size, self._size - self._read)
        while left and (part := self._next(left)):
            parts.append(part)
            self._read += len(part)
            left -= len(part)
        return b"".join(parts)

    def _next(self, size: int) -> bytes:
        while True:
            row = self._db.one("SELECT pack, position FROM blobs WHERE digest = ?", (self._blob,))
            if row is None:
                raise FileNotFoundError(self._blob)
            content = self._shelf.part(row[0], row[1] + self._read, size)
            if content is not None:
                return content

    def close(self) -> None:
        pass
