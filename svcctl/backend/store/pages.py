"""History and changes, page by page: newest first, complete, whatever the filter."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from msgspec.structs import replace

from svcctl import names
from svcctl.backend.base import Changes, Event, Filter, History
from svcctl.backend.store.cursors import read_cursor, write_cursor
from svcctl.backend.store.database import Database, Row, Statement
from svcctl.backend.store.ledger import STORE_CHAIN, VERSION_COLUMNS, decode_change, decode_record, marks
from svcctl.backend.store.reads import Reads
from svcctl.errors import NotFound, UsageError
from svcctl.model import (
    Change,
    Created,
    Deleted,
    Entry,
    EnvironmentId,
    Protected,
    Purged,
    Rehosted,
    Renamed,
    Routed,
    Tagged,
    Version,
)
from svcctl.reference import Reference
from svcctl.rules.state import Identity

_BATCH = 64  # changes looked through at a time for a page
_FIRST = 4  # changes read at first, which tell how many more a page will take
_EVENTS = (
    "SELECT r.environment, r.digest, r.body, c.number, c.at, c.actor FROM records r "
    "JOIN changes c ON c.number = r.change WHERE r.number IS NULL AND r.environment <> '' AND {where} "
    "ORDER BY r.change DESC, r.seq DESC"
)
_RECORDS = f"SELECT {VERSION_COLUMNS} FROM records r WHERE r.change = ?"  # noqa: S608
_VERSIONS = f"{_RECORDS} AND r.number IS NOT NULL"


class Pages:
    """Inside one read transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._reads = Reads(database)
        self._ledger = self._reads.ledger

    def history(
        self, project: str, reference: Reference | None, filter: Filter, limit: int, cursor: str | None
    ) -> History:
        ids = self._ids(project, reference, filter)
        if ids is not None and len(ids) == 1:
            return self._of_one(ids[0], filter, limit, cursor)
        return self._of_many(project, ids, filter, limit, cursor)

    def _ids(self, project: str, reference: Reference | None, filter: Filter) -> list[EnvironmentId] | None:
        """None: every environment of the project, also those deleted since."""
        if reference is None:
            return None
        if filter.deleted:
            return [self._tombstone(reference).id]
        if reference.service is not None:
            return [self._reads.find(reference.service, reference.environment).identity.id]
        places = list(self._reads.places(project, None, (reference.environment,)))
        if not places:
            known = {place.identity.name for place in self._reads.places(project)}
            raise NotFound(
                f"no environment {reference.environment!r}", hint=names.did_you_mean(reference.environment, known)
            )
        return [place.identity.id for place in places]

    def _tombstone(self, reference: Reference) -> Identity:
        if reference.service is None:
            raise UsageError(
                "--deleted needs one service", next=f"svcctl history SERVICE/{reference.environment} --deleted"
            )
        identity = self._ledger.tombstone(reference.service, reference.environment)
        if identity is None:
            raise NotFound(f"no deleted environment {reference.service}/{reference.environment}")
        return identity

    def _of_one(self, id: EnvironmentId, filter: Filter, limit: int, cursor: str | None) -> History:
        """One environment's chain, by number: an index range, however long the store's history."""
        below = read_cursor(cursor) if cursor else None
        versions: list[Version] = []
        more = False
        top = below
        while not more:
            batch = self._db.all(
                f"SELECT {VERSION_COLUMNS} FROM records r WHERE r.environment = ? AND r.number IS NOT NULL "  # noqa: S608
                "AND r.number < ? ORDER BY r.number DESC LIMIT ?",
                (id, top if top is not None else 1 << 62, limit + 1),
            )
            if not batch:
                break
            for version in self._reads.versions(batch):
                if not _passes(version, filter):
                    continue
                if len(versions) == limit:
                    more = True
                    break
                versions.append(version)
            top = batch[-1][1]
        after = write_cursor(versions[-1].number) if more and versions else None
        lowest = (versions[-1].change or 0) if after else 0
        told = self._db.all(
            *_events("r.environment = ? AND r.change >= ? AND r.change < ?", id, lowest, self._until(id, below))
        )
        return History(versions=tuple(versions), next=after, events=tuple(map(self._event, told)))

    def _until(self, id: EnvironmentId, below: int | None) -> int:
        """Events newer than this page's versions stand on the page before."""
        if below is None:
            return 1 << 62
        row = self._db.one("SELECT change FROM records WHERE environment = ? AND number = ?", (id, below))
        return row[0] if row else 1 << 62

    def _of_many(
        self, project: str, ids: list[EnvironmentId] | None, filter: Filter, limit: int, cursor: str | None
    ) -> History:
        """Change by change, newest first; one change's rows stay together, so a page may be longer than `limit`."""
        below = read_cursor(cursor) if cursor else 1 << 62
        versions: list[Version] = []
        events: list[Event] = []
        last, looked, size = None, 0, _FIRST
        changes = self._changes_below(project, below, filter)
        while some := list(islice(changes, size)):
            for change, made, told in self._made_by(some, ids):
                if len(versions) >= limit:
                    return History(
                        versions=tuple(versions), next=write_cursor(last) if last else None, events=tuple(events)
                    )
                versions += (each for each in made if _passes(each, filter))
                events += told
                last = change
            looked += len(some)
            size = min(_BATCH, 1 + max(0, limit - len(versions)) * looked // max(1, len(versions)))
        return History(versions=tuple(versions), events=tuple(events))

    def _made_by(
        self, changes: Sequence[int], ids: Collection[EnvironmentId] | None
    ) -> Iterator[tuple[int, list[Version], list[Event]]]:
        """Each change's versions and events, read together: on a server, a look for each would take longer than all
        else of a page."""
        named = "" if ids is None else f" AND r.environment IN ({marks(ids)})"
        looks: list[Statement] = [(_VERSIONS, (change,)) for change in changes]
        looks += [_events(f"r.change = ?{named}", change, *(ids or ())) for change in changes]
        answers = self._db.together(looks)
        made, told = answers[: len(changes)], answers[len(changes) :]
        wanted = (row for rows in made for row in rows if ids is None or row[0] in ids)
        found = _by_change(self._reads.versions(wanted))
        for change, rows in zip(changes, told, strict=True):
            events = sorted(map(self._event, rows), key=lambda event: event.ref)
            yield change, found.get(change, []), events

    def _changes_below(self, project: str, below: int, filter: Filter) -> Iterator[int]:
        while rows := self._db.all(
            # A service taken over from another project brings its changes along; those of the store concern all.
            "SELECT number, at, actor FROM changes c WHERE number < ? AND (project IN (?, '') OR EXISTS "
            "(SELECT 1 FROM records r JOIN environments e ON e.id = r.environment "
            "JOIN services s ON s.name = e.service WHERE r.change = c.number AND s.project = ?)) "
            "ORDER BY number DESC LIMIT ?",
            (below, project, project, _BATCH),
        ):
            for number, at, actor in rows:
                if (filter.since is None or at >= filter.since) and _is_actor(actor, filter):
                    yield number
            below = rows[-1][0]

    def _event(self, row: Row) -> Event:
        id, name, body, change, at, actor = row
        identity = self._ledger.identity(id)
        ref = identity.ref if identity else id
        return Event(ref=ref, change=change, at=at, actor=actor, text=in_words(decode_record(body, name, ref).entry))

    # ---- changes

    def change(self, id: str) -> Change | None:
        return next(self._whole(self._db.all("SELECT number, digest, body FROM changes WHERE id = ?", (id,))), None)

    def changes(self, project: str, filter: Filter, limit: int, cursor: str | None) -> Changes:
        found: list[Change] = []
        numbers = self._changes_below(project, read_cursor(cursor) if cursor else 1 << 62, filter)
        while some := list(islice(numbers, limit + 1 - len(found))):
            rows = self._db.together(
                [("SELECT number, digest, body FROM changes WHERE number = ?", (n,)) for n in some]
            )
            found += (each for each in self._whole([row for row, *_ in rows]) if _is_of_commit(each, filter))
            if len(found) > limit:
                return Changes(changes=tuple(found[:limit]), next=write_cursor(found[limit - 1].number or 0))
        return Changes(changes=tuple(found))

    def _whole(self, changes: Sequence[Row]) -> Iterator[Change]:
        """Rows of changes, with the versions that each made and the environments that its records are of."""
        made = self._db.together([(_RECORDS, (number,)) for number, *_ in changes]) if changes else []
        touched = [{row[0] for row in rows} - {STORE_CHAIN} for rows in made]
        self._ledger.meet(id for ids in touched for id in ids)
        versions = _by_change(self._reads.versions(row for rows in made for row in rows if row[1] is not None))
        for (number, name, body), ids in zip(changes, touched, strict=True):
            known = {identity.ref for id in ids if (identity := self._ledger.identity(id))}
            yield replace(
                decode_change(body, name, number),
                touched=tuple(sorted(known)),
                versions=tuple(versions.get(number, ())),
            )


def _events(where: str, *parameters: object) -> Statement:
    return (_EVENTS.format(where=where), parameters)


def _by_change(versions: Iterable[Version]) -> dict[int | None, list[Version]]:
    """In order of their places."""
    found: dict[int | None, list[Version]] = {}
    for version in sorted(versions, key=lambda version: version.ref):
        found.setdefault(version.change, []).append(version)
    return found


def in_words(entry: Entry) -> str:
    match entry:
        case Created(name=name, hostname=host, last=last):
            return f"{'begun again' if last else 'created'} as {name} at {host}"
        case Renamed(old=old, new=new, hostname=host):
            return f"renamed from {old} to {new}, now at {host}"
        case Rehosted(hostname=host):
            return f"moved to {host}"
        case Routed(added=added, removed=removed):
            return ", ".join([f"route {each} added" for each in added] + [f"route {each} removed" for each in removed])
        case Protected(on=on):
            return "protected" if on else "no longer protected"
        case Tagged(name=name, number=number, removed=removed):
            return f"version {number} {'lost tag' if removed else 'tagged'} {name}"
        case Purged(names=purged):
            return f"older values of {', '.join(purged)} destroyed"
        case Deleted(name=name):
            return f"{name} deleted"
        case _:
            return type(entry).__name__.lower()


def _passes(version: Version, filter: Filter) -> bool:
    return (
        (filter.since is None or version.at >= filter.since)
        and _is_actor(version.actor, filter)
        and (filter.commit is None or _commit_of(version).startswith(filter.commit))
    )


def _is_of_commit(change: Change, filter: Filter) -> bool:
    return filter.commit is None or any(_commit_of(version).startswith(filter.commit) for version in change.versions)


def _commit_of(version: Version) -> str:
    return version.code.commit.sha if version.code and version.code.commit else ""


def _is_actor(actor: str, filter: Filter) -> bool:
    """A part of the name or address is enough."""
    return filter.actor is None or filter.actor.casefold() in actor.casefold()
