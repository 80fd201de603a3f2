from typing import Annotated

import typer

from svcctl.cli import known
from svcctl.cli.context import Context, backend_location, normal
from svcctl.cli.output import Note, Success
from svcctl.text import mask_urls


def backend_use(
    context: Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A name, a URL, or `local`; none: as services.toml says.")
    ] = None,
) -> None:
    """Choose the backend of this checkout.

    It goes before what services.toml says, and is not committed; --backend and SVCCTL_BACKEND go before it. For a whole
    team, write `backend = "https://…"` into services.toml."""
    beside = context.required_file.parent
    if name is None or name == known.LOCAL:
        known.choose(beside, name)
    else:
        known.choose(beside, normal(name) if "://" in name else known.url_of(context.environ, name))
    shown = mask_urls(str(backend_location(context)))
    context.show({"backend": shown}, [Success(f"this checkout works on {shown}")])
    if context.backend_option or context.environ.get("SVCCTL_BACKEND"):
        context.tell(Note("--backend or SVCCTL_BACKEND was given, and goes before the choice"))
