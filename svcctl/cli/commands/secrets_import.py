from pathlib import Path
from typing import Annotated

import typer

from svcctl.cli import secrecy, target, values, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import EnvOption, ExpectOption, MessageOption, ServiceOption
from svcctl.commands import Configure, new_id
from svcctl.errors import UsageError


def secrets_import(
    context: Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .env or JSON file; - is standard input.")],
    env: EnvOption = None,
    service: ServiceOption = None,
    message: MessageOption = None,
    expect: ExpectOption = None,
) -> None:
    """Set secrets from a .env or JSON file.

    Each goes to the services that list its name under `secrets` in services.toml, or all to those of -s: one change."""
    env, service = target.narrowed(env, service)
    environment = target.environment(context, env)
    found = values.secrets_of(context, file)
    if not found:
        raise UsageError(f"{file} holds no secrets")
    places = {name: secrecy.wanting(context, name, environment, service) for name in found}
    services = tuple(sorted({each for several in places.values() for each in several}))
    mine = {each: {name: value for name, value in found.items() if each in places[name]} for each in services}
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=services,
        environment=environment,
        secrets=tuple(sealed for each in services for sealed in values.seal(context, (each,), environment, mine[each])),
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command)
    if change:
        context.show(change, views.change(change))
