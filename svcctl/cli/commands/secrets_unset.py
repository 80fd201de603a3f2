from typing import Annotated

import typer

from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import ConfirmOption, DryRunOption, EnvOption, ExpectOption, MessageOption, ServiceOption
from svcctl.commands import Configure, new_id


def secrets_unset(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")],
    env: EnvOption = None,
    service: ServiceOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Destroy its stored values, older ones too; needs the name typed.")
    ] = False,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
    confirm: ConfirmOption = None,
) -> None:
    """Remove secrets.

    From all services of the project that have NAME, or those of -s. Without --purge a roll back with
    --restore-secrets can bring the value back."""
    env, service = target.narrowed(env, service)
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=target.environment(context, env),
        unset_secrets=(name,),
        purge=purge,
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, confirm=confirm, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
