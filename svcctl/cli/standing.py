"""What stands where: every service in every environment, against its neighbour and against services.toml."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from msgspec.structs import replace

from svcctl.backend.base import Backend
from svcctl.cli import target
from svcctl.cli.building import source_of
from svcctl.cli.context import Context
from svcctl.cli.effective import Waiting, stored, waiting
from svcctl.cli.times import moment
from svcctl.digest import Digest
from svcctl.model import Code, Environment, Model, Project, Settings, Version
from svcctl.names import PRODUCTION


class Standing(Model):
    """One service in one environment."""

    ref: str
    service: str
    environment: str
    hostname: str | None = None
    version: int | None = None
    at: str | None = None
    code: Code | None = None
    tags: tuple[str, ...] = ()
    protected: bool = False
    compared_with: str | None = None
    """The neighbour on the way to production, where both run code."""
    ahead: int | None = None
    """Commits that touch the service's folder and are here alone; None where the repository can't tell."""
    behind: int | None = None
    waiting: tuple[Waiting, ...] = ()
    """What services.toml says and this has not."""
    lacks: tuple[str, ...] = ()
    live: bool = False
    expires: str | None = None
    expired: bool = False


def standings(context: Context, services: Collection[str] | None) -> tuple[Standing, ...]:
    project = target.project(context)
    backend = stored(context)
    found = _in_store(context.now, project, backend, services) if backend else {}
    for service in project.services:
        for name in project.environments:
            if services is None or service in services:
                place = Standing(ref=f"{service}/{name}", service=service, environment=name)
                found.setdefault(place.ref, place)
    order = (project.default_environment or "", PRODUCTION)
    ranked = sorted(found.values(), key=lambda each: (each.service, _rank(each, order), each.environment))
    return tuple(_compared(context, project, ranked))


def _rank(each: Standing, order: tuple[str, ...]) -> int:
    return order.index(each.environment) if each.environment in order else len(order)


def _in_store(
    now: datetime, project: Project, backend: Backend, services: Collection[str] | None
) -> dict[str, Standing]:
    heads = {f"{head.service}/{head.environment}": head for head in backend.heads(project.name, services)}
    documents: dict[Digest, Settings] = {}
    found = {}
    for place in backend.environments(project.name, services):
        head = heads.get(place.ref)
        if head and head.settings.digest not in documents:
            documents[head.settings.digest] = backend.settings(head.settings.digest)
        settings = documents[head.settings.digest] if head else None
        found[place.ref] = _standing(now, project, place, head, settings)
    return found


def _standing(
    now: datetime, project: Project, place: Environment, head: Version | None, settings: Settings | None
) -> Standing:
    service = project.services.get(place.service)
    code = head.code if head else None
    return Standing(
        ref=place.ref,
        service=place.service,
        environment=place.name,
        hostname=place.hostname,
        version=place.head,
        at=head.at if head else None,
        code=code,
        tags=head.tags if head else (),
        protected=place.protected,
        waiting=waiting(service, place, settings) if service and settings else (),
        lacks=place.lacks,
        live=code is not None and not place.lacks,
        expires=place.expires,
        expired=place.expires is not None and moment(place.expires) <= now,
    )


# ---- against the neighbour


def _compared(context: Context, project: Project, found: Iterable[Standing]) -> Iterable[Standing]:
    """The default environment and all others look to production, production to the default environment."""
    places = {each.ref: each for each in found}
    pairs = {each.ref: other for each in places.values() if (other := _neighbour(project, each, places))}
    counts = _distances(context, [(places[ref], other) for ref, other in pairs.items()])
    for ref, each in places.items():
        if ref in pairs:
            ahead, behind = counts.get(ref, (None, None))
            yield replace(each, compared_with=pairs[ref].ref, ahead=ahead, behind=behind)
        else:
            yield each


def _neighbour(project: Project, each: Standing, places: Mapping[str, Standing]) -> Standing | None:
    name = project.default_environment if each.environment == PRODUCTION else PRODUCTION
    other = places.get(f"{each.service}/{name}")
    return other if other and other is not each and each.code and other.code else None


def _distances(context: Context, pairs: Iterable[tuple[Standing, Standing]]) -> dict[str, tuple[int, int]]:
    """By reference. git is asked only where the commits differ, once for all."""
    counts: dict[str, tuple[int, int]] = {}
    asked: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    for each, other in pairs:
        here, there = _commit(each), _commit(other)
        if here is not None and here == there:
            counts[each.ref] = (0, 0)
        elif here and there:
            asked[each.ref] = (there, here, _paths(context, each.service))
    if not asked:
        return counts
    from svcctl import provenance

    folder = context.file.parent if context.file else context.folder
    wanted = {ref: provenance.Compared(*each) for ref, each in asked.items()}
    told = provenance.ahead_behind_all(folder, set(wanted.values()))
    return counts | {ref: told[each] for ref, each in wanted.items() if each in told}


def _commit(each: Standing) -> str | None:
    return each.code.commit.sha if each.code and each.code.commit else None


def _paths(context: Context, service: str) -> tuple[str, ...]:
    declared = context.project.services.get(service) if context.file else None
    if declared is None:
        return (".",)
    source = source_of(declared)
    return (source.root, *(folder.rstrip("/") for folder in source.with_))
