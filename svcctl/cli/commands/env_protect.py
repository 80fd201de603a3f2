from typing import Annotated

import typer

from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, EnvironmentArgument, MessageOption, ServiceOption
from svcctl.commands import Protect, new_id


def env_protect(
    context: Context,
    name: EnvironmentArgument,
    service: ServiceOption = None,
    off: Annotated[bool, typer.Option("--off", help="Lift the protection.")] = False,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Let code into an environment by promote and roll back alone, or lift that.

    A deploy to it is then refused, and promote and roll back ask for a yes."""
    name, service = target.narrowed(name, service)
    command = Protect(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=name,
        on=not off,
        message=message,
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
