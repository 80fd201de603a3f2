from typing import Annotated

import typer

from svcctl import names
from svcctl.cli import editing, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import CliOption, DryRunOption, EnvOption, MessageOption, OneServiceOption
from svcctl.commands import Route, new_id
from svcctl.errors import UsageError
from svcctl.names import PRODUCTION


def routes_add(
    context: Context,
    patterns: Annotated[list[str], typer.Argument(metavar="PATTERN…", help="Such as shop.example.com/*.")],
    service: OneServiceOption = None,
    env: EnvOption = PRODUCTION,
    cli: CliOption = False,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Send requests for a host and path to an environment.

    Without --cli the route is written into services.toml, and the next deploy applies it. With --cli it holds at once,
    on top of the file."""
    env, service = target.narrowed_one(env, service)
    for pattern in patterns:
        if wrong := names.check_route(pattern):
            raise UsageError(f"{pattern!r} is no route: {wrong}", hint="a route is HOST/PATH: shop.example.com/*")
    chosen, environment = target.one_service(context, service), env or PRODUCTION
    if not cli:
        from svcctl.config.edit import add_routes

        editing.carry_out(
            context,
            lambda text: add_routes(text, chosen, environment, patterns),
            [f"{chosen}/{environment}: route {pattern} added" for pattern in patterns],
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
        add=tuple(patterns),
        message=message,
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))
