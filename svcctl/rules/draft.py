"""A plan in the making: what a command has touched so far, seen through the snapshot it started from."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from svcctl import ages, digest, names
from svcctl.commands import Base
from svcctl.digest import Digest
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import (
    Block,
    Code,
    Created,
    Domain,
    Entry,
    EnvironmentId,
    Grant,
    Half,
    Kind,
    Owned,
    Protected,
    Rehosted,
    Routed,
    Settings,
    Tagged,
    TokenCreated,
    TokenRevoked,
    Version,
)
from svcctl.names import PRODUCTION
from svcctl.reference import Reference
from svcctl.rules import access, checks
from svcctl.rules.halves import lay_code, lay_settings
from svcctl.rules.state import Bound, Consent, Identity, Keep, Place, Plan, Snapshot, Step

DEFAULT_DOMAIN = "localhost"


class Draft:
    """Places are found by name or id as they are *within this change*: created, renamed, with their new heads."""

    def __init__(self, state: Snapshot, command: Base, now: datetime, actor: str, grant: Grant | None = None) -> None:
        self.state = state
        self.command = command
        self.project = command.project
        self.kind: Kind = command.__struct_config__.tag  # type: ignore[assignment]  # each command's tag is its kind
        self.now = now
        self.at = ages.timestamp(now)
        self.actor = actor
        self._grant = grant
        self.notes: list[str] = []
        self.sources: dict[str, int] = {}
        self._steps: list[Step] = []
        self._secrets: list[Keep] = []
        self._artifacts: dict[Digest, None] = {}
        self._places: dict[EnvironmentId, Place] = {}
        self._before: dict[EnvironmentId, Identity | None] = {}
        self._born_services: dict[str, str] = {}
        self._domain = state.domain(self.project.name)
        checks.expected(state, command)

    # ---- what may be told

    def sees(self, identity: Identity) -> bool:
        return self._grant is None or access.covers(self._grant, identity.service, identity.name)

    def seen_services(self, project: str) -> list[str]:
        return [each for each in self.state.services(project) if self._sees_service(each)]

    def _sees_service(self, service: str) -> bool:
        return self._grant is None or access.covers_service(self._grant, service)

    def called(self, identity: Identity) -> str:
        """In a refusal that is about another environment."""
        return identity.ref if self.sees(identity) else "an environment out of reach"

    def near(self, name: str, services: Collection[str], more: Collection[str] = ()) -> str | None:
        """A hint for an unknown name of an environment; `more` are names that the file has."""
        seen = {place.identity.name for place in self.places(services) if self.sees(place.identity)}
        return names.did_you_mean(name, {*seen, *more})

    # ---- looking

    @property
    def domain(self) -> str:
        return self._domain or self.project.domain or DEFAULT_DOMAIN

    @property
    def domains(self) -> dict[str, str]:
        """Of every project, as they are within this change."""
        return {**self.state.domains(), self.project.name: self.domain}

    def owner(self, service: str) -> str | None:
        return self._born_services.get(service) or self.state.owner(service)

    def place(self, service: str, name: str) -> Place | None:
        return next(iter(self.places((service,), name)), None)

    def places(self, services: Collection[str], name: str | None = None) -> Iterable[Place]:
        """Living ones as they are within this change; asked of the snapshot once for all services."""
        seen = set()
        for place in self.state.places(services, None if name is None else (name,)):
            seen.add(place.identity.id)
            current = self._places.get(place.identity.id, place)
            if not current.identity.deleted and name in (None, current.identity.name):
                yield current
        for id, place in self._places.items():
            identity = place.identity
            if (
                id not in seen
                and not identity.deleted
                and identity.service in services
                and name in (None, identity.name)
            ):
                yield place

    def by_id(self, id: EnvironmentId) -> Place | None:
        return self._places.get(id) or self.state.place(id)

    def former(self, service: str, name: str) -> EnvironmentId | None:
        return self.state.former(service, name)

    def selected(self, reference: Reference | None = None) -> list[str]:
        """The services that the command acts on, all of them in the store; a reference may name one."""
        if self.command.services is None:
            if reference and reference.service:
                return [self.known(reference.service)]
            return list(self.state.services(self.project.name))
        if reference and reference.service and self.command.services != (reference.service,):
            raise UsageError(
                f"{reference} names service {reference.service}; -s names {', '.join(self.command.services)}"
            )
        return [self.known(service) for service in self.command.services]

    def known(self, service: str) -> str:
        owner = self.owner(service)
        if owner is None:
            here = self.seen_services(self.project.name)
            next = f"svcctl deploy -s {service}" if service in self.project.services else None
            raise NotFound(f"no service {service!r} in the store", hint=names.did_you_mean(service, here), next=next)
        if owner != self.project.name:
            raise Refused(f"service {service!r} belongs to project {owner!r}, not {self.project.name!r}")
        return service

    # ---- changing

    def note(self, text: str) -> None:
        self.notes.append(text)

    def ensure_service(self, service: str, *, adopt: bool = False) -> None:
        """A service of the file comes into being with its production; the project's domain with its first service."""
        owner = self.owner(service)
        if owner == self.project.name:
            return
        if owner is not None and not adopt:
            raise Refused(
                f"service {service!r} belongs to project {owner!r}",
                hint=f"--adopt moves it, with its whole history, to project {self.project.name!r}",
                next=f"svcctl deploy -s {service} --adopt",
            )
        if self._domain is None:
            self.set_domain(self.domain)
        self._born_services[service] = self.project.name
        verb = "created" if owner is None else f"taken over from project {owner}"
        self._step(f"{service}: {verb}", Owned(service=service, project=self.project.name))
        for place in list(self.places((service,))) if owner else ():
            self.rehost(place)
        if self.place(service, PRODUCTION) is None:
            self.create(service, PRODUCTION)

    def set_domain(self, domain: str) -> None:
        self._domain = domain
        self._step(f"{self.project.name}: domain {domain}", Domain(project=self.project.name, domain=domain))

    def ensure(self, service: str, name: str) -> Place:
        """The environment, created where the file names it."""
        if service not in self.project.services:
            self.known(service)
        elif self.owner(service) is None and name not in self.project.environments:
            self._unknown(service, name)
        self.ensure_service(service)
        place = self.place(service, name)
        if place is not None:
            return place
        if service not in self.project.services or name not in self.project.environments:
            self._unknown(service, name)
        return self.create(service, name)

    def _unknown(self, service: str, name: str) -> None:
        raise NotFound(
            f"{service} has no environment {name!r}",
            hint=self.near(name, (service,), self.project.environments),
            next=f"svcctl env create {name}",
        )

    def expiry(self, ttl: int | None) -> str | None:
        return None if ttl is None else ages.timestamp(self.now + timedelta(seconds=ttl))

    def create(
        self, service: str, name: str, *, expires: str | None = None, cloned_from: Identity | None = None
    ) -> Place:
        """A new environment, or a deleted one of that name again: the same chain, the next number, nothing of old."""
        dead = self.state.tombstone(service, name)
        id = dead.id if dead else self._new_id(service, name)
        identity = Identity(
            id=id,
            service=service,
            name=name,
            block=cloned_from.block if cloned_from else name,
            borrowed=cloned_from is not None,
            hostname=names.hostname(service, name, self.domain),
            cloned_from=cloned_from.id if cloned_from else None,
            expires=expires,
            born=dead.last if dead else 0,
            last=dead.last if dead else 0,
        )
        self._before.setdefault(id, None)
        place = self._places[id] = Place(identity=identity)
        entry = Created(
            service=service,
            name=name,
            block=identity.block,
            last=identity.last,
            hostname=identity.hostname,
            cloned_from=identity.cloned_from,
            expires=expires,
        )
        self._step(f"{place.ref}: {'begun again' if dead else 'created'} at {identity.hostname}", entry, id)
        return place

    def own(self, sentence: str, entry: Owned | TokenCreated | TokenRevoked) -> None:
        """A record of the store's own chain."""
        self._step(sentence, entry)

    def new_token_id(self) -> str:
        return digest.of("token-id", self.command.id.encode())[:12]

    def _new_id(self, service: str, name: str) -> EnvironmentId:
        milliseconds = int(self.now.timestamp() * 1000)
        named = digest.of("environment", f"{self.command.id}/{service}/{name}".encode())
        return EnvironmentId(f"{milliseconds:012x}{named[:8]}")

    def change(self, place: Place, sentence: str, entry: Entry, **fields: Any) -> Place:
        """A record of `place`'s identity, and the identity it leads to."""
        place = self._put(replace(place, identity=replace(place.identity, **fields)))
        self._step(sentence, entry, place.identity.id)
        return place

    def append(
        self, place: Place, version: Version, settings: Settings, sentence: str, bound: dict[str, Bound]
    ) -> Place:
        identity = replace(place.identity, last=version.number, bound=bound)
        new = place.head is None or place.head.settings.digest != version.settings.digest
        self._step(sentence, version, identity.id, settings if new else None)
        if version.code and (place.head is None or version.code != place.head.code):
            self._artifacts[version.code.digest] = None
        return self._put(Place(identity=identity, head=version, settings=settings))

    def next_version(
        self,
        place: Place,
        *,
        code: Code | None,
        settings: Settings,
        halves: tuple[Half, Code | None] | None = None,
        **facts: Any,
    ) -> Version:
        """The record after `place`'s head. A half that differs from the head's is laid on it; `halves` says otherwise
        (a roll back takes halves off)."""
        number = place.identity.last + 1
        if halves is None:
            halves = lay_settings(place, settings, number), lay_code(place, code, number)
        return Version(
            number=number,
            kind=self.kind,
            settings=halves[0],
            code=halves[1],
            actor=self.actor,
            at=self.at,
            message=self.command.message,
            meta=self.command.meta,
            **facts,
        )

    def keep_secret(self, keep: Keep) -> None:
        self._secrets.append(keep)

    def apply_identity(self, place: Place, block: Block) -> Place:
        """Routes and protection of the environment's own table. The file can set protection, not lift it."""
        identity = place.identity
        added = tuple(sorted(set(block.routes) - set(identity.file_routes)))
        removed = tuple(sorted(set(identity.file_routes) - set(block.routes)))
        if added or removed:
            words = [f"route {route} added" for route in added] + [f"route {route} removed" for route in removed]
            entry = Routed(layer="file", added=added, removed=removed)
            place = self.change(
                place, f"{place.ref}: {', '.join(words)}", entry, file_routes=tuple(sorted(block.routes))
            )
        if block.protected and not identity.protected:
            place = self.change(place, f"{place.ref}: protected", Protected(on=True), protected=True)
        return place

    def rehost(self, place: Place) -> None:
        host = names.hostname(place.identity.service, place.identity.name, self.domain)
        if host != place.identity.hostname:
            self.change(
                place,
                f"{place.ref}: moves from {place.identity.hostname} to {host}",
                Rehosted(hostname=host),
                hostname=host,
            )

    def tag(self, place: Place, name: str, number: int) -> None:
        self._put(place)
        self._step(f"{place.ref}@{number}: tagged {name}", Tagged(name=name, number=number), place.identity.id)

    def carry_tags(self, place: Place, number: int, tags: Iterable[str]) -> None:
        for name in tags:
            if self.state.tagged(place.identity.id, name) is None:
                self.tag(place, name, number)

    # ---- the end

    def plan(self, consent: Consent | None = None) -> Plan:
        before = {id: identity for id, identity in self._before.items() if id in self._places}
        checks.addresses(self, self._places.values(), self._before)
        if self._domain != self.state.domain(self.project.name):
            checks.domain(self, self.domain)
        expect = {
            (known or self._places[id].identity).ref: known.head if known else None for id, known in before.items()
        }
        seen = [identity for identity in self._before.values() if identity is None or self.sees(identity)]
        if len(seen) == len(self._before):  # else all of it is refused, by words that name nothing
            checks.foreseen(command=self.command, touched=expect)
        return Plan(
            kind=self.kind,
            actor=self.actor,
            at=self.at,
            steps=tuple(self._steps),
            notes=tuple(self.notes),
            consent=consent if self._steps else None,
            expect=expect,
            sources=self.sources,
            after=tuple(place.identity for place in self._places.values()),
            artifacts=tuple(self._artifacts),
            secrets=tuple(self._secrets),
        )

    def _put(self, place: Place) -> Place:
        id = place.identity.id
        if id not in self._before:
            known = self.state.place(id)
            self._before[id] = known.identity if known else None
        self._places[id] = place
        return place

    def _step(
        self, sentence: str, entry: Entry, id: EnvironmentId | None = None, settings: Settings | None = None
    ) -> None:
        self._steps.append(Step(sentence=sentence, entry=entry, environment=id, settings=settings))
