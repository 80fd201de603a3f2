"""Where packs lie: in a folder of this machine, or in tables (`chunks`)."""

import fcntl
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from svcctl.backend.base import Stream
from svcctl.backend.store.database import Database
from svcctl.backend.store.packs import CHUNK, FilePack, NewPack, Pack, Part, look_of
from svcctl.digest import Digest


class Shelf(Protocol):
    def new(self) -> NewPack: ...

    def look(self, pack: str) -> Pack | None:
        """None where there is no such pack."""

    def read(self, pack: str, position: int, size: int) -> Iterator[bytes]:
        """Less than `size` bytes where it is cut. Raises FileNotFoundError, or another OSError where it can't be."""

    def open(self, blob: Digest, pack: str, position: int, size: int) -> Stream:
        """The same to be read at leisure: gc may move the blob meanwhile."""

    def keep(self, artifacts: Collection[Digest]) -> None:
        """From gc, to the end of the transaction."""

    def claim(self, artifacts: Collection[str]) -> None:
        """For gc: waits for those who keep one, and lets nobody else, to the end of the transaction."""

    def forget(self, packs: Collection[str]) -> None:
        """No row names them any more, from this transaction on."""

    def leftovers(self, *, remove: bool) -> tuple[str, ...]:
        """Packs that hold no blob, of writers that died. Not to be asked inside a transaction."""


class Folder:
    """Packs as files. A new one is locked by its writer until its rows are there."""

    def __init__(self, path: Path, database: Database) -> None:
        self.path = path
        self._db = database

    def new(self) -> NewPack:
        self.path.mkdir(mode=0o700, exist_ok=True)
        return FilePack(self.path)

    def look(self, pack: str) -> Pack | None:
        return look_of(f"{self.path}/{pack}")

    def read(self, pack: str, position: int, size: int) -> Iterator[bytes]:
        with (self.path / pack).open("rb") as stream:
            stream.seek(position)
            while size and (part := stream.read(min(CHUNK, size))):
                size -= len(part)
                yield part

    def open(self, blob: Digest, pack: str, position: int, size: int) -> Stream:  # noqa: ARG002 - an open file stays
        stream = (self.path / pack).open("rb")
        stream.seek(position)
        return Part(stream, size)

    def keep(self, artifacts: Collection[Digest]) -> None:
        """The write lock does."""

    def claim(self, artifacts: Collection[str]) -> None:
        """The write lock does."""

    def forget(self, packs: Collection[str]) -> None:
        """They become leftovers."""

    def leftovers(self, *, remove: bool) -> tuple[str, ...]:
        return tuple(name for name in self._names() if self._is_left_over(self.path / name, remove=remove))

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self.path.iterdir() if path.is_file())
        except FileNotFoundError:
            return []

    def _is_left_over(self, path: Path, *, remove: bool) -> bool:
        """A writer holds the lock until its rows are committed. So only under the lock, and asked then, do the rows say
        that nobody needs the file."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if remove else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if self._db.one("SELECT 1 FROM blobs WHERE pack = ? LIMIT 1", (path.name,)):
                return False
            if remove:
                path.unlink(missing_ok=True)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
