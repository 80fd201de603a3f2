"""Log records, and the frames in which a worker process hands them to the router.

A frame is one line, `\\x1e` and JSON, never longer than what a pipe takes in one piece: whatever else is written into
the same pipe, by C code or a child process, stands between frames and not inside one. The byte after `\\x1e` tells them
apart:

    {   a LogRecord
    [   answered requests: a list of Answered
    +   a piece of one of these, too long for one frame
    .   its last piece

Anything else that comes out of the pipe is a line that somebody wrote without knowing of frames.
"""

import select
import time
from functools import lru_cache
from typing import Final, Literal

from svcctl.model import Model

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

Source = Literal["stdout", "stderr", "log", "exception", "system", "request"]
"""`system`: svcctl itself, about the service. `request`: one line for each that was answered."""

LONGEST = 1 << 16
"""Characters of a message: what is longer is cut, and says so."""

FRAME: Final = 0x1E
ATOMIC: Final[int] = getattr(select, "PIPE_BUF", 512)


class LogRecord(Model):
    """One entry of the log, as it stands on the disk: a line of JSON."""

    at: str
    """UTC, `2026-11-23T11:12:39.123Z`."""
    level: Level
    source: Source
    service: str = ""
    """Empty: it is about the data plane itself."""
    environment: str = ""
    version: int = 0
    """0 for a working tree."""
    request: str | None = None
    """The id of the request that was being answered."""
    message: str = ""
    """May have several lines. Empty for a request: see `text`."""

    method: str | None = None
    host: str | None = None
    path: str | None = None
    """Without its query, which may hold what is secret."""
    status: int | None = None
    ms: float | None = None
    """Milliseconds until the answer was sent."""

    @property
    def place(self) -> str:
        """`shop/production`"""
        return f"{self.service}/{self.environment}" if self.service else ""

    @property
    def ref(self) -> str:
        """`shop/production@12`"""
        return reference(self.place, self.version)

    @property
    def text(self) -> str:
        if self.source != "request":
            return self.message
        return f"{self.method} {self.host}{self.path} {self.status} {self.ms} ms"


class Answered(Model, array_like=True):
    """A request, on its way from the worker: an array, because there is one for every request."""

    at: float
    """Seconds since the epoch."""
    request: str
    method: str
    host: str
    path: str
    status: int
    ms: float


def reference(place: str, version: int) -> str:
    return f"{place}@{version}" if version else place


def stamp(seconds: float) -> str:
    """A time since the epoch, as records have it."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03}Z"


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def cut(message: str, more: int = 0) -> str:
    """At most LONGEST characters. `more`: characters that were left out before."""
    over = max(len(message) - LONGEST, 0) + more
    return message if not over else f"{message[:LONGEST]} … (cut: {over:,} more characters)"
