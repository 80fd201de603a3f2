"""Who may do what: grants against commands, plans and reads (scopes against commands and plans: `reach`). Each check
returns what to say to who may not, or None.

    viewer     reads
    deployer   and deploys, configures, clones, creates, renames, deletes, tags, routes; no code into protected
               environments (no rule lets it in but promote and roll back), nor may it rename or delete those
    promoter   and promotes and rolls back
    admin      and protects, deletes services, takes them over from other projects, makes and revokes tokens
    runtime    follows changes, fetches code, reveals secrets and uses KV: what a data plane needs, and nothing else

A grant's scope holds for every environment that a command names, that its plan touches or that it copies from: one
outside of it, and the whole command is refused. Nobody reads a secret but `runtime`. Code that a token deploys reaches
what its bindings reach, whatever the token's scope: handlers of one deployment trust each other.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal

from svcctl.commands import (
    Clone,
    Command,
    Configure,
    CreateEnvironment,
    CreateToken,
    DeleteEnvironment,
    DeleteService,
    Deploy,
    Promote,
    Protect,
    Prune,
    Rename,
    RevokeToken,
    RollBack,
    Route,
    TagVersion,
)
from svcctl.model import Deleted, EnvironmentId, Grant, Protected, Renamed, Role
from svcctl.rules.state import Plan, Snapshot

Power = Literal["read", "change", "upload", "follow", "fetch", "keyvalues", "reveal", "govern"]

_PEOPLE: frozenset[Role] = frozenset({"viewer", "deployer", "promoter", "admin"})
_WRITERS = _PEOPLE - {"viewer"}
_ALL: frozenset[Role] = _PEOPLE | {"runtime"}
POWERS: dict[Power, frozenset[Role]] = {
    "read": _PEOPLE,
    "change": _WRITERS,
    "upload": _WRITERS,
    "follow": _ALL,
    "fetch": _ALL,
    "keyvalues": _WRITERS | {"runtime"},
    "reveal": frozenset({"runtime"}),
    "govern": frozenset({"admin"}),
}

_PROMOTERS: frozenset[Role] = frozenset({"promoter", "admin"})
_ADMINS: frozenset[Role] = frozenset({"admin"})
_COMMANDS: dict[type[Command], frozenset[Role]] = {
    Deploy: _WRITERS,
    Configure: _WRITERS,
    Clone: _WRITERS,
    CreateEnvironment: _WRITERS,
    Rename: _WRITERS,
    DeleteEnvironment: _WRITERS,
    Prune: _WRITERS,
    Route: _WRITERS,
    TagVersion: _WRITERS,
    Promote: _PROMOTERS,
    RollBack: _PROMOTERS,
    Protect: _ADMINS,
    DeleteService: _ADMINS,
    CreateToken: _ADMINS,
    RevokeToken: _ADMINS,
}
_ORDER: tuple[Role, ...] = ("runtime", "viewer", "deployer", "promoter", "admin")


def is_expired(grant: Grant, at: str) -> bool:
    return grant.expires is not None and grant.expires <= at


def covers(grant: Grant, service: str, environment: str) -> bool:
    return covers_service(grant, service) and covers_environment(grant, environment)


def covers_service(grant: Grant, service: str) -> bool:
    return any(fnmatchcase(service, each) for each in grant.services)


def covers_environment(grant: Grant, environment: str) -> bool:
    return any(fnmatchcase(environment, each) for each in grant.environments)


def is_everywhere(grant: Grant) -> bool:
    return "*" in grant.services and "*" in grant.environments


def lacks_power(grant: Grant, power: Power) -> str | None:
    return _lacks(grant, POWERS[power], {"govern": "govern tokens", "keyvalues": "use KV"}.get(power, power))


def lacks_scope(grant: Grant, service: str, environment: str) -> str | None:
    if covers(grant, service, environment):
        return None
    return f"{service}/{environment} is out of reach of token {grant.name!r}: it is for {scope(grant)}"


def scope(grant: Grant) -> str:
    """In words: `services shop* in environments staging, preview-*`."""

    def of(noun: str, patterns: tuple[str, ...]) -> str:
        return f"all {noun}" if "*" in patterns else f"{noun} {', '.join(patterns)}"

    return f"{of('services', grant.services)} in {of('environments', grant.environments)}"


def may_send(grant: Grant, command: Command) -> str | None:
    """What can be told before anything is planned."""
    kind = str(command.__struct_config__.tag).replace("-", " ")
    if refusal := _lacks(grant, _COMMANDS[type(command)], kind):
        return refusal
    if isinstance(command, Deploy) and command.adopt:
        return _lacks(grant, _ADMINS, "take services over from other projects")
    if isinstance(command, CreateToken | RevokeToken) and not is_everywhere(grant):
        return f"token {grant.name!r} is for {scope(grant)}: it may not {kind}"
    return None


def may_carry_out(grant: Grant, plan: Plan, state: Snapshot) -> str | None:
    """What only a plan shows; `state` is what it was made of."""
    return next(_beyond_role(grant, plan, state), None)


def _beyond_role(grant: Grant, plan: Plan, state: Snapshot) -> Iterator[str]:
    if grant.role == "admin":
        return
    for step in plan.steps:
        match step.entry:
            case Protected(on=False):
                yield _lacks(grant, _ADMINS, "lift the protection of an environment") or ""
            case Deleted() | Renamed() if step.environment and _is_protected(state, step.environment):
                verb = "delete" if isinstance(step.entry, Deleted) else "rename"
                yield _lacks(grant, _ADMINS, f"{verb} a protected environment") or ""
            case _:
                pass


def _is_protected(state: Snapshot, id: EnvironmentId) -> bool:
    place = state.place(id)
    return place is not None and place.identity.protected


def _lacks(grant: Grant, roles: frozenset[Role], what: str) -> str | None:
    if grant.role in roles:
        return None
    least = next(role for role in _ORDER if role in roles)
    return f"token {grant.name!r} may not {what}: its role is {grant.role}, and it takes {least}"
