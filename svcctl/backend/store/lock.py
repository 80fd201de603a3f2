"""The write lock: an flock held for one transaction, with its holder's name inside for those who wait too long.

SQLite's own busy handler is unfair under many writers; waiting here first, in short steps, is not.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from svcctl.errors import Unreachable, UsageError

PATIENCE = 30.0
"""Seconds to wait for another writer."""
VARIABLE = "SVCCTL_LOCK_TIMEOUT"
_LONGEST = 86_400.0


def patience(environ: Mapping[str, str]) -> float:
    """In seconds; the variable says another than PATIENCE."""
    said = environ.get(VARIABLE) or str(PATIENCE)
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST:
        raise UsageError(f"{VARIABLE}={said}: must be a number of seconds", next=f"unset {VARIABLE}")
    return seconds


class WriteLock:
    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._descriptor: int | None = None
        self._name = f"pid {os.getpid()} on {os.uname().nodename}"

    @contextmanager
    def held(self) -> Iterator[None]:
        descriptor = self._open()
        self._wait(descriptor)
        try:
            os.pwrite(descriptor, f"{self._name} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".ljust(160).encode(), 0)
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _wait(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._too_long(descriptor) from None
                # Spread, so that no two wait in step.
                time.sleep(0.0002 + os.urandom(1)[0] / 140_000)
            else:
                return

    def _too_long(self, descriptor: int) -> Unreachable:
        holder = os.pread(descriptor, 160, 0).decode("utf-8", "replace").strip() or "another process"
        return Unreachable(
            f"the store is locked by {holder}",
            hint=f"nothing was changed; waited {self._patience:g} s. If that process hangs, end it and try again",
        )
