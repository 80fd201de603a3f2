"""Which entries of a folder belong to a service: .gitignore files from the repository's top down, then `exclude`, then
`include`, which wins over both; and a few names that never belong, whatever anyone says."""

import enum
import errno
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from svcctl.bundle.patterns import Patterns, above
from svcctl.errors import Refused, UsageError
from svcctl.text import clean

_NEVER = re.compile(
    r"\.git|\.svcctl|\.svcctl\.vars|\.dev\.vars|\.env.*|.*\.key|.*\.pem|\.venv|__pycache__", re.IGNORECASE | re.DOTALL
)
_GITIGNORE_SIZE = 1_000_000


class Standing(enum.Enum):
    """How an entry stands, and what lies in it unless something says otherwise."""

    OPEN = enum.auto()
    INCLUDED = enum.auto()
    IGNORED = enum.auto()


class Layer(NamedTuple):
    """The patterns of one .gitignore; `base` is the length of its folder's path from the repository's top."""

    patterns: Patterns
    base: int


Layers = tuple[Layer, ...]
"""Deepest first: git asks them in that order."""


class Selection:
    def __init__(self, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._include = _patterns(include, "include")
        self._exclude = _patterns(exclude, "exclude")
        self._above = above(include)

    def standing(self, parent: Standing, layers: Layers, path: str, full: str, name: str) -> Standing:
        """`path` in the artifact, `full` from the repository's top; they and `name` end in a slash for a folder."""
        included = self._include.decide(path, name)
        if included or (included is None and parent is Standing.INCLUDED):
            return Standing.INCLUDED
        if parent is Standing.IGNORED or self._left_out(layers, path, full, name):
            return Standing.IGNORED
        return Standing.OPEN

    def leads_on(self, path: str) -> bool:
        """Whether `include` names something by path below this ignored folder."""
        return self._above.decide(path, "") is True

    def _left_out(self, layers: Layers, path: str, full: str, name: str) -> bool:
        decided = self._exclude.decide(path, name)
        for layer in layers:
            if decided is not None:
                break
            decided = layer.patterns.decide(full[layer.base :], name)
        return decided is True


def never(name: str) -> bool:
    return _NEVER.fullmatch(name) is not None


def layers_above(top: Path, folder: Path) -> Layers:
    """Of the folders from the repository's top down to, but without, `folder`; both are real paths."""
    layers: Layers = ()
    here, base = top, ""
    for part in folder.relative_to(top).parts:
        layers = deeper(layers, os.fspath(here / ".gitignore"), base)
        here, base = here / part, f"{base}{part}/"
    return layers


def deeper(layers: Layers, file: str, base: str, folder: int | None = None) -> Layers:
    """With the .gitignore `file` (relative to the descriptor `folder`), if there is one. A link in its place is passed
    over, as git does: it could name a file of another tree."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP}:
            return layers
        raise Refused(f"{base}.gitignore can't be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return layers
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(_GITIGNORE_SIZE + 1)
    if len(content) > _GITIGNORE_SIZE:
        raise Refused(f"{base}.gitignore is larger than {_GITIGNORE_SIZE:,} bytes")
    patterns = Patterns.of_git(content)
    return (Layer(patterns, len(base)), *layers) if patterns else layers


def repository_top(folder: Path) -> Path:
    """The top of the git repository around `folder`, or itself."""
    return next((parent for parent in (folder, *folder.parents) if os.path.lexists(parent / ".git")), folder)


def _patterns(lines: tuple[str, ...], key: str) -> Patterns:
    try:
        return Patterns(lines)
    except ValueError as error:
        raise UsageError(
            f"services.toml: `{key}` holds {clean(str(error))!r}, which is no gitignore pattern"
        ) from error
