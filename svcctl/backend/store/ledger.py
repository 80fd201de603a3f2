"""The ledger read: rows to values, and the snapshot that the rules are given.

Bytes that stand for something are checked against their digest before anything is built on them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from svcctl import digest, wire
from svcctl.backend.store.database import Database, Row, Statement
from svcctl.backend.store.footprint import Footprint
from svcctl.digest import Digest
from svcctl.errors import Damage
from svcctl.model import Change, EnvironmentId, Half, Record, Settings, Token, Version
from svcctl.rules.state import Bound, Identity, Place

VERSION_COLUMNS = (
    "r.environment, r.number, r.change, r.digest, r.body, r.settings_since, r.settings_under, r.code_since, "
    "r.code_under"
)
_PLACE = f"e.id, e.seq, e.tip, e.identity, s.body, {VERSION_COLUMNS}"
_HEAD = (
    "LEFT JOIN records r ON r.environment = e.id AND r.number = e.head LEFT JOIN settings s ON s.digest = r.settings"
)
_AHEAD = (
    "SELECT now.newest, now.done, now.schema, now.domain, a.name, a.project, e.name, "  # noqa: S608
    f"{_PLACE} FROM (SELECT (SELECT max(number) FROM changes) AS newest, "
    "(SELECT number FROM changes WHERE id = ?) AS done, "
    "(SELECT version FROM schema_versions WHERE part = 'ledger') AS schema, "
    "(SELECT domain FROM projects WHERE name = ?) AS domain) AS now "
    "LEFT JOIN services a ON a.name = ANY(?){whole} "
    # By OFFSET 0 the planner is told to look environments up for each service, where it would rather read them all.
    "LEFT JOIN LATERAL (SELECT * FROM environments WHERE service = a.name AND name = ANY(?) AND living = 1 OFFSET 0) e "
    f"ON true {_HEAD} ORDER BY a.name"
)
_NAMED_AHEAD, _WHOLE_AHEAD = _AHEAD.format(whole=""), _AHEAD.format(whole=" OR a.project = ?")
STORE_CHAIN = EnvironmentId("")
"""The chain of what belongs to no environment."""

Link = tuple[int, Digest | None]
"""A chain's end: how many records, and the digest of the last."""


def marks(values: Collection[Any]) -> str:
    return ",".join("?" * len(values))


class Ahead(NamedTuple):
    """What a plan will ask for, as far as its command tells."""

    command: str
    project: str
    whole: bool
    """All services of the project, beside `services`."""
    services: Sequence[str]
    environments: Sequence[str]


class Ledger:
    """A Snapshot (rules.state): valid inside one transaction of `database`; what was read is remembered."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.looked = Footprint()
        self._places: dict[EnvironmentId, Place | None] = {}
        self._identities: dict[EnvironmentId, Identity | None] = {}
        self._owners: dict[str, str | None] = {}
        self._own_domains: dict[str, str | None] = {}
        self._services: dict[str, list[str]] = {}
        self._named: dict[tuple[str, str], Sequence[Any] | None] = {}
        self._documents: dict[Digest, Settings] = {}
        self._chains: dict[EnvironmentId, Link] = {}
        self._versions: dict[tuple[EnvironmentId, int], tuple[Version, Settings]] = {}

    # ---- the snapshot

    def domain(self, project: str) -> str | None:
        if project not in self._own_domains:
            row = self._db.one("SELECT domain FROM projects WHERE name = ?", (project,))
            self._own_domains[project] = row[0] if row else None
        return self._own_domains[project]

    def domains(self) -> Mapping[str, str]:
        return dict(self._db.all("SELECT name, domain FROM projects ORDER BY name"))

    def routes(self) -> Iterable[tuple[str, EnvironmentId]]:
        self.looked.routes = True
        rows = self._db.all("SELECT pattern, environment FROM routes ORDER BY pattern")
        return [(pattern, EnvironmentId(id)) for pattern, id in rows]

    def owner(self, service: str) -> str | None:
        if service not in self._owners:
            row = self._db.one("SELECT project FROM services WHERE name = ?", (service,))
            self._owners[service] = row[0] if row else None
        return self._owners[service]

    def services(self, project: str) -> Sequence[str]:
        if project not in self._services:
            rows = self._db.all("SELECT name FROM services WHERE project = ? ORDER BY name", (project,))
            self._services[project] = [name for (name,) in rows]
        return self._services[project]

    def places(self, services: Collection[str], wanted: Collection[str] | None = None) -> Iterable[Place]:
        if not services or (wanted is not None and not wanted):
            return []
        if wanted is None:
            self.looked.services.update(services)
        else:
            asked = [(service, name) for service in sorted(set(services)) for name in sorted(set(wanted))]
            self.looked.names.update(asked)
            if all(each in self._named for each in asked):
                known = [row for each in asked if (row := self._named[each])]
                self.looked.ids.update(row[0] for row in known)
                return [self._places.get(row[0]) or self._remember(row) for row in known]
        named = "" if wanted is None else f"AND e.name IN ({marks(wanted)}) "
        rows = self._db.all(
            f"SELECT {_PLACE} FROM environments e {_HEAD} "  # noqa: S608
            f"WHERE e.service IN ({marks(services)}) {named}AND e.living = 1 ORDER BY e.service, e.name",
            [*services, *(wanted or ())],
        )
        self.looked.ids.update(row[0] for row in rows)
        return [self._remember(row) for row in rows]

    @staticmethod
    def ahead(wanted: Ahead) -> Statement:
        """All that most plans ask for, to be read together with other things."""
        named = (wanted.command, wanted.project, wanted.services)
        if wanted.whole:
            return _WHOLE_AHEAD, (*named, wanted.project, wanted.environments)
        return _NAMED_AHEAD, (*named, wanted.environments)

    def remember(self, wanted: Ahead, rows: Sequence[Row]) -> tuple[int | None, int | None, int]:
        """The answer to `ahead`: the numbers of the newest change and of the command's, and the schema."""
        newest, done, schema, domain, *_ = rows[0]
        found = [row[4:] for row in rows if row[4] is not None]
        self._own_domains[wanted.project] = domain
        self._owners = dict.fromkeys(wanted.services) | {service: project for service, project, *_ in found}
        if wanted.whole:
            owned = (service for service, project in self._owners.items() if project == wanted.project)
            self._services[wanted.project] = sorted(owned)
        self._named = dict.fromkeys((service, name) for service in self._owners for name in wanted.environments)
        self._named |= {(service, name): row for service, _, name, *row in found if name is not None}
        return newest, done, schema

    def place(self, id: EnvironmentId) -> Place | None:
        self.looked.ids.add(id)
        if id not in self._places:
            row = self._db.one(f"SELECT {_PLACE} FROM environments e {_HEAD} WHERE e.id = ?", (id,))  # noqa: S608
            if row is None:
                self._places[id] = None
            else:
                self._remember(row)
        return self._places[id]

    def tombstone(self, service: str, name: str) -> Identity | None:
        self.looked.names.add((service, name))
        row = self._db.one(
            "SELECT identity FROM environments WHERE service = ? AND name = ? AND living IS NULL "
            "ORDER BY changed DESC LIMIT 1",
            (service, name),
        )
        return _identity(row[0]) if row else None

    def former(self, service: str, name: str) -> EnvironmentId | None:
        self.looked.names.add((service, name))
        row = self._db.one("SELECT environment FROM former_names WHERE service = ? AND name = ?", (service, name))
        return EnvironmentId(row[0]) if row else None

    def version(self, id: EnvironmentId, number: int) -> tuple[Version, Settings] | None:
        known = self._versions.get((id, number))
        if known is None:
            row = self._db.one(
                f"SELECT {VERSION_COLUMNS} FROM records r WHERE r.environment = ? AND r.number = ?",  # noqa: S608
                (id, number),
            )
            if row is None:
                return None
            version = self.version_of(row)
            known = self._versions[id, number] = version, self.settings(version.settings.digest)
        return known

    def change_of(self, id: EnvironmentId, number: int) -> int | None:
        row = self._db.one("SELECT change FROM records WHERE environment = ? AND number = ?", (id, number))
        return row[0] if row else None

    def tagged(self, id: EnvironmentId, tag: str) -> int | None:
        row = self._db.one("SELECT number FROM tags WHERE environment = ? AND name = ?", (id, tag))
        return row[0] if row else None

    def tags(self, id: EnvironmentId, number: int) -> Sequence[str]:
        rows = self._db.all("SELECT name FROM tags WHERE environment = ? AND number = ? ORDER BY name", (id, number))
        return [name for (name,) in rows]

    def as_of(self, id: EnvironmentId, change: int) -> int | None:
        row = self._db.one(
            "SELECT number FROM records WHERE environment = ? AND number IS NOT NULL AND change <= ? "
            "AND EXISTS (SELECT 1 FROM changes WHERE number = ?) ORDER BY seq DESC LIMIT 1",
            (id, change, change),
        )
        return row[0] if row else None

    def settings_rollbacks(self, id: EnvironmentId) -> Sequence[int]:
        rows = self._db.all(
            "SELECT number FROM records WHERE environment = ? AND restored_settings IS NOT NULL "
            "ORDER BY number DESC LIMIT 20",
            (id,),
        )
        return [number for (number,) in rows]

    def holder(self, address: str) -> EnvironmentId | None:
        table, column = ("routes", "pattern") if "/" in address else ("environments", "hostname")
        wanted = "environment" if table == "routes" else "id"
        row = self._db.one(f"SELECT {wanted} FROM {table} WHERE {column} = ?", (address,))  # noqa: S608
        return EnvironmentId(row[0]) if row else None

    def bound_to(self, service: str) -> Iterable[tuple[Identity, str, Bound]]:
        self.looked.bound.add(service)
        rows = self._db.all(
            "SELECT e.identity, b.name, b.service, b.target "
            "FROM bindings b JOIN environments e ON e.id = b.environment "
            "WHERE b.service = ? AND e.living = 1 ORDER BY e.service, e.name, b.name",
            (service,),
        )
        for identity, name, target, environment in rows:
            yield _identity(identity), name, Bound(service=target, environment=environment)

    def stored_secrets(self, id: EnvironmentId) -> Collection[str]:
        return {name for (name,) in self._db.all("SELECT DISTINCT name FROM secrets WHERE environment = ?", (id,))}

    def expired(self, project: str, at: str) -> Iterable[Place]:
        rows = self._db.all(
            "SELECT e.id FROM environments e JOIN services s ON s.name = e.service "
            "WHERE e.expires <= ? AND e.living = 1 AND s.project = ? ORDER BY e.service, e.name",
            (at, project),
        )
        return [place for (id,) in rows if (place := self.place(id))]

    def tokens(self) -> Iterable[Token]:
        from svcctl.backend.store import access  # which reads of history have no use for

        return access.tokens(self._db)

    # ---- rows to values

    def identity(self, id: EnvironmentId) -> Identity | None:
        if id in self._places:
            place = self._places[id]
            return place.identity if place else None
        if id not in self._identities:
            self.meet((id,))
        return self._identities[id]

    def meet(self, ids: Iterable[EnvironmentId]) -> None:
        """Reads who they are, together."""
        unknown = [id for id in dict.fromkeys(ids) if id not in self._places and id not in self._identities]
        looks = [("SELECT identity FROM environments WHERE id = ?", (id,)) for id in unknown]
        for id, rows in zip(unknown, self._db.together(looks) if looks else (), strict=True):
            self._identities[id] = _identity(rows[0][0]) if rows else None

    def chain(self, id: EnvironmentId) -> Link:
        """Where the next record goes."""
        if id == STORE_CHAIN:
            row = self._db.one(
                "SELECT seq, digest FROM records WHERE environment = ? ORDER BY seq DESC LIMIT 1", (STORE_CHAIN,)
            )
            return (row[0], row[1]) if row else (0, None)
        if id not in self._chains:
            self.place(id)
        return self._chains.get(id, (0, None))

    def settings(self, name: Digest) -> Settings:
        known = self._documents.get(name)
        if known is None:
            row = self._db.one("SELECT body FROM settings WHERE digest = ?", (name,))
            known = self._documents[name] = _settings(name, row[0] if row else None)
        return known

    def version_of(self, row: Row) -> Version:
        """A row of VERSION_COLUMNS, with everything but its tags."""
        identity = self.identity(row[0])
        if identity is None:
            raise Damage(f"the environment {row[0]} of a version is missing", next="svcctl verify")
        return self.with_source(self._version(row, identity))

    def with_source(self, version: Version) -> Version:
        """Heads of places come without: rules have no use for it, and each costs a look-up."""
        return replace(version, source=self._source(version))

    def _version(self, row: Row, identity: Identity) -> Version:
        _, number, change, name, body, settings_since, settings_under, code_since, code_under = row
        ref = f"{identity.service}/{identity.name}@{number}"
        record = decode_record(body, name, ref)
        entry = record.entry
        if not isinstance(entry, Version) or entry.number != number:
            raise Damage(f"{ref}: its record is not of that version", next="svcctl verify")
        code = entry.code and replace(entry.code, since=code_since, under=code_under)
        return replace(
            entry,
            settings=Half(digest=entry.settings.digest, since=settings_since, under=settings_under),
            code=code,
            ref=ref,
            service=identity.service,
            environment=identity.name,
            digest=name,
            parent=record.parent,
            change=change,
        )

    def _source(self, version: Version) -> str | None:
        if version.origin is None:
            return None
        identity = self.identity(version.origin.environment)
        return f"{identity.ref}@{version.origin.number}" if identity else None

    def _remember(self, row: Sequence[Any]) -> Place:
        id, seq, tip, identity_body, settings_body, *version_row = row
        self._chains[id] = (seq, tip)
        identity = self._identities[id] = _identity(identity_body)
        if version_row[1] is None:
            place = Place(identity=identity)
        else:
            version = self._version(tuple(version_row), identity)
            name = version.settings.digest
            if name not in self._documents:
                self._documents[name] = _settings(name, settings_body)
            place = Place(identity=identity, head=version, settings=self._documents[name])
        self._places[id] = place
        return place


def _identity(body: bytes) -> Identity:
    try:
        return wire.decode(body, Identity)
    except msgspec.DecodeError as error:
        raise Damage(f"the row of an environment is unreadable: {error}", next="svcctl verify") from error


def is_sound(tag: str, body: object, name: str) -> bool:
    """Whether stored bytes match their digest. An edit by the database's own shell may have made text of them."""
    return isinstance(body, bytes) and digest.of(tag, body) == name


def decode_record(body: bytes, name: Digest, where: str) -> Record:
    if not is_sound("record", body, name):
        raise Damage(f"{where}: the stored record does not match its digest", next="svcctl verify")
    try:
        return wire.decode(body, Record)
    except msgspec.DecodeError as error:
        raise Damage(f"{where}: the stored record is unreadable: {error}", next="svcctl verify") from error


def decode_change(body: bytes, name: Digest, number: int) -> Change:
    if not is_sound("change", body, name):
        raise Damage(f"change c{number}: the stored bytes do not match their digest", next="svcctl verify")
    return replace(wire.decode(body, Change), number=number)


def _settings(name: Digest, body: bytes | None) -> Settings:
    if body is None or not is_sound("settings", body, name):
        what = "are missing" if body is None else "do not match their digest"
        raise Damage(f"settings {digest.short(name)} {what}", next="svcctl verify")
    return wire.decode(body, Settings)
