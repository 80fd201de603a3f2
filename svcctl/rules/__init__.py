"""What a command means, as pure functions of values: no IO, no clock.

`plan` gets the ledger as of one instant, a command, the time and the actor, and returns what would be written (records,
each with the sentence that describes it) or raises the refusal. Showing the plan is the dry run; committing it, in the
transaction whose snapshot it was made from, is the change.

    an environment's version = (code, settings)

    deploy     appends (new code, the file's settings)        promote    (the source's code, the target's own settings)
    configure  appends (same code, new settings)              clone      starts with (the source's code and settings)
    roll back  takes halves off, down to older ones (`rollback`)
"""

from datetime import datetime
from typing import TYPE_CHECKING, assert_never

from msgspec.structs import replace

from svcctl.rules.state import Plan, Snapshot

if TYPE_CHECKING:
    from svcctl import commands
    from svcctl.model import Grant


def plan(state: Snapshot, command: "commands.Command", now: datetime, actor: str, grant: "Grant | None" = None) -> Plan:
    """Raises Refused, NotFound, UsageError, Conflict (a head in `command.expect` moved) or ConsentNeeded. A plan
    without steps means that the command alters nothing. `grant` is for whom it is: what is out of its scope is told
    neither in words nor in hints. What it allows is asked elsewhere (`access`, `reach`)."""
    # Reading the ledger needs this package's types alone: start-up has a budget.
    from svcctl import commands
    from svcctl.rules import configure, deploy, environments, identity, promote, rollback, tokens
    from svcctl.rules.draft import Draft

    if command.services is not None:
        # `-s shop -s shop` would plan two versions of one number.
        command = replace(command, services=tuple(dict.fromkeys(command.services)))
    draft = Draft(state, command, now, actor, grant)
    match command:
        case commands.Deploy():
            return deploy.deploy(draft, command)
        case commands.Configure():
            return configure.configure(draft, command)
        case commands.Promote():
            return promote.promote(draft, command)
        case commands.RollBack():
            return rollback.roll_back(draft, command)
        case commands.Clone():
            return environments.clone(draft, command)
        case commands.CreateEnvironment():
            return environments.create(draft, command)
        case commands.Rename():
            return environments.rename(draft, command)
        case commands.DeleteEnvironment():
            return environments.delete(draft, command)
        case commands.Prune():
            return environments.prune(draft, command)
        case commands.Protect():
            return identity.protect(draft, command)
        case commands.Route():
            return identity.route(draft, command)
        case commands.TagVersion():
            return identity.tag(draft, command)
        case commands.DeleteService():
            return environments.delete_service(draft, command)
        case commands.CreateToken():
            return tokens.create(draft, command)
        case commands.RevokeToken():
            return tokens.revoke(draft, command)
        case _:
            assert_never(command)
