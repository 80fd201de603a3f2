import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from svcctl import credentials
from svcctl.backend.remote import Remote
from svcctl.cli import consent, known, sessions
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Note, Success
from svcctl.cli.sessions import Identity
from svcctl.errors import UsageError
from svcctl.sealing import SecretValue

_LONGEST = 1000


def login(
    context: Context,
    place: Annotated[
        str | None, typer.Argument(metavar="[URL]", help="Of the API, or its name; else the backend in use.")
    ] = None,
) -> None:
    """Keep a token for the API of a team.

    The token is asked for without echo, or read from standard input. It is tried, then kept in the keyring; where there
    is none, in a file that you alone can read. For CI, SVCCTL_TOKEN needs no login."""
    url = sessions.api_of(context, place)
    secret = _typed(context, url)
    remote = Remote(url, secret)
    context.at_end(remote.close)
    identity = sessions.of_grant(url, remote.whoami())
    folder = known.configuration(context.environ)
    where = credentials.keep(url, secret, folder)
    context.show(identity, _blocks(identity))
    if where == "file":
        context.tell(Note(f"there is no keyring here: the token is in {folder / credentials.FILE}, in clear"))
    if credentials.VARIABLE in context.environ:
        context.tell(Note(f"{credentials.VARIABLE} is set, and goes before what is kept"))


def _typed(context: Context, url: str) -> SecretValue:
    if consent.can_ask(context):
        return credentials.checked(consent.ask_secret(context, f"token for {url}").strip(), "what was typed")
    text = sys.stdin.read(_LONGEST).strip()
    if not text:
        raise UsageError("no token came on standard input", hint="svcctl token create makes one; an admin may")
    return credentials.checked(text, "what came on standard input")


def _blocks(identity: Identity) -> Iterator[Block]:
    yield from sessions.blocks(identity)
    yield Success(f"logged in to {identity.backend}")
