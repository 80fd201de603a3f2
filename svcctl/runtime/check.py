"""Whether services can be imported: each in a process of its own, which may do what it likes and can't hurt.

    python -P -B -m svcctl.runtime.check < subjects.json > findings.json

This process imports the runtime once and no service; it forks a child for each, two at a time. A child leads a session
without a terminal, has nothing on its standard input, and what it prints goes into a file; its finding comes through a
pipe that the service does not know. After ten seconds an alarm interrupts it, so that the line is known where it hangs;
one that hears no alarm is killed, and so is whatever it started. The environment is the caller's choice.
"""

import asyncio
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from types import FrameType
from typing import IO, Any, NoReturn

import msgspec

from svcctl import wire
from svcctl.model import Model, Value
from svcctl.runtime.assembly import Part
from svcctl.runtime.env import Env, Nothing
from svcctl.runtime.handlers import Handler, NoHandler
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.loader import VENDORED, Loader
from svcctl.text import clean, clean_lines

LIMIT = 10.0
"""Seconds that an import may take."""
AT_ONCE = 2
_DEAF = 1.5
"""Seconds more for one that does not hear the alarm."""
_LONGEST = 2_000
_LAST_LINES = 5


class Subject(Model):
    service: str
    folder: str
    main: str
    vendored: str | None = None
    vars: dict[str, Value] = {}
    secrets: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    entrypoints: tuple[str, ...] = ()
    """Classes that bindings of other services name."""
    limit: float = LIMIT


class Finding(Model):
    service: str
    problem: str | None = None
    """None: it can be imported, and has a handler."""
    file: str | None = None
    """Where, relative to the subject's folder."""
    line: int = 0
    note: str | None = None


class _TooLong(BaseException):
    """The alarm."""


class _NeedsSecret(BaseException):
    """Code that reads a secret as it is imported: what follows can't be known here."""


# ---- the children


class _Child:
    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.output: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed in `end`
        self.told = b""
        reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reads)
            _be_child(subject, writes, self.output.fileno())
        os.close(writes)
        self.channel = reads
        self.deadline = time.monotonic() + subject.limit + _DEAF

    def read(self) -> bool:
        """False when there is nothing more to come."""
        part = os.read(self.channel, 65_536)
        self.told += part
        return bool(part) and not self.told.endswith(b"\n")

    def end(self) -> Finding:
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.channel)
        with self.output:
            if self.told.endswith(b"\n"):
                return wire.decode(self.told, Finding)
            return Finding(service=self.subject.service, problem=self._last_words(os.waitstatus_to_exitcode(status)))

    def _last_words(self, code: int) -> str:
        if time.monotonic() >= self.deadline:
            problem = f"it did not finish importing within {self.subject.limit:g} s, and did not hear the alarm"
        elif code >= 0:
            problem = f"it ended its process with status {code} as it was imported (os._exit?)"
        else:
            problem = f"it was killed by {_signal_name(-code)} as it was imported"
        self.output.seek(max(0, self.output.seek(0, os.SEEK_END) - _LONGEST))
        said = clean_lines(self.output.read().decode(errors="replace")).splitlines()[-_LAST_LINES:]
        return "\n".join([problem, *(f"    {line}" for line in said)])


def check(subjects: Sequence[Subject]) -> list[Finding]:
    """In the order of `subjects`."""
    waiting = list(subjects)
    running: dict[int, _Child] = {}
    found: dict[str, Finding] = {}
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                child = _Child(waiting.pop(0))
                running[child.channel] = child
            for child in list(_ended(running)):
                del running[child.channel]
                found[child.subject.service] = child.end()
    finally:
        for child in running.values():
            child.end()
    return [found[subject.service] for subject in subjects]


def _ended(running: dict[int, _Child]) -> Iterator[_Child]:
    patience = min(child.deadline for child in running.values()) - time.monotonic()
    ready, _, _ = select.select(list(running), [], [], max(patience, 0))
    for channel, child in running.items():
        if (channel in ready and not child.read()) or time.monotonic() >= child.deadline:
            yield child


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# ---- inside a child


def _be_child(subject: Subject, channel: int, output: int) -> NoReturn:
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(subject.folder)
        seconds = int(subject.limit + _DEAF) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))  # should nobody be left to kill it
        asyncio.run(_report(subject, channel))
    finally:
        os._exit(1)


async def _report(subject: Subject, channel: int) -> None:
    """Modules are loaded while an event loop runs, as in a worker."""
    finding = _found(subject)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with os.fdopen(channel, "wb") as told:
        told.write(wire.canonical(finding) + b"\n")
    os._exit(0)


def _found(subject: Subject) -> Finding:
    part = Part(
        place=f"{subject.service}/check",
        version=0,
        folder=subject.folder,
        main=subject.main,
        vendored=subject.vendored,
    )
    env = _Env(subject)
    sys.dont_write_bytecode = False  # of requirements it is kept beside them; svcctl's own is left alone
    current.set(Invocation(Outer("check"), part, env))
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, subject.limit, 0.1)  # again and again: code may catch everything
    try:
        module = Loader([part]).load(part.place)
        handler = Handler(module, part.main.partition(":")[2] or None, env)
        for name in subject.entrypoints:
            _check_entrypoint(handler, name)
    except _NeedsSecret as error:
        return Finding(service=subject.service, note=f"it reads {error} as it is imported: no check goes beyond that")
    except BaseException as error:  # noqa: BLE001 - what an import can raise is the question
        signal.setitimer(signal.ITIMER_REAL, 0)
        file, line = _where(error, subject.folder)
        return Finding(service=subject.service, problem=_words(error, subject), file=file, line=line)
    return Finding(service=subject.service)


def _check_entrypoint(handler: Handler, name: str) -> None:
    try:
        handler.entrypoint(name)
    except NoHandler as error:
        raise NoHandler(f"a binding has its entrypoint {name}: {error}") from None


def _ring(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _TooLong


def _words(error: BaseException, subject: Subject) -> str:
    match error:
        case _TooLong():
            return f"it did not finish importing within {subject.limit:g} s"
        case SystemExit():
            code = "" if error.code is None else repr(error.code)
            return f"it calls sys.exit({clean(code)}) as it is imported"
        case NoHandler():
            return str(error)
    text = traceback.format_exception_only(error)[-1].strip().replace(f"{subject.folder}{os.sep}", "")
    if isinstance(error, ImportError) and error.name == "worker":
        text += "; what handlers import is `workers`"
    return clean(text)[:_LONGEST]


def _where(error: BaseException, folder: str) -> tuple[str | None, int]:
    """The last line of the service's own that was at work."""
    places = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 0))
    for file, line in reversed(places):
        below = os.path.relpath(file, folder)
        if not below.startswith((os.pardir, VENDORED)) and not file.startswith("<"):
            return below, line
    return None, 0


class _Env(Env):
    """The vars that the file has; secrets are not here, and bindings lead nowhere."""

    def __init__(self, subject: Subject) -> None:
        why = "nothing can be called while modules are imported"
        bindings = {name: Nothing(name, why) for name in subject.bindings}
        super().__init__(f"{subject.service}/check", {**subject.vars, **bindings})
        self.__dict__["__secrets__"] = subject.secrets

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["__secrets__"]:
            raise _NeedsSecret(name)
        return super().__getattr__(name)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name) if name in self.__dict__["__secrets__"] else super().__getitem__(name)


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Subject])
    sys.stdout.buffer.write(wire.canonical(check(asked)))
