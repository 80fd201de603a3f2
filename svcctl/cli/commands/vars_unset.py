from typing import Annotated

import typer

from svcctl import config
from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, EnvOption, ExpectOption, MessageOption, ServiceOption
from svcctl.commands import Configure, new_id
from svcctl.errors import Refused
from svcctl.rules.configure import SetByFile


def vars_unset(
    context: Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Several at once.")],
    env: EnvOption = None,
    service: ServiceOption = None,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Remove vars that were set from the command line.

    What services.toml says for them holds again."""
    env, service = target.narrowed(env, service)
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=target.environment(context, env),
        unset_vars=tuple(dict.fromkeys(names)),
        message=message,
        expect=target.expected(context, expect, service),
    )
    try:
        change = carry_out(context, command, dry_run=dry_run)
    except SetByFile as refusal:
        raise _with_line(context, refusal) from refusal
    if change:
        context.show(change, views.change(change))


def _with_line(context: Context, refusal: SetByFile) -> Refused:
    for service in refusal.services:
        line = config.line_of(context.required_file, service, refusal.name, refusal.environment)
        if line:
            where = f"{context.required_file.name}:{line}"
            return Refused(f"{refusal.name} is set by {where}, not from the command line", hint=refusal.hint)
    return refusal
