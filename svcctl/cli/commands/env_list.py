from collections.abc import Iterator, Mapping, Sequence

from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.cli.options import ServiceOption
from svcctl.cli.output import Block, Cell, Content, Note, Table, When
from svcctl.model import Environment, Version


def env_list(context: Context, service: ServiceOption = None) -> None:
    """List environments."""
    project = target.project(context)
    wanted = target.stored_services(context, service)
    environments = context.backend.environments(project.name, wanted)
    heads = {(head.service, head.environment): head for head in context.backend.heads(project.name, wanted)}
    context.show({"environments": environments}, _blocks(environments, heads, project.environments))


def _blocks(
    environments: Sequence[Environment], heads: Mapping[tuple[str, str], Version], named: set[str]
) -> Iterator[Block]:
    columns = ["service", "environment", "version", "age", "address", "protected", "expires", "state"]
    rows = [_row(each, heads.get((each.service, each.name))) for each in environments]
    yield Table(columns, rows, empty="no environments yet")
    for name in sorted(named - {each.name for each in environments}):
        yield Note(f"{name} stands in services.toml; the first deploy or promote to it makes it")


def _row(environment: Environment, head: Version | None) -> list[Content]:
    return [
        environment.service,
        Cell(environment.name, "live" if head and head.code and not environment.lacks else None),
        str(head.number) if head else "",
        When(head.at) if head else "",
        " ".join([environment.hostname or "", *environment.routes]),
        "yes" if environment.protected else "",
        When(environment.expires, "warn") if environment.expires else "",
        _state(environment, head),
    ]


def _state(environment: Environment, head: Version | None) -> Cell:
    if head is None or head.code is None:
        return Cell("no code", "dim")
    if environment.lacks:
        return Cell(f"not live: lacks {', '.join(environment.lacks)}", "bad")
    return Cell("live", "ok")
