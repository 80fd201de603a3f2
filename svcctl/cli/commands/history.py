import re
from collections.abc import Iterator
from typing import Annotated

import typer

from svcctl import reference
from svcctl.backend.base import Filter, History
from svcctl.cli import consent, target, times, views
from svcctl.cli.context import Context
from svcctl.cli.options import (
    ActorOption,
    CommitOption,
    CursorOption,
    LimitOption,
    OptionalReferenceArgument,
    ServiceOption,
    SinceOption,
)
from svcctl.cli.output import Block, Note
from svcctl.errors import NotFound, UsageError
from svcctl.reference import Reference

_DIGITS = re.compile(r"[0-9a-f]{4,40}")


def history(
    context: Context,
    place: OptionalReferenceArgument = None,
    service: ServiceOption = None,
    limit: LimitOption = 30,
    cursor: CursorOption = None,
    since: SinceOption = None,
    actor: ActorOption = None,
    commit: CommitOption = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Of the newest deleted environment of that name.")] = False,
) -> None:
    """List versions, newest first.

    Without REF: all environments of the project, one change's rows together."""
    project = target.project(context).name
    wanted = _reference(context, place, service)
    filter = Filter(
        since=times.since(since, context.now) if since else None,
        actor=actor,
        commit=_hash(context, commit) if commit else None,
        deleted=deleted,
    )
    page = context.backend.history(project, wanted, filter=filter, limit=limit, cursor=cursor)
    context.show(
        {"versions": page.versions, "next": page.next},
        _blocks(context, project, wanted, page, filter),
    )


def _reference(context: Context, place: str | None, service: list[str] | None) -> Reference | None:
    if place is None:
        if service:
            raise UsageError("-s needs an environment beside it", next=f"svcctl history {service[0]}/production")
        return None
    found = reference.parse(place)
    if found.at:
        raise UsageError(f"{place!r} is one version", next=f"svcctl show {place}")
    if service and not found.service:
        return target.one(context, place, service)
    return found


def _hash(context: Context, commit: str) -> str:
    """What the store knows commits by; a name such as HEAD is the repository's."""
    if _DIGITS.fullmatch(commit.lower()):
        return commit.lower()
    from svcctl import provenance

    found = provenance.resolve_commit(context.folder, commit)
    if found is None:
        raise NotFound(f"the repository here has no commit {commit!r}", hint="give the first digits of its hash")
    return found


def _blocks(context: Context, project: str, wanted: Reference | None, page: History, filter: Filter) -> Iterator[Block]:
    heads = {version.ref for version in context.backend.heads(project)} if page.versions else set()
    one = wanted is not None and wanted.service is not None
    events = page.events if filter.commit is None else ()
    empty = views.none_of("versions", filter, more=page.next is not None)
    yield from views.history(page.versions, events, heads, one=one, empty=empty)
    if page.next:
        yield Note(f"there is more: {consent.next_page(context, page.next)}")
