"""What the ledger tells to people: environments, pages of history, changes, where code runs."""

from collections.abc import Callable, Collection, Iterable

from msgspec.structs import replace

from svcctl import names
from svcctl.backend.base import Followed
from svcctl.backend.store.database import Database, Row
from svcctl.backend.store.ledger import VERSION_COLUMNS, Ledger, marks
from svcctl.digest import Digest
from svcctl.errors import NotFound
from svcctl.model import (
    Deployment,
    Environment,
    EnvironmentId,
    Service,
    Version,
)
from svcctl.reference import Reference
from svcctl.rules import closure
from svcctl.rules.reading import absent, described, number_of
from svcctl.rules.state import Place


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

    def by_id(self, id: EnvironmentId) -> Environment | None:
        place = self.ledger.place(id)
        return self.described(place) if place else None

    def described(self, place: Place) -> Environment:
        """It lacks, too, the secrets whose values were left behind when the store was moved."""
        found = described(place)
        gone = missing(self._db, place) if place.head and place.head.code else ()
        return replace(found, lacks=(*found.lacks, *(f"secret {name}" for name in gone))) if gone else found

    def tags(self, service: str, environment: str) -> tuple[str, ...]:
        place = self.find(service, environment)
        rows = self._db.all("SELECT name FROM tags WHERE environment = ? ORDER BY number", (place.identity.id,))
        return tuple(name for (name,) in rows)

    def deployment(self, service: str, environment: str) -> Deployment:
        return closure.deployment(self.find(service, environment), _Living(self.ledger))

    def namespaces(self, service: str, environment: str) -> dict[str, str]:
        place = self.find(service, environment)
        bindings = place.settings.bindings if place.settings else {}
        look = _Living(self.ledger)
        found = {name: closure.namespace(place.identity, name, each, look) for name, each in sorted(bindings.items())}
        return {name: namespace for name, namespace in found.items() if namespace is not None}

    def follow(self, after: int) -> Followed:
        """After 0, without tombstones: nothing was ever known of them."""
        row = self._db.one("SELECT (SELECT value FROM store WHERE name = 'id'), (SELECT max(number) FROM changes)")
        store, number = row or ("", 0)
        if after:
            rows = self._db.all(
                "SELECT DISTINCT environment FROM records "
                "WHERE change > ? AND change <= ? AND environment <> '' ORDER BY environment",
                (after, number or 0),
            )
        else:
            rows = self._db.all("SELECT id FROM environments WHERE living = 1 ORDER BY id")
        places = (place for (id,) in rows if (place := self.ledger.place(id)))
        return Followed(store=store or "", number=number or 0, places=tuple(map(self._with_tags, places)))

    def _with_tags(self, place: Place) -> Place:
        return replace(place, head=self._tagged(place.identity.id, place.head)) if place.head else place

    def has_settings(self, digest: Digest, seen: Callable[[str, str], bool]) -> bool:
        """By the histories of those that are seen: no index holds settings, which each change would have to write."""
        rows = self._db.all("SELECT id, service, name FROM environments ORDER BY living, id")
        ids = [id for id, service, name in rows if seen(service, name)]
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            named = f"environment IN ({marks(some)}) AND settings = ?"
            if self._db.one(f"SELECT 1 FROM records WHERE {named} LIMIT 1", (*some, digest)):  # noqa: S608
                return True
        return False

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
        return tuple(
            self._tagged(place.identity.id, self.ledger.with_source(place.head))
            for place in self.places(project, services)
            if place.head
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
            found += self.versions([row for row in laid if self._lives(row[0], row[1])])
        if commit is not None:
            found = [
                each for each in found if each.code and each.code.commit and each.code.commit.sha.startswith(commit)
            ]
        return tuple(sorted(found, key=lambda version: version.change or 0, reverse=True))

    def _lives(self, id: EnvironmentId, number: int) -> bool:
        identity = self.ledger.identity(id)
        return identity is not None and not identity.deleted and number > identity.born

    def versions(self, rows: Iterable[Row]) -> list[Version]:
        """Rows of VERSION_COLUMNS, whole."""
        wanted = list(rows)
        self.ledger.meet(row[0] for row in wanted)
        tags = self._tags(wanted)
        found = ((row, self.ledger.version_of(row)) for row in wanted)
        return [replace(version, tags=tuple(tags.get((row[0], row[1]), ()))) for row, version in found]

    def _tags(self, rows: Iterable[Row]) -> dict[tuple[str, int], list[str]]:
        """One look for each environment: one for each version would take longer than all else of a page."""
        numbers: dict[str, list[int]] = {}
        for row in rows:
            numbers.setdefault(row[0], []).append(row[1])
        tags: dict[tuple[str, int], list[str]] = {}
        looks = [
            (
                f"SELECT number, name FROM tags WHERE environment = ? AND number IN ({marks(some)}) ORDER BY name",  # noqa: S608
                (id, *some),
            )
            for id, some in numbers.items()
        ]
        for id, found in zip(numbers, self._db.together(looks) if looks else (), strict=True):
            for number, name in found:
                tags.setdefault((id, number), []).append(name)
        return tags

    def _tagged(self, id: EnvironmentId, version: Version) -> Version:
        tags = self.ledger.tags(id, version.number)
        return replace(version, tags=tuple(tags)) if tags else version


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


def missing(database: Database, place: Place) -> list[str]:
    """The secrets that a head names and this store has no value of."""
    named = place.settings.secrets if place.head and place.settings else {}
    if not named:
        return []
    rows = database.all("SELECT name, fingerprint FROM secrets WHERE environment = ?", (place.identity.id,))
    stored = set(rows)
    return sorted(name for name, print_ in named.items() if (name, print_) not in stored)
