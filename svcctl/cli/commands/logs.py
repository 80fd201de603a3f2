from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from svcctl import reference
from svcctl.cli import loglines, target, times
from svcctl.cli.context import Context
from svcctl.cli.effective import stored
from svcctl.cli.loglines import LogLines
from svcctl.cli.options import OptionalReferenceArgument, ServiceOption, SinceOption
from svcctl.cli.output import Block, Note, Success
from svcctl.dataplane.logbook import LogFilter, any_logged, read
from svcctl.errors import NotFound, UsageError
from svcctl.names import did_you_mean
from svcctl.reference import AsOf, Reference, Tag
from svcctl.runtime.records import LEVELS, Level, LogRecord

_LIMIT = 100
_AT_ONCE = 200
_SPELT: dict[str, Level] = {"warn": "warning", "err": "error"}


def logs(
    context: Context,
    place: OptionalReferenceArgument = None,
    service: ServiceOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    since: SinceOption = None,
    level: Annotated[
        str,
        typer.Option(
            "--level",
            metavar="LEVEL",
            help="debug, info, warning or error: this and worse.",
            autocompletion=lambda: list(LEVELS),
        ),
    ] = "debug",
    request: Annotated[
        str | None, typer.Option("--request", metavar="ID", help="Of this request; its beginning or end will do.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=0,
            metavar="N",
            help=f"The newest N of what is there. {_LIMIT} if not said; with --since or --request all.",
        ),
    ] = None,
) -> None:
    """Show what services printed and logged, and how requests ended.

    Oldest first. Without REF: all of the project. With --json and --follow each record is a JSON document on a line of
    its own: a list that never ends would be no document."""
    folder = _folder(context)
    if not any_logged(folder) and not follow:
        context.show({"logs": [], "more": False}, _nothing_yet())
        return
    wanted = _wanted(context, place, service, since, level, request)
    _refuse_unknown(context, folder, wanted)
    last = _LIMIT if limit is None and since is None and request is None else limit
    if follow:
        _follow(context, folder, wanted, last)
    elif context.json:
        records = list(read(folder, wanted, last=None if last is None else last + 1))
        more = last is not None and len(records) > last
        context.show({"logs": [loglines.answer(each) for each in records[more:]], "more": more}, ())
    else:
        _show(context, read(folder, wanted, last=last))


def _nothing_yet() -> Iterator[Block]:
    yield Success("nothing was logged yet")
    yield Note("services log while they run: svcctl serve")


def _follow(context: Context, folder: Path, wanted: LogFilter, last: int | None) -> None:
    if not any_logged(folder):
        context.tell(*_nothing_yet())
    lines = LogLines()
    for record in read(folder, wanted, last=last, follow=True):
        context.output.stream(loglines.answer(record), lines.blocks([record]))


def _show(context: Context, records: Iterator[LogRecord]) -> None:
    """Not all at once: a log may be long, and its reader may have seen enough."""
    lines = LogLines()
    some = list(islice(records, _AT_ONCE))
    if not some:
        context.show((), [Success("no log record is like this")])
    while some:
        context.output.stream((), lines.blocks(some))
        some = list(islice(records, _AT_ONCE))


# ---- what is looked for


def _folder(context: Context) -> Path:
    """Of what runs on this machine: each node has its own."""
    return context.own_folder / "logs"


def _wanted(
    context: Context, place: str | None, service: list[str] | None, since: str | None, level: str, request: str | None
) -> LogFilter:
    found = _SPELT.get(level.lower(), level.lower())
    if found not in LEVELS:
        raise UsageError(f"--level {level}: must be one of {', '.join(LEVELS)}")
    services, environment, versions = _places(context, place, service)
    return LogFilter(
        services=services,
        environment=environment,
        versions=versions,
        since=times.since(since, context.now) if since else None,
        request=request,
        level=found,
    )


def _places(
    context: Context, place: str | None, option: list[str] | None
) -> tuple[tuple[str, ...], str | None, dict[str, int]]:
    known = _known_services(context)
    chosen = target.services(option)
    for name in chosen or ():
        if name not in known:
            raise NotFound(f"no service {name!r}", hint=did_you_mean(name, known))
    if place is None:
        return chosen or (*known, ""), None, {}
    found = reference.parse(place)
    if found.service and chosen and chosen != (found.service,):
        raise UsageError(f"{place} names service {found.service}; -s names {', '.join(chosen)}")
    services = (found.service,) if found.service else chosen or known
    return services, found.environment, _versions(context, place, found, services)


def _known_services(context: Context) -> tuple[str, ...]:
    """Of this project: in the store, in services.toml, or both."""
    project = target.project(context)
    backend = stored(context)
    there = (each.name for each in backend.services(project.name)) if backend else ()
    return tuple(sorted({*project.services, *there}))


def _versions(context: Context, place: str, found: Reference, services: tuple[str, ...]) -> dict[str, int]:
    """Of each service that has it; a number is one service's own."""
    if found.at is None:
        return {}
    if not isinstance(found.at, Tag | AsOf):
        services = (target.one(context, place, services if len(services) == 1 else None).service or "",)
    versions: dict[str, int] = {}
    for service in services:
        try:
            version = context.backend.version(Reference(found.environment, service, found.at))
        except NotFound:
            if service == services[-1] and not versions:
                raise
        else:
            versions[service] = version.number
    return versions


def _refuse_unknown(context: Context, folder: Path, wanted: LogFilter) -> None:
    """An environment that is not there, and that nothing was logged of while it was."""
    name = wanted.environment
    if name is None or wanted.versions:
        return
    project = target.project(context)
    backend = stored(context)
    known = set(project.environments)
    known |= {each.name for each in backend.environments(project.name)} if backend else set()
    if name in known or any(True for _ in read(folder, LogFilter(environment=name, services=wanted.services), last=1)):
        return
    if name in _known_services(context):
        raise NotFound(f"no environment {name!r}", hint=f"{name} is a service", next=f"svcctl logs -s {name}")
    raise NotFound(f"no environment {name!r}", hint=did_you_mean(name, known))
