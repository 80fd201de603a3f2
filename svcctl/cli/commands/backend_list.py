from collections.abc import Iterator, Sequence

from svcctl.cli import known
from svcctl.cli.context import Context, backend_location
from svcctl.cli.output import Block, Cell, Content, Table
from svcctl.errors import NotFound
from svcctl.model import Model
from svcctl.text import mask_urls


class Named(Model):
    name: str | None
    url: str
    """Or a folder."""
    used: bool


def backend_list(context: Context) -> None:
    """List the backends that have names, and the one in use."""
    try:
        used = str(backend_location(context))
    except NotFound:  # without services.toml there is none
        used = ""
    names = known.names(context.environ)
    found = [Named(name=name, url=url, used=url == used) for name, url in sorted(names.items())]
    if used and used not in names.values():
        found.append(Named(name=None, url=mask_urls(used), used=True))
    context.show({"backends": found}, _blocks(found))


def _blocks(found: Sequence[Named]) -> Iterator[Block]:
    rows: list[list[Content]] = [
        [each.name or "", each.url, Cell("in use", "ok") if each.used else ""] for each in found
    ]
    yield Table(["name", "where", ""], rows, empty="no backend has a name; svcctl backend add NAME URL gives one")
