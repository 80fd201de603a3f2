"""The process's import system, changed for as long as services are loaded.

Every import statement calls `builtins.__import__` with the globals of the code that it stands in, and their
`__spec__.loader` tells whose code that is. Code without one (`exec` with a dict of its own) belongs to the nearest
caller that has one.

    a service's or a requirement's    its Asker says what the name means, or that there is no such thing
    the standard library's            as ever
    svcctl's and its libraries'       as ever, but with svcctl's `sys.path`, and with svcctl's copy of a library that a
                                      service brought too: `own_packages`
"""

import builtins
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder
from threading import RLock
from types import FrameType, FunctionType, ModuleType
from typing import Any

from svcctl.runtime.loader.beside import Beside
from svcctl.runtime.loader.source import Ground, Source
from svcctl.runtime.loader.spaces import STANDARD, Asker, Space

_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120
_ZIP = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
_GO_BETWEENS = frozenset({"importlib", "pkgutil", "runpy", "functools"})
"""Modules that import for whoever calls them."""

_import = builtins.__import__
_original_code = importlib.import_module.__code__
_import_module: Callable[..., ModuleType] = FunctionType(_original_code, vars(importlib), "import_module", (None,))


def _hooked(name: str, package: str | None = None) -> ModuleType:
    """What `importlib.import_module` becomes, in place: many modules hold that function itself."""
    return _svcctl_import_module(name, package)  # type: ignore[name-defined,no-any-return]  # noqa: F821


class Own:
    """svcctl and its libraries."""


_OWN = Own()


class Process:
    """What is installed in this process."""

    def __init__(self) -> None:
        self.grounds: dict[str, Ground] = {}
        self.beside: dict[str, Beside] = {}
        self.spaces: dict[str, Space] = {}
        """By prefix."""
        self.shared: frozenset[str] = frozenset()
        """Top-level names of services: svcctl may have modules of the same names, other ones."""
        self._removed: tuple[str, ...] = ()
        self._path: list[str] = []
        self._stash: dict[str, ModuleType] = {}
        """svcctl's modules under shared names."""
        self._lock = RLock()
        self._swapped = False

    @property
    def installed(self) -> bool:
        return bool(self._path)

    def install(self) -> None:
        self._path = list(sys.path)
        self._removed = tuple(f"{each.rstrip(os.sep)}{os.sep}" for each in sys.path if each and not _is_standard(each))
        sys.path_hooks.insert(0, self._finder)
        builtins.__import__ = self._imported
        vars(importlib)["_svcctl_import_module"] = self._module_imported
        importlib.import_module.__code__ = _hooked.__code__

    def uninstall(self) -> None:
        builtins.__import__ = _import
        importlib.import_module.__code__ = _original_code
        del vars(importlib)["_svcctl_import_module"]
        sys.path_hooks.remove(self._finder)
        self.arrange((), ())
        sys.path[:] = self._path
        self._path = []

    def arrange(self, front: Iterable[str], last: Iterable[str]) -> None:
        """`sys.path` for services: `front` before the standard library, `last` behind it. Each folder once."""
        standard = [each for each in self._path if _is_standard(each)]
        sys.path[:] = dict.fromkeys([*front, *standard, *last])

    def forget(self) -> None:
        """What was found in the services' folders, by whichever finder."""
        for path in list(sys.path_importer_cache):
            if path in self.beside or self.ground(path):
                del sys.path_importer_cache[path]

    def share(self, names: Iterable[str]) -> None:
        """Names that services use; svcctl's modules of these names are put aside, others come back."""
        self.shared = frozenset(names) - STANDARD - {"svcctl"}
        sys.modules.update(self._stash)
        self._stash = self._taken()

    def load(self, name: str) -> ModuleType:
        return _import_module(name)

    # ---- where modules are found

    def ground(self, path: str) -> Ground | None:
        path = os.path.normpath(path)
        while path not in self.grounds:
            above = os.path.dirname(path)  # noqa: PTH120
            if above == path:
                return None
            path = above
        return self.grounds[path]

    def _finder(self, path: str) -> FileFinder | Beside:
        if path in self.beside:
            return self.beside[path]
        if (ground := self.ground(path)) is None:
            raise ImportError(path=path)

        def source(fullname: str, file: str) -> Source:
            return self.source(fullname, file, ground)

        # An entry that is no folder finds nothing: typeshed does not know that loaders may be any callables.
        kinds: Any = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (source, SOURCE_SUFFIXES))
        return FileFinder(path, *kinds)

    def source(self, fullname: str, file: str, ground: Ground | None = None) -> Source:
        """A folder may belong to two parts that run the same artifact: the prefix tells."""
        ground = ground or self.ground(file)
        if ground is None:
            raise ImportError(path=file)
        space: Asker | None = self.spaces.get(fullname.partition(".")[0])
        return Source(fullname, file, ground, space or ground.asker)

    def is_foreign(self, top: str) -> bool:
        module = sys.modules.get(top)
        if module is None or top == "__main__":
            return False
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
        return file.startswith(self._removed) and self.ground(file) is None

    # ---- import

    def _imported(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        asker = _asker(globals)
        if asker is _UNKNOWN:
            asker = _nearest(sys._getframe(1))  # noqa: SLF001
        if asker is None:
            return _import(name, globals, locals, fromlist or (), level)
        if isinstance(asker, Own):
            with self.for_own(name if level == 0 else str((globals or {}).get("__package__"))):
                return _import(name, globals, locals, fromlist or (), level)
        try:
            if level:
                asker.checks_relative(str((globals or {}).get("__package__")), level)
                return _import(name, globals, locals, fromlist or (), level)
            meant = asker.meant(name, fromlist or ())
            module = _import(meant, globals, locals, fromlist or (), 0)
        except ModuleNotFoundError as error:
            asker.explain(error, name)
            raise
        if fromlist or meant == name:
            return module
        return sys.modules[meant[: len(meant) - len(name)] + name.partition(".")[0]]

    def _module_imported(self, name: str, package: str | None = None) -> ModuleType:
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
        asker = _nearest(frame)
        if isinstance(asker, Own):
            with self.for_own(package or name):
                return _import_module(name, package)
        if isinstance(asker, Space):
            return self._for(asker, name, package)
        try:
            return self._for(asker, name, package) if asker else _import_module(name, package)
        except ModuleNotFoundError as error:
            # A library that is given a name by a service: `ImportString("settings.Debug")`.
            space = _nearest(frame, Space)
            if not isinstance(space, Space) or error.name != name.partition(".")[0] or space.meant(name, ()) == name:
                raise
            return self._for(space, name, package)

    def _for(self, asker: Asker, name: str, package: str | None) -> ModuleType:
        try:
            if name.startswith("."):
                return _import_module(name, package and asker.meant(package, ()))
            return _import_module(asker.meant(name, ()))
        except ModuleNotFoundError as error:
            asker.explain(error, name)
            raise

    # ---- svcctl's own

    def for_own(self, name: str) -> AbstractContextManager[None]:
        top = name.partition(".")[0]
        if top in STANDARD or (top in sys.modules and top not in self.shared):
            return _AS_IT_IS
        return self.own_packages()

    @contextmanager
    def own_packages(self) -> Iterator[None]:
        """Other threads that import meanwhile see the same: it is short, and rare."""
        with self._lock:
            if self._swapped or not self.installed:
                yield
                return
            path, theirs = list(sys.path), self._taken()
            sys.modules.update(self._stash)
            sys.path[:] = filter(None, self._path)  # "" is the current folder: a service's
            self._swapped = True
            try:
                yield
            finally:
                self._swapped = False
                sys.path[:] = path
                self._stash = self._taken()
                sys.modules.update(theirs)

    def _taken(self) -> dict[str, ModuleType]:
        """What stands under shared names, out of sys.modules."""
        names = [name for name in sys.modules if name.partition(".")[0] in self.shared]
        return {name: sys.modules.pop(name) for name in names}


_UNKNOWN: Any = object()
_AS_IT_IS = nullcontext()


def _asker(globals: Mapping[str, Any] | None) -> Any:
    """An Asker, an Own, None for the standard library, _UNKNOWN."""
    if not globals or "__spec__" not in globals:
        return _UNKNOWN
    loader = getattr(globals["__spec__"], "loader", None)
    if type(loader) is Source:
        return loader.asker
    top = str(globals.get("__name__")).partition(".")[0]
    if top not in STANDARD:
        return _OWN
    return _UNKNOWN if top in _GO_BETWEENS else None


def _nearest(frame: FrameType | None, kind: type | None = None) -> Any:
    """Who is in charge: the nearest caller that is known, and of `kind` if that is given."""
    while frame is not None:
        asker = _asker(frame.f_globals)
        if asker is not _UNKNOWN and (kind is None or isinstance(asker, kind)):
            return asker
        frame = frame.f_back
    return None


def _is_standard(entry: str) -> bool:
    return entry == _LIBRARY or os.path.basename(entry) in ("lib-dynload", _ZIP)  # noqa: PTH119
