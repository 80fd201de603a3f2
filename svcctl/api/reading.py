"""Routes that tell what is there."""

from typing import Annotated

from msgspec import Meta

from svcctl import reference
from svcctl.api.guarded import Guarded
from svcctl.api.route import Raw, Route
from svcctl.backend.base import Changes, Filter, History, Refusals
from svcctl.backend.messages import MANIFEST, Newest
from svcctl.digest import Digest
from svcctl.errors import UsageError
from svcctl.model import (
    Change,
    Deployment,
    Environment,
    EnvironmentId,
    Grant,
    Model,
    Service,
    Settings,
    Token,
    Version,
)
from svcctl.reference import Reference

Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(max_length=100)]
Text = Annotated[str, Meta(max_length=1000)]
Limit = Annotated[int, Meta(ge=1, le=1000)]


class OfProject(Model, forbid_unknown_fields=True):
    project: Name
    service: tuple[Name, ...] | None = None
    """Repeated; without it all."""


class Environments(Model, forbid_unknown_fields=True):
    project: Name
    service: tuple[Name, ...] | None = None
    name: tuple[Name, ...] | None = None


class Services(Model, forbid_unknown_fields=True):
    project: Name | None = None


class OnePlace(Model, forbid_unknown_fields=True):
    service: Name
    name: Name


class OneId(Model, forbid_unknown_fields=True):
    id: Name


class OneDigest(Model, forbid_unknown_fields=True):
    digest: Hex


class OneReference(Model, forbid_unknown_fields=True):
    ref: Text
    """`shop/production@12`"""


class HistoryPage(Model, forbid_unknown_fields=True):
    project: Name
    ref: Text | None = None
    since: Text | None = None
    actor: Text | None = None
    commit: Text | None = None
    deleted: bool = False
    limit: Limit = 50
    cursor: Text | None = None


class ChangesPage(Model, forbid_unknown_fields=True):
    """With `after` a long poll for the newest change's number, else a page of a project's changes."""

    project: Name | None = None
    since: Text | None = None
    actor: Text | None = None
    commit: Text | None = None
    limit: Limit = 50
    cursor: Text | None = None
    after: Annotated[int, Meta(ge=0, le=1 << 60)] | None = None
    timeout: Annotated[float, Meta(ge=0, le=60)] = 25.0


class RefusalsPage(Model, forbid_unknown_fields=True):
    limit: Limit = 50
    cursor: Text | None = None


class Running(Model, forbid_unknown_fields=True):
    commit: Text | None = None
    code: Text | None = None


def projects(backend: Guarded) -> tuple[str, ...]:
    return backend.projects()


def services(backend: Guarded, asked: Services) -> tuple[Service, ...]:
    return backend.services(asked.project)


def environments(backend: Guarded, asked: Environments) -> tuple[Environment, ...]:
    return backend.environments(asked.project, asked.service, asked.name)


def environment(backend: Guarded, asked: OnePlace) -> Environment:
    return backend.environment(asked.service, asked.name)


def settings_of(backend: Guarded, asked: OnePlace) -> Settings:
    return backend.settings_of(asked.service, asked.name)


def by_origin(backend: Guarded, asked: OneId) -> Environment | None:
    return backend.by_origin(EnvironmentId(asked.id))


def heads(backend: Guarded, asked: OfProject) -> tuple[Version, ...]:
    return backend.heads(asked.project, asked.service)


def version(backend: Guarded, asked: OneReference) -> Version:
    return backend.version(_of_one_service(asked.ref))


def settings(backend: Guarded, asked: OneDigest) -> Settings:
    return backend.settings(Digest(asked.digest))


def history(backend: Guarded, asked: HistoryPage) -> History:
    filter = Filter(since=asked.since, actor=asked.actor, commit=asked.commit, deleted=asked.deleted)
    wanted = reference.parse(asked.ref) if asked.ref else None
    return backend.history(asked.project, wanted, filter, asked.limit, asked.cursor)


def changes(backend: Guarded, asked: ChangesPage) -> Changes | Newest:
    if asked.project is None:
        raise UsageError("changes are asked for with `project`, or with `after`")
    filter = Filter(since=asked.since, actor=asked.actor, commit=asked.commit)
    return backend.changes(asked.project, filter, asked.limit, asked.cursor)


def change(backend: Guarded, asked: OneId) -> Change | None:
    return backend.change(asked.id)


def running(backend: Guarded, asked: Running) -> tuple[Version, ...]:
    if asked.commit is None and asked.code is None:
        raise UsageError("what runs is asked for with `commit` or `code`")
    return backend.running(asked.commit, asked.code)


def tags(backend: Guarded, asked: OnePlace) -> tuple[str, ...]:
    return backend.tags(asked.service, asked.name)


def deployment(backend: Guarded, asked: OnePlace) -> Deployment:
    return backend.deployment(asked.service, asked.name)


def namespaces(backend: Guarded, asked: OnePlace) -> dict[str, str]:
    return backend.namespaces(asked.service, asked.name)


def tokens(backend: Guarded) -> tuple[Token, ...]:
    return backend.tokens()


def refusals(backend: Guarded, asked: RefusalsPage) -> Refusals:
    return backend.refusals(asked.limit, asked.cursor)


def whoami(backend: Guarded) -> Grant:
    token = backend.token
    return Grant(
        name=token.name,
        role=token.role,
        services=token.services,
        environments=token.environments,
        expires=token.expires,
    )


def manifest(backend: Guarded, asked: OneDigest) -> Raw:
    return Raw(backend.manifest_bytes(Digest(asked.digest)), MANIFEST, asked.digest)


def _of_one_service(text: str) -> Reference:
    found = reference.parse(text)
    if found.service is None:
        raise UsageError(f"{text!r} names no service", hint="such as shop/production@12")
    return found


ROUTES = (
    Route("GET", "/v1/whoami", "What the token allows", whoami, power="follow"),
    Route("GET", "/v1/projects", "Projects", projects, power="read"),
    Route("GET", "/v1/services", "Services", services, power="read"),
    Route("GET", "/v1/environments", "Living environments of a project", environments, power="read"),
    Route("GET", "/v1/environments/{service}/{name}", "One environment", environment, power="read"),
    Route("GET", "/v1/environments/{service}/{name}/settings", "The settings of its head", settings_of, power="read"),
    Route(
        "GET",
        "/v1/origins/{id}",
        "An environment by its internal id, living or deleted; or null",
        by_origin,
        power="read",
    ),
    Route("GET", "/v1/heads", "The heads of a project", heads, power="read"),
    Route("GET", "/v1/version", "One version", version, power="read"),
    Route("GET", "/v1/settings/{digest}", "A settings document", settings, power="read"),
    Route("GET", "/v1/history", "A page of versions, newest first", history, power="read"),
    Route("GET", "/v1/changes", "A page of changes; with `after` the long poll", changes, power="follow", kind="poll"),
    Route("GET", "/v1/changes/{id}", "A change by its id, or null", change, power="read"),
    Route("GET", "/v1/running", "Versions that laid code of a commit or digest", running, power="read"),
    Route("GET", "/v1/tags/{service}/{name}", "The tags of an environment", tags, power="read"),
    Route(
        "GET",
        "/v1/deployment/{service}/{name}",
        "What an environment runs, through its bindings",
        deployment,
        power="read",
    ),
    Route(
        "GET", "/v1/namespaces/{service}/{name}", "The KV namespaces that its bindings reach", namespaces, power="read"
    ),
    Route("GET", "/v1/tokens", "Every token that was ever made", tokens),
    Route("GET", "/v1/refusals", "A page of requests that were turned away, newest first", refusals),
    Route(
        "GET", "/v1/manifests/{digest}", "The canonical bytes of a manifest", manifest, answers=MANIFEST, power="fetch"
    ),
)
