"""From an environment's records to what it is: what `verify` holds the tables against."""

from collections.abc import Collection

from msgspec.structs import replace

from svcctl.model import (
    Created,
    Deleted,
    Entry,
    EnvironmentId,
    Protected,
    Rehosted,
    Renamed,
    Routed,
    Tagged,
    Version,
)
from svcctl.rules.state import Identity


def after(identity: Identity | None, entry: Entry, id: EnvironmentId) -> Identity | None:
    """The identity that a record leads to. None before the first; what it is bound to is not told by records alone."""
    if isinstance(entry, Created):
        return Identity(
            id=id,
            service=entry.service,
            name=entry.name,
            block=entry.block,
            borrowed=entry.cloned_from is not None,
            hostname=entry.hostname,
            cloned_from=entry.cloned_from,
            expires=entry.expires,
            born=entry.last,
            last=entry.last,
        )
    if identity is None:
        return None
    match entry:
        case Version(number=number):
            return replace(identity, last=number)
        case Renamed(new=name, hostname=host):
            return replace(identity, name=name, hostname=host)
        case Rehosted(hostname=host):
            return replace(identity, hostname=host)
        case Routed(layer="file", added=added, removed=removed):
            return replace(identity, file_routes=_routes(identity.file_routes, added, removed))
        case Routed(added=added, removed=removed):
            return replace(identity, cli_routes=_routes(identity.cli_routes, added, removed))
        case Protected(on=on):
            return replace(identity, protected=on)
        case Deleted():
            return replace(
                identity, deleted=True, hostname=None, file_routes=(), cli_routes=(), protected=False, expires=None
            )
        case _:
            return identity


def _routes(routes: Collection[str], added: Collection[str], removed: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted({*routes, *added} - set(removed)))


def tags_after(tags: dict[str, int], entry: Entry) -> dict[str, int]:
    match entry:
        case Tagged(name=name, removed=True):
            return {known: number for known, number in tags.items() if known != name}
        case Tagged(name=name, number=number):
            return tags | {name: number}
        case Deleted():
            return {}
        case _:
            return tags
