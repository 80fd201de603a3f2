"""The log of a data plane: what its workers and it itself say, in files on its own disk.

`logs/00000001.jsonl` and on: a record a line, the newest in the highest number. A file that has grown to its size is
followed by the next, and the oldest beyond a count are removed. A line is written by one call, at the end of the file,
so two writers do not mix lines, and one that was killed leaves at most a half last one, which readers pass over and the
next writer closes. Nothing is synced: a log survives the death of every process, not that of the machine.

The log must never stop what it tells of. On a full disk, or without its folder, records are lost and counted, and the
first line that can be written again says how many.
"""

import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from svcctl.model import Model
from svcctl.runtime.records import ATOMIC, FRAME, LEVELS, LONGEST, Answered, Level, LogRecord, cut, reference, stamp

__all__ = ["Decoder", "Level", "LogFilter", "LogRecord", "Logbook", "any_logged", "read"]

_SIZE = 10_000_000
_FILES = 10
_SUFFIX = ".jsonl"
_PAUSE = 0.1
_READ = 1 << 18
_LONGEST_RECORD = LONGEST * 8
"""Bytes in which a message of LONGEST characters fits, whatever it is made of."""
_SHORTEST_ID = 4

_record: Final = msgspec.json.Decoder(LogRecord)
_answered: Final = msgspec.json.Decoder(list[Answered])
_encoder: Final = msgspec.json.Encoder()


# ---- out of a worker's pipe


class Decoder:
    """Bytes of one worker's pipe, cut anywhere, into records. `place` and `version` are those of lines that come
    without a frame, and of requests. `refs`, if given, are all that its records may be about: a handler that writes
    into the pipe by itself speaks for no other deployment."""

    def __init__(self, place: str, version: int, refs: Collection[str] | None = None) -> None:
        self._service, _, self._environment = place.partition("/")
        self._version = version
        self._refs = None if refs is None else {reference(place, version), *refs}
        self._line = bytearray()
        """What was read since the last newline."""
        self._raw = bytearray()
        """A line without a frame, in which a frame stood."""
        self._more = 0
        """Bytes of that line that were not kept."""
        self._pieces = bytearray()

    def feed(self, data: bytes) -> list[LogRecord]:
        found: list[LogRecord] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line += line
            self._whole(found)
            self._line.clear()
        self._line += rest
        if len(self._line) > max(ATOMIC, LONGEST):  # no frame is so long
            self._keep(self._line)
            self._line.clear()
        return found

    def end(self) -> list[LogRecord]:
        """The worker is gone: what it began to write is all there will be."""
        found: list[LogRecord] = []
        self._keep(self._line)
        self._line.clear()
        if self._raw:
            found.append(self._unframed())
        return found

    def _whole(self, found: list[LogRecord]) -> None:
        at = self._line.rfind(FRAME)
        if at < 0:
            self._keep(self._line)
            found.append(self._unframed())
            return
        frame = bytes(self._line[at + 1 :])
        self._keep(self._line[:at])
        if frame[:1] == b"+" and len(self._pieces) < _LONGEST_RECORD:
            self._pieces += frame[1:]
            return
        if frame[:1] == b".":
            frame = bytes(self._pieces) + frame[1:]
            self._pieces.clear()
        try:
            found += self._records(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._keep(frame)
            found.append(self._unframed())

    def _records(self, frame: bytes) -> Iterable[LogRecord]:
        if frame[:1] == b"[":
            return map(self._request, _answered.decode(frame))
        record = _record.decode(frame)
        if self._refs is not None and record.ref not in self._refs:
            raise msgspec.ValidationError("it speaks for another deployment")
        return (record,)

    def _request(self, row: Answered) -> LogRecord:
        return LogRecord(
            at=stamp(row.at),
            level="error" if row.status >= 500 else "info",
            source="request",
            service=self._service,
            environment=self._environment,
            version=self._version,
            request=row.request,
            method=row.method,
            host=row.host,
            path=row.path,
            status=row.status,
            ms=row.ms,
        )

    def _keep(self, raw: bytes | bytearray) -> None:
        room = max(LONGEST - len(self._raw), 0)
        self._raw += raw[:room]
        self._more += max(len(raw) - room, 0)

    def _unframed(self) -> LogRecord:
        """Mostly C libraries that complain; which of the two descriptors it was, the pipe does not tell."""
        text = self._raw.decode("utf-8", "backslashreplace").removesuffix("\r")
        more = self._more
        self._raw.clear()
        self._more = 0
        return LogRecord(
            at=stamp(time.time()),
            level="warning",
            source="stderr",
            service=self._service,
            environment=self._environment,
            version=self._version,
            message=cut(text, more),
        )


# ---- into files


class Logbook:
    def __init__(self, folder: Path, *, size: int = _SIZE, files: int = _FILES, parents: bool = True) -> None:
        """Opens nothing yet; nothing here raises OSError. `parents`: folders above it may be made too."""
        self.folder = folder
        self.lost = 0
        """Records that could not be written, and of which no line of the log tells yet."""
        self._size = size
        self._files = files
        self._parents = parents
        self._file: int | None = None
        self._number = 0
        self._broken = False
        """Whether the file ends with half a line of ours."""
        self._why = ""

    def append(self, records: Iterable[LogRecord]) -> None:
        records = list(records)
        if not records:
            return
        told = [self._loss()] if self.lost else []
        written = self._write([*told, *records])
        if told and written:
            self.lost = 0
            written -= 1
        self.lost += len(records) - written

    def event(self, level: Level, message: str, place: str = "", version: int = 0) -> None:
        """Something of svcctl's own; about an environment, if `place` names one."""
        service, _, environment = place.partition("/")
        self.append(
            [
                LogRecord(
                    at=stamp(time.time()),
                    level=level,
                    source="system",
                    service=service,
                    environment=environment,
                    version=version,
                    message=message,
                )
            ]
        )

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _loss(self) -> LogRecord:
        text = f"{self.lost:,} log records were lost here: {self._why}"
        return LogRecord(at=stamp(time.time()), level="warning", source="system", message=text)

    def _write(self, records: list[LogRecord]) -> int:
        """How many were written whole."""
        content = _encoder.encode_lines(records)
        done = 0
        try:
            file, torn = self._current()
            if torn:
                os.write(file, b"\n")
            while done < len(content):
                done += os.write(file, content[done:])
        except OSError as error:
            self._why = error.strerror or str(error)
            self.close()
        return content[:done].count(b"\n")

    def _current(self) -> tuple[int, bool]:
        """The file to write into, and whether it ends with half a line: a writer was killed, or the disk was full."""
        while True:
            if self._file is None:
                self._file = self._open()
            file = os.fstat(self._file)
            if file.st_nlink and file.st_size < self._size:
                torn = bool(file.st_size) and os.pread(self._file, 1, file.st_size - 1) != b"\n"
                return self._file, torn
            self.close()  # removed under us, or full: then `_open` goes on to the next

    def _open(self) -> int:
        self.folder.mkdir(mode=0o700, parents=self._parents, exist_ok=True)
        files = _files(self.folder)
        number, path = files[-1] if files else (1, _path(self.folder, 1))
        if files and path.stat().st_size >= self._size:
            path = _path(self.folder, number + 1)
            for _, old in files[: -(self._files - 1) or None]:
                with suppress(
                    OSError
                ):  # another writer was faster, or it may not be removed: rather too much than none
                    old.unlink()
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:08}{_SUFFIX}"


def _files(folder: Path) -> list[tuple[int, Path]]:
    """By number; none where there is no folder."""
    try:
        found = [path for path in folder.iterdir() if path.suffix == _SUFFIX]
    except FileNotFoundError:
        return []
    return sorted((int(path.stem), path) for path in found if path.stem.isdecimal())


# ---- and back


class LogFilter(Model):
    """What is looked for; what is not said matches everything."""

    services: tuple[str, ...] | None = None
    """The data plane's own records have the service ""."""
    environment: str | None = None
    versions: dict[str, int] = {}
    """By service; a service that is not in it has none."""
    since: str | None = None
    """Inclusive, in the form of `LogRecord.at`."""
    request: str | None = None
    """An id, or so much of its beginning or end."""
    level: Level = "debug"
    """This one and those above."""

    def matches(self, record: LogRecord) -> bool:
        return (
            (self.services is None or record.service in self.services)
            and (self.environment is None or record.environment == self.environment)
            and (not self.versions or self.versions.get(record.service) == record.version)
            and (self.since is None or record.at >= self.since)
            and (self.request is None or _is_of(self.request, record.request))
            and LEVELS.index(record.level) >= LEVELS.index(self.level)
        )


def _is_of(wanted: str, request: str | None) -> bool:
    if request is None:
        return False
    return request == wanted or (
        len(wanted) >= _SHORTEST_ID and (request.startswith(wanted) or request.endswith(wanted))
    )


_ANY = LogFilter()


def any_logged(folder: Path) -> bool:
    """Whether there is anything at all."""
    for _, path in _files(folder):
        with suppress(FileNotFoundError):  # rotated away
            if path.stat().st_size:
                return True
    return False


def read(
    folder: Path, filter: LogFilter = _ANY, *, follow: bool = False, last: int | None = None
) -> Iterator[LogRecord]:
    """In the order in which they were written. `last`: of those that are there, so many of the newest. With `follow` it
    goes on for ever, across rotation, also where there is no file yet."""
    tail = _Tail(folder, 0 if last is None else _start(folder, filter, last))
    try:
        there = (record for record in tail.more() if filter.matches(record))
        yield from there if last is None else deque(there, maxlen=last)
        while follow:
            time.sleep(_PAUSE)
            yield from (record for record in tail.more() if filter.matches(record))
    finally:
        tail.close()


def _start(folder: Path, filter: LogFilter, count: int) -> int:
    """The newest file from which on there are so many."""
    for number, path in reversed(_files(folder)):
        with suppress(FileNotFoundError):
            count -= sum(map(filter.matches, _records(path.read_bytes())))
        if count <= 0:
            return number
    return 0


def _records(content: bytes) -> Iterator[LogRecord]:
    """Of whole lines; what is no record was torn by a full disk or a killed writer."""
    for line in content.split(b"\n")[:-1]:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            yield _record.decode(line)


class _Tail:
    """Reads on from where it was, from file to file."""

    def __init__(self, folder: Path, first: int) -> None:
        self._folder = folder
        self._number = first - 1
        self._file: int | None = None
        self._at = 0
        self._rest = b""

    def more(self) -> Iterator[LogRecord]:
        """Up to the end of the newest file."""
        while True:
            # Listed before the file is read: once a later one is there, nothing more is written into this one.
            following = self._following()
            if self._file is not None:
                yield from self._to_its_end(self._file)
            if following is None:
                return
            self.close()
            self._number, path = following
            self._at, self._rest = 0, b""
            with suppress(FileNotFoundError):  # removed since: it was the oldest
                self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _following(self) -> tuple[int, Path] | None:
        files = _files(self._folder)
        later = [each for each in files if each[0] > self._number]
        if not later and self._file is not None and not os.fstat(self._file).st_nlink:
            later = files  # all were removed, and numbers began again
        return later[0] if later else None

    def _to_its_end(self, file: int) -> Iterator[LogRecord]:
        if os.fstat(file).st_size < self._at:  # emptied by somebody
            self._at, self._rest = 0, b""
        while content := os.pread(file, _READ, self._at):
            self._at += len(content)
            lines = self._rest + content
            whole = lines.rfind(b"\n") + 1
            self._rest = lines[whole:]
            yield from _records(lines[:whole])
