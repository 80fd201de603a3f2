"""Connections for which there is no worker, and what those are told for which there will be none."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from svcctl.dataplane import gate
from svcctl.dataplane.workerprocess import WorkerProcess

_MOST: Final = 4_096
_LONGEST: Final = 30.0
"""Seconds that one waits."""


class Trouble(NamedTuple):
    """Why nothing answers, as clients are told."""

    status: int
    text: str


class Waiting:
    def __init__(self, loop: asyncio.AbstractEventLoop, goodbye: Callable[[int, bytes], None]) -> None:
        self._loop = loop
        self._goodbye = goodbye
        self._connections: deque[tuple[int, bytes, float]] = deque()
        """With the time since which they wait."""

    def __bool__(self) -> bool:
        return bool(self._connections)

    @property
    def is_full(self) -> bool:
        return len(self._connections) >= _MOST

    def add(self, descriptor: int, unread: bytes) -> None:
        self._connections.append((descriptor, unread, self._loop.time()))

    def hand_to(self, worker: WorkerProcess) -> None:
        while self._connections:
            descriptor, unread, _ = self._connections.popleft()
            worker.adopt(descriptor, unread)

    def refuse_all(self, trouble: Trouble) -> None:
        while self._connections:
            self._refuse_first(trouble)

    def refuse_overdue(self, now: float, trouble: Trouble) -> None:
        while self._connections and now - self._connections[0][2] > _LONGEST:
            self._refuse_first(trouble)

    def _refuse_first(self, trouble: Trouble) -> None:
        descriptor, unread, _ = self._connections.popleft()
        self.refuse(descriptor, unread, trouble)

    def refuse(self, descriptor: int, unread: bytes, trouble: Trouble, after: float = 1.0) -> None:
        """`after`: seconds until it is worth while to try again."""
        headers = [("retry-after", f"{max(after, 1):.0f}")]
        bodiless = unread.startswith(b"HEAD ")
        self._goodbye(descriptor, gate.answer(trouble.status, trouble.text, headers=headers, bodiless=bodiless))
