"""What an environment is besides its versions: protection, routes, tags."""

from svcctl import names, reference
from svcctl.commands import Protect, Route, TagVersion
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Protected, Routed, Tagged
from svcctl.rules.draft import Draft
from svcctl.rules.reading import absent, check_one_service, check_tag, number_of
from svcctl.rules.settings import block_of, owns_block
from svcctl.rules.state import Place, Plan


def protect(draft: Draft, command: Protect) -> Plan:
    if command.on and command.environment == draft.project.default_environment:
        raise Refused(
            f"{command.environment} is the default environment: `svcctl deploy` goes there, so it is never protected"
        )
    for place in _places(draft, command.environment):
        if place.identity.protected == command.on:
            draft.note(f"{place.ref}: is {'protected' if command.on else 'not protected'} already")
            continue
        words = "protected" if command.on else "no longer protected"
        draft.change(place, f"{place.ref}: {words}", Protected(on=command.on), protected=command.on)
        block = block_of(draft, place)
        if not command.on and block and block.protected and owns_block(draft, place):
            draft.note(f"{place.ref}: services.toml says protected; the next deploy sets it again")
    return draft.plan()


def _places(draft: Draft, environment: str) -> list[Place]:
    services = draft.selected()
    places = list(draft.places(services, environment))
    if not places:
        raise NotFound(f"no environment {environment!r}", hint=draft.near(environment, services))
    return places


def route(draft: Draft, command: Route) -> Plan:
    """Routes added or removed from the command line; the file's own are changed in the file."""
    if command.services is None or len(command.services) != 1:
        raise UsageError("a route leads to one service", next="svcctl routes add … -s SERVICE")
    (place,) = _places(draft, command.environment)
    identity = place.identity
    for pattern in command.add:
        if wrong := names.check_route(pattern):
            raise Refused(f"route {pattern!r}: {wrong}")
        if names.under_domain(names.route_host(pattern), draft.domain):
            raise Refused(f"route {pattern!r}: {draft.domain} holds the generated hostnames and can't be routed")
    for pattern in command.remove:
        if pattern in identity.cli_routes:
            continue
        if pattern in identity.file_routes:
            raise Refused(f"route {pattern!r} of {place.ref} stands in services.toml", hint="take it out there, deploy")
        raise NotFound(f"{place.ref} has no route {pattern!r}", hint=names.did_you_mean(pattern, identity.routes))
    added = tuple(sorted(set(command.add) - set(identity.routes)))
    removed = tuple(sorted(set(command.remove)))
    if not added and not removed:
        draft.note(f"{place.ref}: has these routes already")
        return draft.plan()
    words = [f"route {pattern} added" for pattern in added] + [f"route {pattern} removed" for pattern in removed]
    routes = tuple(sorted({*identity.cli_routes, *added} - set(removed)))
    entry = Routed(layer="cli", added=added, removed=removed)
    draft.change(place, f"{place.ref}: {', '.join(words)}", entry, cli_routes=routes)
    return draft.plan()


def tag(draft: Draft, command: TagVersion) -> Plan:
    check_tag(command.name)
    wanted = reference.parse(command.reference)
    services = draft.selected(wanted)
    check_one_service(wanted.at, services)
    places = list(draft.places(services, wanted.environment))
    if not places:
        raise NotFound(f"no environment {wanted.environment!r}", hint=draft.near(wanted.environment, services))
    numbered = [(place, number_of(draft.state, place, wanted.at)) for place in places]
    for place, number in numbered:
        if number is not None:
            _tag_one(draft, command, place, number)
        elif len(places) == 1:
            raise absent(place.identity, wanted.at or reference.Tag("a version"))
        else:
            draft.note(f"{place.ref}: has no such version")
    if all(number is None for _, number in numbered):
        raise NotFound(f"{command.reference} means no version")
    return draft.plan()


def _tag_one(draft: Draft, command: TagVersion, place: Place, number: int) -> None:
    holder = draft.state.tagged(place.identity.id, command.name)
    if command.remove:
        if holder != number:
            raise NotFound(f"{place.ref}@{number} has no tag {command.name!r}")
        entry = Tagged(name=command.name, number=number, removed=True)
        draft.change(place, f"{place.ref}@{number}: tag {command.name} removed", entry)
    elif holder is None:
        draft.tag(place, command.name, number)
    elif holder == number:
        draft.note(f"{place.ref}@{number}: is tagged {command.name} already")
    else:
        raise Refused(
            f"tag {command.name!r} is on {place.ref}@{holder} already",
            hint="a tag names one version of an environment",
            next=f"svcctl tag {place.ref}@{holder} {command.name} --remove",
        )
