from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from svcctl.cli import complete, copying, target, times, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, ExpectOption, MessageOption, ServiceOption
from svcctl.cli.output import Block, Lines, Note
from svcctl.commands import Clone, new_id
from svcctl.errors import UsageError
from svcctl.model import Change


def env_clone(
    context: Context,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="[service/]environment[@version].", autocompletion=complete.references),
    ],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The new environment.")] = None,
    branch: Annotated[bool, typer.Option("--branch", help="Name it after the git branch.")] = False,
    service: ServiceOption = None,
    copy: Annotated[
        list[str] | None,
        typer.Option("--copy", metavar="NAME", help="Copy the entries of this KV binding or label; repeatable."),
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option("--share", metavar="NAME", help="Use the source's KV namespace of this name; repeatable."),
    ] = None,
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

    It has a hostname, a history and resources of its own from the start; KV namespaces are empty, unless --copy or
    --share names them. Nothing is built or uploaded. Entries are copied after the clone is made, as of one instant:
    killed before that, the same command typed again copies them."""
    if both := set(copy or ()) & set(share or ()):
        raise UsageError(f"{', '.join(sorted(both))}: either --copy or --share")
    if copy:
        copying.check(context, source, service, copy)
    command = Clone(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        source=source,
        target=_name(context, name, branch=branch),
        no_secrets=no_secrets,
        exist_ok=exist_ok,
        ttl=times.seconds(ttl) if ttl else None,
        share=tuple(dict.fromkeys(share or ())),
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, dry_run=dry_run)
    if copy and not change:
        context.tell(Note(f"after that, the entries of {', '.join(copy)} are copied"))
    if change:
        copied = copying.copy(context, change, source, command.target, copy) if copy else ()
        context.show(change, _blocks(context, change, command.target, copied))


def _blocks(context: Context, change: Change, name: str, copied: Sequence[str]) -> Iterator[Block]:
    yield from views.with_hostnames(context, change, (name,))
    yield Lines([f"  {sentence}" for sentence in copied])


def _name(context: Context, name: str | None, *, branch: bool) -> str:
    if name and not branch:
        return name
    if branch and not name:
        return target.of_branch(context)
    raise UsageError("give the new environment a NAME, or --branch", next="svcctl env clone staging preview")
