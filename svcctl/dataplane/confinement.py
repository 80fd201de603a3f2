"""What a worker process may take, and what it holds on to."""

import fcntl
import os
import resource
import threading
from collections.abc import Iterable

from svcctl.runtime.assembly import Part

_STACK = 1 << 20
"""Bytes of a thread's stack. The usual 8 MB are counted as used, and forty sync handlers would be out of memory."""

_held: list[int] = []


def limit(memory: int | None) -> None:
    """`memory` is private memory: an allocation beyond it raises MemoryError in the handler that asked. No core is
    dumped: it would hold secrets."""
    threading.stack_size(_STACK)
    _set(resource.RLIMIT_CORE, 0)
    if memory is not None:
        _set(resource.RLIMIT_DATA, memory)


def _set(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, hard))


def hold(parts: Iterable[Part]) -> None:
    """No sweep of the cache takes away what this process runs (`cache.Cache.sweep`). Raises OSError."""
    for part in parts:
        if part.manifest is not None:
            _held.append(os.open(part.manifest, os.O_RDONLY | os.O_CLOEXEC))
            fcntl.flock(_held[-1], fcntl.LOCK_SH)
