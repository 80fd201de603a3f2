"""The store, on one of two grounds: a folder with `ledger.db` (SQLite, WAL, synchronous=FULL), `packs/`, `kv.db` and,
once there are secrets, `secret.key`; or a PostgreSQL database that holds the same in tables, but no key.

One call of `apply` is one transaction: the command's id is looked up, the rules plan on what the transaction sees, the
plan is written, committed. In a folder that happens under the write lock; on PostgreSQL beside other writers, and anew
where one of them was faster (`racing`). Child processes, hashing and network to elsewhere never happen inside it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from svcctl import ages, faults, rules
from svcctl.backend.altered import Altered
from svcctl.backend.base import Artifact, Changes, Filter, Followed, History, Refusals, Stored, Stream
from svcctl.backend.segment import SealedSecrets, Segment, Standing, Valueless
from svcctl.backend.store import grounds, migrations, racing
from svcctl.backend.store.blobs import Blobs
from svcctl.backend.store.database import Again
from svcctl.backend.store.grounds import FolderGround, Ground
from svcctl.backend.store.ledger import Ledger
from svcctl.backend.store.newest import Newest
from svcctl.backend.store.pages import Pages
from svcctl.backend.store.reads import Reads
from svcctl.digest import Digest, short
from svcctl.errors import Damage, Forbidden, NotFound, SvcctlError, Unreachable
from svcctl.model import (
    Change,
    Deployment,
    Environment,
    EnvironmentId,
    Grant,
    Manifest,
    Refusal,
    Sealed,
    Service,
    Settings,
    Token,
    Version,
)
from svcctl.progress import SILENT, Progress
from svcctl.reference import Reference
from svcctl.rules.state import Plan

if TYPE_CHECKING:  # what only mutations and maintenance need is imported by them: reading starts fast
    from svcctl.backend.store.gc import Swept
    from svcctl.backend.store.kv import KeyValueStore
    from svcctl.backend.store.vault import Vault
    from svcctl.backend.store.verify import Verified
    from svcctl.commands import Command
    from svcctl.sealing import MasterKey, SecretValue

T = TypeVar("T")


class _Suspect(Exception):
    """An artifact that a plan runs must be hashed again first, outside the transaction."""

    def __init__(self, artifact: Digest) -> None:
        self.artifact = artifact


class Store:
    """A Backend, and an Authority for others."""

    def __init__(
        self,
        ground: Ground,
        actor: Callable[[], str],
        clock: Callable[[], datetime] | None,
        environ: Mapping[str, str],
    ) -> None:
        self.made = False
        """Whether opening it made it."""
        self._ground = ground
        self._actor = actor
        self._environ = environ
        self.database = ground.database
        self._clock = clock or self.database.now
        try:
            ground.migrate()
        except BaseException:
            self.database.close()
            raise
        self.blobs = Blobs(ground.shelf, self.database)
        self._newest = Newest(self._newest_change)

    @classmethod
    def open(
        cls,
        location: Path | str,
        *,
        actor: Callable[[], str] = lambda: "unknown",
        clock: Callable[[], datetime] | None = None,
        environ: Mapping[str, str] | None = None,
        create: bool = True,
    ) -> "Store":
        """In a folder, or on PostgreSQL by its URL; threads can share that one. A store that does not exist is made,
        or, with `create` False, NotFound. `clock` takes the place of this machine's, or of the server's. `environ` may
        hold the master key, which must be there for a store on PostgreSQL once there are secrets, and
        SVCCTL_LOCK_TIMEOUT."""
        environ = environ or {}
        ground: Ground
        if isinstance(location, str):
            ground, made = grounds.on_server(location, environ, create=create)
        else:
            ground, made = grounds.in_folder(location, environ, create=create)
        try:
            store = cls(ground, actor, clock, environ)
        except OSError as error:
            raise Unreachable(f"{error.filename or location}: {error.strerror}", hint=grounds.IS_IT_YOURS) from error
        store.made = made
        return store

    @property
    def folder(self) -> Path:
        """Of a store that lies in one."""
        assert isinstance(self._ground, FolderGround)  # noqa: S101
        return self._ground.folder

    def close(self) -> None:
        self._ground.close()
        if "keyvalues" in self.__dict__:
            self.keyvalues.close()

    @cached_property
    def vault(self) -> "Vault":
        from svcctl.backend.store.vault import Vault

        return Vault(self._ground.key_file, self.database, self._environ)

    @cached_property
    def keyvalues(self) -> "KeyValueStore":
        return self._ground.keyvalues(lambda: self._clock().timestamp())

    # ---- reading

    def projects(self) -> tuple[str, ...]:
        with self.database.reading():
            return Reads(self.database).projects()

    def services(self, project: str | None = None) -> tuple[Service, ...]:
        with self.database.reading():
            return Reads(self.database).services(project)

    def environments(
        self, project: str, services: Collection[str] | None = None, names: Collection[str] | None = None
    ) -> tuple[Environment, ...]:
        with self.database.reading():
            reads = Reads(self.database)
            return tuple(reads.described(place) for place in reads.places(project, services, names))

    def environment(self, service: str, name: str) -> Environment:
        with self.database.reading():
            reads = Reads(self.database)
            return reads.described(reads.find(service, name))

    def by_origin(self, id: EnvironmentId) -> Environment | None:
        with self.database.reading():
            return Reads(self.database).by_id(id)

    def heads(self, project: str, services: Collection[str] | None = None) -> tuple[Version, ...]:
        with self.database.reading():
            return Reads(self.database).heads(project, services)

    def version(self, reference: Reference) -> Version:
        with self.database.reading():
            return Reads(self.database).version(reference)

    def settings(self, digest: Digest) -> Settings:
        with self.database.reading():
            if not self.database.one("SELECT 1 FROM settings WHERE digest = ?", (digest,)):
                raise NotFound(f"no settings {short(digest)} in the store")
            return Ledger(self.database).settings(digest)

    def settings_of(self, environment: Environment) -> Settings:
        with self.database.reading():
            place = Ledger(self.database).place(environment.id)
            return place.settings or Settings() if place else Settings()

    def history(
        self, project: str, reference: Reference | None = None, *, filter: Filter, limit: int, cursor: str | None = None
    ) -> History:
        with self.database.reading():
            return Pages(self.database).history(project, reference, filter, limit, cursor)

    def change(self, id: str) -> Change | None:
        with self.database.reading():
            found = Pages(self.database).change(id)
        self.database.settle()
        return found

    def changes(self, project: str, *, filter: Filter, limit: int, cursor: str | None = None) -> Changes:
        with self.database.reading():
            return Pages(self.database).changes(project, filter, limit, cursor)

    def running(self, *, commit: str | None = None, code: str | None = None) -> tuple[Version, ...]:
        with self.database.reading():
            return Reads(self.database).running(commit, code)

    def tags(self, service: str, environment: str) -> tuple[str, ...]:
        with self.database.reading():
            return Reads(self.database).tags(service, environment)

    def deployment(self, service: str, environment: str) -> Deployment:
        with self.database.reading():
            return Reads(self.database).deployment(service, environment)

    def namespaces(self, service: str, environment: str) -> dict[str, str]:
        with self.database.reading():
            return Reads(self.database).namespaces(service, environment)

    def manifest(self, code: Digest) -> Manifest:
        return self._where_it_lies(lambda: self.blobs.manifest(code))

    def has_artifact(self, code: Digest) -> bool:
        with self.database.reading():
            return self.blobs.has(code)

    def open_blob(self, blob: Digest) -> Stream:
        return self._where_it_lies(lambda: self.blobs.open(blob))

    def opening(self, manifest: Manifest) -> Callable[[Digest], Stream]:  # noqa: ARG002  # all of it is near
        return self.open_blob

    def _where_it_lies(self, read: Callable[[], T]) -> T:
        """gc may move a blob to another pack between the row that names its pack and the pack's opening: then the
        second look finds it."""
        try:
            with self.database.reading():
                return read()
        except Damage:
            with self.database.reading():
                return read()

    def tokens(self) -> tuple[Token, ...]:
        from svcctl.backend.store import access

        with self.database.reading():
            return tuple(access.tokens(self.database))

    def refusals(self, *, limit: int, cursor: str | None = None) -> Refusals:
        from svcctl.backend.store import access

        with self.database.reading():
            return access.refusals(self.database, limit, cursor)

    # ---- whom it acts for

    def now(self) -> datetime:
        return self._clock()

    def check(self) -> None:
        migrations.check(self.database)

    def token(self, hash: Digest) -> Token | None:
        from svcctl.backend.store import access

        return access.by_hash(self.database, hash)  # one statement, and every request begins with it: no transaction

    def has_settings(self, digest: Digest, seen: Callable[[str, str], bool]) -> bool:
        with self.database.reading():
            return Reads(self.database).has_settings(digest, seen)

    def used(self, token: str) -> None:
        from svcctl.backend.store import access

        access.record_use(self.database, token, ages.timestamp(self._clock()))

    def refused(self, refusal: Refusal) -> None:
        from svcctl.backend.store import access

        access.record_refusal(self.database, replace(refusal, at=ages.timestamp(self._clock())))

    # ---- running

    def follow(self, after: int) -> Followed:
        with self.database.reading():
            followed = Reads(self.database).follow(after)
        self.database.settle()
        return followed

    def reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> "dict[str, SecretValue]":
        return {name: self.vault.reveal(environment, name, fingerprint) for name, fingerprint in secrets.items()}

    # ---- mutations

    def plan(self, command: "Command") -> Plan:
        with self.database.reading():
            plan = self._plan(Ledger(self.database), command, self._actor(), None)
        self.database.settle()
        return plan

    def plan_for(self, grant: Grant, command: "Command") -> Plan:
        with self.database.reading():
            plan = self._plan(Ledger(self.database), command, grant.name, grant)
        self.database.settle()
        return plan

    def _plan(self, ledger: Ledger, command: "Command", actor: str, grant: Grant | None) -> Plan:
        if grant is None:
            return rules.plan(ledger, command, self._clock(), actor)
        from svcctl.rules import access, reach

        if refusal := access.may_send(grant, command) or reach.may_ask(grant, command, ledger):
            raise Forbidden(refusal)
        plan = rules.plan(ledger, command, self._clock(), actor, grant)
        if refusal := reach.may_touch(grant, command, plan, ledger):
            raise Forbidden(refusal, hint=reach.way_out(grant, plan, ledger))
        if refusal := access.may_carry_out(grant, plan, ledger):
            raise Forbidden(refusal)
        return plan

    def apply(self, command: "Command") -> Change:
        return self._apply_until_proved(command, self._actor(), None)

    def apply_for(self, grant: Grant, command: "Command") -> Change:
        return self._apply_until_proved(command, grant.name, grant)

    def _apply_until_proved(self, command: "Command", actor: str, grant: Grant | None) -> Change:
        # Kept, for a pack with a damaged neighbour stays suspect after what is wanted of it was proved.
        proved: set[Digest] = set()
        while True:
            try:
                change = racing.repeated(self.database, lambda more: self._apply(command, actor, grant, proved, more))
            except _Suspect as suspect:
                self.blobs.prove(suspect.artifact)
                proved.add(suspect.artifact)
            else:
                return change

    def _apply(
        self,
        command: "Command",
        actor: str,
        grant: Grant | None,
        proved: Collection[Digest],
        more: Collection[EnvironmentId],
    ) -> Change:
        from svcctl.backend.store import writing

        with self.database.writing():
            turn = racing.Turn(self.database, command, more)
            faults.point("apply.locked")
            if turn.done:
                done = Pages(self.database).change(command.id)
                assert done is not None  # the row was there in this transaction  # noqa: S101
                self.database.settle()
                return done
            ledger = turn.ledger
            try:
                plan = self._plan(ledger, command, actor, grant)
            except Again:
                raise
            except SvcctlError:
                turn.look_again()
                raise
            faults.point("apply.planned")
            if not plan.steps:
                turn.look_again()
                return Change(kind=plan.kind, actor=actor, notes=plan.notes)
            turn.cover(identity.id for identity in plan.after if ledger.place(identity.id))
            for artifact in self.blobs.suspects(plan.artifacts):
                if artifact not in proved:
                    raise _Suspect(artifact)
            self.vault.keep(plan)
            change = writing.write(
                self.database,
                ledger,
                plan,
                command.id,
                command.project.name,
                command.message,
                turn.guard(),
            )
            faults.point("apply.before-commit")
        faults.point("apply.committed")
        return change

    def missing(self, blobs: Collection[Digest]) -> frozenset[Digest]:
        with self.database.reading():
            return self.blobs.missing(blobs)

    def upload(self, artifact: Artifact, progress: Progress = SILENT, *, base: Digest | None = None) -> Stored:  # noqa: ARG002  # nothing is far away
        return self.blobs.upload(artifact, progress)

    def store_blobs(self, blobs: Iterable[tuple[Digest, int, Stream]]) -> Stored:
        return self.blobs.store(blobs)

    def blob_size(self, blob: Digest) -> int:
        with self.database.reading():
            return self.blobs.size(blob)

    def register(self, content: bytes) -> frozenset[Digest]:
        return self.blobs.register(content)

    def register_altered(self, name: Digest, told: Altered) -> frozenset[Digest]:
        return self.blobs.register_altered(name, told)

    def seal(self, service: str, environment: str, name: str, value: bytes) -> Sealed:
        return self.vault.seal(service, environment, name, value)

    # ---- moving

    def standing(self, at: int | None = None) -> Standing:
        from svcctl.backend.store import segments

        with self.database.reading():
            return segments.standing(self.database, self.blobs, at)

    def segment(self, after: int, until: int) -> Segment:
        from svcctl.backend.store import segments

        with self.database.reading():
            return segments.give(self.database, self.blobs, after, until)

    def append(self, segment: Segment) -> Standing:
        from svcctl.backend.store import segments

        return segments.take(self.database, self.blobs, segment)

    def manifest_bytes(self, code: Digest) -> bytes:
        return self._where_it_lies(lambda: self.blobs.manifest_bytes(code))

    def seal_all(self, key: "MasterKey", salt: bytes) -> SealedSecrets:
        from svcctl.backend.store import luggage

        return luggage.give(self.database, self.vault, key, salt)

    def take_secrets(self, sent: SealedSecrets, key: "MasterKey") -> int:
        from svcctl.backend.store import luggage

        return luggage.take(self.database, self.vault, key, sent)

    def valueless(self) -> tuple[Valueless, ...]:
        from svcctl.backend.store import luggage

        with self.database.reading():
            return tuple(luggage.valueless(self.database))

    # ---- care

    def verify(self, head: str | None = None, progress: Progress = SILENT) -> "Verified":
        from svcctl.backend.store.verify import Verifier

        return Verifier(self.database, self.blobs, progress).run(head)

    def gc(self, *, dry_run: bool, grace: float | None = None, progress: Progress = SILENT) -> "Swept":
        """Uploads that no version names, and the KV entries of deleted environments, are kept for `grace` seconds (a
        day)."""
        from svcctl.backend.store import gc

        grace = gc.GRACE if grace is None else grace
        swept = gc.sweep(self.database, self.blobs, dry_run=dry_run, grace=grace, progress=progress)
        if not self._ground.has_entries():
            return swept
        before = self._clock() - timedelta(seconds=grace)
        return replace(swept, namespaces=gc.sweep_namespaces(self.database, self.keyvalues, before, dry_run=dry_run))

    def rewrap(self) -> int:
        return self.vault.rewrap()

    def wait(self, after: int, timeout: float) -> int:
        newest = self._newest.above(after, timeout)
        self.database.settle()
        return newest

    def _newest_change(self) -> int:
        row = self.database.one("SELECT max(number) FROM changes")
        return int(row[0] or 0) if row else 0
