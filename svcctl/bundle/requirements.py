"""What a service needs besides its own files: the requirements beside its entry file, read and vouched for.

Everything that determines an installation is taken from files of the artifact, by their bytes: what uv reads is a copy
of them in a folder of its own. Nothing that would run code of a package while it is installed is let through.
"""

import hashlib
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from svcctl.bundle.place import Place, open_file
from svcctl.errors import Refused, UsageError
from svcctl.text import clean

_SIZE = 20_000_000
_INCLUDES = re.compile(r"(?:-r|--requirement|-c|--constraint)(?:\s+|=)?(?P<file>.+)")
_BUILDS = re.compile(r"-e\b|--editable\b|[./~]|file:|(?:git|hg|svn|bzr)\+|[^#]*@\s*(?:file:|(?:git|hg|svn|bzr)\+|\.)")


class Needed(NamedTuple):
    files: dict[str, bytes]
    """By artifact path: all that uv is given."""
    start: str
    """The artifact path of requirements.txt or of uv.lock."""
    shown: str
    """Its path from the project's folder."""
    python: str

    @property
    def locked(self) -> bool:
        return posixpath.basename(self.start) == "uv.lock"

    def determined_by(self, *others: str | None) -> str:
        """A name for what is installed: equal for equal files, Python and `others`."""
        files = [f"{path} {hashlib.sha256(content).hexdigest()}" for path, content in sorted(self.files.items())]
        parts = [self.start, self.python, *(other or "" for other in others), *files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def find(places: Mapping[str, Place], folder: str, python: str | None) -> Needed | None:
    """The requirements in `folder` of the artifact, which is the entry file's. None if there are none."""
    start = _start(places, folder)
    if start is None:
        return None
    files = {start: _content(places[start])}
    if posixpath.basename(start) == "requirements.txt":
        _add_included(places, start, files)
        if not any(True for content in files.values() for _ in _lines(content)):
            return None
    for name in ("pyproject.toml", "uv.toml"):  # both may say where packages come from
        if place := places.get(posixpath.join(folder, name)):
            files[posixpath.join(folder, name)] = _content(place)
    if python is None:
        raise UsageError(
            f"{clean(places[start].shown)} needs packages, and services.toml does not say for which Python",
            hint='add it to the service, or once at the top of the file: python = "3.11"',
        )
    return Needed(files, start, places[start].shown, python)


def check_lines(content: bytes, shown: str) -> None:
    """Refuses what can't be installed without running its code."""
    for number, line in _lines(content):
        if _BUILDS.match(line):
            raise Refused(
                f"{clean(shown)}:{number}: {clean(line)} would have to be built, and deploys run no code",
                hint="name a released wheel; for a folder of the project: with = [...] in services.toml",
            )


def has_hashes(content: bytes) -> bool:
    return b"--hash=" in content or b"--hash " in content


def _start(places: Mapping[str, Place], folder: str) -> str | None:
    plain, lock, project = (
        places.get(posixpath.join(folder, name)) for name in ("requirements.txt", "uv.lock", "pyproject.toml")
    )
    if plain and lock:
        raise Refused(
            f"{clean(plain.shown)} and {clean(lock.shown)}: which one holds is not clear",
            hint="remove one, or leave it out with `exclude`",
        )
    if lock and not project:
        raise Refused(f"{clean(lock.shown)} stands without its pyproject.toml")
    if project and not lock and not plain and _depends(project):
        raise Refused(f"{clean(project.shown)} has dependencies, but no uv.lock beside it", next="uv lock")
    return posixpath.join(folder, "uv.lock") if lock else posixpath.join(folder, "requirements.txt") if plain else None


def _depends(project: Place) -> bool:
    try:
        table = tomllib.loads(_content(project).decode())
    except ValueError as error:
        raise Refused(f"{clean(project.shown)} is no TOML: {error}") from error
    return bool(table.get("project", {}).get("dependencies"))


def _add_included(places: Mapping[str, Place], start: str, files: dict[str, bytes]) -> None:
    """The files that `-r` and `-c` name, and those that these name."""
    waiting = [start]
    while waiting:
        path = waiting.pop()
        check_lines(files[path], places[path].shown)
        for number, line in _lines(files[path]):
            if not (match := _INCLUDES.match(line)):
                continue
            named = posixpath.normpath(posixpath.join(posixpath.dirname(path), match["file"].strip()))
            if named not in places:
                raise Refused(f"{clean(places[path].shown)}:{number}: {clean(line)} names no file of the service")
            if named not in files:
                files[named] = _content(places[named])
                waiting.append(named)


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that say something."""
    for number, raw in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        line = raw.strip()
        if line and not line.startswith("#"):
            yield number, line


def _content(place: Place) -> bytes:
    if place.size > _SIZE:
        raise Refused(f"{clean(place.shown)} is {place.size:,} bytes; requirements may have {_SIZE:,}")
    with open_file(place) as stream:
        return stream.read()
