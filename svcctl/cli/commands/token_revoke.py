from typing import Annotated

import typer

from svcctl.cli import views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, MessageOption
from svcctl.commands import RevokeToken, new_id


def token_revoke(
    context: Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name or id, not its secret.")],
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Take a token back: nothing can be done with it from then on."""
    change = carry_out(context, RevokeToken(id=new_id(), token=token, message=message), dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
