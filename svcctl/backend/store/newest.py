"""Waiting for the newest change: of all who wait in one process, one looks, for all of them."""

import threading
import time
from collections.abc import Callable

_POLL = 0.02
"""Seconds between two looks."""


class Newest:
    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._looking = threading.Lock()
        self._told = threading.Condition()
        self._known = 0

    def above(self, after: int, timeout: float) -> int:
        """As soon as it is, or what it is after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        newest = self._look()
        while newest <= after and (left := deadline - time.monotonic()) > 0:
            newest = max(newest, self._next(min(left, _POLL)))
        return newest

    def _next(self, pause: float) -> int:
        if not self._looking.acquire(blocking=False):
            with self._told:
                self._told.wait(pause)
                return self._known
        try:
            time.sleep(pause)
            newest = self._look()
        finally:
            self._looking.release()
        with self._told:
            self._known = newest
            self._told.notify_all()
        return newest
