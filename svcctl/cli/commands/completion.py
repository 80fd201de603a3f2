from typing import Annotated

import typer

from svcctl.cli.context import Context
from svcctl.cli.output import Verbatim
from svcctl.cli.shells import SCRIPTS
from svcctl.errors import UsageError
from svcctl.names import did_you_mean

Shell = Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", autocompletion=lambda: list(SCRIPTS))]


def completion(context: Context, shell: Shell) -> None:
    """Print the completion script of a shell.

    For bash: svcctl completion bash > ~/.local/share/bash-completion/completions/svcctl
    """
    if shell not in SCRIPTS:
        raise UsageError(f"there is no completion for {shell!r}", hint=did_you_mean(shell, SCRIPTS))
    script = SCRIPTS[shell]
    context.show({"shell": shell, "script": script}, [Verbatim(script)])
