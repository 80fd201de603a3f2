"""The protocol of backends. One suite runs over all of them; the command line knows no other interface.

What every method promises: a read sees the store as of one instant. Whatever dies, and whenever (`kill -9`), the store
is in the state before a mutation or the state after it, and the next call works without repair. Of two writers, the
second sees what the first did: a delta applies to it, a command that carries heads (`expect`) is refused with Conflict.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from svcctl.backend.altered import Altered
from svcctl.backend.segment import SealedSecrets, Segment, Standing, Valueless
from svcctl.digest import Digest
from svcctl.model import (
    Change,
    Deployment,
    Environment,
    EnvironmentId,
    Grant,
    Manifest,
    Model,
    Refusal,
    Sealed,
    Service,
    Settings,
    Token,
    Version,
)
from svcctl.progress import SILENT, Progress
from svcctl.reference import Reference
from svcctl.rules.state import Place, Plan

if TYPE_CHECKING:
    from svcctl.commands import Command
    from svcctl.keyvalues import KeyValues
    from svcctl.sealing import MasterKey, SecretValue


class Stream(Protocol):
    """Bytes to be read once, in parts."""

    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Artifact(Protocol):
    """What `upload` needs of an artifact; a bundle has it."""

    @property
    def digest(self) -> Digest: ...

    @property
    def manifest(self) -> Manifest: ...

    @property
    def content(self) -> bytes:
        """The manifest's canonical bytes."""

    def open(self, blob: Digest) -> Stream: ...


class Event(Model):
    """What happened to an environment besides versions."""

    ref: str
    change: int
    at: str
    actor: str
    text: str


class History(Model):
    """Newest first. `next` is the following page's cursor, or None."""

    versions: tuple[Version, ...]
    next: str | None = None
    events: tuple[Event, ...] = ()
    """Between the first and the last version of the page; all newer ones on the first."""


class Changes(Model):
    changes: tuple[Change, ...]
    next: str | None = None


class Filter(Model):
    """What a page of history holds. `since` is inclusive, in the form of `Version.at`."""

    since: str | None = None
    actor: str | None = None
    commit: str | None = None
    """The first digits of a commit's hash."""
    deleted: bool = False
    """Of one environment: the newest deleted one of that name."""


class Refusals(Model):
    """Newest first."""

    refusals: tuple[Refusal, ...]
    next: str | None = None


class Stored(Model):
    """What an upload stored."""

    blobs: int
    bytes: int


class Followed(Model):
    """What a data plane needs to know, as of change `number`."""

    store: str
    """The id of the store: another one means that everything known is void."""
    number: int
    places: tuple[Place, ...]
    """Environments that changed since, deleted ones among them; heads with their tags."""


class Backend(Protocol):
    def close(self) -> None:
        """Lets go of files and connections."""

    # ---- reading

    def projects(self) -> tuple[str, ...]: ...

    def services(self, project: str | None = None) -> tuple[Service, ...]: ...

    def environments(
        self, project: str, services: Collection[str] | None = None, names: Collection[str] | None = None
    ) -> tuple[Environment, ...]:
        """Living ones, sorted by service and name."""

    def environment(self, service: str, name: str) -> Environment:
        """Raises NotFound with a near name."""

    def heads(self, project: str, services: Collection[str] | None = None) -> tuple[Version, ...]: ...

    def version(self, reference: Reference) -> Version:
        """`reference.service` is set. Raises NotFound."""

    def by_origin(self, id: EnvironmentId) -> Environment | None:
        """An environment by its internal id, living or deleted."""

    def settings(self, digest: Digest) -> Settings:
        """Raises NotFound."""

    def settings_of(self, environment: Environment) -> Settings:
        """Of its head; empty where it has none."""

    def history(
        self, project: str, reference: Reference | None = None, *, filter: Filter, limit: int, cursor: str | None = None
    ) -> History:
        """One environment's (`reference.service` is set), one name's in all services, or the whole project's."""

    def change(self, id: str) -> Change | None: ...

    def changes(self, project: str, *, filter: Filter, limit: int, cursor: str | None = None) -> Changes: ...

    def running(self, *, commit: str | None = None, code: str | None = None) -> tuple[Version, ...]:
        """Every version that laid code of this commit, or of a digest that starts so, in any living environment."""

    def tags(self, service: str, environment: str) -> tuple[str, ...]: ...

    def deployment(self, service: str, environment: str) -> Deployment: ...

    def tokens(self) -> tuple[Token, ...]:
        """All that were ever made, oldest first."""

    def refusals(self, *, limit: int, cursor: str | None = None) -> Refusals:
        """Whom the API turned away; the newest ten thousand are kept, and of each token the newest thousand."""

    def namespaces(self, service: str, environment: str) -> dict[str, str]:
        """The KV namespaces that the bindings of its head reach, by the binding's name."""

    def manifest(self, code: Digest) -> Manifest: ...

    def has_artifact(self, code: Digest) -> bool: ...

    def open_blob(self, blob: Digest) -> Stream:
        """Raises Damage before a single byte that does not match the name is handed on."""

    def opening(self, manifest: Manifest) -> Callable[[Digest], Stream]:
        """`open_blob` for all files of an artifact, best asked in their order: what is far away comes many at once."""

    # ---- running

    def follow(self, after: int) -> Followed:
        """What changed in all projects after change `after`; with 0, everything that lives."""

    def reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> "dict[str, SecretValue]":
        """The values behind a head's fingerprints, by name: for what runs it. Raises Refused if one was destroyed."""

    # ---- what handlers store

    @property
    def keyvalues(self) -> "KeyValues":
        """Entries are no part of the ledger: no change records them, and no version brings them back. They end with
        their environment's life, once gc has seen that it is over."""

    # ---- mutations

    def plan(self, command: "Command") -> Plan:
        """What `apply` would do now. Nothing is written."""

    def apply(self, command: "Command") -> Change:
        """Does it, in one transaction, or raises and does nothing. Applied again with the same id, it returns the first
        change. Every artifact that a new version runs is present and unaltered, or Damage is raised."""

    def missing(self, blobs: Collection[Digest]) -> frozenset[Digest]: ...

    def upload(self, artifact: Artifact, progress: Progress = SILENT, *, base: Digest | None = None) -> Stored:
        """Stores what is missing of it, durably, before it returns. `base` is an artifact of the backend that it may be
        much like: one that is far away is told the difference alone. Raises Refused where bytes do not match their
        digest: the file changed while it was read."""

    def seal(self, service: str, environment: str, name: str, value: bytes) -> Sealed:
        """The only call that carries a secret's value."""

    def wait(self, after: int, timeout: float) -> int:
        """The newest change's number, as soon as it is above `after` or after `timeout` seconds."""

    # ---- moving between backends (`moving`)

    def standing(self, at: int | None = None) -> Standing:
        """As of now, or of change `at`. Raises NotFound where that is yet to come."""

    def segment(self, after: int, until: int) -> Segment:
        """The changes after `after`, as many as go together, at most up to `until`. Raises Damage where stored bytes
        do not match their digests."""

    def append(self, segment: Segment) -> Standing:
        """Adds to the history what of the segment is not there yet, in one transaction, and returns how far it goes
        now. The first change of an empty backend brings the store's id along. Raises Conflict where the history here is
        not the one that the segment continues, or lacks an artifact; and Damage where digests, chains, numbers or names
        are not what a backend would have written. Nothing was changed then. Of two that append the same, one does."""

    def manifest_bytes(self, code: Digest) -> bytes:
        """As they are stored: what `code` is the digest of."""

    def seal_all(self, key: "MasterKey", salt: bytes) -> SealedSecrets:
        """The value of every secret, present and past, sealed under a key that `salt` and a passphrase gave."""

    def take_secrets(self, sent: SealedSecrets, key: "MasterKey") -> int:
        """Seals the values anew for this backend; returns how many it had not. Raises Refused for a wrong key, and
        Damage or Conflict for values that are not of this history; then none was taken."""

    def valueless(self) -> tuple[Valueless, ...]:
        """Secrets of living heads whose value is not here: they were left behind when the store was moved."""


class Authority(Backend, Protocol):
    """A backend that acts for others: what the API serves. `grant` is what the caller's token allows."""

    def now(self) -> datetime:
        """By the clock that all go by who serve this backend."""

    def check(self) -> None:
        """Raises Unreachable where it is away, Refused where a newer svcctl changed its form since it was opened."""

    def plan_for(self, grant: Grant, command: "Command") -> Plan:
        """As `plan`; raises Forbidden where the grant does not allow what the command would do."""

    def apply_for(self, grant: Grant, command: "Command") -> Change:
        """As `apply`, by the grant's owner. What it does not allow is refused as of the transaction that would do it,
        whole. A change that was done before under this id is returned to whoever asks."""

    def token(self, hash: Digest) -> Token | None:
        """The token whose secret has this hash, also if it is revoked or expired."""

    def has_settings(self, digest: Digest, seen: Callable[[str, str], bool]) -> bool:
        """Whether they are or were those of an environment whose service and name `seen` takes."""

    def used(self, token: str) -> None:
        """Keeps when it was last used; no part of the ledger."""

    def refused(self, refusal: Refusal) -> None:
        """Keeps that a request was turned away; no part of the ledger. `at` is filled in here."""

    def store_blobs(self, blobs: Iterable[tuple[Digest, int, Stream]]) -> Stored:
        """Stores (name, size, bytes) durably before it returns; what is there already is read and not stored again.
        Each stream is read before the next is asked for. Raises Refused where bytes do not match: then none is stored.
        Blobs of no artifact are kept from gc as an upload is."""

    def blob_size(self, blob: Digest) -> int:
        """Raises NotFound."""

    def register(self, content: bytes) -> frozenset[Digest]:
        """Makes an artifact of a manifest's canonical bytes, durably, if all its blobs are there and sound; else
        returns those that are not. Raises UsageError where the bytes are no manifest that could be unpacked."""

    def register_altered(self, name: Digest, told: Altered) -> frozenset[Digest]:
        """The same. Raises NotFound where there is no such base, and Refused where the difference leads elsewhere."""
