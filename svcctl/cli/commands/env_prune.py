from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, MessageOption, ServiceOption
from svcctl.commands import Prune, new_id


def env_prune(
    context: Context,
    service: ServiceOption = None,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Delete the environments whose time to live is over.

    It asks nothing: it deletes only what was made with --ttl. An environment that another one is bound to stays, and
    is named."""
    command = Prune(id=new_id(), project=target.project(context), services=target.services(service), message=message)
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
