"""A Backend on another machine. What is done where is told in `session` (tries), `sending` (uploads), `receiving`
(blobs); here stand the routes.

What an API answers is held against what was asked: manifests, blobs and settings against their digests, versions and
changes against their names, the feed of changes against what it said before. An API that lies is refused.
"""

import base64
import time
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from svcctl import digest, wire
from svcctl.backend.altered import Altered, altered
from svcctl.backend.base import Artifact, Changes, Filter, Followed, History, Refusals, Stored, Stream
from svcctl.backend.messages import Count, Newest, ToReveal, ToSeal, ToSealAll, ToTake
from svcctl.backend.remote import receiving, sending
from svcctl.backend.remote.session import PATIENT, Patience, Session
from svcctl.backend.segment import SealedSecrets, Segment, Standing, Valueless
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Unreachable
from svcctl.model import (
    Change,
    Deployment,
    Environment,
    EnvironmentId,
    Grant,
    Manifest,
    Sealed,
    Service,
    Settings,
    Token,
    Version,
)
from svcctl.progress import SILENT, Progress
from svcctl.reference import Number, Reference
from svcctl.rules.state import Plan
from svcctl.sealing.value import SecretValue

if TYPE_CHECKING:
    from svcctl.backend.remote.keyvalues import RemoteKeyValues
    from svcctl.backend.remote.library import httpx
    from svcctl.commands import Command
    from svcctl.sealing import MasterKey

T = TypeVar("T")
_POLL = 25.0
_SLACK = 5.0  # seconds over a poll's own in which its answer must be there
_LONG = 600.0  # seconds for what checks or seals everything
_NAMES = 80  # in one query; the API takes a hundred parameters


class Seen:
    """How far an API's feed of changes went; shared by those that must not be led back by it."""

    def __init__(self) -> None:
        self.store = ""
        self.number = 0


class Remote:
    def __init__(
        self,
        url: str,
        token: SecretValue | None,
        transport: "httpx.BaseTransport | None" = None,
        *,
        patience: Patience = PATIENT,
        seen: Seen | None = None,
    ) -> None:
        """Nothing is sent yet. `transport` stands in for the network. Raises UsageError for a URL that must not be
        used, such as plain http to another machine."""
        self._session = Session(url, token, transport, patience)
        self._seen = seen or Seen()

    @property
    def url(self) -> str:
        return self._session.url

    def close(self) -> None:
        self._session.close()

    # ---- reading

    def whoami(self) -> Grant:
        """What the token allows."""
        return self._read(Grant, "/v1/whoami")

    def projects(self) -> tuple[str, ...]:
        return self._read(tuple[str, ...], "/v1/projects")

    def services(self, project: str | None = None) -> tuple[Service, ...]:
        return self._read(tuple[Service, ...], "/v1/services", project=project)

    def environments(
        self, project: str, services: Collection[str] | None = None, names: Collection[str] | None = None
    ) -> tuple[Environment, ...]:
        asked: dict[str, Any] = {"service": _few(services), "name": _few(names)}
        if any(value == () for value in asked.values()):
            return ()
        found = self._read(tuple[Environment, ...], "/v1/environments", project=project, **asked)
        return tuple(each for each in found if _is_in(services, each.service) and _is_in(names, each.name))

    def environment(self, service: str, name: str) -> Environment:
        found = self._read(Environment, f"/v1/environments/{_part(service)}/{_part(name)}")
        self._check(found.service == service and found.name == name, "an environment")
        return found

    def by_origin(self, id: EnvironmentId) -> Environment | None:
        found = self._maybe(Environment, f"/v1/origins/{_part(id)}")
        self._check(found is None or found.id == id, "an environment")
        return found

    def settings_of(self, environment: Environment) -> Settings:
        return self._read(Settings, f"/v1/environments/{_part(environment.service)}/{_part(environment.name)}/settings")

    def settings(self, digest: Digest) -> Settings:
        found = self._read(Settings, f"/v1/settings/{_part(digest)}")
        self._check(_digest_of(found) == digest, "settings")
        return found

    def heads(self, project: str, services: Collection[str] | None = None) -> tuple[Version, ...]:
        few = _few(services)
        if few == ():
            return ()
        found = self._read(tuple[Version, ...], "/v1/heads", project=project, service=few)
        return tuple(each for each in found if _is_in(services, each.service))

    def version(self, reference: Reference) -> Version:
        found = self._read(Version, "/v1/version", ref=str(reference))
        same = (found.service, found.environment) == (reference.service, reference.environment)
        if isinstance(reference.at, Number):
            same = same and found.number == reference.at.number
        self._check(same, "a version")
        return found

    def history(
        self, project: str, reference: Reference | None = None, *, filter: Filter, limit: int, cursor: str | None = None
    ) -> History:
        ref = str(reference) if reference else None
        return self._read(
            History, "/v1/history", project=project, ref=ref, limit=limit, cursor=cursor, **_fields(filter)
        )

    def change(self, id: str) -> Change | None:
        found = self._maybe(Change, f"/v1/changes/{_part(id)}")
        self._check(found is None or found.id == id, "a change")
        return found

    def changes(self, project: str, *, filter: Filter, limit: int, cursor: str | None = None) -> Changes:
        asked = _fields(filter)
        del asked["deleted"]
        return self._read(Changes, "/v1/changes", project=project, limit=limit, cursor=cursor, **asked)

    def running(self, *, commit: str | None = None, code: str | None = None) -> tuple[Version, ...]:
        return self._read(tuple[Version, ...], "/v1/running", commit=commit, code=code)

    def tags(self, service: str, environment: str) -> tuple[str, ...]:
        return self._read(tuple[str, ...], f"/v1/tags/{_part(service)}/{_part(environment)}")

    def deployment(self, service: str, environment: str) -> Deployment:
        return self._read(Deployment, f"/v1/deployment/{_part(service)}/{_part(environment)}")

    def namespaces(self, service: str, environment: str) -> dict[str, str]:
        return self._read(dict[str, str], f"/v1/namespaces/{_part(service)}/{_part(environment)}")

    def tokens(self) -> tuple[Token, ...]:
        return self._read(tuple[Token, ...], "/v1/tokens")

    def refusals(self, *, limit: int, cursor: str | None = None) -> Refusals:
        return self._read(Refusals, "/v1/refusals", limit=limit, cursor=cursor)

    def manifest(self, code: Digest) -> Manifest:
        return self._session.decoded(self.manifest_bytes(code), Manifest)

    def has_artifact(self, code: Digest) -> bool:
        """Asked as if it were known here: then what is there is not sent."""

        def get() -> bool:
            headers = {"if-none-match": f'"{code}"'}
            with self._session.answering("GET", f"/v1/manifests/{_part(code)}", headers=headers, accepted=(304,)):
                return True

        try:
            return self._session.trying(get)
        except NotFound:
            return False

    def open_blob(self, blob: Digest) -> Stream:
        """It is all here before any of it is handed on: in memory, or in a temporary file where it is large."""
        return receiving.blob(self._session, blob)

    def opening(self, manifest: Manifest) -> Callable[[Digest], Stream]:
        return receiving.Ahead(self._session, manifest)

    def _read(self, kind: type[T], path: str, **query: Any) -> T:
        return self._session.ask(kind, "GET", path, query=query)

    def _maybe(self, kind: type[T], path: str) -> T | None:
        either: Any = kind | None
        found: T | None = self._session.ask(either, "GET", path)
        return found

    def _check(self, sound: bool, what: str) -> None:
        if not sound:
            raise Damage(
                f"{self.url} gave {what} other than was asked for",
                hint="nothing of it was used; the API may be damaged, or not the one it was",
            )

    # ---- running

    def follow(self, after: int) -> Followed:
        found: Followed = self._read(Followed, "/v1/follow", after=after)
        if found.store == self._seen.store:
            self._not_older(found.number)
        self._seen.store, self._seen.number = found.store, found.number
        return found

    def reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> dict[str, SecretValue]:
        body = wire.canonical(ToReveal(environment=environment, secrets=dict(secrets)))
        values = self._session.ask(dict[str, bytes], "POST", "/v1/reveal", body=body)
        self._check(values.keys() == secrets.keys(), "secrets")
        return {name: SecretValue(value) for name, value in values.items()}

    @cached_property
    def keyvalues(self) -> "RemoteKeyValues":
        from svcctl.backend.remote.keyvalues import RemoteKeyValues

        return RemoteKeyValues(self._session)

    # ---- mutations

    def plan(self, command: "Command") -> Plan:
        return self._session.ask(Plan, "POST", "/v1/plan", body=wire.canonical(command))

    def apply(self, command: "Command") -> Change:
        """Tried again under the same id, it is done once. Unreachable may mean that it was: `change` tells."""
        found = self._session.ask(Change, "POST", "/v1/changes", body=wire.canonical(command))
        if found.id not in (None, command.id):
            raise Unreachable(f"{self.url} answered with another change than was asked for")
        return found

    def missing(self, blobs: Collection[Digest]) -> frozenset[Digest]:
        return sending.missing(self._session, blobs)

    def upload(self, artifact: Artifact, progress: Progress = SILENT, *, base: Digest | None = None) -> Stored:
        return sending.upload(self._session, artifact, progress, self._difference(artifact, base))

    def _difference(self, artifact: Artifact, base: Digest | None) -> Altered | None:
        if base is None:
            return None
        try:
            there = artifact.manifest if base == artifact.digest else self.manifest(base)
        except (Damage, NotFound):
            return None
        return altered(base, there, artifact.manifest)

    def seal(self, service: str, environment: str, name: str, value: bytes) -> Sealed:
        body = wire.canonical(ToSeal(service=service, environment=environment, name=name, value=value))
        return self._session.ask(Sealed, "POST", "/v1/seal", body=body)

    def wait(self, after: int, timeout: float) -> int:
        """Not tried again: who follows wants to know at once that there is nothing to follow."""
        deadline = time.monotonic() + timeout
        while True:
            seconds = max(0.0, min(deadline - time.monotonic(), _POLL))
            query = {"after": max(after, 0), "timeout": round(seconds, 3)}
            found = self._session.ask(Newest, "GET", "/v1/changes", query=query, again=False, timeout=seconds + _SLACK)
            self._not_older(found.number)
            if found.number > after or time.monotonic() >= deadline:
                return found.number

    # ---- moving

    def standing(self, at: int | None = None) -> Standing:
        return self._read(Standing, "/v1/standing", at=at)

    def segment(self, after: int, until: int) -> Segment:
        return self._read(Segment, "/v1/segments", after=after, until=until)

    def append(self, segment: Segment) -> Standing:
        """Done twice, it is done once."""
        return self._session.ask(Standing, "POST", "/v1/segments", body=wire.canonical(segment), timeout=_LONG)

    def manifest_bytes(self, code: Digest) -> bytes:
        content = self._session.content("GET", f"/v1/manifests/{_part(code)}")
        self._check(digest.of("artifact", content) == code, "a manifest")
        return content

    def seal_all(self, key: "MasterKey", salt: bytes) -> SealedSecrets:
        body = wire.canonical(ToSealAll(key=_bytes(key), salt=salt))
        return self._session.ask(SealedSecrets, "POST", "/v1/secrets/seal", body=body, timeout=_LONG)

    def take_secrets(self, sent: SealedSecrets, key: "MasterKey") -> int:
        body = wire.canonical(ToTake(sent=sent, key=_bytes(key)))
        return self._session.ask(Count, "POST", "/v1/secrets", body=body, timeout=_LONG).count

    def valueless(self) -> tuple[Valueless, ...]:
        return self._read(tuple[Valueless, ...], "/v1/valueless")

    def _not_older(self, number: int) -> None:
        """Of a store whose id is the same, fewer changes than it had mean that it was set back."""
        if number < self._seen.number:
            raise Damage(
                f"{self.url} says that there are {number} changes, and there were {self._seen.number}",
                hint="an older store answers; if it was put back from a backup, what follows it must be started anew",
            )


def _part(text: str) -> str:
    """Of a path."""
    return quote(text, safe="")


def _few(names: Collection[str] | None) -> tuple[str, ...] | None:
    """None too where they are too many for a query: what is too much in the answer is left out afterwards."""
    return None if names is None or len(names) > _NAMES else tuple(names)


def _is_in(names: Collection[str] | None, name: str) -> bool:
    return names is None or name in names


def _digest_of(settings: Settings) -> Digest:
    return digest.of("settings", wire.canonical(settings))


def _bytes(key: "MasterKey") -> bytes:
    return base64.b64decode(key.encoded().reveal())


def _fields(filter: Filter) -> dict[str, Any]:
    return msgspec.structs.asdict(filter)
