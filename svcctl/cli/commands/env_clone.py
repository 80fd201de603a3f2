from typing import Annotated

import typer

from svcctl.cli import complete, target, times, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, ExpectOption, MessageOption, ServiceOption
from svcctl.commands import Clone, new_id
from svcctl.errors import UsageError


def env_clone(
    context: Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="[service/]environment[@version].", autocompletion=complete.references),
    ],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The new environment.")] = None,
    branch: Annotated[bool, typer.Option("--branch", help="Name it after the git branch.")] = False,
    service: ServiceOption = None,
    no_secrets: Annotated[bool, typer.Option("--no-secrets", help="Leave the values of secrets behind.")] = False,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Leave one that exists as it is.")] = False,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="Time to live, such as 7d or 12h; see `env prune`.")
    ] = None,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make a new environment with another one's code, settings and secrets.

    It has a hostname, a history and resources of its own from the start. Nothing is built or uploaded."""
    command = Clone(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        source=source,
        target=_name(context, name, branch=branch),
        no_secrets=no_secrets,
        exist_ok=exist_ok,
        ttl=times.seconds(ttl) if ttl else None,
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.with_hostnames(context, change, (command.target,)))


def _name(context: Context, name: str | None, *, branch: bool) -> str:
    if name and not branch:
        return name
    if branch and not name:
        from svcctl import provenance

        found = provenance.branch(context.folder, context.environ)
        if found is None:
            raise UsageError("--branch: there is no git branch here", hint="give the new environment's NAME")
        return provenance.environment_name(found)
    raise UsageError("give the new environment a NAME, or --branch", next="svcctl env clone staging preview")
