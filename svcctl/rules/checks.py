"""What no plan may do, whatever its command: overlook that a head moved, or take what another environment holds."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from svcctl import names
from svcctl.commands import Base
from svcctl.errors import Conflict, Refused
from svcctl.model import EnvironmentId
from svcctl.rules.state import Identity, Place, Snapshot

_LOOK = "nothing was changed; look, then type the command again"


class Holders(Protocol):
    """A draft, as the check of addresses sees it."""

    @property
    def state(self) -> Snapshot: ...

    @property
    def domains(self) -> Mapping[str, str]: ...

    def by_id(self, id: EnvironmentId) -> Place | None: ...

    def called(self, identity: Identity) -> str: ...

    def sees(self, identity: Identity) -> bool: ...

    def seen_services(self, project: str) -> Collection[str]: ...


def expected(state: Snapshot, command: Base) -> None:
    """Raises Conflict, saying who moved it, if a head is not the one that the command carries."""
    for ref, number in (command.expect or {}).items():
        service, _, name = ref.partition("/")
        place = next(iter(state.places((service,), (name,))), None)
        now = place.identity.head if place else None
        if now != number:
            raise Conflict(_moved(ref, number, place), hint=_LOOK)


def foreseen(command: Base, touched: Collection[str]) -> None:
    """Raises Conflict if a planned command would touch what its plan did not."""
    if command.planned and (unforeseen := sorted(set(touched) - set(command.expect or {}))):
        raise Conflict(f"{', '.join(unforeseen)} would change too, which was not so when this was planned", hint=_LOOK)


def addresses(draft: Holders, places: Iterable[Place], before: Mapping[EnvironmentId, Identity | None]) -> None:
    """Raises Refused if a hostname or route is another's. One given up in the same change is free."""
    taken: dict[str, Identity] = {}
    for place in places:
        identity = place.identity
        known = before[identity.id]
        old = {known.hostname, *known.routes} if known and not known.deleted else set()
        for address in () if identity.deleted else (identity.hostname, *identity.routes):
            if address is None:
                continue
            other = taken.setdefault(address, identity)
            if address not in old and other is identity:
                other = _holder(draft, address) or identity
                if "/" in address and other is identity:
                    other = _holder(draft, names.route_host(address)) or identity
            if other.id != identity.id:
                holder = draft.called(other)
                raise Refused(
                    f"{address} is taken by {holder}",
                    hint=f"{draft.called(identity)} can have it once {holder} has given it up; nothing is taken over",
                )
            if "/" in address and address not in old:
                _outside_domains(draft, address)


def _outside_domains(draft: Holders, route: str) -> None:
    for project, domain in draft.domains.items():
        if names.under_domain(names.route_host(route), domain):
            whose = f" of project {project!r}" if draft.seen_services(project) else ""
            raise Refused(f"route {route!r}: {domain} holds the generated hostnames{whose}")


def domain(draft: Holders, domain: str) -> None:
    """Raises Refused if a new domain would generate hostnames where there are routes."""
    for route, id in draft.state.routes():
        place = draft.by_id(id) if names.under_domain(names.route_host(route), domain) else None
        if place and not place.identity.deleted and route in place.identity.routes:
            which = f"the route {route}" if draft.sees(place.identity) else "a route there"
            raise Refused(
                f"domain {domain!r}: {draft.called(place.identity)} has {which}",
                hint="hostnames are generated where nothing is routed; remove the route, or choose another domain",
            )


def _holder(draft: Holders, address: str) -> Identity | None:
    id = draft.state.holder(address)
    place = draft.by_id(id) if id else None
    if place is None or place.identity.deleted:
        return None
    still = address == place.identity.hostname or address in place.identity.routes
    return place.identity if still else None


def _moved(ref: str, expected: int | None, place: Place | None) -> str:
    was = "no version" if expected is None else f"version {expected}"
    if place is None:
        return f"{ref} is gone; it was at {was} when this was planned"
    if place.head is None:
        return f"{ref} has no version now; it was at {was} when this was planned"
    head = place.head
    return f"{ref} moved from {was} to version {head.number}: {head.kind} by {head.actor} at {head.at}"
