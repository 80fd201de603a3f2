"""From an environment's records to what it is: what `verify` holds the tables against, and what a store works out
from records that came from another."""

from collections.abc import Callable, Collection, Iterator

from msgspec.structs import replace

from svcctl.model import (
    Created,
    Deleted,
    Entry,
    EnvironmentId,
    Model,
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


# ---- halves: `since` and `under` stand outside every digest, and follow from the records all the same


class Laid(Model):
    """One half of a version: the version that laid it, and the version whose half lies beneath."""

    since: int
    under: int | None = None


class Top(Model):
    """The half of a head, and the head's number."""

    number: int
    half: Laid


def laid(number: int, top: Top | None, *, same: bool) -> Laid:
    """The half of version `number`, where no roll back brought it: the head's where it is the `same`, else a new one
    on it. `top` is None where the head had none."""
    if top is None:
        return Laid(since=number)
    return top.half if same else Laid(since=number, under=top.number)


def brought_back(wanted: Laid, top: Top | None, half_of: Callable[[int], Laid | None]) -> Laid:
    """The half of an older version, brought back: found in the present pile, what lies above comes off; else it is laid
    on the topmost half that is older."""
    for number, half in _pile(top, half_of):
        if half.since == wanted.since:
            return half
        if half.since < wanted.since:
            return Laid(since=wanted.since, under=number)
    return Laid(since=wanted.since)


def _pile(top: Top | None, half_of: Callable[[int], Laid | None]) -> Iterator[tuple[int, Laid]]:
    number, half = (top.number, top.half) if top else (0, None)
    while half is not None:
        yield number, half
        if half.under is None:
            return
        number = half.under
        half = half_of(number)
