"""Settings in effect: services.toml overlaid by what was set from the command line; where each value is from."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from svcctl.backend.base import Backend
from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.cli.output import Cell, Column, Content, Table
from svcctl.config import Explained
from svcctl.config.explain import Shadowed
from svcctl.errors import NotFound
from svcctl.model import (
    Binding,
    Block,
    Environment,
    EnvironmentId,
    Model,
    Overrides,
    ServiceFile,
    Settings,
    Value,
)
from svcctl.names import did_you_mean
from svcctl.rules import closure
from svcctl.rules.state import Identity, Place

FILE = "services.toml"
OVERRIDE = "override"


class Setting(Model):
    """One effective name of one environment."""

    kind: Literal["var", "secret", "binding", "route", "protected"]
    name: str
    origin: str
    """`services.toml:14`, `services.toml` where the file as it was deployed is meant, or `override`."""
    value: Value | Binding | None = None
    """None for secrets and routes."""
    inherited: bool = False
    """From the service's own table, not from the environment's."""
    shadows: Shadowed | None = None
    """What this covers."""
    set: bool | None = None
    """Of a secret: whether it has a value."""
    leads_to: str | None = None
    """Of a binding: the environment that it reaches now."""


def stored(context: Context) -> Backend | None:
    """None before the first deploy, when there is no store."""
    try:
        return context.backend
    except NotFound:
        return None


def chosen(context: Context, option: Sequence[str] | None) -> tuple[str, ...] | None:
    """-s, each a service of the file or of the store. None: all."""
    services = target.services(option)
    if services:
        backend, project = stored(context), target.project(context)
        known = {*project.services, *(each.name for each in (backend.services(project.name) if backend else ()))}
        for name in services:
            if name not in known:
                raise NotFound(f"no service {name!r}", hint=did_you_mean(name, known))
    return services


def block_name(service: ServiceFile, name: str, environment: Environment | None) -> str:
    """The table of the file that an environment follows: its own, else the one it began with."""
    return name if environment is None or name in service.blocks else environment.block


def owns_identity(service: ServiceFile, environment: Environment) -> bool:
    """Routes and protection of the table that a clone follows are not its own."""
    return environment.name in service.blocks or environment.cloned_from is None


def of_version(settings: Settings) -> tuple[Setting, ...]:
    """Of a version: the file is meant as it was deployed then."""
    layer = settings.file
    vars = [_plain("var", name, value) for name, value in (layer.vars if layer else {}).items()]
    bindings = [_plain("binding", name, value) for name, value in (layer.bindings if layer else {}).items()]
    return overlaid([*vars, *bindings], settings.cli)


def of_file(explained: Iterable[Explained]) -> list[Setting]:
    """What services.toml says now."""
    return [
        Setting(
            kind=each.kind,
            name=each.name,
            value=each.value,
            origin=each.origin,
            inherited=each.inherited,
            shadows=each.shadows,
            set=False if each.kind == "secret" else None,
        )
        for each in explained
    ]


def overlaid(file: list[Setting], over: Overrides) -> tuple[Setting, ...]:
    """Vars, secrets and bindings by name, then the rest as it came."""
    found = {each.name: each for each in file if each.kind in ("var", "secret", "binding")}
    for name, value in over.vars.items():
        found[name] = _override("var", name, value, found.get(name))
    for name, binding in over.bindings.items():
        found[name] = _override("binding", name, binding, found.get(name))
    for name in over.secrets:
        listed = found.get(name, Setting(kind="secret", name=name, origin=OVERRIDE))
        found[name] = replace(listed, set=True)
    order = {"var": 0, "secret": 1, "binding": 2}
    named = sorted(found.values(), key=lambda each: (order[each.kind], each.name))
    return (*named, *(each for each in file if each.kind not in order))


def _plain(kind: Literal["var", "binding"], name: str, value: Value | Binding) -> Setting:
    return Setting(kind=kind, name=name, value=value, origin=FILE)


def _override(kind: Literal["var", "binding"], name: str, value: Value | Binding, covered: Setting | None) -> Setting:
    shadows = Shadowed(value=covered.value, origin=covered.origin) if covered else None
    return Setting(kind=kind, name=name, value=value, origin=OVERRIDE, shadows=shadows)


# ---- where bindings lead


class Leads:
    """Where the bindings of one environment lead now; before it exists, where they would."""

    def __init__(self, backend: Backend | None, service: str, name: str, environment: Environment | None) -> None:
        self._backend = backend
        self._at = _identity(environment) if environment else _unborn(service, name)
        self._known: Mapping[str, Binding] = {}
        self._reached: Mapping[str, str] = {}
        if backend and environment:
            self._known = backend.settings_of(environment).bindings
            self._reached = backend.deployment(service, name).nodes[0].bindings

    def of(self, name: str, binding: Binding) -> str | None:
        """`auth/production`; for a resource the environment whose it is; None where a service is not there yet, and
        for what leads nowhere."""
        if binding.version_metadata:
            return None
        if binding.service is None:
            return f"{self._at.service}/{binding.environment or self._at.name}"
        if self._known.get(name) == binding:
            return self._reached.get(name)
        if self._backend is None:
            return None
        found = closure.resolve(self._at, name, binding, _ByName(self._backend))
        return found.ref if found else None


class _ByName:
    """A Lookup (rules.closure) through a backend's reads."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def place(self, service: str, name: str) -> Place | None:
        try:
            return Place(identity=_identity(self._backend.environment(service, name)))
        except NotFound:
            return None

    def by_id(self, id: EnvironmentId) -> Place | None:
        found = self._backend.by_origin(id)
        return Place(identity=_identity(found)) if found else None

    def former(self, service: str, name: str) -> EnvironmentId | None:  # noqa: ARG002 - the protocol's signature
        return None


def _identity(environment: Environment) -> Identity:
    return Identity(
        id=environment.id,
        service=environment.service,
        name=environment.name,
        block=environment.block,
        cloned_from=environment.cloned_from,
        deleted=environment.deleted,
    )


def _unborn(service: str, name: str) -> Identity:
    return Identity(id=EnvironmentId(""), service=service, name=name, block=name)


# ---- what the file says and an environment has not


class Waiting(Model):
    """A difference between services.toml and an environment; the next deploy there ends it."""

    kind: Literal["var", "binding", "secret", "route", "protected"]
    name: str
    change: Literal["added", "changed", "removed", "missing"]

    def __str__(self) -> str:
        kind = "" if self.kind in ("var", "binding", "protected") else f"{self.kind} "
        return f"{kind}{self.name} {self.change}"


def waiting(service: ServiceFile, environment: Environment, settings: Settings) -> tuple[Waiting, ...]:
    block = service.block(block_name(service, environment.name, environment))
    written = settings.file
    found = [
        *_differing("var", written.vars if written else {}, block.layer.vars),
        *_differing("binding", written.bindings if written else {}, block.layer.bindings),
        *(
            Waiting(kind="secret", name=name, change="missing")
            for name in block.secrets
            if name not in settings.secrets and name not in service.optional
        ),
    ]
    return tuple(found + (_identity_waiting(block, environment) if owns_identity(service, environment) else []))


def _differing(
    kind: Literal["var", "binding"], old: Mapping[str, object], new: Mapping[str, object]
) -> Iterator[Waiting]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Waiting(kind=kind, name=name, change="added")
        elif name not in new:
            yield Waiting(kind=kind, name=name, change="removed")
        elif old[name] != new[name] or type(old[name]) is not type(new[name]):
            yield Waiting(kind=kind, name=name, change="changed")


def _identity_waiting(block: Block, environment: Environment) -> list[Waiting]:
    written = set(environment.routes) - set(environment.cli_routes)
    added = sorted(set(block.routes) - set(environment.routes))
    removed = sorted(written - set(block.routes))
    found = [Waiting(kind="route", name=route, change="added") for route in added]
    found += [Waiting(kind="route", name=route, change="removed") for route in removed]
    if block.protected and not environment.protected:
        found.append(Waiting(kind="protected", name="protected", change="added"))
    return found


# ---- words


def words(value: Value | Binding | None) -> str:
    """A text as it is, unless it would read as something else: `10` is a number, `"10"` a text."""
    if isinstance(value, Binding):
        return str(value)
    if isinstance(value, str) and value.strip() == value and not _reads_as_json(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return not text
    return True


def table(settings: Sequence[Setting], title: str | None) -> Table:
    columns: list[str | Column] = ["kind", "name", Column("value", wrap=True), "from", Column("covers", wrap=True)]
    return Table(columns, [_row(each) for each in settings], title=title, empty="no settings")


def _row(each: Setting) -> list[Content]:
    origin = f"{each.origin} (inherited)" if each.inherited else each.origin
    covers = f"{words(each.shadows.value)} ({each.shadows.origin})" if each.shadows else ""
    return [
        each.kind,
        each.name,
        _value(each),
        Cell(origin, "warn" if each.origin == OVERRIDE else "dim"),
        Cell(covers, "dim"),
    ]


def _value(each: Setting) -> Content:
    match each:
        case Setting(kind="secret", set=True):
            return Cell("set", "ok")
        case Setting(kind="secret"):
            return Cell("missing", "bad")
        case Setting(value=Binding() as binding, leads_to=str(place)):
            return f"{binding} → {place}"
        case Setting(kind="route"):
            return ""
    return words(each.value)
