"""Options and arguments that commands share, as types of their parameters: one name, one meaning, one help text."""

from typing import Annotated

import typer

from svcctl.cli import complete
from svcctl.text import mask_urls

# ---- which

ServiceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--service", "-s", metavar="NAME", help="This service alone; repeatable.", autocompletion=complete.services
    ),
]
OneServiceOption = Annotated[
    str | None,
    typer.Option("--service", "-s", metavar="NAME", help="The service.", autocompletion=complete.services),
]
EnvOption = Annotated[
    str | None,
    typer.Option("--env", "-e", metavar="NAME", help="The environment.", autocompletion=complete.environments),
]
BranchOption = Annotated[bool, typer.Option("--branch", help="The environment named after the git branch.")]
EnvironmentArgument = Annotated[
    str, typer.Argument(metavar="ENV", help="An environment.", autocompletion=complete.environments)
]
ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="REF", help="[service/]environment[@version].", autocompletion=complete.references),
]
OptionalReferenceArgument = Annotated[
    str | None,
    typer.Argument(metavar="REF", help="[service/]environment[@version].", autocompletion=complete.references),
]

# ---- how


def _without_credentials(message: str | None) -> str | None:
    """What is kept in the history is kept for ever: a token in a URL must not be."""
    return message and mask_urls(message)


MessageOption = Annotated[
    str | None,
    typer.Option("--message", "-m", metavar="TEXT", help="Why: kept in the history.", callback=_without_credentials),
]
MetaOption = Annotated[
    list[str] | None,
    typer.Option("--meta", metavar="KEY=VALUE", help="A note for programs, kept with the version; repeatable."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; do nothing.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Go on where names are missing; needs a yes.")]
ExpectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--expect",
        metavar="REF",
        help="Go on only if this is the head (shop/production@12, or @none); repeatable.",
        autocompletion=complete.references,
    ),
]

CliOption = Annotated[bool, typer.Option("--cli", help="Leave services.toml alone: an override in the store, at once.")]

# ---- consent

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Say yes to the question.")]
ConfirmOption = Annotated[str | None, typer.Option("--confirm", metavar="NAME", help="The name, typed once more.")]

# ---- pages

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, metavar="N", help="So many at most.")]
CursorOption = Annotated[str | None, typer.Option("--cursor", metavar="TEXT", help="Go on from an earlier page.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="From this time on: 2026-11-23, 7d, 12h.")
]
ActorOption = Annotated[str | None, typer.Option("--actor", metavar="WHO", help="By this person or token.")]
CommitOption = Annotated[str | None, typer.Option("--commit", metavar="HASH", help="Of this git commit.")]

# ---- serving

HostOption = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")]
PortOption = Annotated[int, typer.Option("--port", "-p", min=0, max=65535, metavar="N", help="0: a free one.")]
