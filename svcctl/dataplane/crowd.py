"""More workers for a deployment that one can't carry: when another is worth while, when one is to spare, and who gets
the next connection.

What counts is the time on a processor that the workers took: one that waits for something else is no faster for a
second beside it. There is one first worker always (`Runner.current`); these are the others, of the same version.
"""

from typing import Final, NamedTuple

from svcctl.dataplane.workerprocess import WorkerProcess

ROOMY: Final = 0.6
"""Of what is too much: workers that would take less with one of them gone are too many."""
HESITATION: Final = 2.0
"""Seconds for which they must be too few."""
CALM: Final = 30.0
"""Seconds for which they must be too many."""


class Scale(NamedTuple):
    most: int = 1
    """Workers of one deployment."""
    busy: float = 0.8
    """Of a processor: workers that take more on average are too few."""


class Crowd:
    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._ready: list[WorkerProcess] = []
        self._starting: WorkerProcess | None = None
        self._needed = 1
        self._busy_since: float | None = None
        self._calm_since: float | None = None

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def workers(self) -> list[WorkerProcess]:
        return [*self._ready, self._starting] if self._starting else self._ready

    def least_busy(self, first: WorkerProcess) -> WorkerProcess:
        return min((first, *self._ready), key=lambda each: each.connections) if self._ready else first

    # ---- how many

    def is_too_small(self, first: WorkerProcess, now: float) -> bool:
        """To be asked time and again: it takes more than a moment of it to be."""
        count = 1 + len(self._ready)
        if self._starting or count >= self._scale.most:
            self._busy_since = None
            return False
        if count < self._needed:
            return True
        if self._taken(first) < self._scale.busy * count:
            self._busy_since = None
            return False
        self._busy_since = self._busy_since or now
        return now - self._busy_since >= HESITATION

    def to_spare(self, first: WorkerProcess, now: float) -> WorkerProcess | None:
        """One that is not of the crowd any more."""
        if not self._ready or self._starting or self._taken(first) > ROOMY * self._scale.busy * len(self._ready):
            self._calm_since = None
            return None
        self._calm_since = self._calm_since or now
        if now - self._calm_since < CALM:
            return None
        self._calm_since = None
        self._needed = len(self._ready)
        return self._ready.pop()

    def _taken(self, first: WorkerProcess) -> float:
        return sum(each.share for each in (first, *self._ready))

    # ---- who comes and goes

    def begin(self, worker: WorkerProcess) -> None:
        self._starting = worker
        self._busy_since = None

    def join(self, worker: WorkerProcess, first: WorkerProcess) -> bool:
        """Whether it is the one that was begun. The others hand over to it what they have too many of: connections
        are kept alive, and would never come to it."""
        if worker is not self._starting:
            return False
        self._starting = None
        for each in (first, *self._ready):
            each.shed(each.connections // (len(self._ready) + 2))
        self._ready.append(worker)
        self._needed = 1 + len(self._ready)
        return True

    def leave(self, worker: WorkerProcess) -> bool:
        """Whether it was of the crowd. Another takes its place only once that is needed again."""
        if worker is self._starting:
            self._starting = None
        elif worker in self._ready:
            self._ready.remove(worker)
        else:
            return False
        self._needed = 1
        return True

    def promote(self) -> WorkerProcess | None:
        """To be the first, whose place is free."""
        return self._ready.pop(0) if self._ready else None

    def disperse(self, *, needed: bool) -> list[WorkerProcess]:
        """All that there were. `needed`: as many are begun again at once, for another version."""
        workers = list(self.workers)
        self._ready.clear()
        self._starting = None
        self._busy_since = self._calm_since = None
        if not needed:
            self._needed = 1
        return workers
