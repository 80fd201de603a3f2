from typing import Annotated

import typer

from svcctl.cli import target, values, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, EnvOption, ExpectOption, MessageOption, MetaOption, ServiceOption
from svcctl.commands import Configure, new_id


def vars_set(
    context: Context,
    pairs: Annotated[list[str], typer.Argument(metavar="NAME=TEXT", help="Or NAME:=JSON; several at once.")],
    env: EnvOption = None,
    service: ServiceOption = None,
    message: MessageOption = None,
    meta: MetaOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Set vars on top of what services.toml says.

    NAME=TEXT sets a text, NAME:=JSON a number, boolean, list or table. They hold until `vars unset`, whatever is
    deployed. Without -s all services of the project that have the environment get them."""
    env, service = target.narrowed(env, service)
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=target.environment(context, env),
        vars=values.assignments(context, pairs),
        message=message,
        meta=target.meta(meta),
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
