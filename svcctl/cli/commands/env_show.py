from collections.abc import Iterator, Mapping, Sequence

from svcctl.backend.base import Backend
from svcctl.cli import target, views
from svcctl.cli.context import Context
from svcctl.cli.options import ReferenceArgument, ServiceOption
from svcctl.cli.output import Block, Cell, Content, Fields, Lines, When
from svcctl.errors import NotFound, UsageError
from svcctl.model import Binding, Environment, Model, Project, Version
from svcctl.names import did_you_mean
from svcctl.reference import Reference, parse


class Bound(Model):
    name: str
    binding: Binding
    leads_to: str | None = None
    """`auth/production`: the environment that a service binding reaches now."""


class Shown(Environment):
    """An environment and what its handlers find in `env`, by name."""

    vars: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    bindings: tuple[Bound, ...] = ()
    source: str | None = None
    """What it was cloned from, under today's name."""


def env_show(context: Context, place: ReferenceArgument, service: ServiceOption = None) -> None:
    """Show one environment: hostnames, head, bindings and where they lead.

    Without a service in REF: the one of each service. Values of vars: `svcctl vars list`, or `svcctl config show`."""
    wanted = parse(place)
    if wanted.at:
        raise UsageError(f"{place!r} is one version", next=f"svcctl show {place}")
    project = target.project(context)
    found = _environments(context, wanted, service)
    services = [each.service for each in found]
    heads = {head.ref.partition("@")[0]: head for head in context.backend.heads(project.name, services)}
    shown = [_shown(context.backend, each) for each in found]
    context.show({"environments": shown}, _blocks(project, shown, heads))


def _environments(context: Context, wanted: Reference, service: Sequence[str] | None) -> Sequence[Environment]:
    if wanted.service:
        return [context.backend.environment(wanted.service, wanted.environment)]
    project = target.project(context).name
    services = target.stored_services(context, service)
    found = context.backend.environments(project, services, (wanted.environment,))
    if not found:
        known = {each.name for each in context.backend.environments(project, services)}
        raise NotFound(f"no environment {wanted.environment!r}", hint=did_you_mean(wanted.environment, known))
    return found


def _shown(backend: Backend, environment: Environment) -> Shown:
    settings = backend.settings_of(environment)
    leads = backend.deployment(environment.service, environment.name).nodes[0].bindings
    origin = backend.by_origin(environment.cloned_from) if environment.cloned_from else None
    fields = {name: getattr(environment, name) for name in Environment.__struct_fields__}
    return Shown(
        **fields,
        vars=tuple(sorted(settings.vars)),
        secrets=tuple(sorted(settings.secrets)),
        bindings=tuple(
            Bound(name=name, binding=each, leads_to=leads.get(name)) for name, each in sorted(settings.bindings.items())
        ),
        source=origin.ref if origin else None,
    )


def _blocks(project: Project, shown: Sequence[Shown], heads: Mapping[str, Version]) -> Iterator[Block]:
    for number, each in enumerate(shown):
        if number:
            yield Lines([""])
        yield _fields(each, heads.get(each.ref), _table(project, each))


def _table(project: Project, environment: Environment) -> str | None:
    """The table of services.toml that the next deploy reads for it."""
    service = project.services.get(environment.service)
    if service is None:
        return None
    for name in (environment.name, environment.block):
        if name in service.blocks:
            return f"[services.{environment.service}.environments.{name}]"
    return f"[services.{environment.service}]"


def _fields(environment: Shown, head: Version | None, table: str | None) -> Fields:
    return Fields(
        [
            ("environment", Cell(environment.ref, "live")),
            ("hostname", environment.hostname),
            ("routes", ", ".join(environment.routes) or None),
            ("version", f"{head.number}: {views.what_happened(head)}" if head else "none yet"),
            ("since", When(head.at) if head else None),
            ("code", f"{views.short(head.code)} {views.commit_words(head.code)}".rstrip() if head else None),
            ("not live", Cell(f"lacks {', '.join(environment.lacks)}", "bad") if environment.lacks else None),
            ("protected", "yes" if environment.protected else "no"),
            ("cloned from", environment.source),
            ("expires", When(environment.expires, "warn") if environment.expires else None),
            ("follows", table),
            ("vars", ", ".join(environment.vars) or None),
            ("secrets", ", ".join(environment.secrets) or None),
            *((f"env.{each.name}", _leads(each)) for each in environment.bindings),
        ]
    )


def _leads(bound: Bound) -> Content:
    binding = bound.binding
    if binding.service is None:
        return f"{binding}{'' if binding.environment or binding.version_metadata else ' (its own)'}"
    if bound.leads_to is None:
        return Cell(f"{binding}: leads nowhere", "bad")
    return f"{binding} → {bound.leads_to}"
