from typing import Annotated

import typer

from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, MessageOption, ReferenceArgument, ServiceOption
from svcctl.commands import TagVersion, new_id


def tag(
    context: Context,
    version: ReferenceArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as v1.4.0; never a number alone.")],
    service: ServiceOption = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag off.")] = False,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Name a version.

    Every command takes the tag where it takes a number: `svcctl rollback --to v1.4.0`. Promote and clone carry tags
    along. A tag names one version of an environment."""
    command = TagVersion(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        reference=version,
        name=name,
        remove=remove,
        message=message,
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
