from collections.abc import Iterator, Sequence

from svcctl.cli import effective, standing, views
from svcctl.cli.context import Context
from svcctl.cli.options import ServiceOption
from svcctl.cli.output import Block, Cell, Column, Content, Note, Table, When
from svcctl.cli.standing import Standing
from svcctl.cli.times import absolute


def status(context: Context, service: ServiceOption = None) -> None:
    """Show what runs where, and what is waiting.

    For each service and environment: the version in force and its commit; how many commits it is ahead of or behind
    its neighbour (staging and production look at each other, all others at production); what services.toml says and
    the environment has not yet."""
    found = standing.standings(context, effective.chosen(context, service))
    context.show({"environments": found}, _blocks(found))


def _blocks(found: Sequence[Standing]) -> Iterator[Block]:
    columns: list[str | Column] = [
        "service",
        "environment",
        Column("version", right=True),
        "age",
        Column("commit", wrap=True),
        Column("compared", wrap=True),
        Column("waiting", wrap=True),
        Column("state", wrap=True),
    ]
    yield Table(columns, [_row(each) for each in found], empty="no services yet")
    yield from _notes(found)


def _row(each: Standing) -> list[Content]:
    return [
        each.service,
        each.environment,
        each.version,
        When(each.at) if each.at else "",
        views.commit_words(each.code),
        _distance(each),
        Cell(", ".join(map(str, each.waiting)), "warn"),
        _state(each),
    ]


def _distance(each: Standing) -> Content:
    """`3 ahead of production`"""
    if each.compared_with is None:
        return ""
    other = each.compared_with.partition("/")[2]
    if each.ahead is None or each.behind is None:
        return Cell(f"? {other}", "dim")
    ahead, behind = f"{each.ahead} ahead of", f"{each.behind} behind"
    words = [text for text, count in ((ahead, each.ahead), (behind, each.behind)) if count] or ["even with"]
    return f"{', '.join(words)} {other}"


def _state(each: Standing) -> Content:
    if each.expired and each.expires:
        return Cell(f"expired {absolute(each.expires)}", "bad")
    if each.lacks:
        return Cell(f"not live: lacks {', '.join(each.lacks)}", "bad")
    if each.live:
        return Cell("live, protected" if each.protected else "live", "live")
    return Cell("no code" if each.version else "not deployed", "dim")


def _notes(found: Sequence[Standing]) -> Iterator[Block]:
    if any(each.expired for each in found):
        yield Note("time to live is over: svcctl env prune")
    deployable = (each for each in found if any(item.change != "missing" for item in each.waiting))
    if first := next(deployable, None):
        only = f"-s {first.service} --env {first.environment}"
        yield Note(f"to bring {first.environment} what services.toml says: svcctl deploy --settings-only {only}")
    for each in found:
        for item in each.waiting:
            if item.change == "missing":
                yield Note(f"svcctl secrets set {item.name} -s {each.service} --env {each.environment}")
                return
