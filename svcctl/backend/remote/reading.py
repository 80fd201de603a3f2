"""What is read of an API. What it answers is held against what was asked: manifests, blobs and settings against their
digests, versions and changes against their names. An API that lies is refused."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from svcctl import digest, wire
from svcctl.backend.base import Changes, Filter, History, Refusals, Stream
from svcctl.backend.remote import receiving
from svcctl.backend.remote.session import Session
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound
from svcctl.model import (
    Change,
    Deployment,
    Environment,
    EnvironmentId,
    Grant,
    Manifest,
    Service,
    Settings,
    Token,
    Version,
)
from svcctl.reference import Number, Reference

T = TypeVar("T")
_NAMES = 80  # in one query; the API takes a hundred parameters


class Reading:
    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def url(self) -> str:
        return self._session.url

    def close(self) -> None:
        self._session.close()

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

    def manifest_bytes(self, code: Digest) -> bytes:
        content = self._session.content("GET", f"/v1/manifests/{_part(code)}")
        self._check(digest.of("artifact", content) == code, "a manifest")
        return content

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


def _fields(filter: Filter) -> dict[str, Any]:
    return msgspec.structs.asdict(filter)
