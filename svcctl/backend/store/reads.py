"""What the ledger tells to people: environments, pages of history, changes, where code runs."""

import base64
import binascii
from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from svcctl import names
from svcctl.backend.base import Changes, Event, Filter, History
from svcctl.backend.store.connection import Database, Row
from svcctl.backend.store.ledger import VERSION_COLUMNS, Ledger, decode_change, decode_record, marks
from svcctl.errors import NotFound, UsageError
from svcctl.model import (
    Change,
    Created,
    Deleted,
    Deployment,
    Entry,
    Environment,
    EnvironmentId,
    Protected,
    Purged,
    Rehosted,
    Renamed,
    Routed,
    Service,
    Tagged,
    Version,
)
from svcctl.reference import Reference
from svcctl.rules import closure
from svcctl.rules.reading import absent, number_of
from svcctl.rules.state import Identity, Place

_BATCH = 64  # changes looked through at a time for a page


class Reads:
    """Questions asked inside one read transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.ledger = Ledger(database)

    # ---- services and environments

    def projects(self) -> tuple[str, ...]:
        rows = self._db.all("SELECT DISTINCT project FROM services WHERE project IS NOT NULL ORDER BY project")
        return tuple(name for (name,) in rows)

    def services(self, project: str | None) -> tuple[Service, ...]:
        rows = self._db.all("SELECT name, project FROM services WHERE project IS NOT NULL ORDER BY name")
        return tuple(Service(name=name, project=owner) for name, owner in rows if project in (None, owner))

    def places(
        self, project: str, services: Collection[str] | None = None, wanted: Collection[str] | None = None
    ) -> Iterable[Place]:
        return self.ledger.places(self.ledger.services(project) if services is None else services, wanted)

    def find(self, service: str, name: str) -> Place:
        for place in self.ledger.places((service,), (name,)):
            return place
        owner = self.ledger.owner(service)
        if owner is None:
            known = [each.name for each in self.services(None)]
            raise NotFound(f"no service {service!r} in the store", hint=names.did_you_mean(service, known))
        known = [place.identity.name for place in self.ledger.places((service,))]
        raise NotFound(f"{service} has no environment {name!r}", hint=names.did_you_mean(name, known))

    def environment(self, place: Place) -> Environment:
        return described(place.identity, place)

    def by_id(self, id: EnvironmentId) -> Environment | None:
        place = self.ledger.place(id)
        return self.environment(place) if place else None

    def tags(self, service: str, environment: str) -> tuple[str, ...]:
        place = self.find(service, environment)
        rows = self._db.all("SELECT name FROM tags WHERE environment = ? ORDER BY number", (place.identity.id,))
        return tuple(name for (name,) in rows)

    def deployment(self, service: str, environment: str) -> Deployment:
        return closure.deployment(self.find(service, environment), _Living(self.ledger))

    # ---- versions

    def version(self, reference: Reference) -> Version:
        place = self.find(reference.service or "", reference.environment)
        number = number_of(self.ledger, place, reference.at)
        if number is None:
            if reference.at is None:
                raise NotFound(f"{place.ref} has no versions yet", next=f"svcctl deploy --env {reference.environment}")
            raise absent(place.identity, reference.at)
        found = self.ledger.version(place.identity.id, number)
        if found is None:
            raise NotFound(f"{place.ref}@{number} is missing from the ledger", next="svcctl verify")
        return self._tagged(place.identity.id, found[0])

    def heads(self, project: str, services: Collection[str] | None) -> tuple[Version, ...]:
        places = [place for place in self.places(project, services) if place.head]
        return tuple(
            self._tagged(place.identity.id, self.ledger.with_source(place.head)) for place in places if place.head
        )

    def running(self, commit: str | None, code: str | None) -> tuple[Version, ...]:
        """Versions that laid code of that commit or digest, newest first."""
        if commit is not None:
            rows = self._db.all(
                "SELECT DISTINCT code FROM records WHERE deployed >= ? AND deployed < ?", (commit, commit + "g")
            )
        else:
            rows = self._db.all(
                "SELECT DISTINCT code FROM records WHERE code >= ? AND code < ? AND code_since = number",
                (code, f"{code}g"),
            )
        found: list[Version] = []
        for (each,) in rows:
            laid = self._db.all(
                f"SELECT {VERSION_COLUMNS} FROM records r WHERE r.code = ? AND r.code_since = r.number",  # noqa: S608
                (each,),
            )
            found += self._versions([row for row in laid if self._lives(row[0], row[1])])
        if commit is not None:
            found = [
                each for each in found if each.code and each.code.commit and each.code.commit.sha.startswith(commit)
            ]
        return tuple(sorted(found, key=lambda version: version.change or 0, reverse=True))

    def _lives(self, id: EnvironmentId, number: int) -> bool:
        identity = self.ledger.identity(id)
        return identity is not None and not identity.deleted and number > identity.born

    def _versions(self, rows: Iterable[Row]) -> list[Version]:
        """Rows of VERSION_COLUMNS, whole."""
        return [self._tagged(row[0], self.ledger.version_of(row)) for row in rows]

    def _tagged(self, id: EnvironmentId, version: Version) -> Version:
        tags = self.ledger.tags(id, version.number)
        return replace(version, tags=tuple(tags)) if tags else version

    # ---- history

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
            return [self.find(reference.service, reference.environment).identity.id]
        places = list(self.places(project, None, (reference.environment,)))
        if not places:
            known = {place.identity.name for place in self.places(project)}
            raise NotFound(
                f"no environment {reference.environment!r}", hint=names.did_you_mean(reference.environment, known)
            )
        return [place.identity.id for place in places]

    def _tombstone(self, reference: Reference) -> Identity:
        if reference.service is None:
            raise UsageError(
                "--deleted needs one service", next=f"svcctl history SERVICE/{reference.environment} --deleted"
            )
        identity = self.ledger.tombstone(reference.service, reference.environment)
        if identity is None:
            raise NotFound(f"no deleted environment {reference.service}/{reference.environment}")
        return identity

    def _of_one(self, id: EnvironmentId, filter: Filter, limit: int, cursor: str | None) -> History:
        """One environment's chain, by number: an index range, however long the store's history."""
        below = _read_cursor(cursor) if cursor else None
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
            for row in batch:
                (version,) = self._versions([row])
                if not _passes(version, filter):
                    continue
                if len(versions) == limit:
                    more = True
                    break
                versions.append(version)
            top = batch[-1][1]
        after = _write_cursor(versions[-1].number) if more and versions else None
        lowest = (versions[-1].change or 0) if after else 0
        events = self._events(
            "r.environment = ? AND r.change >= ? AND r.change < ?", id, lowest, self._until(id, below)
        )
        return History(versions=tuple(versions), next=after, events=events)

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
        below = _read_cursor(cursor) if cursor else 1 << 62
        versions: list[Version] = []
        events: list[Event] = []
        last: int | None = None
        for change in self._changes_below(project, below, filter):
            if len(versions) >= limit:
                return History(
                    versions=tuple(versions),
                    next=_write_cursor(last or 0) if last else None,
                    events=tuple(events),
                )
            rows = self._db.all(
                f"SELECT {VERSION_COLUMNS} FROM records r WHERE r.change = ? AND r.number IS NOT NULL",  # noqa: S608
                (change,),
            )
            found = self._versions(row for row in rows if ids is None or row[0] in ids)
            versions += sorted((each for each in found if _passes(each, filter)), key=lambda version: version.ref)
            events += self._events_of(ids, change)
            last = change
        return History(versions=tuple(versions), events=tuple(events))

    def _events_of(self, ids: Collection[EnvironmentId] | None, change: int) -> list[Event]:
        named = "" if ids is None else f" AND r.environment IN ({marks(ids)})"
        events = self._events(f"r.change = ?{named}", change, *(ids or ()))
        return sorted(events, key=lambda event: event.ref)

    def _changes_below(self, project: str, below: int, filter: Filter) -> Iterator[int]:
        while rows := self._db.all(
            # A service taken over from another project brings its changes along.
            "SELECT number, at, actor FROM changes c WHERE number < ? AND (project = ? OR EXISTS "
            "(SELECT 1 FROM records r JOIN environments e ON e.id = r.environment "
            "JOIN services s ON s.name = e.service WHERE r.change = c.number AND s.project = ?)) "
            "ORDER BY number DESC LIMIT ?",
            (below, project, project, _BATCH),
        ):
            for number, at, actor in rows:
                if (filter.since is None or at >= filter.since) and _is_actor(actor, filter):
                    yield number
            below = rows[-1][0]

    def _events(self, where: str, *parameters: object) -> tuple[Event, ...]:
        rows = self._db.all(
            "SELECT r.environment, r.digest, r.body, c.number, c.at, c.actor FROM records r "  # noqa: S608
            f"JOIN changes c ON c.number = r.change WHERE r.number IS NULL AND r.environment <> '' AND {where} "
            "ORDER BY r.change DESC, r.seq DESC",
            parameters,
        )
        return tuple(self._event(row) for row in rows)

    def _event(self, row: Row) -> Event:
        id, name, body, change, at, actor = row
        identity = self.ledger.identity(id)
        ref = identity.ref if identity else id
        return Event(ref=ref, change=change, at=at, actor=actor, text=in_words(decode_record(body, name, ref).entry))

    # ---- changes

    def change(self, id: str) -> Change | None:
        row = self._db.one("SELECT number, digest, body FROM changes WHERE id = ?", (id,))
        return self._change(row) if row else None

    def changes(self, project: str, filter: Filter, limit: int, cursor: str | None) -> Changes:
        found: list[Change] = []
        for number in self._changes_below(project, _read_cursor(cursor) if cursor else 1 << 62, filter):
            row = self._db.one("SELECT number, digest, body FROM changes WHERE number = ?", (number,))
            change = self._change(row) if row else None
            if change is None or not _is_of_commit(change, filter):
                continue
            if len(found) == limit:
                return Changes(changes=tuple(found), next=_write_cursor(found[-1].number or 0))
            found.append(change)
        return Changes(changes=tuple(found))

    def _change(self, row: Row) -> Change:
        number, name, body = row
        rows = self._db.all(
            f"SELECT {VERSION_COLUMNS} FROM records r WHERE r.change = ? AND r.number IS NOT NULL",  # noqa: S608
            (number,),
        )
        versions = sorted(self._versions(rows), key=lambda version: version.ref)
        return replace(decode_change(body, name, number), versions=tuple(versions))


class _Living:
    """A Lookup (rules.closure) over the ledger as it is."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def place(self, service: str, name: str) -> Place | None:
        return next(iter(self._ledger.places((service,), (name,))), None)

    def by_id(self, id: EnvironmentId) -> Place | None:
        return self._ledger.place(id)

    def former(self, service: str, name: str) -> EnvironmentId | None:
        return self._ledger.former(service, name)


def described(identity: Identity, place: Place) -> Environment:
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


def _write_cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"1:{position}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    kind, _, position = text.partition(":")
    if kind != "1" or not position.isdecimal():
        raise UsageError("that is no cursor of this command", hint="a cursor is the `next` of the page before")
    return int(position)
