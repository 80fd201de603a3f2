"""Who may do what: grants against commands, plans and reads. Each check returns what to say to who may not, or None.

    viewer     reads
    deployer   and deploys, configures, clones, creates, renames, deletes, tags, routes; no code into protected
               environments (no rule lets it in but promote and roll back), nor may it rename or delete those
    promoter   and promotes and rolls back
    admin      and protects, deletes services, takes them over from other projects, makes and revokes tokens
    runtime    follows changes, fetches code, reveals secrets and uses KV: what a data plane needs, and nothing else

A grant's scope holds for every environment that a plan touches or copies from: one outside of it, and the whole command
is refused. Nobody reads a secret but `runtime`. Code that a token deploys reaches what its bindings reach, whatever the
token's scope: handlers of one deployment trust each other.
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
from svcctl.model import Deleted, EnvironmentId, Grant, Protected, Renamed, Role, Version
from svcctl.names import PRODUCTION
from svcctl.rules.state import Identity, Plan, Snapshot

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
    return covers_service(grant, service) and any(fnmatchcase(environment, each) for each in grant.environments)


def covers_service(grant: Grant, service: str) -> bool:
    return any(fnmatchcase(service, each) for each in grant.services)


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


def may_carry_out(grant: Grant, command: Command, plan: Plan, state: Snapshot) -> str | None:
    """`state` is what the plan was made of."""
    if refusal := may_send(grant, command):
        return refusal
    for identity in _concerned(plan, state):
        if refusal := lacks_scope(grant, identity.service, identity.name):
            return refusal
    return next(_beyond_role(grant, plan, state), None)


def way_out(grant: Grant, plan: Plan, state: Snapshot) -> str | None:
    """What can be done where all that is out of reach is what new services bring along."""
    beyond = [identity for identity in _concerned(plan, state) if lacks_scope(grant, identity.service, identity.name)]
    new = all(identity.name == PRODUCTION and state.place(identity.id) is None for identity in beyond)
    if not beyond or not new or not all(covers_service(grant, identity.service) for identity in beyond):
        return None
    return (
        f"a new service comes with its {PRODUCTION}; once somebody whose token reaches that has typed "
        f"`svcctl env create {PRODUCTION} --exist-ok`, this works"
    )


def _concerned(plan: Plan, state: Snapshot) -> Iterator[Identity]:
    """Environments that a plan touches, as they were and as they will be, and those that it copies from."""
    yield from plan.after
    sources = {step.entry.origin.environment for step in plan.steps if _is_copy(step.entry)}  # type: ignore[union-attr]  # a copy has an origin
    sources |= {keep.copy_from for keep in plan.secrets if keep.copy_from}
    for id in sorted({identity.id for identity in plan.after} | sources):
        if place := state.place(id):
            yield place.identity


def _is_copy(entry: object) -> bool:
    return isinstance(entry, Version) and entry.origin is not None


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
