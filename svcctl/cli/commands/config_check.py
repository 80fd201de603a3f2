from collections.abc import Iterator

from svcctl.cli.context import Context
from svcctl.cli.output import Block, Success
from svcctl.config.present import check_present
from svcctl.model import Project


def config_check(context: Context) -> None:
    """Check services.toml; list all its problems.

    Its syntax, names and values, and that the files and folders it names are there. Nothing is read from the store."""
    project = context.project
    check_present(context.required_file, project)
    context.show({"file": str(context.required_file), "project": project}, _fine(project))


def _fine(project: Project) -> Iterator[Block]:
    yield Success(f"services.toml is right: project {project.name}, {', '.join(sorted(project.services))}")
