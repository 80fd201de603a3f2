from typing import Annotated

import typer

from svcctl.cli import complete, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, ExpectOption, ForceOption, MessageOption, ServiceOption, YesOption
from svcctl.commands import RollBack, new_id
from svcctl.names import PRODUCTION


def rollback(
    context: Context,
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="An environment.", autocompletion=complete.environments)
    ] = PRODUCTION,
    service: ServiceOption = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="VERSION", help="Back to this version: a number, tag, -N or cN.")
    ] = None,
    code_only: Annotated[bool, typer.Option("--code-only", help="Leave settings as they are.")] = False,
    settings_only: Annotated[bool, typer.Option("--settings-only", help="Leave code as it is.")] = False,
    restore_secrets: Annotated[
        bool, typer.Option("--restore-secrets", help="Bring older values of secrets back too.")
    ] = False,
    message: MessageOption = None,
    force: ForceOption = False,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Take the newest release off an environment.

    What the newest change in force laid (code, settings or both, in all services) comes off together; a second roll
    back goes one step further. Secrets keep their present values."""
    environment, service = target.narrowed(environment, service)
    command = RollBack(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=environment,
        to=to,
        code_only=code_only,
        settings_only=settings_only,
        restore_secrets=restore_secrets,
        message=message,
        force=force,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, yes=yes, dry_run=dry_run)
    if change:
        context.show(change, views.rolled_back(change, environment, service or (), secrets=restore_secrets))
