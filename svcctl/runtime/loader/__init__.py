"""Services' modules, side by side in one process.

A deployment of one service is loaded as any program is: its folder is on `sys.path`, its modules have their plain
names. Frameworks import by name, and find what they are told.

Where there are several, two of them may have a `worker.py` each. Then the modules of each are below a package that
exists in `sys.modules` alone, `shop@production`, whose `__path__` is the service's folder; Python's own machinery finds
them there. What the service calls `utils` is `shop@production.utils`, and one hook on import translates (`hooks`). So
is a single service loaded that has a `json.py`: its own code imports it, and nothing else ever does.

Installed requirements have their plain names always and are shared by all services of the process, which need the same
versions (`svcctl.rules.vendored`). svcctl and its own libraries are out of reach: `sys.path` does not have them, and
the hook refuses those that are loaded. Where a service brings a copy of such a library, `sys.modules` has the
service's, and svcctl's is put back while code of svcctl's imports.

Before a module runs, compiled or from cached byte code, its source is hashed and compared with the manifest (`source`).

What it costs: a folder is listed once; each import statement takes some 0.4 us more whenever it runs.
"""

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from types import ModuleType

from svcctl.runtime.assembly import Part
from svcctl.runtime.loader.beside import Beside
from svcctl.runtime.loader.hooks import Process
from svcctl.runtime.loader.source import Ground, Proof, Source
from svcctl.runtime.loader.spaces import PROVIDED, STANDARD, Space, Vendored, module_name

VENDORED = "python_modules"
"""The folder of installed requirements in an artifact's root."""

_process = Process()
_loaders: "list[Loader]" = []


class Loader:
    """The parts of one assembly; made before any code of theirs is imported."""

    def __init__(self, parts: Sequence[Part]) -> None:
        if not _process.installed:
            _process.install()
        self._parts = {part.place: part for part in parts}
        self._vendored = list(dict.fromkeys(filter(os.path.isdir, map(_vendored, parts))))
        names = {name for folder in self._vendored for name in _listed(folder)}
        self._names: Collection[str] = names
        self._front: list[str] = []
        self._prefixes: dict[str, str] = {}
        self._folders: list[str] = []
        vendored = Vendored(names, _process.is_foreign)
        for part in parts:
            self._add(part, vendored, alone=len(parts) == 1 and not _loaders)
        _loaders.append(self)
        _process.forget()
        _arrange()

    def load(self, place: str) -> ModuleType:
        """The main module of a part. Raises what its code raises, and Damage."""
        return _process.load(self._prefixes[place] + module_name(self._parts[place].main))

    def close(self) -> None:
        """For a process that goes on: nothing of the parts is left in its import system."""
        _loaders.remove(self)
        gone = [name for name, module in sys.modules.items() if self._is_mine(name, module)]
        for name in gone:
            del sys.modules[name]
        _process.forget()
        for prefix in self._prefixes.values():
            _process.spaces.pop(prefix.rstrip("."), None)
        for folder in self._folders:
            _process.grounds.pop(folder, None)
            _process.beside.pop(folder, None)
        _arrange()
        if not _loaders:
            _process.uninstall()

    # ---- one part

    def _add(self, part: Part, vendored: Vendored, *, alone: bool) -> None:
        listed = _listed(part.folder)
        listed.pop(VENDORED, None)
        listed |= dict.fromkeys(part.beside, True)
        own = {name for name, strong in listed.items() if strong or not (name in STANDARD or name in vendored.names)}
        path = [part.folder]
        if part.beside:
            path.append(self._own(os.path.join(part.folder, "<beside>")))  # noqa: PTH118
            _process.beside[path[1]] = Beside(part.beside, _process.source)
        prefix = ""
        if not alone or _hides(own, module_name(part.main).partition(".")[0]):
            prefix = _new_prefix(part)
        space = Space(prefix, own, vendored)
        if prefix:
            _process.spaces[prefix] = space
            sys.modules[prefix] = _package(prefix, path)
        else:
            self._front += path
            self._names = {*self._names, *own}
        self._prefixes[part.place] = f"{prefix}." if prefix else ""
        proof = Proof(part, part.manifest) if part.manifest else None
        for folder in (part.folder, *part.beside.values()):
            _process.grounds.setdefault(self._own(folder), Ground(folder, "", space, proof))
        folder = self._own(_vendored(part))
        _process.grounds.setdefault(folder, Ground(folder, f"{VENDORED}/", vendored, proof))

    def _own(self, folder: str) -> str:
        self._folders.append(folder)
        return folder

    def _is_mine(self, name: str, module: ModuleType) -> bool:
        top = name.partition(".")[0]
        if (top in self._names and top not in STANDARD) or f"{top}." in self._prefixes.values():
            return True
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        return isinstance(loader, Source) and any(loader.ground is _process.grounds.get(each) for each in self._folders)


@contextmanager
def own_packages() -> Iterator[None]:
    """Inside, imports find svcctl's own libraries. Code of svcctl's needs it only where a library imports for it."""
    with _process.own_packages():
        yield


def _arrange() -> None:
    _process.share(name for loader in _loaders for name in loader._names)  # noqa: SLF001
    _process.arrange(
        [folder for loader in _loaders for folder in loader._front],  # noqa: SLF001
        [folder for loader in _loaders for folder in loader._vendored],  # noqa: SLF001
    )


def _vendored(part: Part) -> str:
    return part.vendored or os.path.join(part.folder, VENDORED)  # noqa: PTH118


def _listed(folder: str) -> dict[str, bool]:
    """Top-level names of modules; False for folders without `__init__.py`, which any other module goes before."""
    found: dict[str, bool] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name, dot, suffix = entry.name.partition(".")
            if not dot and entry.is_dir():
                found.setdefault(name, False)
                found[name] |= os.path.exists(os.path.join(entry.path, "__init__.py"))  # noqa: PTH110, PTH118
            elif suffix == "py" or f".{suffix}" in EXTENSION_SUFFIXES:
                found[name] = True
    return found


def _hides(own: Collection[str], main: str) -> bool:
    """Whether plain names can't be had: another module has one of them already."""
    return any(name in STANDARD or name == "svcctl" for name in (*own, main)) or main in PROVIDED


def _new_prefix(part: Part) -> str:
    prefix = part.place.replace("/", "@")
    while prefix in sys.modules:
        prefix += "+"
    return prefix


def _package(name: str, path: list[str]) -> ModuleType:
    package = ModuleType(name)
    package.__spec__ = ModuleSpec(name, None, is_package=True)
    package.__spec__.submodule_search_locations = package.__path__ = path
    return package
