"""Whether what a command is about lies in a grant's scope.

What it names is held against the scope before any rule looks, whether it is there or not: a rule's refusal, or its
word that there is nothing to do, tells what is there. What it leads to beside that (a service's first production, what
has expired, every hostname of a domain) is seen in the plan. What nobody named is not named here either.
"""

from collections.abc import Collection, Iterable, Iterator

from svcctl import names, reference
from svcctl.commands import (
    Clone,
    Command,
    CreateToken,
    DeleteService,
    Deploy,
    Promote,
    Prune,
    Rename,
    RevokeToken,
    TagVersion,
)
from svcctl.model import Grant, Model, Version
from svcctl.names import PRODUCTION
from svcctl.rules import access
from svcctl.rules.state import Identity, Place, Plan, Snapshot


class _Named(Model):
    environments: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


def may_ask(grant: Grant, command: Command, state: Snapshot) -> str | None:
    """What to say before anything is planned to who names what is out of scope."""
    if access.is_everywhere(grant) or isinstance(command, CreateToken | RevokeToken):
        return None
    named = _named(command)
    for ref in command.expect or ():
        service, _, name = ref.partition("/")
        if refusal := access.lacks_scope(grant, service, name):
            return refusal
    for name in named.environments:
        if not access.covers_environment(grant, name):
            where = f"{named.services[0]}/{name}" if named.services else f"environment {name}"
            return f"{where} is {_out_of_reach(grant)}"
    for service in named.services:
        if not access.covers_service(grant, service):
            where = "/".join((service, *named.environments[:1]))
            return f"{where} is {_out_of_reach(grant)}"
    if not named.services and not _covers_all(grant, _of_project(command, state)):
        return (
            f"without -s this is for every service of project {command.project.name!r}, "
            f"and some of that is {_out_of_reach(grant)}"
        )
    return next((_beyond(grant) for place in _whole(command, state) if not _is_covered(grant, place.identity)), None)


def may_touch(grant: Grant, command: Command, plan: Plan, state: Snapshot) -> str | None:
    """`state` is what the plan was made of."""
    if access.is_everywhere(grant):
        return None
    named = _named(command).environments
    for identity in _concerned(plan, state):
        if not _is_covered(grant, identity):
            told = access.covers_service(grant, identity.service) and identity.name in (PRODUCTION, *named)
            return f"{identity.ref} is {_out_of_reach(grant)}" if told else _beyond(grant)
    return next(_taken_traffic(grant, plan, state), None)


def way_out(grant: Grant, plan: Plan, state: Snapshot) -> str | None:
    """What can be done where all that is out of reach is what new services bring along."""
    beyond = [identity for identity in _concerned(plan, state) if not _is_covered(grant, identity)]
    new = all(identity.name == PRODUCTION and state.place(identity.id) is None for identity in beyond)
    if not beyond or not new or not all(access.covers_service(grant, identity.service) for identity in beyond):
        return None
    return (
        f"a new service comes with its {PRODUCTION}; once somebody whose token reaches that has typed "
        f"`svcctl env create {PRODUCTION} --exist-ok`, this works"
    )


def _named(command: Command) -> _Named:
    """Without services where all of the project are meant."""
    services = command.services or ()
    match command:
        case Promote(source=source, target=target) | Clone(source=source, target=target):
            wanted = reference.parse(source)
            return _Named(environments=(wanted.environment, target), services=(*services, *_service_of(wanted)))
        case TagVersion(reference=text):
            wanted = reference.parse(text)
            return _Named(environments=(wanted.environment,), services=(*services, *_service_of(wanted)))
        case Rename(old=old, new=new):
            return _Named(environments=(old, new), services=services)
        case DeleteService(service=service):
            return _Named(services=(*services, service))
        case Prune() | CreateToken() | RevokeToken():
            return _Named(services=services)
        case _:
            return _Named(environments=(command.environment,), services=services)


def _service_of(wanted: reference.Reference) -> tuple[str, ...]:
    return (wanted.service,) if wanted.service else ()


def _of_project(command: Command, state: Snapshot) -> Collection[str]:
    stored = () if isinstance(command, Deploy) else state.services(command.project.name)
    return {*stored, *command.project.services}


def _covers_all(grant: Grant, services: Collection[str]) -> bool:
    """Of a project without services, as of one that there is not, it is not said which of the two it is."""
    return "*" in grant.services or (bool(services) and all(access.covers_service(grant, each) for each in services))


def _whole(command: Command, state: Snapshot) -> Iterable[Place]:
    """All environments, where services or their project are changed as a whole."""
    project = command.project
    if isinstance(command, DeleteService):
        return state.places((command.service,))
    if not isinstance(command, Deploy):
        return ()
    moved: set[str] = set()
    if command.adopt:
        services = project.services if command.services is None else command.services
        moved = {each for each in services if state.owner(each) not in {None, project.name}}
    domain = state.domain(project.name)
    if domain is not None and project.domain not in {None, domain}:
        moved |= set(state.services(project.name))
    return state.places(sorted(moved)) if moved else ()


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


def _taken_traffic(grant: Grant, plan: Plan, state: Snapshot) -> Iterator[str]:
    """New routes under a host that somebody out of reach answers on: requests for the one carry what the other set."""
    added: list[str] = []
    for identity in plan.after:
        before = state.place(identity.id)
        added += sorted(set(identity.routes) - set(before.identity.routes if before else ()))
    held = [(names.route_host(route), id) for route, id in state.routes()] if added else []
    for route in added:
        host = names.route_host(route)
        for place in (state.place(id) for other, id in held if names.hosts_meet(host, other)):
            if place and not _is_covered(grant, place.identity):
                yield f"route {route!r}: who answers on that host already is {_out_of_reach(grant)}"


def _is_covered(grant: Grant, identity: Identity) -> bool:
    return access.covers(grant, identity.service, identity.name)


def _beyond(grant: Grant) -> str:
    return f"some of what this would change is {_out_of_reach(grant)}"


def _out_of_reach(grant: Grant) -> str:
    return f"out of reach of token {grant.name!r}: it is for {access.scope(grant)}"
