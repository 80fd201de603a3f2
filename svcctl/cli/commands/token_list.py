from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from svcctl import ages
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Cell, Content, Note, Table, When
from svcctl.model import Token
from svcctl.rules import access


def token_list(
    context: Context,
    all: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
) -> None:
    """List the tokens of the API; secrets are not stored."""
    now = ages.timestamp(context.now)
    known = context.backend.tokens()
    shown = [token for token in known if all or not _is_over(token, now)]
    context.show({"tokens": shown}, _blocks(shown, len(known) - len(shown), now))


def _is_over(token: Token, now: str) -> bool:
    return token.revoked is not None or access.is_expired(token, now)


def _blocks(tokens: Sequence[Token], hidden: int, now: str) -> Iterator[Block]:
    rows: list[list[Content]] = [
        [
            token.name,
            token.id,
            token.role,
            access.scope(token),
            When(token.used) if token.used else "never",
            _state(token, now),
        ]
        for token in tokens
    ]
    yield Table(["name", "id", "role", "scope", "used", "state"], rows, empty="no tokens are in force")
    if hidden:
        yield Note(f"{hidden} revoked or expired: svcctl token list --all")


def _state(token: Token, now: str) -> Content:
    if token.revoked:
        return Cell("revoked", "bad")
    if access.is_expired(token, now):
        return Cell("expired", "bad")
    return When(token.expires, "ok") if token.expires else Cell("in force", "ok")
