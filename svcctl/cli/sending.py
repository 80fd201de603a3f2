"""A mutating command's way to the backend and back: sent once, whatever kills it."""

import msgspec

from svcctl.cli import pending
from svcctl.cli.context import Context
from svcctl.cli.output import Note
from svcctl.cli.times import ago
from svcctl.commands import Command
from svcctl.errors import Conflict, Forbidden, NotFound, Refused, UsageError
from svcctl.model import Change

_NOT_DONE = (Conflict, Forbidden, NotFound, Refused, UsageError)
"""Answers that say that nothing was changed. After any other failure the outcome is unknown, and stays pending."""


def send(context: Context, command: Command) -> Change:
    """Apply a command, or find that an earlier attempt, killed before it could say so, already did."""
    claim = pending.claim(context.pending_folder, command, context.actor, context.now)
    if claim.resumed and (done := context.backend.change(claim.id)):
        context.when_printed(claim.settled)
        when = ago(claim.at, context.now)
        context.tell(Note(f"done {when} by a command that ended before it could say so; type it again to repeat it"))
        return done
    try:
        change = context.backend.apply(msgspec.structs.replace(command, id=claim.id))
    except _NOT_DONE:
        context.when_printed(claim.settled)
        raise
    context.when_printed(claim.settled)
    return change
