from collections.abc import Iterator, Mapping, Sequence

from svcctl import wire
from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.cli.output import Block, Note, Table
from svcctl.model import Environment, Project, Service
from svcctl.names import PRODUCTION


def service_list(context: Context) -> None:
    """List services."""
    project = target.project(context)
    services = context.backend.services(project.name)
    found: dict[str, list[Environment]] = {service.name: [] for service in services}
    for environment in context.backend.environments(project.name):
        found[environment.service].append(environment)
    answer = [
        {**wire.full(service), "environments": [each.name for each in found[service.name]]} for service in services
    ]
    context.show({"services": answer}, _blocks(project, services, found))


def _blocks(
    project: Project, services: Sequence[Service], environments: Mapping[str, Sequence[Environment]]
) -> Iterator[Block]:
    rows = [
        (
            service.name,
            next((each.hostname for each in environments[service.name] if each.name == PRODUCTION), None),
            ", ".join(each.name for each in environments[service.name]),
        )
        for service in services
    ]
    yield Table(["service", "production", "environments"], rows, empty="no services yet")
    for name in sorted(set(project.services) - {service.name for service in services}):
        yield Note(f"{name} stands in services.toml and was never deployed: svcctl deploy -s {name}")
