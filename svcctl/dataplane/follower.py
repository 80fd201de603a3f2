"""The thread that waits for changes, on a backend of its own, and does nothing else.

It notices three things: a change, the backend's going, and its coming back, which may be as another one: a store that
was replaced, or restored from a backup.
"""

import threading
from collections.abc import Callable
from typing import Final

from svcctl.backend.base import Backend
from svcctl.errors import SvcctlError, Unreachable

WAIT: Final = 1.0
_AGAIN: Final = 0.5
"""Seconds between two tries to reach a backend that is gone."""

Open = Callable[[], Backend]
Close = Callable[[Backend], None]
Standing = Callable[[], object]
"""Tells one backend from another that took its place, without opening it. Raises OSError where there is none."""


class Follower(threading.Thread):
    """`changed(anew)` and `lost(error)` are called in this thread; `anew`: nothing that was read before holds."""

    def __init__(
        self,
        open: Open,
        close: Close,
        standing: Standing,
        changed: Callable[[bool], None],
        lost: Callable[[SvcctlError], None],
        *,
        seen: int,
        stands: object,
        wait: float = WAIT,
    ) -> None:
        """`seen` and `stands`: the change that is known, and where it was read; None if nowhere. Each `wait` seconds it
        looks where the backend stands."""
        super().__init__(name="follower", daemon=True)
        self._open = open
        self._close = close
        self._standing = standing
        self._changed = changed
        self._lost = lost
        self._seen = seen
        self._stands = stands
        self._wait = wait
        self._backend: Backend | None = None
        self._ending = threading.Event()
        self._doubted = False

    def doubt(self) -> None:
        """Somebody else could not reach it: it is opened once more, and told of as if it were new."""
        self._doubted = True

    def end(self) -> None:
        self._ending.set()

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                self._look()
            except SvcctlError as error:
                self._let_go()
                if not self._ending.is_set():
                    self._lost(error)
                self._ending.wait(_AGAIN)
        self._let_go()

    def _look(self) -> None:
        if self._doubted:
            self._let_go()
            self._ending.wait(_AGAIN)
            self._doubted = False
        if self._backend is None:
            stands = self._where()
            self._backend = self._open()
            if stands != self._stands:
                self._stands = stands
                self._seen = self._backend.wait(-1, 0)
                self._tell(anew=True)
        number = self._backend.wait(self._seen, self._wait)
        if self._where() != self._stands:
            raise Unreachable("another one took its place")
        if number != self._seen:
            anew = number < self._seen
            self._seen = number
            self._tell(anew=anew)

    def _where(self) -> object:
        try:
            return self._standing()
        except OSError as error:
            raise Unreachable(f"{error.filename}: {error.strerror}") from error

    def _tell(self, *, anew: bool) -> None:
        if not self._ending.is_set():
            self._changed(anew)

    def _let_go(self) -> None:
        if self._backend is not None:
            self._close(self._backend)
            self._backend = None
        self._stands = None
