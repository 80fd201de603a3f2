"""Where a file lies, and reading it as the one that was found there.

A file is found by a walk through folder descriptors that follows no link on its own, so it is inside the root. It is
read later, by its path, and anyone may have put something else there meanwhile: a link, a FIFO, another file. So what
opens is compared with what was found (device, inode, size, times, mode) before a byte is read, and again after the
last.
"""

import errno
import hashlib
import os
import re
import stat as modes
from io import FileIO
from typing import NamedTuple

from svcctl.digest import Digest
from svcctl.errors import Refused
from svcctl.progress import Progress
from svcctl.text import clean

Identity = tuple[int, int, int, int, int, int]
"""Device, inode, size, mtime_ns, ctime_ns, mode."""

# O_NONBLOCK: opening a FIFO that took the file's place must not wait for a writer.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK = 1 << 20
_PRIVATE_KEY = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:-----BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-)")


class Place(NamedTuple):
    file: str
    """Absolute, without links, as the file system spells it."""
    identity: Identity
    shown: str
    """The path from the project's folder, for messages."""
    own: bool = True
    """Of the project; False for an installed requirement, whose files are as its author published them."""

    @property
    def size(self) -> int:
        return self.identity[2]

    @property
    def executable(self) -> bool:
        return bool(self.identity[5] & modes.S_IXUSR)


def identity(found: os.stat_result) -> Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)


def open_file(place: Place) -> FileIO:
    """Raises Refused if what is there now is not what was found."""
    try:
        descriptor = os.open(place.file, _OPEN)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}:
            raise _moved(place, "vanished" if error.errno == errno.ENOENT else "was replaced") from error
        raise unreadable(place.shown, error) from error
    if identity(os.fstat(descriptor)) != place.identity:
        os.close(descriptor)
        raise _moved(place, "changed")
    return FileIO(descriptor, "rb")


def hash_file(place: Place, progress: Progress) -> Digest:
    with open_file(place) as stream:
        first = stream.read(min(place.size, _CHUNK)) or b""
        if place.own and _PRIVATE_KEY.match(first):
            raise _secret(place)
        hashed = hashlib.sha256(first)
        progress.advance(len(first))
        if len(first) < place.size:
            _hash_rest(stream, hashed, progress)
        if identity(os.fstat(stream.fileno())) != place.identity:
            raise _moved(place, "changed")
    return Digest(hashed.hexdigest())


def unreadable(shown: str, error: OSError) -> Refused:
    return Refused(
        f"{clean(shown)} can't be read: {error.strerror}",
        hint="make it readable, or leave it out with `exclude` in services.toml",
    )


def _hash_rest(stream: FileIO, hashed: "hashlib._Hash", progress: Progress) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    while count := stream.readinto(buffer):
        hashed.update(buffer[:count])
        progress.advance(count)


def _moved(place: Place, how: str) -> Refused:
    return Refused(f"{clean(place.shown)} {how} while it was being read", next="type the command again")


def _secret(place: Place) -> Refused:
    return Refused(
        f"{clean(place.shown)} looks like a private key, which an artifact must never hold",
        hint=f'leave it out: exclude = ["{clean(place.shown.rpartition("/")[2])}"]; its value can be a secret',
        next="svcctl secrets set NAME < FILE",
    )
