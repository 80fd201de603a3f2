"""Pack files: many blobs, written once, read in parts."""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from svcctl import faults
from svcctl.backend.base import Stream
from svcctl.digest import Digest
from svcctl.errors import Refused
from svcctl.progress import Progress

CHUNK = 1 << 20
_SUFFIX = ".pack"


class Pack(msgspec.Struct, frozen=True):
    """What a pack file looked like when its bytes were last known to be good."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


def look_of(path: Path | str) -> Pack | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # once per service of a promote; a Path costs more than the call
    except OSError:
        return None
    return Pack(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class NewPack:
    """Made with its first blob; without any it leaves nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Digest, tuple[int, int]] = {}
        self.size = 0

    def write(self, content: bytes) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """All of it that comes before the transaction that names it is durable then."""

    def known(self) -> Pack:
        """What it looks like, whole. Inside the transaction that names it."""
        raise NotImplementedError

    def discard(self) -> None:
        """Outside of any transaction."""

    def close(self) -> None:
        """The transaction is over."""

    def add(self, blob: Digest, content: bytes) -> None:
        self.write(content)
        self._placed(blob, len(content))

    def copy(self, source: Stream, blob: Digest, size: int, progress: Progress) -> None:
        hasher, copied = hashlib.sha256(), 0
        self.write(b"")
        while part := source.read(CHUNK):
            hasher.update(part)
            self.write(part)
            copied += len(part)
            progress.advance(len(part))
        check_arrival(source, blob, size, hasher.hexdigest(), copied)
        self._placed(blob, size)

    def _placed(self, blob: Digest, size: int) -> None:
        self.places[blob] = (self.size, size)
        self.size += size


class FilePack(NewPack):
    def __init__(self, folder: Path) -> None:
        super().__init__(os.urandom(16).hex() + _SUFFIX)
        self._folder = folder
        self._path = folder / f"{self.name}.tmp"
        self._stream: BinaryIO | None = None

    def write(self, content: bytes) -> None:
        if self._stream is None:
            self._stream = open(self._create(), "wb", buffering=CHUNK)  # noqa: PTH123, SIM115  # closed by `close`
        self._stream.write(content)

    def _create(self) -> int:
        while True:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # gc took it for a leftover, between its creation and its lock

    def finish(self) -> None:
        if self._stream is None:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        faults.point("upload.pack-written")
        final = self._folder / self.name
        self._path.rename(final)
        self._path = final
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        faults.point("upload.pack-named")

    def known(self) -> Pack:
        look = look_of(self._path)
        if look is None or look.size != self.size:
            raise Refused(f"{self._path} vanished while it was being written", hint="nothing was changed")
        return look

    def discard(self) -> None:
        if self._stream is not None:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            # What could not be written stays in the buffer of a full disk; the file is gone already.
            stream.raw.close() if hasattr(stream, "raw") else stream.close()


def check_arrival(source: Stream, blob: Digest, size: int, found: str, copied: int) -> None:
    if copied != size or found != blob:
        name = getattr(source, "name", None)
        raise Refused(
            f"{name or 'a file'} changed while it was being read",
            hint="nothing was changed; type the command again",
        )


class Part:
    """A stretch of an open file, as a file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        part = self._stream.read(wanted)
        self._left -= len(part)
        return part

    def close(self) -> None:
        self._stream.close()
