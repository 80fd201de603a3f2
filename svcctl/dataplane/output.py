"""The pipe that a worker writes its log into, as the router reads it.

It is read at a bounded rate: a handler that prints without end fills its own pipe, loses its own records (capture says
how many), and takes no more of the router's time than a talkative one.
"""

import asyncio
import os
import re
from collections.abc import Callable, Sequence

from svcctl.dataplane.logbook import Decoder, Level, LogRecord
from svcctl.runtime.assembly import Part

Records = Callable[[list[LogRecord]], None]
Say = Callable[[Level, str], None]
"""svcctl's own words: into the log, and to the operator."""

_READ = 1 << 16
_AT_ONCE = 8
"""Pieces of _READ bytes that are read before everything else has its turn."""
_PAUSE = 0.05
_FRAME = re.compile(r'\s*File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)')
"""As faulthandler writes it."""


class Output:
    def __init__(self, loop: asyncio.AbstractEventLoop, parts: Sequence[Part], said: Records) -> None:
        """`parts`: whose records these are, the front first."""
        self._loop = loop
        self._parts = parts
        self._said = said
        front = parts[0]
        self._decoder = Decoder(front.place, front.version, {part.ref for part in parts})
        self._pipe: int | None = None
        self._resuming: asyncio.TimerHandle | None = None
        self._stacks: list[str] | None = None

    def begin(self) -> int:
        """The end to write into."""
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        self._loop.add_reader(self._pipe, self._read)
        return theirs

    def end(self) -> None:
        """Its process is gone: what is in the pipe is all there will be."""
        if self._pipe is None:
            return
        if self._resuming is not None:
            self._resuming.cancel()
        self._read_some()
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = None
        self._tell(self._decoder.end())

    # ---- reading

    def _read(self) -> None:
        assert self._pipe is not None  # noqa: S101 - the reader was removed before
        if self._read_some():
            self._loop.remove_reader(self._pipe)
            self._resuming = self._loop.call_later(_PAUSE, self._resume)

    def _read_some(self) -> bool:
        """Whether there is more than it may have at once, or never will be any."""
        assert self._pipe is not None  # noqa: S101 - both callers looked
        for _ in range(_AT_ONCE):
            try:
                data = os.read(self._pipe, _READ)
            except BlockingIOError:
                return False
            if not data:
                return True
            self._tell(self._decoder.feed(data))
            if len(data) < _READ:
                return False
        return True

    def _resume(self) -> None:
        self._resuming = None
        if self._pipe is not None:
            self._loop.add_reader(self._pipe, self._read)

    def _tell(self, records: list[LogRecord]) -> None:
        if self._stacks is not None:
            self._stacks += [record.message for record in records if record.source == "stderr"]
        if records:
            self._said(records)

    # ---- stacks

    def expect_stacks(self) -> None:
        """From now on it listens for what faulthandler writes."""
        self._stacks = []

    def blamed(self) -> str | None:
        """The innermost line of a service's own code in the stacks that came; of the event loop's thread, if it has
        one: `shop/staging@3, worker.py:12 in fetch`."""
        lines, self._stacks = self._stacks or [], None
        current = next((at for at, line in enumerate(lines) if line.startswith("Current thread")), 0)
        for line in (*lines[current:], *lines[:current]):
            if (match := _FRAME.fullmatch(line)) and (where := self._where(match["file"])):
                return f"{where}:{match['line']} in {match['function']}"
        return None

    def _where(self, file: str) -> str | None:
        for part in self._parts:
            if file.startswith(part.folder + os.sep):
                return f"{part.ref}, {os.path.relpath(file, part.folder)}"
        return None
