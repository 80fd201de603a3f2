"""Environments come, are copied, change their name and go."""

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from svcctl import names, reference
from svcctl.commands import (
    Clone,
    CreateEnvironment,
    DeleteEnvironment,
    DeleteService,
    Prune,
    Rename,
)
from svcctl.errors import NotFound, Refused
from svcctl.model import Binding, Deleted, Origin, Owned, Renamed, Settings, Version
from svcctl.names import PRODUCTION
from svcctl.rules import closure
from svcctl.rules.draft import Draft
from svcctl.rules.reading import absent, check_one_service, version_at
from svcctl.rules.settings import bindings_of
from svcctl.rules.state import Consent, Identity, Keep, Place, Plan


def clone(draft: Draft, command: Clone) -> Plan:
    _check_new(command.target)
    source = reference.parse(command.source)
    services = draft.selected(source)
    check_one_service(source.at, services)
    sources = {place.identity.service: place for place in draft.places(services, source.environment)}
    if not sources:
        raise _no_environment(draft, services, source.environment)
    taken = {place.identity.service: place for place in draft.places(services, command.target)}
    for service in services:
        if service not in sources:
            draft.note(f"{service}: has no environment {source.environment}; left out")
        elif service in taken:
            _refuse_or_leave(draft, taken[service], exist_ok=command.exist_ok)
        else:
            _clone_one(draft, command, sources[service], source.at)
    _check_shared(command, sources.values())
    return draft.plan()


def _check_shared(command: Clone, sources: Iterable[Place]) -> None:
    """Each name must have a meaning in one of the services at least."""
    bound = [each for place in sources for each in (place.settings or Settings()).bindings.items() if each[1].kv]
    known = {name for name, _ in bound} | {binding.kv or "" for _, binding in bound}
    for name in command.share:
        if name not in known:
            raise NotFound(f"{command.source} has no KV binding {name!r}", hint=names.did_you_mean(name, known))


def _clone_one(draft: Draft, command: Clone, source: Place, at: reference.At | None) -> None:
    """A history that starts with the source's code, settings and (unless refused) secrets. Resources are its own."""
    found = version_at(draft.state, source, at)
    if found is None and isinstance(at, reference.Number | reference.Back):
        raise absent(source.identity, at)
    place = draft.create(
        source.identity.service, command.target, cloned_from=source.identity, expires=draft.expiry(command.ttl)
    )
    if found is None:
        draft.note(f"{source.ref}: has no version{f' {command.source}' if at else ''}; {place.ref} starts without one")
        return
    version, settings = found
    if command.no_secrets:
        settings = replace(settings, cli=replace(settings.cli, secrets={}))
    for name, fingerprint in settings.secrets.items():
        keep = Keep(environment=place.identity.id, name=name, fingerprint=fingerprint, copy_from=source.identity.id)
        draft.keep_secret(keep)
    settings = _sharing(draft, place, settings, source, command.share)
    _first_version(draft, place, source, version, settings)


def _sharing(draft: Draft, place: Place, settings: Settings, source: Place, share: Collection[str]) -> Settings:
    """With bindings of these names or labels that lead to the source's resources; one that says whose stays."""
    shared = {
        name: replace(binding, environment=source.identity.name)
        for name, binding in settings.bindings.items()
        if binding.kv and not binding.environment and not {name, binding.kv}.isdisjoint(share)
    }
    if not shared:
        return settings
    names = ", ".join(sorted(shared))
    draft.note(f"{place.ref}: shares {names} with {source.ref}: what either writes, both read")
    return replace(settings, cli=replace(settings.cli, bindings=settings.cli.bindings | shared))


def _first_version(draft: Draft, place: Place, source: Place, version: Version, settings: Settings) -> None:
    # Explicit bindings start where the source's lead today, under whatever name that environment now has.
    inherited = replace(place, identity=replace(place.identity, bound=source.identity.bound), settings=source.settings)
    bound, dangling = bindings_of(draft, inherited, settings)
    for problem in dangling:
        draft.note(problem)
    code = replace(version.code, since=0, under=None) if version.code else None
    first = draft.next_version(
        place, code=code, settings=settings, origin=Origin(environment=source.identity.id, number=version.number)
    )
    place = draft.append(place, first, settings, f"{place.ref}@{first.number}: cloned from {version.ref}", bound)
    draft.carry_tags(place, first.number, draft.state.tags(source.identity.id, version.number))
    lacking = code.requires.lacking(settings) if code else []
    if lacking:
        draft.note(f"{place.ref}: not live: lacks {', '.join(lacking)}")


def create(draft: Draft, command: CreateEnvironment) -> Plan:
    _check_new(command.environment)
    services = command.services or tuple(sorted({*draft.state.services(draft.project.name), *draft.project.services}))
    for service in services:
        if service not in draft.project.services:
            draft.known(service)
        place = draft.place(service, command.environment)
        draft.ensure_service(service)
        if place:
            _refuse_or_leave(draft, place, exist_ok=command.exist_ok)
        elif draft.place(service, command.environment) is None:  # a new service has brought its production along
            draft.create(service, command.environment, expires=draft.expiry(command.ttl))
    return draft.plan()


def _check_new(name: str) -> None:
    if wrong := names.check_name(name):
        raise Refused(f"{name!r} can't name an environment: it {wrong}")


def _refuse_or_leave(draft: Draft, place: Place, *, exist_ok: bool) -> None:
    if not exist_ok:
        raise Refused(
            f"{place.ref} exists already", hint="--exist-ok leaves it as it is", next=f"svcctl env show {place.ref}"
        )
    draft.note(f"{place.ref}: exists already; left as it is")


def rename(draft: Draft, command: Rename) -> Plan:
    _check_new(command.new)
    if PRODUCTION in {command.old, command.new}:
        raise Refused(f"{PRODUCTION} can't be renamed, and nothing can take its name")
    services = draft.selected()
    places = list(draft.places(services, command.old))
    if not places:
        raise _no_environment(draft, services, command.old)
    for place in places:
        taken = draft.place(place.identity.service, command.new)
        if taken:
            raise Refused(f"{taken.ref} exists already", hint="a rename never takes a name over")
        host = names.hostname(place.identity.service, command.new, draft.domain)
        words = f"{place.ref}: renamed to {command.new}, now at {host}"
        entry = Renamed(old=command.old, new=command.new, hostname=host)
        draft.change(place, words, entry, name=command.new, hostname=host)
    for service in sorted(set(services) - {place.identity.service for place in places}):
        draft.note(f"{service}: has no environment {command.old}")
    return draft.plan()


def delete(draft: Draft, command: DeleteEnvironment) -> Plan:
    if command.environment == PRODUCTION:
        raise Refused(f"{PRODUCTION} can't be deleted", hint="it lives as long as its service: svcctl service delete")
    services = draft.selected()
    places = list(draft.places(services, command.environment))
    if not places:
        raise _no_environment(draft, services, command.environment)
    if bound := _bound(draft, places):
        raise Refused("\n".join(bound), hint="bind them elsewhere first: svcctl bind, or services.toml and deploy")
    _bury_and_tell(draft, places)
    return draft.plan(Consent(kind="name", name=command.environment, reason=f"delete {command.environment}"))


def prune(draft: Draft, command: Prune) -> Plan:
    places = [
        place
        for place in draft.state.expired(draft.project.name, draft.at)
        if command.services is None or place.identity.service in command.services
    ]
    while bound := [place for place in places if _bound(draft, [place], going=places)]:
        for place in filter(lambda place: draft.sees(place.identity), bound):
            draft.note(f"{_bound(draft, [place], going=places)[0]}; it stays")
        places = [place for place in places if place not in bound]
    _bury_and_tell(draft, places)
    return draft.plan()


def delete_service(draft: Draft, command: DeleteService) -> Plan:
    service = draft.known(command.service)
    binders = [
        _who(draft, who, service, name) for who, name, _ in draft.state.bound_to(service) if who.service != service
    ]
    if binders:
        raise Refused("\n".join(sorted({*binders})), hint="take those bindings away first")
    _bury(draft, list(draft.places((service,))))
    draft.own(f"{service}: deleted", Owned(service=service, project=None))
    return draft.plan(Consent(kind="name", name=service, reason=f"delete {service} and all its environments"))


def _bound(draft: Draft, places: list[Place], going: list[Place] | None = None) -> list[str]:
    """Which heads that stay are explicitly bound to one of `places`."""
    leaving = {place.identity.id for place in going or places}
    found = (
        _who(draft, who, place.ref, name)
        for place in places
        for who, name, what in draft.state.bound_to(place.identity.service)
        if what.environment == place.identity.id and who.id not in leaving
    )
    return list(dict.fromkeys(found))


def _who(draft: Draft, who: Identity, what: str, name: str) -> str:
    return f"{draft.called(who)} is bound to {what}" + (f" as {name}" if draft.sees(who) else "")


def _bury_and_tell(draft: Draft, places: Collection[Place]) -> None:
    """Whoever reached one of them because it had the fitting name reaches another from now on."""
    leaving = {place.identity.id for place in places}
    reached = [
        (who, name, place)
        for place in places
        for who, name, what in draft.state.bound_to(place.identity.service)
        if what.environment is None and who.id not in leaving and _leads(draft, who, what.service) == place.ref
    ]
    _bury(draft, places)
    for who, name, place in reached:
        if not draft.sees(who):
            continue
        now = _leads(draft, who, place.identity.service)
        draft.note(f"{who.ref}: {name} leads to {now or 'nothing'} from now on; {place.ref} is gone")


def _leads(draft: Draft, who: Identity, service: str) -> str | None:
    place = closure.resolve(who, "", Binding(service=service), draft)
    return place.ref if place else None


def _bury(draft: Draft, places: Iterable[Place]) -> None:
    for place in places:
        draft.change(
            place,
            f"{place.ref}: deleted",
            Deleted(name=place.identity.name),
            deleted=True,
            hostname=None,
            file_routes=(),
            cli_routes=(),
            protected=False,
            expires=None,
            bound={},
        )


def _no_environment(draft: Draft, services: list[str], name: str) -> NotFound:
    return NotFound(f"no environment {name!r}", hint=draft.near(name, services), next="svcctl env list")
