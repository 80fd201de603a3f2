"""The walk: a folder → the files in it that belong.

Folders are opened by descriptor, each relative to the one above and never through a link, so that a folder swapped for
a link while it is read leads nowhere. A link of the tree is resolved, and walked to in the same way from the top, if
what it names lies inside; else it is refused. Only regular files are taken; nothing else is ever opened.
"""

import errno
import os
import stat as modes
from pathlib import Path
from typing import NamedTuple

from svcctl.bundle.allowance import Allowance
from svcctl.bundle.paths import check_path, decoded
from svcctl.bundle.place import Place, identity, unreadable
from svcctl.bundle.selection import Layers, Selection, Standing, deeper, never
from svcctl.errors import Refused
from svcctl.text import clean

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 100
_SHOWN = 200
_KINDS = {
    modes.S_IFIFO: "a FIFO",
    modes.S_IFSOCK: "a socket",
    modes.S_IFBLK: "a device",
    modes.S_IFCHR: "a device",
}


class Ground(NamedTuple):
    """A folder to walk."""

    top: Path
    """Its real path."""
    path: str
    """What artifact paths begin with: empty, or with a closing slash, as the next two."""
    shown: str
    """What paths in messages begin with: the way from the project's folder."""
    full: str
    """The way from the repository's top."""
    layers: Layers
    """The .gitignore files above it."""
    without: str | None = None
    """An artifact path that is left out."""


class _Spot(NamedTuple):
    """One folder on the way down."""

    descriptor: int
    real: str
    """Its absolute path without links, as the file system spells it."""
    path: str
    """Its artifact path from the top of the walk, with a closing slash, links as they are written."""
    standing: Standing
    layers: Layers
    trail: tuple[tuple[int, int], ...]
    """Device and inode of the folders above it and of itself."""


def walk(ground: Ground, selection: Selection, allowance: Allowance) -> dict[str, Place]:
    """Artifact paths, in no order, and where they lie. Raises Refused."""
    return _Walk(ground, selection, allowance).run()


class _Walk:
    def __init__(self, ground: Ground, selection: Selection, allowance: Allowance) -> None:
        self._ground = ground
        self._top = os.fspath(ground.top)
        self._selection = selection
        self._allowance = allowance
        self._found: dict[str, Place] = {}

    def run(self) -> dict[str, Place]:
        self._enter(self._top, None, _Spot(-1, self._top, "", Standing.OPEN, self._ground.layers, ()))
        return self._found

    def _shown(self, path: str) -> str:
        return (self._ground.shown + path).removesuffix("/") or "."

    def _enter(self, name: str, above: int | None, spot: _Spot) -> None:
        """The folder `name` of the folder `above`."""
        try:
            descriptor = os.open(name, _FOLDER, dir_fd=above)
        except OSError as error:
            raise _failed(self._shown(spot.path), error) from error
        try:
            found = os.fstat(descriptor)
            key = (found.st_dev, found.st_ino)
            if key in spot.trail:
                raise Refused(
                    f"{clean(self._shown(spot.path))} is a link to a folder it lies in: a loop",
                    hint="remove it, or leave it out with `exclude`",
                )
            self._list(spot._replace(descriptor=descriptor, trail=(*spot.trail, key)))
        finally:
            os.close(descriptor)

    def _list(self, spot: _Spot) -> None:
        self._allowance.take_folder()
        if len(spot.trail) > _DEPTH:
            raise Refused(f"{clean(self._shown(spot.path))} lies more than {_DEPTH} folders deep")
        try:
            with os.scandir(spot.descriptor) as listing:
                entries = sorted(listing, key=_name)
        except OSError as error:
            raise _failed(self._shown(spot.path), error) from error
        if any(entry.name == ".gitignore" for entry in entries):
            base = self._ground.full + spot.path
            spot = spot._replace(layers=deeper(spot.layers, ".gitignore", base, spot.descriptor))
        for entry in entries:
            self._entry(spot, entry)

    def _entry(self, spot: _Spot, entry: os.DirEntry[str]) -> None:
        name = decoded(entry.name)
        if never(name):
            return
        folder = _is_folder(entry)
        if folder:
            name += "/"
        path = spot.path + name
        standing = self._selection.standing(
            spot.standing, spot.layers, self._ground.path + path, self._ground.full + path, name
        )
        if standing is Standing.IGNORED and not (folder and self._selection.leads_on(self._ground.path + path)):
            return
        if self._ground.path + path == self._ground.without:
            return
        if wrong := check_path(self._ground.path + path.removesuffix("/"), self._allowance.path_length):
            raise Refused(f"{_brief(self._shown(path))} {wrong}", hint="rename it, or leave it out with `exclude`")
        below = spot._replace(real=f"{spot.real}/{entry.name}", path=path, standing=standing)
        if entry.is_symlink():
            self._follow(below)
        elif folder:
            self._enter(entry.name, spot.descriptor, below)
        else:
            self._take(entry.name, below)

    def _take(self, name: str, spot: _Spot) -> None:
        """The file `name` of the folder open as `spot.descriptor`."""
        shown = self._shown(spot.path)
        try:
            found = os.stat(name, dir_fd=spot.descriptor, follow_symlinks=False)
        except OSError as error:
            raise _failed(shown, error) from error
        if not modes.S_ISREG(found.st_mode):
            kind = _KINDS.get(modes.S_IFMT(found.st_mode), "no file any more")
            raise Refused(f"{clean(shown)} is {kind}", hint="remove it, or leave it out with `exclude`")
        self._allowance.take_file(shown, found.st_size)
        self._found[self._ground.path + spot.path] = Place(spot.real, identity(found), shown)

    def _follow(self, spot: _Spot) -> None:
        """The link at `spot.real`, taken as the file or folder it names."""
        target, parts = self._resolve(spot)
        try:
            above = self._descend(parts[:-1])
        except OSError as error:
            raise _failed(self._shown(spot.path), error) from error
        spot = spot._replace(descriptor=above, real=target)
        try:
            if spot.path.endswith("/"):
                self._enter(parts[-1] if parts else ".", above, spot)
            else:
                self._take(parts[-1], spot)
        finally:
            os.close(above)

    def _descend(self, parts: list[str]) -> int:
        """A descriptor of a folder below the top. Raises OSError where one of `parts` is a link by now."""
        descriptor = os.open(self._top, _FOLDER)
        for part in parts:
            try:
                below = os.open(part, _FOLDER, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    def _resolve(self, spot: _Spot) -> tuple[str, list[str]]:
        """The real path of what a link names, and its parts from the top. Raises Refused where it leads outside."""
        shown = clean(self._shown(spot.path))
        try:
            target = os.path.realpath(spot.real, strict=True)
        except OSError as error:
            raise Refused(
                f"{shown} is a link that leads nowhere: {error.strerror}",
                hint="remove it, or leave it out with `exclude`",
            ) from error
        if target != self._top and not target.startswith(self._top + "/"):
            around = clean(self._ground.shown.removesuffix("/")) or "the project's folder"
            raise Refused(
                f"{shown} is a link to {clean(decoded(target))}, outside of {around}",
                hint="copy what it names, or leave it out with `exclude`",
            )
        parts = [part for part in target[len(self._top) :].split("/") if part]
        if secret := next((part for part in parts if never(decoded(part))), None):
            raise Refused(
                f"{shown} is a link to {clean(decoded(secret))}, which is never bundled",
                hint="remove it, or leave it out with `exclude`",
            )
        return target, parts


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also of a link that leads to one. A link in a circle is none; following it says what is wrong."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _brief(shown: str) -> str:
    """Of a path that may be as long as the system allows."""
    return clean(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…")


def _failed(shown: str, error: OSError) -> Refused:
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
        return Refused(f"{clean(shown)} changed while it was being read", next="type the command again")
    return unreadable(shown, error)
