from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, get_args

import typer

from svcctl import ages, tokens
from svcctl.cli import times, views
from svcctl.cli.context import Context
from svcctl.cli.options import DryRunOption, MessageOption
from svcctl.cli.output import Block, Lines, Note, Verbatim
from svcctl.commands import CreateToken, new_id
from svcctl.errors import UsageError
from svcctl.model import Change, Grant, Model, Role


class Created(Model):
    change: Change
    secret: str
    """Never shown again."""


def token_create(
    context: Context,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its owner: the actor of what is done with it.")],
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="viewer, deployer, promoter, admin or runtime.",
            autocompletion=lambda: list(get_args(Role)),
        ),
    ],
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service", "-s", metavar="PATTERN", help="Services that it is for, such as 'shop*'; repeatable."
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="PATTERN", help="Environments, such as 'preview-*'; repeatable."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="So long from now: 90d, 12h. Else never.")
    ] = None,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make a token for the API; its secret is shown once.

    Without --service and --env it is for all services and all environments. Only a hash of the secret is stored."""
    if role not in get_args(Role):
        raise UsageError(f"--role {role}: must be one of {', '.join(get_args(Role))}")
    until = ages.timestamp(context.now + timedelta(seconds=times.seconds(expires))) if expires else None
    secret = tokens.new()
    grant = Grant(
        name=name,
        role=role,  # type: ignore[arg-type]  # one of them
        services=tuple(service or ("*",)),
        environments=tuple(env or ("*",)),
        expires=until,
    )
    command = CreateToken(id=new_id(), grant=grant, hash=tokens.hash_of(secret), message=message)
    backend = context.new_backend()
    if dry_run:
        plan = backend.plan(command)
        context.show(plan, views.plan(plan))
        return
    # Nothing is kept under pending/: a secret that was lost on the way can't be shown by a second try.
    change = backend.apply(command)
    text = secret.reveal().decode()
    context.show(Created(change=change, secret=text), _blocks(change, text))


def _blocks(change: Change, secret: str) -> Iterator[Block]:
    yield Lines(list(change.summary))
    yield Note("this is its secret; it is not stored, and never shown again")
    yield Verbatim(secret + "\n")
