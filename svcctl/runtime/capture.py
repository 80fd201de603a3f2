"""Everything that handler code says, made into log records: what it prints, logs, warns of, and fails with.

`install` is called once in a worker process. From then on `sys.stdout`, `sys.stderr`, the root logger and the hooks for
uncaught exceptions lead into one pipe, which the router reads. A record is about the invocation that is at work where
it was made, else about the deployment's front part. Nothing here starts a thread or waits for the pipe (`logpipe`).

One `print` is one record, also of several lines. What does not end with a newline is kept until one comes or the
request ends. What C code and child processes write goes into descriptors 1 and 2, past all this, and the router makes
records of it.

Where nothing was installed (`svcctl call`), printing is left as it is, and what would be logged goes to `sys.stderr`.
"""

import asyncio
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final

import msgspec

from svcctl.runtime.assembly import Part
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.logpipe import LogPipe, pieces
from svcctl.runtime.records import LONGEST, Level, LogRecord, Source, cut, stamp
from svcctl.runtime.redaction import Redaction

_BATCH = 64
_DELAY = 0.1
"""Seconds until answered requests are handed on, if there are fewer."""
_UNFINISHED = 1_000
"""Requests and threads whose unfinished lines are kept."""
_PATIENCE = 1.0
_LONGEST_PATH = 1_000

_encode: Final = msgspec.json.Encoder().encode
_installed: "_Capture | None" = None


def install(descriptor: int, part: Part) -> None:
    """`part` is the deployment's front. The event loop is the running one; without one, a full pipe is written again
    when more is said."""
    global _installed  # noqa: PLW0603  # so are sys.stdout and the root logger: one for each process
    try:
        loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    _installed = _Capture(descriptor, part, loop)
    out: Any = _Stream(_installed, "stdout", "info", 1)
    err: Any = _Stream(_installed, "stderr", "warning", 2)
    sys.stdout = sys.__stdout__ = out  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = err  # type: ignore[misc]
    sys.excepthook = _installed.uncaught
    sys.unraisablehook = _installed.unraisable
    threading.excepthook = _installed.uncaught_in_thread
    root = logging.getLogger()
    root.addHandler(_Handler(_installed))
    if root.level == logging.WARNING:
        root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def redact(values: Iterable[str]) -> None:
    """From now on these are `***` in every record; what that finds and what it can't, see `redaction`."""
    if _installed is not None:
        _installed.redaction.add(values)


def redacted(text: str) -> str:
    """For what leaves the process on another way than the log."""
    return text if _installed is None else _installed.redaction(text)


def flush(outer: Outer) -> None:
    """The request ends: lines that it began are over."""
    if _installed is not None and outer in _installed.unfinished:
        _installed.finish(outer)


def log_exception(error_text: str) -> None:
    _say("error", "exception", error_text)


def log_event(level: Level, message: str) -> None:
    """Something of svcctl's own."""
    _say(level, "system", message)


def log_request(scope: Mapping[str, Any], status: int, seconds: float, id: str) -> None:
    """Of the event loop's thread, once for each request: appended here, handed on in batches."""
    if _installed is not None:
        batch = _installed.answered
        batch.append((time.time(), scope, status, seconds, id))
        if len(batch) == 1:
            _installed.hand_on_later()
        elif len(batch) >= _BATCH:
            _installed.hand_on()


def flush_requests() -> None:
    if _installed is not None and _installed.answered:
        _installed.hand_on()


def end() -> None:
    """The process ends: everything that is held is written, or a second has passed."""
    if _installed is not None:
        for owner in list(_installed.unfinished):
            _installed.finish(owner)
        flush_requests()
        _installed.pipe.end(_PATIENCE)


def _say(level: Level, source: Source, message: str) -> None:
    if _installed is not None:
        _installed.record(level, source, message, current.get(None))
    elif level != "debug":
        sys.stderr.write(f"{message.rstrip()}\n")


class _Unfinished:
    """A line that somebody began."""

    __slots__ = ("length", "more", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.length = 0
        self.more = 0
        """Characters that were not kept."""

    def add(self, text: str, most: int) -> None:
        room = max(most - self.length, 0)
        if room:
            self.pieces.append(text[:room])
        self.length += min(len(text), room)
        self.more += max(len(text) - room, 0)


class _Capture:
    def __init__(self, descriptor: int, part: Part, loop: asyncio.AbstractEventLoop | None) -> None:
        self.redaction = Redaction()
        self.answered: list[tuple[float, Mapping[str, Any], int, float, str]] = []
        self.unfinished: dict[Outer | int, dict[tuple[Source, Invocation | None], _Unfinished]] = {}
        """By request; outside of one, by thread."""
        self.pipe = LogPipe(descriptor, loop, self._dropped)
        self._part = part
        self._loop = loop
        self._thread = threading.get_ident()
        self._handing_on: asyncio.TimerHandle | None = None
        os.register_at_fork(after_in_child=self._forked)

    # ---- records

    def record(
        self, level: Level, source: Source, message: str, invocation: Invocation | None, *, more: int = 0
    ) -> None:
        payload = self._payload(level, source, message, invocation, more=more)
        if self.answered and threading.get_ident() == self._thread:
            self.hand_on()
        self.pipe.send(pieces(payload))

    def _payload(
        self, level: Level, source: Source, message: str, invocation: Invocation | None, *, more: int = 0
    ) -> bytes:
        part = self._part if invocation is None else invocation.part
        most = self._most
        if len(message) > most:
            message, more = message[:most], more + len(message) - most
        message = self.redaction(_text(message))
        if more and self.redaction.longest:  # half of a secret may stand at its end
            message, more = message[: -self.redaction.longest], more + self.redaction.longest
        record = LogRecord(
            at=stamp(time.time()),
            level=level,
            source=source,
            service=part.service,
            environment=part.environment,
            version=part.version,
            request=None if invocation is None else invocation.outer.id,
            message=cut(message, more),
        )
        return _encode(record)

    def _dropped(self, count: int) -> bytes:
        text = f"the log was full: {count:,} records were lost here"
        (frame,) = pieces(self._payload("warning", "system", text, None))
        return frame

    # ---- what is printed

    def write(self, source: Source, level: Level, text: str) -> None:
        with self.pipe.lock:
            if len(text) > LONGEST and "\n" in text:  # rather many records than one cut short
                *lines, text = text.split("\n")
                for line in lines:
                    self._end_line(source, level, line)
            if text.endswith("\n"):
                self._end_line(source, level, text[:-1])
            elif text:
                self._begin_line(source, text)

    def _begin_line(self, source: Source, text: str) -> None:
        invocation = current.get(None)
        lines = self.unfinished.setdefault(_owner(invocation), {})
        lines.setdefault((source, invocation), _Unfinished()).add(text, self._most)
        if len(self.unfinished) > _UNFINISHED:
            self.finish(next(iter(self.unfinished)))

    def _end_line(self, source: Source, level: Level, text: str) -> None:
        invocation = current.get(None)
        more = 0
        if self.unfinished and (began := self._began(_owner(invocation), source, invocation)) is not None:
            began.add(text, self._most)
            text, more = "".join(began.pieces), began.more
        self.record(level, source, text, invocation, more=more)

    @property
    def _most(self) -> int:
        """A secret that lies across the cut must be found whole."""
        return LONGEST + self.redaction.longest

    def _began(self, owner: Outer | int, source: Source, invocation: Invocation | None) -> _Unfinished | None:
        lines = self.unfinished.get(owner)
        if lines is None:
            return None
        found = lines.pop((source, invocation), None)
        if not lines:
            del self.unfinished[owner]
        return found

    def finish(self, owner: Outer | int) -> None:
        with self.pipe.lock:
            for (source, invocation), line in self.unfinished.pop(owner, {}).items():
                level: Level = "info" if source == "stdout" else "warning"
                self.record(level, source, "".join(line.pieces), invocation, more=line.more)

    # ---- requests

    def hand_on_later(self) -> None:
        if self._handing_on is None and self._loop is not None:
            self._handing_on = self._loop.call_later(_DELAY, self._hand_on_now)

    def _hand_on_now(self) -> None:
        self._handing_on = None
        self.hand_on()

    def hand_on(self) -> None:
        batch = self.answered[:]
        del self.answered[: len(batch)]
        if batch:
            self.pipe.send(pieces(_encode([self._row(*each) for each in batch])))

    def _row(self, at: float, scope: Mapping[str, Any], status: int, seconds: float, id: str) -> tuple[object, ...]:
        """An `Answered`, without the price of making one."""
        host = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                break
        path = self.redaction((scope.get("raw_path") or scope["path"].encode()).decode("latin-1"))
        if len(path) > _LONGEST_PATH:
            path = f"{path[:_LONGEST_PATH]}…"
        return at, id, scope["method"], host.decode("latin-1"), path, status, round(seconds * 1000, 2)

    # ---- what nobody caught

    def uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        self.record("error", "exception", text.rstrip(), current.get(None))

    def uncaught_in_thread(self, what: "threading.ExceptHookArgs") -> None:
        if what.exc_type is SystemExit:
            return
        name = what.thread.name if what.thread else "unknown"
        text = "".join(traceback.format_exception(what.exc_type, what.exc_value, what.exc_traceback))
        self.record("error", "exception", f"in thread {name}: {text.rstrip()}", current.get(None))

    def unraisable(self, what: "sys.UnraisableHookArgs") -> None:
        text = "".join(traceback.format_exception(what.exc_type, what.exc_value, what.exc_traceback))
        where = what.err_msg or "Exception ignored in"
        self.record("error", "exception", f"{where}: {what.object!r}\n{text.rstrip()}", current.get(None))

    def _forked(self) -> None:
        """What was being said when a handler forked, the parent says."""
        self.unfinished.clear()
        self.answered.clear()
        self._loop = None
        self._thread = threading.get_ident()


def _owner(invocation: Invocation | None) -> Outer | int:
    return threading.get_ident() if invocation is None else invocation.outer


def _text(message: str) -> str:
    """A lone surrogate can't be written as UTF-8."""
    try:
        message.encode()
    except UnicodeEncodeError:
        return message.encode("utf-8", "backslashreplace").decode()
    return message


class _Stream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr`."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    mode = "w"
    line_buffering = True
    write_through = True

    def __init__(self, capture: _Capture, source: Source, level: Level, descriptor: int) -> None:
        super().__init__()
        self.name = f"<{source}>"
        self._capture = capture
        self._source: Source = source
        self._level: Level = level
        self._descriptor = descriptor

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._capture.write(self._source, self._level, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """For child processes: what they print, the router reads as it is."""
        return self._descriptor

    def close(self) -> None:
        """Whoever closes it does not mean the worker's log."""

    def reconfigure(self, **_options: Any) -> None:
        """It is UTF-8, and a line at a time."""

    @property
    def buffer(self) -> io.RawIOBase:
        return _Bytes(self)


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`, for those who print bytes."""

    def __init__(self, stream: _Stream) -> None:
        super().__init__()
        self._stream = stream

    def write(self, content: Any, /) -> int:
        content = bytes(content)
        self._stream.write(content.decode("utf-8", "backslashreplace"))
        return len(content)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()


class _Handler(logging.Handler):
    """The root logger's."""

    def __init__(self, capture: _Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record).rstrip("\n")
            text = message if record.name == "root" else f"{record.name}: {message}"
            self._capture.record(_level(record.levelno), "log", text, current.get(None))
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - as every handler of logging: wrong arguments of a log call fail no request
            self.handleError(record)


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
