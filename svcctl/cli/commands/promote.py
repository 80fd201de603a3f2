from typing import Annotated

import typer

from svcctl.cli import complete, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import (
    DryRunOption,
    EnvironmentArgument,
    ExpectOption,
    ForceOption,
    MessageOption,
    ServiceOption,
    YesOption,
)
from svcctl.commands import Promote, new_id


def promote(
    context: Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="[service/]environment[@version].", autocompletion=complete.references),
    ],
    into: EnvironmentArgument,
    service: ServiceOption = None,
    message: MessageOption = None,
    force: ForceOption = False,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Give an environment the code that another one runs.

    The target's own settings stay where they are, and nothing is built or uploaded. All services that have code in
    SOURCE go in one change; those that run it already are left alone."""
    into, service = target.narrowed(into, service)
    command = Promote(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        source=source,
        target=into,
        message=message,
        force=force,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, yes=yes, dry_run=dry_run)
    if change:
        context.show(change, views.with_hostnames(context, change, (into,)))
