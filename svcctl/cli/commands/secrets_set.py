from typing import Annotated

import typer

from svcctl.cli import secrecy, target, values, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import EnvOption, ExpectOption, MessageOption, ServiceOption
from svcctl.commands import Configure, new_id


def secrets_set(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The secret's name.")],
    env: EnvOption = None,
    service: ServiceOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Keep a newline at the end of standard input.")] = False,
    message: MessageOption = None,
    expect: ExpectOption = None,
) -> None:
    """Set a secret: asked for without echo, or read from standard input.

    It goes to the services that list NAME under `secrets` in services.toml, or to those of -s. It is never shown."""
    env, service = target.narrowed(env, service)
    environment = target.environment(context, env)
    services = secrecy.wanting(context, name, environment, service)
    value = values.secret(context, name, raw=raw)
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=services,
        environment=environment,
        secrets=values.seal(context, services, environment, {name: value}),
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command)
    if change:
        context.show(change, views.change(change))
