"""The options that every command takes, before and after its name; each is written into the Context."""

from collections.abc import Callable
from typing import Any

from typer.core import TyperOption

from svcctl.cli.click import ClickContext, Parameter
from svcctl.cli.context import Context

SETTINGS = {"help_option_names": ["-h", "--help"]}


def options() -> list[Parameter]:
    return [
        _option(
            "--backend",
            "Where the store is: a folder, a URL, or a name of `backend add`.",
            _set_backend,
            metavar="PLACE",
        ),
        _option("--json", "Print one JSON document.", _set_json, is_flag=True),
        _option("--no-color", "No colours, as with NO_COLOR=1.", _set_no_color, is_flag=True),
        _option("--verbose", "Say what caused an error.", _set_verbose, short="-v", is_flag=True),
    ]


def _option(
    name: str, help: str, store: Callable[[Context, Any], None], *, short: str | None = None, **attributes: Any
) -> Parameter:
    def callback(ctx: ClickContext, _: Parameter, value: Any) -> None:
        """What was not given must not undo what was given before the command's name."""
        if value:
            store(ctx.ensure_object(Context), value)

    names = [short, name] if short else [name]
    return TyperOption(param_decls=names, help=help, callback=callback, expose_value=False, **attributes)


def _set_backend(context: Context, value: str) -> None:
    context.backend_option = value


def _set_json(context: Context, _: bool) -> None:
    context.json = True


def _set_no_color(context: Context, _: bool) -> None:
    context.no_color = True


def _set_verbose(context: Context, _: bool) -> None:
    context.verbose = True
