"""Progress on standard error: one line, on a terminal alone, and only of work that takes longer than half a second."""

import time
from collections.abc import Callable
from typing import TextIO

from svcctl.cli.output import shown
from svcctl.progress import SILENT, Progress

_PATIENCE = 0.5
_EVERY = 0.1
_WIDTH = 24
_CLEAR = "\r\x1b[K"


class TerminalProgress:
    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._what = ""
        self._total: int | None = None
        self._at = 0
        self._next = 0.0
        self._drawn = False

    def start(self, what: str, total: int | None = None) -> None:
        self.done()
        self._what, self._total, self._at = shown(what), total, 0
        self._next = self._clock() + _PATIENCE

    def advance(self, by: int) -> None:
        self._at += by
        now = self._clock()
        if now >= self._next:
            self._next = now + _EVERY
            self._drawn = True
            self._put(_CLEAR + self._line())

    def done(self) -> None:
        if self._drawn:
            self._drawn = False
            self._put(_CLEAR)

    def _line(self) -> str:
        if not self._total:
            return f"{self._what} …"
        part = min(self._at / self._total, 1.0)
        filled = round(part * _WIDTH)
        return f"{self._what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {part:4.0%}"

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def of(stream: TextIO, *, json: bool) -> Progress:
    return TerminalProgress(stream) if stream.isatty() and not json else SILENT
