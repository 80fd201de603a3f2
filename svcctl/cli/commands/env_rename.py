from typing import Annotated

import typer
from msgspec.structs import replace

from svcctl import names
from svcctl.cli import complete, editing, target, views
from svcctl.cli.context import Context
from svcctl.cli.editing import Edit
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, ExpectOption, MessageOption, ServiceOption
from svcctl.cli.output import Note
from svcctl.commands import Rename, new_id
from svcctl.errors import UsageError
from svcctl.model import Change
from svcctl.names import PRODUCTION


def env_rename(
    context: Context,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Its name now.", autocompletion=complete.environments)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on.")],
    service: ServiceOption = None,
    write: Annotated[bool, typer.Option("--write", help="Rename it in services.toml as well.")] = False,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Rename an environment; its history goes on.

    The hostname follows the name. Numbers, tags, secrets and the contents of resources stay."""
    old, service = target.narrowed(old, service)
    if write and service:
        raise UsageError("--write renames in all services of the file", hint="leave out -s, or --write")
    edit = _edit(context, old, new) if write else None
    command = Rename(
        id=new_id(),
        project=edit.project.as_sent() if edit else target.project(context),
        services=target.services(service),
        old=old,
        new=new,
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        change = _with_note(context, change, old, new, edit)
        context.show(change, views.change(change))
    elif edit and edit.changed:
        context.tell(Note(f"services.toml would say {new} then"))


def _edit(context: Context, old: str, new: str) -> Edit | None:
    """None where the rules will refuse the rename."""
    if names.check_name(new) or PRODUCTION in (old, new):
        return None
    from svcctl.config.edit import rename_environment

    return editing.prepare(context, lambda text: rename_environment(text, old, new))


def _with_note(context: Context, change: Change, old: str, new: str, edit: Edit | None) -> Change:
    if edit and edit.changed:
        edit.write()
        note = f"services.toml says {new} now"
    elif old in context.project.environments:
        note = f"services.toml still says {old}: write {new} there, or the next deploy to {old} makes it anew"
    else:
        return change
    return replace(change, notes=(*change.notes, note))
