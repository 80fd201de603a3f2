"""typer 0.28 carries click inside, under a private name: the parts that svcctl needs are named here alone."""

from typer._click.core import Command, Parameter
from typer._click.core import Context as ClickContext
from typer._click.exceptions import ClickException, NoArgsIsHelpError
from typer._click.formatting import HelpFormatter
from typer._click.shell_completion import CompletionItem, ShellComplete, split_arg_string

__all__ = [
    "ClickContext",
    "ClickException",
    "Command",
    "CompletionItem",
    "HelpFormatter",
    "NoArgsIsHelpError",
    "Parameter",
    "ShellComplete",
    "split_arg_string",
]
