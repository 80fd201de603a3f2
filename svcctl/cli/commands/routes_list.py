from collections.abc import Iterator, Sequence

from svcctl.cli import editing, target
from svcctl.cli.context import Context
from svcctl.cli.options import ServiceOption
from svcctl.cli.output import Block, Note, Table
from svcctl.model import Model, Project


class Listed(Model):
    route: str
    ref: str
    file: bool
    """Whether services.toml has it; else it was added with --cli, or the next deploy takes it away."""


def routes_list(context: Context, service: ServiceOption = None) -> None:
    """List routes.

    Those in force; and those that services.toml has and the next deploy brings."""
    project = target.project(context)
    wanted = target.stored_services(context, service)
    written = _written(project, wanted)
    routes = [
        Listed(route=route, ref=environment.ref, file=(environment.ref, route) in written)
        for environment in context.backend.environments(project.name, wanted)
        for route in environment.routes
    ]
    context.show({"routes": routes}, _blocks(routes, written))


def _written(project: Project, wanted: Sequence[str] | None) -> list[tuple[str, str]]:
    return [
        (f"{name}/{environment}", route)
        for name, service in project.services.items()
        for environment, block in service.blocks.items()
        for route in block.routes
        if not wanted or name in wanted
    ]


def _blocks(routes: Sequence[Listed], written: Sequence[tuple[str, str]]) -> Iterator[Block]:
    rows = [(each.route, each.ref, "services.toml" if each.file else "") for each in routes]
    yield Table(["route", "leads to", "stands in"], rows, empty="no routes yet")
    in_force = {(each.ref, each.route) for each in routes}
    for ref, route in written:
        if (ref, route) not in in_force:
            service, _, environment = ref.partition("/")
            yield Note(f"{route} to {ref} waits in services.toml: {editing.deploy_of(service, environment)}")
