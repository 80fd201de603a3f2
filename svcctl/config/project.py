"""services.toml → Project: valid and merged, or every problem at once, in the order of the file."""

from pathlib import Path as FilePath
from typing import NamedTuple

import msgspec

from svcctl import names
from svcctl.config import file, neighbours, settings, source
from svcctl.config.positions import Path, Positions, dotted
from svcctl.config.settings import Own
from svcctl.config.table import Problem, Table, TooManyProblems
from svcctl.errors import ConfigError
from svcctl.model import Block, Limits, Project, ServiceFile

PROJECT = ("project", "domain", "default_environment", "backend", "python", "limits", "services")
SERVICE = (
    "main", "root", "with", "include", "exclude", "python", "vars", "secrets", "bindings", "optional", "environments",
)  # fmt: skip
ENVIRONMENT = ("vars", "secrets", "bindings", "unset", "routes", "protected")
LIMITS = Limits.__struct_fields__

DOMAIN = "localhost"

_OF_PROJECT = dict.fromkeys(PROJECT, "it belongs at the top of the file, before the first [table]")
_OF_SERVICE = dict.fromkeys(SERVICE, "it belongs in a service's table, such as [services.shop]")
_OF_ENVIRONMENT = dict.fromkeys(
    ENVIRONMENT, "it belongs in an environment's table, such as [services.shop.environments.production]"
)


class _Around(NamedTuple):
    """What a service's tables are read by."""

    domain: str
    python: str | None
    var_size: int
    routes: dict[str, Path]
    """Those met so far, and where."""


def load(path: FilePath) -> Project:
    """Raises ConfigError."""
    return load_text(file.read(path), path.name)


def load_text(text: str, name: str = file.NAME) -> Project:
    content = file.parse(text, name)
    problems: list[Problem] = []
    try:
        project = _project(Table(content, (), problems))
    except TooManyProblems:
        raise ConfigError(
            _report(problems, Positions(text), name), hint="there are more: these are the first"
        ) from None
    if problems:
        raise ConfigError(_report(problems, Positions(text), name))
    return project


def _report(problems: list[Problem], positions: Positions, name: str) -> list[str]:
    def line(problem: Problem) -> str:
        path, message, see = problem
        also = f" ({name}:{positions.line(see)})" if see else ""
        return f"{name}:{positions.line(path)}: {dotted(path)}: {message}{also}"

    return [line(problem) for problem in sorted(problems, key=lambda problem: positions.offset(problem.path))]


def _project(top: Table) -> Project:
    top.only(PROJECT, _OF_ENVIRONMENT | _OF_SERVICE)
    name = _project_name(top)
    limits = _limits(top.table("limits"))
    around = _Around(_domain(top), source.read_python(top), (limits or Limits()).var_size, {})
    services = {key: _service(table, around) for key, table in top.table("services").tables()}
    if not top.content.get("services"):
        top.wrong("there is none; add [services.NAME] with its main", "services")
    neighbours.check(top, services)
    project = Project(
        name=name,
        domain=around.domain,
        default_environment=_default_environment(top, services),
        backend=_backend(top),
        services=services,
    )
    return msgspec.structs.replace(project, limits=limits) if limits else project


def _project_name(top: Table) -> str:
    if top.lacks("project"):
        top.wrong('is missing; it names the project: project = "acme"', "project")
    name = top.text("project") or ""
    if name and (wrong := names.check_name(name)):
        top.wrong(f"{name} {wrong}", "project")
    return name


def _domain(top: Table) -> str:
    domain = top.text("domain") or DOMAIN
    if wrong := names.check_host(domain):
        top.wrong(f"{domain} {wrong}", "domain")
    return domain


def _backend(top: Table) -> str | None:
    """A URL, or a folder relative to that of services.toml."""
    backend = top.text("backend")
    if not backend or "://" not in backend:
        return backend
    scheme, _, rest = backend.partition("://")
    if scheme not in {"http", "https"} or not rest.strip("/"):
        top.wrong("must be an http:// or https:// URL, or a folder", "backend")
    elif "@" in rest.partition("/")[0]:  # the value stays out of the message: it holds a password
        top.wrong("must not hold a user name or password: the file is read by everyone who has the code", "backend")
    return backend


def _limits(table: Table) -> Limits | None:
    table.only(LIMITS, {})
    given = {key: count for key in LIMITS if (count := table.count(key))}
    return Limits(**given) if given else None


def _default_environment(top: Table, services: dict[str, ServiceFile]) -> str | None:
    environment = top.text("default_environment")
    if not environment:
        return None
    if wrong := names.check_name(environment):
        top.wrong(f"{environment} {wrong}", "default_environment")
    for name, service in services.items():
        if service.block(environment).protected:
            top.wrong(
                f"{environment} is protected in {name}, so `svcctl deploy` could never go there",
                "default_environment",
                see=("services", name, "environments", environment, "protected"),
            )
    return environment


def _service(table: Table, around: _Around) -> ServiceFile:
    table.only(SERVICE, _OF_PROJECT | _OF_ENVIRONMENT)
    _check_own_name(table)
    own = settings.read(table, around.var_size)
    return ServiceFile(
        base=settings.inherit(table, own, settings.NOTHING, frozenset()),
        blocks={name: _environment(inner, own, around) for name, inner in table.table("environments").tables()},
        optional=settings.read_optional(table, own),
        source=source.read(table, around.python),
    )


def _environment(table: Table, base: Own, around: _Around) -> Block:
    table.only(ENVIRONMENT, _OF_PROJECT | _OF_SERVICE)
    _check_own_name(table)
    own = settings.read(table, around.var_size)
    block = settings.inherit(table, base, own, settings.read_unset(table, base, own))
    return msgspec.structs.replace(block, routes=_routes(table, around), protected=table.flag("protected"))


def _check_own_name(table: Table) -> None:
    if wrong := names.check_name(str(table.path[-1])):
        table.wrong(f"its name {wrong}")


def _routes(table: Table, around: _Around) -> tuple[str, ...]:
    routes = table.texts("routes")
    for index, route in routes:
        if wrong := names.check_route(route):
            table.wrong(f"{route}: {wrong}", "routes", index)
        elif names.under_domain(names.route_host(route), around.domain):
            table.wrong(f"{route} lies under {around.domain}, where hostnames are generated", "routes", index)
        elif route in around.routes:
            table.wrong(f"{route} leads to another place already", "routes", index, see=around.routes[route])
        around.routes.setdefault(route, (*table.path, "routes", index))
    return tuple(route for _, route in routes)
