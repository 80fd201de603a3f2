"""A backend as the holder of a token sees it: what the grant does not allow is refused, what is beyond its scope is not
there.

Every request goes through one of these, so that no route can forget to ask. What is named by its digest alone
(settings, manifests, blobs) is open to every reader: the name is known to those alone who were shown it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from svcctl import keyvalues
from svcctl.backend.altered import Altered
from svcctl.backend.base import Authority, Changes, Filter, Followed, History, Refusals, Stored, Stream
from svcctl.digest import Digest
from svcctl.errors import Forbidden, NotFound
from svcctl.keyvalues import Entry, Page
from svcctl.model import (
    Change,
    Deployment,
    Environment,
    EnvironmentId,
    Sealed,
    Service,
    Settings,
    Token,
    Version,
)
from svcctl.reference import Reference, parse
from svcctl.rules import access
from svcctl.rules.access import Power
from svcctl.rules.state import Identity, Place, Plan

if TYPE_CHECKING:
    from svcctl.commands import Command
    from svcctl.sealing import SecretValue


class Guarded:
    """Not whole a Backend: `upload` is made of `store_blobs` and `register`, `wait` is the API's own."""

    def __init__(self, backend: Authority, token: Token) -> None:
        self._backend = backend
        self.token = token
        self._everywhere = access.is_everywhere(token)

    # ---- checks

    def require(self, power: Power) -> None:
        if refusal := access.lacks_power(self.token, power):
            raise Forbidden(refusal)

    def _require_place(self, power: Power, service: str, environment: str) -> None:
        self.require(power)
        if refusal := access.lacks_scope(self.token, service, environment):
            raise Forbidden(refusal)

    def _sees(self, service: str, environment: str) -> bool:
        return access.covers(self.token, service, environment)

    def _sees_ref(self, ref: str) -> bool:
        wanted = parse(ref)
        return self._sees(wanted.service or "", wanted.environment)

    def whole(self) -> Authority:
        """Without limits, for an admin of everything: history holds everything."""
        self.require("govern")
        if not self._everywhere:
            raise Forbidden(f"token {self.token.name!r} is for {access.scope(self.token)}: history is of everything")
        return self._backend

    # ---- reading

    def projects(self) -> tuple[str, ...]:
        self.require("read")
        if self._everywhere:
            return self._backend.projects()
        return tuple(sorted({service.project for service in self.services(None)}))

    def services(self, project: str | None) -> tuple[Service, ...]:
        self.require("read")
        return tuple(each for each in self._backend.services(project) if access.covers_service(self.token, each.name))

    def environments(
        self, project: str, services: Collection[str] | None, names: Collection[str] | None
    ) -> tuple[Environment, ...]:
        self.require("read")
        found = self._backend.environments(project, services, names)
        return tuple(each for each in found if self._sees(each.service, each.name))

    def environment(self, service: str, name: str) -> Environment:
        self._require_place("read", service, name)
        return self._backend.environment(service, name)

    def by_origin(self, id: EnvironmentId) -> Environment | None:
        self.require("read")
        found = self._backend.by_origin(id)
        return found if found and self._sees(found.service, found.name) else None

    def settings_of(self, service: str, name: str) -> Settings:
        return self._backend.settings_of(self.environment(service, name))

    def settings(self, digest: Digest) -> Settings:
        self.require("read")
        return self._backend.settings(digest)

    def heads(self, project: str, services: Collection[str] | None) -> tuple[Version, ...]:
        self.require("read")
        return self._seen(self._backend.heads(project, services))

    def version(self, reference: Reference) -> Version:
        self._require_place("read", reference.service or "", reference.environment)
        return self._backend.version(reference)

    def history(
        self, project: str, reference: Reference | None, filter: Filter, limit: int, cursor: str | None
    ) -> History:
        self.require("read")
        if reference and reference.service:
            self._require_place("read", reference.service, reference.environment)
        page = self._backend.history(project, reference, filter=filter, limit=limit, cursor=cursor)
        if self._everywhere:
            return page
        events = tuple(event for event in page.events if self._sees_ref(event.ref))
        return replace(page, versions=self._seen(page.versions), events=events)

    def change(self, id: str) -> Change | None:
        self.require("read")
        found = self._backend.change(id)
        return found if found and self._may_see(found) else None

    def changes(self, project: str, filter: Filter, limit: int, cursor: str | None) -> Changes:
        self.require("read")
        page = self._backend.changes(project, filter=filter, limit=limit, cursor=cursor)
        return replace(page, changes=tuple(each for each in page.changes if self._may_see(each)))

    def running(self, commit: str | None, code: str | None) -> tuple[Version, ...]:
        self.require("read")
        return self._seen(self._backend.running(commit=commit, code=code))

    def tags(self, service: str, environment: str) -> tuple[str, ...]:
        self._require_place("read", service, environment)
        return self._backend.tags(service, environment)

    def deployment(self, service: str, environment: str) -> Deployment:
        self._require_place("read", service, environment)
        return self._backend.deployment(service, environment)

    def namespaces(self, service: str, environment: str) -> dict[str, str]:
        self._require_place("read", service, environment)
        return self._backend.namespaces(service, environment)

    def tokens(self) -> tuple[Token, ...]:
        self.require("govern")
        return self._backend.tokens()

    def refusals(self, limit: int, cursor: str | None) -> Refusals:
        self.require("govern")
        return self._backend.refusals(limit=limit, cursor=cursor)

    def manifest_bytes(self, code: Digest) -> bytes:
        self.require("fetch")
        return self._backend.manifest_bytes(code)

    def open_blob(self, blob: Digest) -> Stream:
        self.require("fetch")
        return self._backend.open_blob(blob)

    def blob_size(self, blob: Digest) -> int:
        self.require("fetch")
        return self._backend.blob_size(blob)

    def _seen(self, versions: Iterable[Version]) -> tuple[Version, ...]:
        return tuple(each for each in versions if self._sees(each.service, each.environment))

    def _may_see(self, change: Change) -> bool:
        """One's own, and those whose every version is in scope; what else it did is told in sentences, unsorted."""
        if self._everywhere or change.actor == self.token.name:
            return True
        return bool(change.versions) and len(self._seen(change.versions)) == len(change.versions)

    # ---- running

    def newest(self) -> int:
        self.require("follow")
        return self._backend.wait(0, 0)

    def follow(self, after: int) -> Followed:
        self.require("follow")
        found = self._backend.follow(after)
        return replace(found, places=tuple(self._as_seen(place) for place in found.places))

    def _as_seen(self, place: Place) -> Place:
        """One that was renamed out of scope is gone, as far as the follower is concerned."""
        identity = place.identity
        if self._sees(identity.service, identity.name):
            return place
        return Place(identity=Identity(id=identity.id, service="-", name="-", block="-", deleted=True))

    def reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> "dict[str, SecretValue]":
        self._require_id("reveal", environment)
        return self._backend.reveal(environment, secrets)

    def _require_id(self, power: Power, id: EnvironmentId) -> None:
        self.require(power)
        found = self._backend.by_origin(id)
        if found is None:
            raise NotFound(f"no environment {id!r}")
        self._require_place(power, found.service, found.name)

    # ---- KV; time is the store's: a node with a wrong clock must not bring back what is over

    def kv_get(self, namespace: str, key: str, most: int | None) -> Entry | None:
        self._require_namespace(namespace)
        return self._backend.keyvalues.get(namespace, key, most=most)

    def kv_put(self, namespace: str, entries: Sequence[tuple[str, Entry]]) -> None:
        self._require_namespace(namespace)
        self._backend.keyvalues.put_all(namespace, entries)

    def kv_delete(self, namespace: str, key: str) -> None:
        self._require_namespace(namespace)
        self._backend.keyvalues.delete(namespace, key)

    def kv_list(self, namespace: str, prefix: str, limit: int, cursor: str | None) -> Page:
        self._require_namespace(namespace)
        return self._backend.keyvalues.list(namespace, prefix, limit, cursor)

    def kv_copy(self, source: str, target: str) -> int | None:
        self._require_namespace(source)
        self._require_namespace(target)
        return self._backend.keyvalues.copy(source, target)

    def _require_namespace(self, namespace: str) -> None:
        self.require("keyvalues")
        parts = keyvalues.life_of(namespace)
        if parts is None:
            raise NotFound(f"no KV namespace {namespace!r}")
        self._require_id("keyvalues", EnvironmentId(parts[0]))

    # ---- mutations

    def plan(self, command: "Command") -> Plan:
        self.require("change")
        return self._backend.plan_for(self.token, command)

    def apply(self, command: "Command") -> Change:
        self.require("change")
        change = self._backend.apply_for(self.token, command)
        if not self._may_see(change) and change.number is not None:
            raise Forbidden(f"change {command.id} was done by somebody else")
        return change

    def missing(self, blobs: Collection[Digest]) -> frozenset[Digest]:
        self.require("upload")
        return self._backend.missing(blobs)

    def store_blobs(self, blobs: Iterable[tuple[Digest, int, Stream]]) -> Stored:
        self.require("upload")
        return self._backend.store_blobs(blobs)

    def register(self, content: bytes) -> frozenset[Digest]:
        self.require("upload")
        return self._backend.register(content)

    def register_altered(self, name: Digest, told: Altered) -> frozenset[Digest]:
        self.require("upload")
        return self._backend.register_altered(name, told)

    def seal(self, service: str, environment: str, name: str, value: bytes) -> Sealed:
        self._require_place("change", service, environment)
        return self._backend.seal(service, environment, name, value)
