"""What a command acts on, from options, environment variables and services.toml."""

import shlex
from collections.abc import Sequence
from typing import overload

from svcctl import reference
from svcctl.cli import consent
from svcctl.cli.context import Context
from svcctl.errors import NotFound, UsageError
from svcctl.model import Project
from svcctl.names import did_you_mean
from svcctl.reference import Reference

ENVIRONMENT = "SVCCTL_ENV"


def project(context: Context) -> Project:
    """The project as commands carry it. Without services.toml: the only project of the store, by name alone."""
    if context.file is not None:
        return context.project.as_sent()
    projects = context.backend.projects()
    if len(projects) == 1:
        return Project(name=projects[0])
    if not projects:
        raise NotFound("there is no services.toml here, and the store is empty", next="svcctl init")
    raise UsageError(
        f"there is no services.toml here, and the store holds several projects: {', '.join(projects)}",
        hint="go to a project's folder, or name it with -C",
    )


def environment(context: Context, option: str | None, *, branch: bool = False) -> str:
    """--env, or --branch > SVCCTL_ENV > default_environment."""
    if branch:
        if option:
            raise UsageError("--env and --branch name two environments", hint="leave one of them out")
        return of_branch(context)
    name = option or context.environ.get(ENVIRONMENT) or project(context).default_environment
    if not name:
        raise UsageError(
            "which environment? services.toml names no default_environment",
            hint="add --env NAME, set SVCCTL_ENV, or write default_environment into services.toml",
        )
    parsed = reference.parse(name)
    if parsed.service or parsed.at:
        raise UsageError(f"{name!r} is no environment's name", hint="choose services with -s")
    return name


def of_branch(context: Context) -> str:
    """The environment that is named after the git branch."""
    from svcctl import provenance

    found = provenance.branch(context.folder, context.environ)
    if found is None:
        raise UsageError("--branch: there is no git branch here", hint="name the environment instead")
    return provenance.environment_name(found)


@overload
def narrowed(name: str, service: list[str] | None) -> tuple[str, list[str] | None]: ...
@overload
def narrowed(name: str | None, service: list[str] | None) -> tuple[str | None, list[str] | None]: ...
def narrowed(name: str | None, service: list[str] | None) -> tuple[str | None, list[str] | None]:
    """`shop/staging`, the `ref` of an environment, where a name is asked for: staging, with -s shop."""
    if name is None or "/" not in name:
        return name, service
    found = reference.parse(name)
    if found.at:
        raise UsageError(f"{name!r} is a version, not an environment", hint=f"leave out @{name.partition('@')[2]}")
    if service and service != [found.service]:
        raise UsageError(f"{name} names service {found.service}; -s names {', '.join(service)}")
    return found.environment, [found.service or ""]


def narrowed_one(name: str | None, service: str | None) -> tuple[str | None, str | None]:
    """The same for commands that take one service."""
    found, several = narrowed(name, [service] if service else None)
    return found, several[0] if several else None


def services(option: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(dict.fromkeys(option)) if option else None


def stored_services(context: Context, option: Sequence[str] | None) -> tuple[str, ...] | None:
    """-s, each a service of this project in the store. None: all."""
    chosen = services(option)
    if chosen:
        known = [each.name for each in context.backend.services(project(context).name)]
        for name in chosen:
            if name not in known:
                raise NotFound(f"no service {name!r} in the store", hint=did_you_mean(name, known))
    return chosen


def one(context: Context, text: str, service: Sequence[str] | None = None) -> Reference:
    """A reference to one environment: its service is named, or is the only one of the project."""
    found = reference.parse(text)
    if found.service:
        return found
    names = list(service or ()) or [each.name for each in context.backend.services(project(context).name)]
    if len(names) == 1:
        return Reference(found.environment, names[0], found.at)
    raise UsageError(
        f"{text!r} is in several services: {', '.join(names)}",
        hint="name one",
        next=_instead(context, text, f"{names[0]}/{text}") if names else None,
    )


def _instead(context: Context, old: str, new: str) -> str:
    """The command as typed, one word changed."""
    return shlex.join(["svcctl", *(new if word == old else word for word in context.arguments)])


def one_service(context: Context, option: str | None) -> str:
    """-s, or the only service there is."""
    if option:
        return option
    known = project(context)
    names = sorted(known.services) or [each.name for each in context.backend.services(known.name)]
    if len(names) == 1:
        return names[0]
    raise UsageError(
        f"which service? There is {', '.join(names) or 'none'}",
        hint="choose one with -s",
        next=consent.again(context, f"-s {names[0]}") if names else None,
    )


def expected(
    context: Context, option: Sequence[str] | None, service: Sequence[str] | None = None
) -> dict[str, int | None] | None:
    """`--expect shop/production@12`, or `@none` where there must be no version. The service may be left out where
    only one is meant."""
    if not option:
        return None
    heads: dict[str, int | None] = {}
    for text in option:
        place, _, version = text.partition("@")
        if not place:
            raise UsageError(f"--expect {text}: of which environment?", hint="such as shop/production@none")
        found = one(context, place if version == "none" else text, service)
        if version != "none" and not isinstance(found.at, reference.Number):
            raise UsageError(f"--expect {text}: must be [SERVICE/]ENVIRONMENT@NUMBER, or @none for no version")
        heads[f"{found.service}/{found.environment}"] = (
            found.at.number if isinstance(found.at, reference.Number) else None
        )
    return heads


def meta(option: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for text in option or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--meta {text!r}: must be KEY=VALUE")
        found[key] = value
    return found
