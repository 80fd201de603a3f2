"""Which services a secret is for, and which secrets each environment has and lacks. Names alone; values never."""

from collections.abc import Collection, Iterable, Iterator

from svcctl import names
from svcctl.backend.base import Backend
from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.cli.effective import block_name, stored
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Environment, Model, Project, ServiceFile, Settings


class SecretName(Model):
    """A name that an environment has a value for, or wants one for."""

    name: str
    ref: str
    service: str
    environment: str
    set: bool
    required: bool
    """Code does not go live without it."""


def wanting(context: Context, name: str, environment: str, option: Collection[str] | None) -> tuple[str, ...]:
    """The services that a secret of this name is set for: those of -s, else those that list it."""
    if wrong := names.check_variable(name):
        raise UsageError(f"{name!r} {wrong}")
    if option:
        return tuple(dict.fromkeys(option))
    project = target.project(context)
    listed = _listed(context, project, environment)
    found = tuple(service for service, wanted in listed.items() if name in wanted)
    if not found:
        known = {each for wanted in listed.values() for each in wanted}
        guess = names.near(name, known)
        services = sorted(project.services) or ["SERVICE"]
        raise Refused(
            f"no service lists {name} under `secrets` for {environment}",
            hint=f"did you mean {guess}?" if guess else "list it in services.toml, or say which service it is for",
            next=f"svcctl secrets set {guess or name} --env {environment}" + ("" if guess else f" -s {services[0]}"),
        )
    return found


def _listed(context: Context, project: Project, environment: str) -> dict[str, tuple[str, ...]]:
    """By service: the secrets of the table that its environment of this name follows."""
    backend = stored(context)
    places = backend.environments(project.name, None, (environment,)) if backend else ()
    known = {place.service: place for place in places}
    return {
        name: service.block(block_name(service, environment, known.get(name))).secrets
        for name, service in sorted(project.services.items())
    }


def listing(context: Context, services: Collection[str] | None, environment: str | None) -> Iterator[SecretName]:
    """By service and environment, also those of the file that nothing was deployed to yet."""
    project = target.project(context)
    backend = stored(context)
    wanted = (environment,) if environment else None
    places = backend.environments(project.name, services, wanted) if backend else ()
    known = {place.ref: place for place in places}
    refs = sorted(known.keys() | _of_file(project, services, environment))
    if environment and not refs:
        hint = names.did_you_mean(environment, project.environments)
        raise NotFound(f"no environment {environment!r}", hint=hint)
    code = _required_by_code(backend, project, services) if backend else {}
    for ref in refs:
        place = known.get(ref)
        settings = backend.settings_of(place) if backend and place else Settings()
        yield from _of_place(project, ref, place, settings, code.get(ref, ()))


def _required_by_code(
    backend: Backend, project: Project, services: Collection[str] | None
) -> dict[str, tuple[str, ...]]:
    heads = backend.heads(project.name, services)
    return {f"{head.service}/{head.environment}": head.code.requires.secrets for head in heads if head.code}


def _of_file(project: Project, services: Collection[str] | None, environment: str | None) -> set[str]:
    return {
        f"{service}/{name}"
        for service in (project.services if services is None else services)
        for name in project.environments
        if service in project.services and environment in (None, name)
    }


def _of_place(
    project: Project, ref: str, place: Environment | None, settings: Settings, required: Iterable[str]
) -> Iterator[SecretName]:
    name, _, environment = ref.partition("/")
    service = project.services.get(name, ServiceFile())
    listed = set(service.block(block_name(service, environment, place)).secrets)
    needed = set(required) | (listed - set(service.optional))
    for each in sorted(needed | listed | settings.secrets.keys()):
        yield SecretName(
            name=each,
            ref=ref,
            service=name,
            environment=environment,
            set=each in settings.secrets,
            required=each in needed,
        )
