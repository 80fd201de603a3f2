"""svcctl itself: the options that stand before the command."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperOption

from svcctl import __version__
from svcctl.cli import common
from svcctl.cli.click import ClickContext, Parameter
from svcctl.cli.context import Context
from svcctl.cli.loading import Group
from svcctl.errors import UsageError

HELP = "Deploy composable HTTP services to machines you own."


def root() -> Group:
    """A fresh one for each invocation: nothing is built at import."""
    group = Group(help=HELP, context_settings=common.SETTINGS)
    group.params[:0] = [
        TyperOption(
            param_decls=["-C", "folder"],
            metavar="FOLDER",
            help="Work as if started in this folder.",
            callback=_set_folder,
            expose_value=False,
        ),
        TyperOption(
            param_decls=["--version"],
            is_flag=True,
            is_eager=True,
            help="Print the version.",
            callback=_print_version,
            expose_value=False,
        ),
    ]
    return group


def _set_folder(ctx: ClickContext, _: Parameter, value: str | None) -> None:
    context = ctx.find_object(Context)
    if value is None or context is None:
        return
    folder = context.folder / value
    if not folder.is_dir():
        raise UsageError(f"-C {value}: there is no such folder")
    context.folder = Path(folder).resolve()


def _print_version(ctx: ClickContext, _: Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        typer.echo(f"svcctl {__version__}")
        raise typer.Exit
