from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec.structs import replace

from svcctl import names
from svcctl.cli import editing, target, times, views
from svcctl.cli.context import Context
from svcctl.cli.editing import Edit
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, MessageOption, ServiceOption
from svcctl.cli.output import Note
from svcctl.commands import CreateEnvironment, new_id


def env_create(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new environment.")],
    service: ServiceOption = None,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Leave one that exists as it is.")] = False,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="TIME", help="Time to live, such as 7d or 12h; see `env prune`.")
    ] = None,
    write: Annotated[
        bool | None,
        typer.Option("--write/--no-write", help="Name it in services.toml too. [default: unless --ttl is given]"),
    ] = None,
    message: MessageOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Create an environment.

    It has a hostname and a history of its own, and neither code nor settings until the first deploy or promote. Where
    services.toml does not name it yet, it gets an empty table there for its settings."""
    wanted = write if write is not None else ttl is None
    edit = _edit(context, name, service) if wanted else None
    command = CreateEnvironment(
        id=new_id(),
        project=edit.project.as_sent() if edit else target.project(context),
        services=target.services(service),
        environment=name,
        exist_ok=exist_ok,
        ttl=times.seconds(ttl) if ttl else None,
        message=message,
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        if edit:
            edit.write()
            change = replace(change, notes=(*change.notes, f"services.toml names {name} now"))
        context.show(change, views.change(change))
    elif edit:
        context.tell(Note(f"services.toml would name {name} then"))


def _edit(context: Context, name: str, services: Sequence[str] | None) -> Edit | None:
    """None where the file names the environment already, or where the rules will refuse its name."""
    known = context.project
    ours = [each for each in services or known.services if each in known.services]
    if name in known.environments or names.check_name(name) or not ours:
        return None
    from svcctl.config.edit import add_environment

    return editing.prepare(context, lambda text: add_environment(text, name, ours))
