"""What a module's name means to the code that imports it."""

import sys
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Protocol

from svcctl.runtime.loader.absent import ABSENT, explain

STANDARD = sys.stdlib_module_names
PROVIDED = frozenset({"workers", "asgi", "wsgi"})
"""Top-level names that handler code has of the runtime."""
_RUNTIME = "svcctl.runtime"


class Asker(Protocol):
    """Whose code imports."""

    def meant(self, name: str, wanted: Collection[str]) -> str:
        """The name in sys.modules of what an absolute `name` means. Raises ImportError."""

    def checks_relative(self, package: str, level: int) -> None: ...

    def explain(self, error: ModuleNotFoundError, name: str) -> None: ...


class Foreign(Protocol):
    def __call__(self, top: str) -> bool:
        """Whether a loaded top-level module is svcctl's or a library of svcctl's."""


class Vendored:
    """Installed requirements: they see each other and the standard library."""

    def __init__(self, names: Collection[str], foreign: Foreign) -> None:
        self.names = names
        self._foreign = foreign

    def meant(self, name: str, wanted: Collection[str]) -> str:  # noqa: ARG002
        top = name.partition(".")[0]
        if top in PROVIDED:
            return f"{_RUNTIME}.{name}"
        if top not in STANDARD and top not in self.names and self._foreign(top):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
        return name

    def checks_relative(self, package: str, level: int) -> None:
        pass

    def explain(self, error: ModuleNotFoundError, name: str) -> None:
        pass


class Space:
    """One service's view: its own modules, what the runtime provides, its requirements, the standard library.

    `prefix` stands before the names of its own modules in sys.modules; empty: they have their plain names."""

    def __init__(self, prefix: str, own: Collection[str], vendored: Vendored) -> None:
        self._prefix = prefix
        self._own = own if prefix else ()
        self._plain = () if prefix else own
        self._vendored = vendored

    def meant(self, name: str, wanted: Collection[str]) -> str:
        top = name.partition(".")[0]
        if top in self._own and top not in PROVIDED:
            return f"{self._prefix}.{name}"
        if top in self._plain or top == self._prefix:
            return name
        if top in ABSENT and top not in self._vendored.names:
            raise ModuleNotFoundError(explain(name, wanted), name=name)
        return self._vendored.meant(name, wanted)

    def checks_relative(self, package: str, level: int) -> None:
        """A top-level module has no package, whatever stands before its name."""
        if self._prefix and level > package.count("."):
            few = package.count(".") == 0
            raise ImportError(
                "attempted relative import with no known parent package"
                if few
                else "attempted relative import beyond top-level package"
            )

    def explain(self, error: ModuleNotFoundError, name: str) -> None:
        if self._prefix:
            error.msg = error.msg.replace(f"{self._prefix}.", "")
        if error.msg == f"No module named {name.partition('.')[0]!r}":
            error.msg += "; a package has to stand in requirements.txt, a module of the project in the service's folder"


def module_name(main: str) -> str:
    """`app.worker` for `app/worker.py`."""
    parts = PurePosixPath(main.partition(":")[0]).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
