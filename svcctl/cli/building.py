"""From a working tree to code that can be deployed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from svcctl.backend.base import Backend
from svcctl.cli.context import STORE, Context
from svcctl.digest import Digest
from svcctl.errors import NotFound, UsageError
from svcctl.model import Code, Project, ServiceFile, Source
from svcctl.names import did_you_mean

if TYPE_CHECKING:
    from svcctl.bundle import Bundle

CACHE = "cache"


def chosen(project: Project, services: Sequence[str] | None) -> tuple[str, ...]:
    """Services of the file: those named, else all."""
    for name in services or ():
        if name not in project.services:
            raise NotFound(f"services.toml has no service {name!r}", hint=did_you_mean(name, project.services))
    return tuple(dict.fromkeys(services or project.services))


def bundles(context: Context, services: Sequence[str]) -> dict[str, "Bundle"]:
    """By service. Files that did not change since the last time are not read again."""
    from svcctl import bundle

    folder = context.required_file.parent
    cache = folder / STORE / CACHE
    return {
        name: bundle.build(
            folder,
            source_of(context.project.services[name]),
            cache=cache,
            limits=context.project.limits,
            progress=context.progress,
        )
        for name in services
    }


def code(context: Context, bundles: Mapping[str, "Bundle"]) -> dict[str, Code]:
    """What a Deploy says of each: digest, what it requires, and the git commit it comes from."""
    if not bundles:
        return {}
    from svcctl import provenance

    folder = context.required_file.parent
    commits = provenance.commits_of(folder, context.environ, {name: paths(context, name) for name in bundles})
    services = context.project.services
    return {
        name: Code(digest=built.digest, requires=services[name].requires, commit=commits[name])
        for name, built in bundles.items()
    }


def paths(context: Context, service: str) -> list[Path]:
    source = source_of(context.project.services[service])
    return [Path(path) for path in (source.root or ".", *source.with_)]


def upload(
    context: Context, backend: Backend, bundles: Mapping[str, "Bundle"], before: Callable[[str], Digest | None]
) -> None:
    """`before` tells what code of a service it is likely to be much like."""
    for name, built in bundles.items():
        backend.upload(built, context.progress, base=before(name))


def source_of(service: ServiceFile) -> Source:
    if service.source is None:
        raise UsageError("a project without services.toml has no code to bundle")
    return service.source
