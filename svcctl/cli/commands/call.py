import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from svcctl.cli import calling
from svcctl.cli.calling import Answer
from svcctl.cli.context import Context
from svcctl.cli.options import ReferenceArgument, ServiceOption
from svcctl.cli.output import Block, Lines


def call(
    context: Context,
    ref: ReferenceArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Such as /carts?user=7.")] = "/",
    method: Annotated[
        str | None, typer.Option("--request", "-X", metavar="METHOD", help="Else GET; POST with -d.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", metavar="TEXT", help="The body; @FILE for a file's, @- for standard input's."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME: VALUE", help="Repeatable.")
    ] = None,
    overriding: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="REF", help="This version of a service, wherever it is reached; repeatable."),
    ] = None,
    include: Annotated[bool, typer.Option("--include", "-i", help="Print the status and headers too.")] = False,
    service: ServiceOption = None,
) -> None:
    """Send a request through stored versions, without a server.

    In this process, with the environment's settings and data. What handlers print goes to standard error."""
    request = calling.request(context, path, method, data, header)
    answer = calling.answer(context, ref, service, overriding or [], request)
    if context.json:
        context.show(answer.document(), ())
        return
    if include:
        context.show(answer.document(), _head(answer))
        sys.stdout.flush()
    calling.write_body(context, answer)


def _head(answer: Answer) -> Iterator[Block]:
    yield Lines([f"HTTP {answer.status}", *(f"{name}: {value}" for name, value in answer.headers), ""])
