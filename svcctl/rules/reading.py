"""Which version a reference means."""

from svcctl import names
from svcctl.errors import NotFound, UsageError
from svcctl.model import Environment, Settings, Version
from svcctl.reference import AsOf, At, Back, Number, Tag, write_at
from svcctl.rules.state import Identity, Place, Snapshot


def number_of(state: Snapshot, place: Place, at: At | None) -> int | None:
    """The version's number in this life of the environment, or None where there is none."""
    identity = place.identity
    match at:
        case None:
            number = identity.head
        case Number(wanted):
            number = wanted
        case Back(steps):
            number = identity.last - steps
        case Tag(name):
            number = state.tagged(identity.id, name)
        case AsOf(change):
            number = state.as_of(identity.id, change)
    return number if number is not None and identity.born < number <= identity.last else None


def version_at(state: Snapshot, place: Place, at: At | None) -> tuple[Version, Settings] | None:
    number = number_of(state, place, at)
    if number is None:
        return None
    if place.head and place.settings and number == place.head.number:
        return place.head, place.settings
    return state.version(place.identity.id, number)


def check_tag(name: str) -> None:
    if wrong := names.check_tag(name):
        raise UsageError(f"tag {name!r} {wrong}")


def check_one_service(at: At | None, services: list[str]) -> None:
    """A number means another release in every service."""
    if isinstance(at, Number | Back) and len(services) > 1:
        raise UsageError(
            f"@{write_at(at)} needs one service; this acts on {', '.join(sorted(services))}",
            hint="name a service with -s, or use a tag or cN (as it was after change N), which mean the same in all",
        )


def absent(identity: Identity, at: At) -> NotFound:
    wanted = write_at(at)
    if identity.head is None:
        return NotFound(f"{identity.ref} has no versions")
    if isinstance(at, Number) and at.number <= identity.born:
        hint = "it belongs to an earlier environment of the name, deleted since"
        next = f"svcctl history {identity.ref}"
        return NotFound(f"{identity.ref} has no version {wanted}", hint=hint, next=next)
    return NotFound(
        f"{identity.ref} has no version {wanted}",
        hint=f"it has {identity.born + 1} to {identity.last}",
        next=f"svcctl history {identity.ref}",
    )


def described(place: Place) -> Environment:
    identity = place.identity
    code = place.head.code if place.head else None
    return Environment(
        ref=identity.ref,
        service=identity.service,
        name=identity.name,
        hostname=identity.hostname,
        head=identity.head,
        protected=identity.protected,
        routes=identity.routes,
        cli_routes=identity.cli_routes,
        id=identity.id,
        block=identity.block,
        cloned_from=identity.cloned_from,
        expires=identity.expires,
        lacks=tuple(code.requires.lacking(place.settings)) if code and place.settings else (),
        deleted=identity.deleted,
    )
