"""What the rules are given, and what they return: values.

A `Snapshot` is the ledger as of one instant: asked twice, it gives the same answer. The Store's reads inside its write
transaction, so what a plan was made of is what it is committed on; tests use one made of dicts.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

from svcctl.digest import Digest
from svcctl.model import Entry, EnvironmentId, Kind, Model, Sealed, Settings, Token, Version


class Bound(Model):
    """A binding of a head that others must not pull the ground from under."""

    service: str
    environment: EnvironmentId | None = None
    """Set for an explicit binding: it follows that environment through renames."""


class Identity(Model):
    """An environment without its versions' contents."""

    id: EnvironmentId
    service: str
    name: str
    block: str
    borrowed: bool = False
    """`block` is that of the environment it was cloned from: settings follow it, routes and protection do not."""
    hostname: str | None = None
    protected: bool = False
    cloned_from: EnvironmentId | None = None
    expires: str | None = None
    deleted: bool = False
    born: int = 0
    """Numbers up to this one belong to an earlier life of the name."""
    last: int = 0
    """The newest number ever given."""
    file_routes: tuple[str, ...] = ()
    cli_routes: tuple[str, ...] = ()
    bound: dict[str, Bound] = {}

    @property
    def ref(self) -> str:
        return f"{self.service}/{self.name}"

    @property
    def head(self) -> int | None:
        return self.last if self.last > self.born else None

    @property
    def routes(self) -> tuple[str, ...]:
        return tuple(sorted({*self.file_routes, *self.cli_routes}))


class Place(Model):
    """An environment with its head, and the head's settings document."""

    identity: Identity
    head: Version | None = None
    settings: Settings | None = None

    @property
    def ref(self) -> str:
        return self.identity.ref


class Snapshot(Protocol):
    def domain(self, project: str) -> str | None:
        """As recorded with the project's first change."""

    def domains(self) -> Mapping[str, str]:
        """Of every project."""

    def routes(self) -> Iterable[tuple[str, EnvironmentId]]:
        """All there are, and whose they are."""

    def owner(self, service: str) -> str | None:
        """The project of a living service."""

    def services(self, project: str) -> Sequence[str]:
        """Living ones, sorted."""

    def places(self, services: Collection[str], wanted: Collection[str] | None = None) -> Iterable[Place]:
        """Living environments of these services, of these names or of any."""

    def place(self, id: EnvironmentId) -> Place | None:
        """Living or deleted."""

    def tombstone(self, service: str, name: str) -> Identity | None:
        """The newest deleted environment of that name."""

    def former(self, service: str, name: str) -> EnvironmentId | None:
        """The environment that was last renamed away from that name."""

    def version(self, id: EnvironmentId, number: int) -> tuple[Version, Settings] | None: ...

    def change_of(self, id: EnvironmentId, number: int) -> int | None:
        """The number of the change that made a version."""

    def tagged(self, id: EnvironmentId, tag: str) -> int | None: ...

    def tags(self, id: EnvironmentId, number: int) -> Sequence[str]: ...

    def as_of(self, id: EnvironmentId, change: int) -> int | None:
        """The newest version made by that change or an earlier one; None too where there was no such change yet."""

    def settings_rollbacks(self, id: EnvironmentId) -> Sequence[int]:
        """The newest 20 versions by which a roll back brought older settings back, newest first."""

    def holder(self, address: str) -> EnvironmentId | None:
        """Whose hostname or route this is."""

    def bound_to(self, service: str) -> Iterable[tuple[Identity, str, Bound]]:
        """Living environments whose head is bound to this service or to environments of it: (who, binding, to what)."""

    def stored_secrets(self, id: EnvironmentId) -> Collection[str]:
        """Names with values, present or past, that are not destroyed."""

    def expired(self, project: str, at: str) -> Iterable[Place]:
        """Living environments whose time to live was over at `at`."""

    def tokens(self) -> Iterable[Token]:
        """All that were ever made, oldest first; also those that are revoked or expired."""


class Step(Model):
    """One record to be written, and the sentence that says so."""

    sentence: str
    entry: Entry
    environment: EnvironmentId | None = None
    """None: on the store's own chain."""
    settings: Settings | None = None
    """The document of a version, where it is a new one."""


class Keep(Model):
    """A secret's value to be stored with an environment: as it was sealed for the way, or copied from another's."""

    environment: EnvironmentId
    name: str
    fingerprint: str
    sealed: Sealed | None = None
    copy_from: EnvironmentId | None = None


class Consent(Model):
    """What must be agreed to before the plan is carried out. `name` has to be typed for kind "name"."""

    kind: Literal["yes", "name"]
    reason: str
    name: str | None = None


class Plan(Model):
    """What a command would do. Committing it is the change; showing it is the dry run."""

    kind: Kind
    actor: str
    at: str
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    consent: Consent | None = None
    expect: dict[str, int | None] = {}
    """The heads it was made on, by place."""
    sources: dict[str, int] = {}
    after: tuple[Identity, ...] = ()
    """The environments it touches, as they will be."""
    artifacts: tuple[Digest, ...] = ()
    """Those that new versions run."""
    secrets: tuple[Keep, ...] = ()
