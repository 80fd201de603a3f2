"""A backend as the holder of a token sees it: what the grant does not allow is refused, what is beyond its scope is not
there.

Every request goes through one of these, so that no route can forget to ask. Manifests and blobs are open to every
reader who knows their digest: who can guess one has what it names.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from svcctl import keyvalues, names
from svcctl.api import abridged
from svcctl.backend.altered import Altered
from svcctl.backend.base import Authority, Changes, Filter, Followed, History, Refusals, Stored, Stream
from svcctl.digest import Digest, short
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


T = TypeVar("T")


class OutOfReach(NotFound):
    """Told as what is not there, and kept as a refusal: `why` is for whoever reads those."""

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


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

    def _at(self, service: str, environment: str, read: Callable[[], T]) -> T:
        """What `read` tells of a place; a hint has names of what is seen alone."""
        self._require_place("read", service, environment)
        try:
            return read()
        except NotFound as error:
            if self._everywhere or error.hint is None:
                raise
            owners = {each.name: each.project for each in self.services(None)}
            near = names.did_you_mean(service, owners)
            if service in owners:
                known = {each.name for each in self.environments(owners[service], (service,), None)}
                if environment in known:
                    raise
                near = names.did_you_mean(environment, known)
            raise NotFound(error.message, hint=near, next=error.next) from None

    def _require_name(self, project: str, name: str) -> None:
        """Of an environment, in any service that is seen."""
        if not self.environments(project, None, (name,)):
            known = {each.name for each in self.environments(project, None, None)}
            raise NotFound(f"no environment {name!r}", hint=names.did_you_mean(name, known))

    def _sees(self, service: str, environment: str) -> bool:
        return access.covers(self.token, service, environment)

    def _sees_ref(self, ref: str) -> bool:
        wanted = parse(ref)
        return self._sees(wanted.service or "", wanted.environment)

    def whole(self) -> Authority:
        """Without limits, for an admin of everything: history holds everything."""
        self.require("govern")
        self._require_everywhere("history")
        return self._backend

    def _require_everywhere(self, what: str) -> None:
        if not self._everywhere:
            raise Forbidden(f"token {self.token.name!r} is for {access.scope(self.token)}: {what} is of everything")

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
        self, project: str, services: Collection[str] | None, wanted: Collection[str] | None
    ) -> tuple[Environment, ...]:
        self.require("read")
        found = self._backend.environments(project, services, wanted)
        return tuple(each for each in found if self._sees(each.service, each.name))

    def environment(self, service: str, name: str) -> Environment:
        return self._at(service, name, lambda: self._backend.environment(service, name))

    def by_origin(self, id: EnvironmentId) -> Environment | None:
        self.require("read")
        found = self._backend.by_origin(id)
        return found if found and self._sees(found.service, found.name) else None

    def settings_of(self, service: str, name: str) -> Settings:
        return self._backend.settings_of(self.environment(service, name))

    def settings(self, digest: Digest) -> Settings:
        """They could be guessed, unlike what else a digest names: a hit would tell the values of another place."""
        self.require("read")
        if not self._everywhere and not self._backend.has_settings(digest, self._sees):
            raise NotFound(f"no settings {short(digest)} in the store")
        return self._backend.settings(digest)

    def heads(self, project: str, services: Collection[str] | None) -> tuple[Version, ...]:
        self.require("read")
        return self._seen(self._backend.heads(project, services))

    def version(self, reference: Reference) -> Version:
        return self._at(reference.service or "", reference.environment, lambda: self._backend.version(reference))

    def history(
        self, project: str, reference: Reference | None, filter: Filter, limit: int, cursor: str | None
    ) -> History:
        self.require("read")

        def read() -> History:
            return self._backend.history(project, reference, filter=filter, limit=limit, cursor=cursor)

        if self._everywhere:
            return read()
        if reference and reference.service:
            page = self._at(reference.service, reference.environment, read)
        else:
            if reference and not filter.deleted:
                self._require_name(project, reference.environment)
            page = read()
        events = tuple(event for event in page.events if self._sees_ref(event.ref))
        return replace(page, versions=self._seen(page.versions), events=events)

    def change(self, id: str) -> Change | None:
        self.require("read")
        found = self._backend.change(id)
        return found and self._change(found)

    def changes(self, project: str, filter: Filter, limit: int, cursor: str | None) -> Changes:
        self.require("read")
        page = self._backend.changes(project, filter=filter, limit=limit, cursor=cursor)
        return replace(page, changes=tuple(seen for each in page.changes if (seen := self._change(each))))

    def running(self, commit: str | None, code: str | None) -> tuple[Version, ...]:
        self.require("read")
        return self._seen(self._backend.running(commit=commit, code=code))

    def tags(self, service: str, environment: str) -> tuple[str, ...]:
        return self._at(service, environment, lambda: self._backend.tags(service, environment))

    def deployment(self, service: str, environment: str) -> Deployment:
        return self._at(service, environment, lambda: self._backend.deployment(service, environment))

    def namespaces(self, service: str, environment: str) -> dict[str, str]:
        return self._at(service, environment, lambda: self._backend.namespaces(service, environment))

    def tokens(self) -> tuple[Token, ...]:
        self.require("govern")
        self._require_everywhere("the list of tokens")
        return self._backend.tokens()

    def refusals(self, limit: int, cursor: str | None) -> Refusals:
        self.require("govern")
        self._require_everywhere("the list of refusals")
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

    def _change(self, change: Change) -> Change | None:
        return change if self._everywhere else abridged.for_holder(self.token, change)

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
        if refusal := access.lacks_scope(self.token, found.service, found.name):
            raise OutOfReach(f"no environment {id!r}", why=refusal)

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
        if change.number is None:
            return change
        seen = self._change(change)
        if seen is None:
            raise Forbidden(f"change {command.id} was done by somebody else")
        return seen

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
