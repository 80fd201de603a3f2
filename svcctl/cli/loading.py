"""Commands are imported and built when they are invoked: building all of them would cost 25 ms a start."""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from svcctl.cli import catalogue, common
from svcctl.cli.click import ClickContext, Command, CompletionItem, HelpFormatter
from svcctl.cli.context import Context
from svcctl.errors import UsageError
from svcctl.names import did_you_mean


class Group(TyperGroup):
    """svcctl itself, or a group such as `env`: its commands come from the catalogue."""

    def __init__(self, words: str = "", **attributes: Any) -> None:
        super().__init__(name=words or "svcctl", no_args_is_help=True, rich_markup_mode=None, **attributes)
        self.words = words
        self.entries = catalogue.children(words)
        self.params.extend(common.options())

    def list_commands(self, ctx: ClickContext) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.entries)

    def get_command(self, ctx: ClickContext, cmd_name: str) -> Command | None:
        if cmd_name not in self.entries:
            return None
        command = f"{self.words} {cmd_name}".lstrip()
        if command in catalogue.GROUPS:
            return Group(command, help=catalogue.GROUPS[command].help)
        return build(command, ctx.find_object(Context) or Context({}))

    def resolve_command(self, ctx: ClickContext, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        if args[0] not in self.entries and not args[0].startswith("-"):
            unknown = f"{self.words} {args[0]}".lstrip()
            raise UsageError(
                f"there is no command {unknown!r}",
                hint=did_you_mean(args[0], self.entries),
                next=f"svcctl {self.words} --help".replace("  ", " "),
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: ClickContext, formatter: HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.entries.items():
            panels.setdefault(entry.panel if not self.words else "Commands", []).append((name, entry.help))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: ClickContext, incomplete: str) -> list[CompletionItem]:
        """Names from the catalogue; options from click, which would build every command to list names."""
        names = [(name, entry.help) for name, entry in self.entries.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=help) for name, help in names] + Command.shell_complete(self, ctx, incomplete)


def build(command: str, context: Context) -> Command:
    """The typer command of a function `def env_clone(context: Context, …options…) -> None`."""
    function = getattr(importlib.import_module(catalogue.module(command)), catalogue.function(command))
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=common.SETTINGS)
    app.command(command.rsplit(maxsplit=1)[-1], help=function.__doc__)(_bind(function, context))
    built = typer.main.get_command(app)
    built.params.extend(common.options())
    return built


def _bind(function: Callable[..., None], context: Context) -> Callable[..., None]:
    """The function without its first parameter. typer reads annotations, which a partial has none of."""
    bound = partial(function, context)
    hints = {name: hint for name, hint in function.__annotations__.items() if name != "context"}
    bound.__annotations__ = hints
    return bound
