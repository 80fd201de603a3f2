import csv
import io
from collections.abc import Iterator
from typing import Annotated

import typer

from svcctl.backend.base import Changes, Filter, Refusals
from svcctl.cli import consent, target, times, views
from svcctl.cli.context import Context
from svcctl.cli.options import ActorOption, CursorOption, LimitOption, SinceOption
from svcctl.cli.output import Block, Column, Content, Note, Table, Verbatim, When, shown
from svcctl.errors import UsageError
from svcctl.model import Change

_FORMATS = ("table", "csv")
_FORMULA = ("=", "+", "-", "@")


def audit(
    context: Context,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    since: SinceOption = None,
    actor: ActorOption = None,
    refusals: Annotated[
        bool, typer.Option("--refusals", help="Instead: requests that the API turned away because of who asked.")
    ] = False,
    format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="table or csv.", autocompletion=lambda: list(_FORMATS))
    ] = "table",
) -> None:
    """List every change: who, when, what and why.

    Newest first. Also those that made no version: renames, routes, protection, tags, deletions."""
    if format not in _FORMATS or ((context.json or refusals) and format != "table"):
        raise UsageError(f"--format {format}: must be table or csv, and csv goes with neither --json nor --refusals")
    if refusals:
        _show_refusals(context, limit, cursor)
        return
    filter = Filter(since=times.since(since, context.now) if since else None, actor=actor)
    page = context.backend.changes(target.project(context).name, filter=filter, limit=limit, cursor=cursor)
    if format == "csv":
        context.show(page, [Verbatim(_csv(page))])
        context.tell(*_more(context, page))
    else:
        context.show({"changes": page.changes, "next": page.next}, _blocks(context, page, filter))


def _show_refusals(context: Context, limit: int, cursor: str | None) -> None:
    page = context.backend.refusals(limit=limit, cursor=cursor)
    context.show({"refusals": page.refusals, "next": page.next}, _refusal_blocks(context, page))


def _refusal_blocks(context: Context, page: Refusals) -> Iterator[Block]:
    rows = [(When(each.at), each.actor, each.peer, each.what, each.why) for each in page.refusals]
    yield Table(["age", "who", "from", "what", Column("why", wrap=True)], rows, empty="nobody was turned away yet")
    yield from _more(context, page)


def _blocks(context: Context, page: Changes, filter: Filter) -> Iterator[Block]:
    columns: list[str | Column] = ["change", "age", "who", "kind", Column("what", wrap=True)]
    empty = views.none_of("changes", filter, more=page.next is not None)
    yield Table(columns, [_row(each) for each in page.changes], empty=empty)
    yield from _more(context, page)


def _more(context: Context, page: Changes | Refusals) -> Iterator[Block]:
    if page.next:
        yield Note(f"there is more: {consent.next_page(context, page.next)}")


def _row(change: Change) -> list[Content]:
    what = "; ".join(change.summary) + (f" — {change.message}" if change.message else "")
    return [f"c{change.number}", When(change.at or ""), change.actor.partition(" <")[0], change.kind, what]


def _csv(page: Changes) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["change", "id", "at", "actor", "kind", "summary", "message"])
    for each in page.changes:
        cells = [f"c{each.number}", each.id, each.at, each.actor, each.kind, "; ".join(each.summary), each.message]
        rows.writerow([_cell(cell or "") for cell in cells])
    return text.getvalue()


def _cell(text: str) -> str:
    """A spreadsheet would run `=HYPERLINK(…)` that someone wrote into a message."""
    text = shown(text)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
