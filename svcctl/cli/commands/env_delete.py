from msgspec.structs import replace

from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import (
    ConfirmOption,
    DryRunOption,
    EnvironmentArgument,
    ExpectOption,
    MessageOption,
    ServiceOption,
)
from svcctl.commands import DeleteEnvironment, new_id


def env_delete(
    context: Context,
    name: EnvironmentArgument,
    service: ServiceOption = None,
    confirm: ConfirmOption = None,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Delete an environment.

    Its hostname, routes and secrets are gone; its history can still be read (`svcctl history REF --deleted`). The name
    has to be typed once more. What another environment is bound to stays until it is bound elsewhere."""
    name, service = target.narrowed(name, service)
    command = DeleteEnvironment(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=name,
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, confirm=confirm, dry_run=dry_run)
    if change:
        if name in context.project.environments:
            note = f"services.toml still names {name}: the next deploy or promote to it makes it anew"
            change = replace(change, notes=(*change.notes, note))
        context.show(change, views.change(change))
