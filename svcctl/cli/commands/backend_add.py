from typing import Annotated

import typer

from svcctl.backend import address
from svcctl.cli import known
from svcctl.cli.context import Context
from svcctl.cli.output import Note, Success
from svcctl.errors import UsageError
from svcctl.text import mask_urls


def backend_add(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Of an API: https://…")],
) -> None:
    """Give the URL of a backend a name.

    On this machine, for you. `--backend NAME` and `svcctl backend use NAME` know it from then on."""
    if not address.is_url(url):
        raise UsageError(f"{mask_urls(url)}: names are for APIs", hint="such as https://svc.example.com")
    found = address.normal(url)
    known.add(context.environ, name, found)
    context.show({"name": name, "url": found}, [Success(f"{name} is {found}")])
    context.tell(
        Note(f"svcctl login {name} keeps a token for it; svcctl backend use {name} makes this checkout work on it")
    )
