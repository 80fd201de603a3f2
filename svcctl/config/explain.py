"""Where each effective name of an environment comes from."""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, Literal

from svcctl.config import file
from svcctl.config.positions import Path, Positions
from svcctl.model import Binding, Block, Model, Project, Value

_TABLES = (("vars", "var"), ("secrets", "secret"), ("bindings", "binding"))


class Shadowed(Model):
    """The service's value, that the environment's own table covers."""

    value: Value | Binding | None
    origin: str


class Explained(Model):
    kind: Literal["var", "secret", "binding", "route", "protected"]
    name: str
    """The route itself where `kind` is route."""
    value: Value | Binding | None
    """None for secrets and routes."""
    origin: str
    """`services.toml:14`"""
    inherited: bool = False
    """From the service; else from the environment's own table."""
    shadows: Shadowed | None = None


def explain(path: FilePath, project: Project, service: str, environment: str) -> tuple[Explained, ...]:
    """What the file says for one environment: vars, secrets, bindings, each by name, then routes and protection.

    `path` is the file that `project` was loaded from. An environment without a table of its own has the service's.
    """
    origins = _Origins(path.name, file.read(path), service, environment)
    return tuple(origins.explained(project.services[service].base, project.services[service].block(environment)))


def line_of(path: FilePath, service: str, name: str, environment: str | None = None) -> int | None:
    """The line that gives `name` a meaning in the service's tables, or in the environment's where it stands there."""
    origins = _Origins(path.name, file.read(path), service, environment or "")
    places = (origins.own(table, name) or origins.base(table, name) for table, _ in _TABLES)
    return next((origins.positions.line(place) for place in places if place), None)


class _Origins:
    def __init__(self, name: str, text: str, service: str, environment: str) -> None:
        self.file = name
        self.positions = Positions(text)
        self._base: Path = ("services", service)
        self._own: Path = (*self._base, "environments", environment)
        self._content = file.parse(text, name)

    def explained(self, base: Block, block: Block) -> Iterator[Explained]:
        for name, value in sorted(block.layer.vars.items()):
            yield self._name("var", "vars", name, value, base.layer.vars.get(name))
        for name in block.secrets:
            yield self._name("secret", "secrets", name, None, None)
        for name, binding in sorted(block.layer.bindings.items()):
            yield self._name("binding", "bindings", name, binding, base.layer.bindings.get(name))
        for index, route in enumerate(block.routes):
            origin = self._origin((*self._own, "routes", index))
            yield Explained(kind="route", name=route, value=None, origin=origin)
        if block.protected:
            origin = self._origin((*self._own, "protected"))
            yield Explained(kind="protected", name="protected", value=True, origin=origin)

    def own(self, table: str, name: str) -> Path | None:
        return self._place((*self._own, table), name)

    def base(self, table: str, name: str) -> Path | None:
        return self._place((*self._base, table), name)

    def _name(
        self,
        kind: Literal["var", "secret", "binding"],
        table: str,
        name: str,
        value: Value | Binding | None,
        inherited: Value | Binding | None,
    ) -> Explained:
        own, base = self.own(table, name), self.base(table, name)
        place = own or base or self._base
        shadows = Shadowed(value=inherited, origin=self._origin(base)) if own and base else None
        origin = self._origin(place)
        return Explained(kind=kind, name=name, value=value, origin=origin, inherited=not own, shadows=shadows)

    def _origin(self, place: Path) -> str:
        return f"{self.file}:{self.positions.line(place)}"

    def _place(self, table: Path, name: str) -> Path | None:
        """Where `name` stands in a table of names, or in an array of them."""
        at: Any = self._content
        for part in table:
            at = at.get(part, {}) if isinstance(at, dict) else {}
        if isinstance(at, list):
            return (*table, at.index(name)) if name in at else None
        return (*table, name) if name in at else None
