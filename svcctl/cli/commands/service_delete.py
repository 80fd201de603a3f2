from typing import Annotated

import typer
from msgspec.structs import replace

from svcctl.cli import complete, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import ConfirmOption, DryRunOption, ExpectOption, MessageOption
from svcctl.commands import DeleteService, new_id


def service_delete(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A service.", autocompletion=complete.services)],
    confirm: ConfirmOption = None,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Delete a service and all its environments.

    The name has to be typed once more. A service that others are bound to stays until those bindings are gone."""
    command = DeleteService(
        id=new_id(),
        project=target.project(context),
        service=name,
        message=message,
        expect=target.expected(context, expect),
    )
    change = carry_out(context, command, confirm=confirm, dry_run=dry_run)
    if change:
        if name in context.project.services:
            note = f"services.toml still has {name}: the next deploy makes it anew; take [services.{name}] out"
            change = replace(change, notes=(*change.notes, note))
        context.show(change, views.change(change))
