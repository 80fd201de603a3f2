"""The report of a bug, in a file: enough to find the line, nothing that a user typed or stored.

Left out: local values, the texts of exceptions (`invalid literal: 'hunter2'`) and every argument that is neither a
command's name nor an option's.
"""

import os
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from svcctl import __version__
from svcctl.cli import catalogue


def folder(environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or "/tmp") / ".local" / "state"  # noqa: S108
    return Path(state) / "svcctl" / "reports"


def write(text: str, environ: Mapping[str, str], now: datetime) -> Path:
    """Raises OSError where the folder can't be written. Never writes over another report."""
    place = folder(environ)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{now:%Y%m%dT%H%M%SZ}-{uuid4().hex[:8]}.txt"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def compose(error: BaseException, arguments: Sequence[str], now: datetime) -> str:
    lines = [
        f"svcctl {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"at {now:%Y-%m-%dT%H:%M:%SZ}",
        f"command: {' '.join(['svcctl', *map(_masked, arguments)])}",
        "",
        *_frames(error),
    ]
    return "\n".join(lines) + "\n"


def _masked(argument: str) -> str:
    known = {word for command in catalogue.COMMANDS for word in command.split()}
    if argument in known:
        return argument
    name, equals, _ = argument.partition("=")
    if name.startswith("--") and name[2:].replace("-", "").isalpha():
        return f"{name}=***" if equals else name
    return argument if len(argument) == 2 and argument.startswith("-") else "***"


def _frames(error: BaseException) -> list[str]:
    """Causes first, as Python prints them; exceptions by type alone."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [*_frames(before), "", "which led to", ""] if before else []
    frames = traceback.extract_tb(error.__traceback__)
    lines += [f"  {_place(frame.filename)}:{frame.lineno} in {frame.name}" for frame in frames]
    return [*lines, type(error).__qualname__]


def _place(filename: str) -> str:
    """Relative to where modules are found: a home folder's name is nobody's business."""
    for root in sorted(filter(None, sys.path), key=len, reverse=True):
        if filename.startswith(root + os.sep):
            return filename.removeprefix(root + os.sep)
    return Path(filename).name
