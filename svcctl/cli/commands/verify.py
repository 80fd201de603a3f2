from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from svcctl.cli import views
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Cell, Fields, Lines, Note, Success
from svcctl.errors import Damage

if TYPE_CHECKING:
    from svcctl.backend.store.verify import Verified


def verify(
    context: Context,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="N:DIGEST", help="A head kept from an earlier run: was anything rewritten since?"
        ),
    ] = None,
) -> None:
    """Check every record and every stored byte.

    Damage ends with status 9. It prints a head, N:DIGEST; kept elsewhere and given back with --head, it shows later
    whether history up to change N is still what it was."""
    found = context.store.verify(head, context.progress)
    context.show(found, _blocks(found))
    if found.problems:
        raise Damage(
            f"{views.counted(len(found.problems), 'problem')} found",
            hint="restore the store's folder from a backup; bytes of code that is deployed anew are stored again",
        )


def _blocks(found: "Verified") -> Iterator[Block]:
    if found.problems:
        yield Lines([Cell(problem, "bad") for problem in found.problems])
    else:
        counts = ((found.changes, "change"), (found.records, "record"), (found.blobs, "blob"))
        yield Success(f"sound: {', '.join(views.counted(*each) for each in counts)}")
    if found.leftovers:
        yield Note(f"left over and needed by nothing: {', '.join(found.leftovers)}; svcctl gc removes them")
    yield Fields([("since the head given", found.since_head), ("head", found.head)])
