"""A mutating command's way: remembered, planned, agreed to, applied once, answered.

It is kept under `pending/` before anything is sent. Typed again after a kill, it asks for its first attempt before it
plans anything: what was done is told, not done twice.
"""

from collections.abc import Callable

from msgspec.structs import replace

from svcctl import faults
from svcctl.backend.base import Backend
from svcctl.cli import consent, pending, views
from svcctl.cli.context import Context
from svcctl.cli.output import Note
from svcctl.cli.times import ago
from svcctl.commands import Clone, Command, DeleteEnvironment, DeleteService, Promote, Prune, Rename, RollBack
from svcctl.errors import Conflict, ConsentNeeded, Damage, Forbidden, NotFound, Refused, UsageError
from svcctl.model import Change
from svcctl.rules.state import Plan

_NOT_DONE = (Conflict, ConsentNeeded, Damage, Forbidden, NotFound, Refused, UsageError)
"""Answers that say that nothing was changed. After any other failure the outcome is unknown, and stays pending."""
_CARRIES_HEADS = Promote | RollBack | Rename | DeleteEnvironment | DeleteService | Prune | Clone
"""Refused if a head moved since they were planned; all others are deltas."""


def carry_out(
    context: Context,
    command: Command,
    *,
    yes: bool = False,
    confirm: str | None = None,
    dry_run: bool = False,
    before: Callable[[Backend], None] = lambda _: None,
) -> Change | None:
    """Returns the change once it is durable, or None for a dry run. `before` runs after consent: uploads."""
    backend = context.new_backend()
    if dry_run:
        plan = backend.plan(command)
        context.show(plan, views.plan(plan))
        return None
    claim = pending.claim(context.pending_folder, command, context.actor, context.now)
    faults.point("pending.kept")
    if claim.resumed and (done := backend.change(claim.id)):
        context.when_printed(claim.settled)
        when = ago(claim.at, context.now)
        context.tell(Note(f"done {when} by a command that ended before it could say so; type it again to repeat it"))
        return done
    try:
        plan = backend.plan(command)
        _agree(context, plan, yes=yes, confirm=confirm)
        faults.point("plan.agreed")
        if plan.steps:
            before(backend)
        change = backend.apply(_planned(replace(command, id=claim.id), plan))
    except _NOT_DONE:
        claim.settled()
        raise
    context.when_printed(claim.settled)
    return change


def _planned(command: Command, plan: Plan) -> Command:
    """With the heads it was planned on, where it must not run on others."""
    if not isinstance(command, _CARRIES_HEADS):
        return command
    command = replace(command, expect=plan.expect | (command.expect or {}), planned=True)
    return replace(command, sources=plan.sources) if isinstance(command, Promote) else command


def _agree(context: Context, plan: Plan, *, yes: bool, confirm: str | None) -> None:
    """A refusal came before this; a plan that alters nothing asks nothing."""
    wanted = plan.consent
    if wanted is None:
        return
    given = yes if wanted.kind == "yes" else confirm is not None
    if not given:
        context.tell(*views.plan(plan))
    if wanted.kind == "yes":
        consent.require_yes(context, wanted.reason, yes=yes)
    else:
        consent.require_name(context, wanted.reason, wanted.name or "", confirm=confirm)
