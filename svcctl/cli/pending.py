"""Commands that were sent and not yet answered (invariant I8).

Killed between a change's commit and the printing of its answer, a command leaves a file here. Typed again, it finds
the file, takes over its id and asks the backend for that change before it asks for anything new: nothing is done twice.

One file per attempt, `<key>.<uuid>.json`; the key is the digest of what was typed and by whom. Its process holds a lock
on it: a free lock says that the process is dead. The file is whole and durable before the command is sent, so one that
is not whole was never sent, and whoever finds it removes it. Two people who type the same at once have two files and
two ids.
"""

import fcntl
import os
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import msgspec

from svcctl import ages, digest, wire
from svcctl.commands import Command, as_typed
from svcctl.model import Model


class Attempt(Model):
    id: str
    actor: str
    at: str
    what: str
    """The command's kind, for a person who looks into the folder."""


class Claim:
    """The lock is held until `settled`, or the end of the process."""

    def __init__(self, path: Path, descriptor: int, attempt: Attempt, *, resumed: bool) -> None:
        self.id = attempt.id
        self.at = attempt.at
        self.resumed = resumed
        """Whether an earlier attempt, now dead, may have been done under this id."""
        self._path = path
        self._descriptor = descriptor

    def settled(self) -> None:
        """The answer reached its reader: typed again, the command is a new one."""
        self._path.unlink()
        self.abandoned()

    def abandoned(self) -> None:
        """The answer is unknown: the file stays for the next attempt."""
        os.close(self._descriptor)


def claim(folder: Path, command: Command, actor: str, now: datetime) -> Claim:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = digest.of("pending", wire.canonical(as_typed(command)) + actor.encode())
    for path in sorted(folder.glob(f"{key}.*.json")):
        if taken := _take_over(path):
            return taken
    what = command.__struct_config__.tag
    return _create(folder, key, Attempt(id=command.id, actor=actor, at=ages.timestamp(now), what=str(what)))


def _take_over(path: Path) -> Claim | None:
    """None when its process lives, has just settled it, or died before it was whole."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    if attempt := _read_if_dead(path, descriptor):
        return Claim(path, descriptor, attempt, resumed=True)
    os.close(descriptor)
    return None


def _read_if_dead(path: Path, descriptor: int) -> Attempt | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    status = os.fstat(descriptor)
    if status.st_nlink == 0:
        return None
    try:
        return wire.decode(os.pread(descriptor, status.st_size, 0), Attempt)
    except (msgspec.DecodeError, UnicodeDecodeError):
        path.unlink()
        return None


def _create(folder: Path, key: str, attempt: Attempt) -> Claim:
    while True:
        path = folder / f"{key}.{uuid4()}.json"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # swept as unfinished between its creation and its lock
    os.write(descriptor, wire.canonical(attempt))
    os.fsync(descriptor)
    _sync_folder(folder)
    return Claim(path, descriptor, attempt, resumed=False)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
