from typing import Annotated

import typer

from svcctl import credentials
from svcctl.cli import known, sessions
from svcctl.cli.context import Context
from svcctl.cli.output import Note, Success


def logout(
    context: Context,
    place: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="Of the API, or its name; else the backend in use.")
    ] = None,
) -> None:
    """Forget the token of an API.

    On this machine alone: the token goes on working elsewhere until `svcctl token revoke`."""
    url = sessions.api_of(context, place)
    there = credentials.forget(url, known.configuration(context.environ))
    text = f"the token for {url} is forgotten" if there else f"no token for {url} was kept"
    context.show({"backend": url, "forgotten": there}, [Success(text)])
    if credentials.VARIABLE in context.environ:
        context.tell(Note(f"{credentials.VARIABLE} is set, and is used all the same"))
