"""How long what failed is left alone: longer each time, from nothing again once it went well for a while."""

START: tuple[float, ...] = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds, after so many starts in a row that failed."""
CRASH: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0, 2.0)
"""After so many workers that answered and died young: somebody may be asking for it, so never long."""
GROWN_UP = 10.0
"""Seconds after which a worker that dies did not die young."""


class Rest:
    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    def begin(self, now: float, pauses: tuple[float, ...]) -> None:
        self._until = now + pauses[min(self._failures, len(pauses) - 1)]
        self._failures += 1

    def end(self) -> None:
        self._failures, self._until = 0, 0.0

    def left(self, now: float) -> float:
        return max(self._until - now, 0.0)

    @property
    def gives_up(self) -> bool:
        """It failed so often that only a change can help."""
        return self._failures > len(START)
