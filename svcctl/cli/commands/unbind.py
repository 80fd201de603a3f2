from typing import Annotated

import typer

from svcctl.cli import editing, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import CliOption, DryRunOption, EnvOption, MessageOption, OneServiceOption
from svcctl.commands import Configure, new_id


def unbind(
    context: Context,
    bindings: Annotated[list[str], typer.Argument(metavar="NAME…", help="Names in the handler's env.")],
    service: OneServiceOption = None,
    env: EnvOption = None,
    cli: CliOption = False,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Remove bindings.

    Without --cli they are taken out of services.toml (without --env from the service's own table), and the next deploy
    applies it. With --cli those that were made with --cli go at once."""
    env, service = target.narrowed_one(env, service)
    chosen = target.one_service(context, service)
    if not cli:
        place = f"{chosen}/{env}" if env else chosen
        editing.carry_out(
            context,
            editing.removal(lambda text: _without(text, chosen, bindings, env)),
            [f"{place}: binding {name} removed" for name in bindings],
            editing.deploy_of(chosen, env),
            dry_run=dry_run,
            only_with_cli={"--message": message},
        )
        return
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=(chosen,),
        environment=target.environment(context, env),
        unset_bindings=tuple(bindings),
        message=message,
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))


def _without(text: str, service: str, bindings: list[str], environment: str | None) -> str:
    from svcctl.config import edit

    for name in dict.fromkeys(bindings):
        text = edit.unbind(text, service, name, environment)
    return text
