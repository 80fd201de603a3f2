from collections.abc import Iterator

from svcctl.cli.context import Context
from svcctl.cli.output import Block, Success
from svcctl.model import Project


def config_check(context: Context) -> None:
    """Check services.toml; list all its problems."""
    context.show({"file": str(context.required_file), "project": context.project}, _fine(context.project))


def _fine(project: Project) -> Iterator[Block]:
    yield Success(f"services.toml is right: project {project.name}, {', '.join(sorted(project.services))}")
