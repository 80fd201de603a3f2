"""Answers to a shell that completes a command line: one candidate a line, its help after a tab.

The scripts of `completion` call `svcctl` with the line so far in `_SVCCTL_LINE`. Names come from the store. This is the
one place where errors are swallowed: a completion that printed one would garble the line that is being typed.
"""

from collections.abc import Callable, Iterable, Iterator

import typer

from svcctl.cli.click import Command, ShellComplete, split_arg_string
from svcctl.cli.context import Context
from svcctl.errors import NotFound, SvcctlError
from svcctl.model import Environment
from svcctl.reference import Reference


def answer(command: Command, context: Context) -> str:
    line = context.environ.get("_SVCCTL_LINE", "")
    words = split_arg_string(line)[1:]
    incomplete = words.pop() if words and not line[-1:].isspace() else ""
    try:
        found = _Completion(command, {"obj": context}, "svcctl", "_SVCCTL_COMPLETE").get_completions(words, incomplete)
    except SvcctlError:
        return ""
    return "".join(f"{item.value}\t{item.help or ''}\n" for item in found)


class _Completion(ShellComplete):
    """click's walk from the words of a line to what may come next; the abstract rest is the scripts' business."""

    name = "svcctl"
    source_template = ""

    def source_vars(self) -> dict[str, object]:
        return {}

    def get_completion_args(self) -> tuple[list[str], str]:
        return [], ""

    def format_completion(self, item: object) -> str:
        return str(item)


Candidates = Iterable[str]


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(incomplete, ctx, lambda context: context.project.services)


def environments(ctx: typer.Context, incomplete: str) -> list[str]:
    return _starting(incomplete, ctx, _environments)


def references(ctx: typer.Context, incomplete: str) -> list[str]:
    """`[service/]environment`, and after an `@` its tags and newest numbers."""
    if "@" in incomplete:
        place = incomplete.partition("@")[0]
        return _starting(incomplete, ctx, lambda context: _versions(context, place))
    return _starting(incomplete, ctx, _places)


def _starting(incomplete: str, ctx: typer.Context, candidates: Callable[[Context], Candidates]) -> list[str]:
    context = ctx.find_object(Context)
    if context is None:
        return []
    context.hasty = True
    try:
        return [name for name in dict.fromkeys(candidates(context)) if name.startswith(incomplete)]
    except (SvcctlError, OSError):
        return []


def _environments(context: Context) -> Candidates:
    return sorted({environment.name for environment in _stored(context)} | context.project.environments)


def _places(context: Context) -> Iterator[str]:
    yield from _environments(context)
    yield from (environment.ref for environment in _stored(context))


def _stored(context: Context) -> tuple[Environment, ...]:
    """None where nothing was deployed yet: the file names environments too."""
    try:
        return context.backend.environments(context.project.name)
    except NotFound:
        return ()


def _versions(context: Context, place: str) -> Iterator[str]:
    from svcctl.backend.base import Filter

    service, _, environment = place.rpartition("/")
    named = service or (next(iter(context.project.services)) if len(context.project.services) == 1 else None)
    reference = Reference(environment, named)
    page = context.backend.history(context.project.name, reference, filter=Filter(), limit=20)
    tags = [tag for version in page.versions for tag in version.tags]
    numbers = [str(version.number) for version in page.versions] if named else []
    yield from (f"{place}@{name}" for name in [*tags, *numbers])
