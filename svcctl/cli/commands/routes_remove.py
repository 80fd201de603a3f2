from typing import Annotated

import typer

from svcctl.cli import editing, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import CliOption, DryRunOption, EnvOption, MessageOption, OneServiceOption
from svcctl.commands import Route, new_id
from svcctl.names import PRODUCTION


def routes_remove(
    context: Context,
    patterns: Annotated[list[str], typer.Argument(metavar="PATTERN…", help="As `svcctl routes list` shows it.")],
    service: OneServiceOption = None,
    env: EnvOption = PRODUCTION,
    cli: CliOption = False,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Remove routes.

    Without --cli the route is taken out of services.toml, and the next deploy applies it. With --cli one that was
    added with --cli goes at once."""
    env, service = target.narrowed_one(env, service)
    chosen, environment = target.one_service(context, service), env or PRODUCTION
    if not cli:
        from svcctl.config.edit import remove_routes

        editing.carry_out(
            context,
            editing.removal(lambda text: remove_routes(text, chosen, environment, patterns)),
            [f"{chosen}/{environment}: route {pattern} removed" for pattern in patterns],
            editing.deploy_of(chosen, environment),
            dry_run=dry_run,
            only_with_cli={"--message": message},
        )
        return
    command = Route(
        id=new_id(),
        project=target.project(context),
        services=(chosen,),
        environment=environment,
        remove=tuple(patterns),
        message=message,
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
