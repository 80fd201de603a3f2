"""A yes, a typed name, a secret: asked for on a terminal, never assumed elsewhere (exit status 5)."""

import sys
from collections.abc import Sequence

from svcctl.cli.context import Context
from svcctl.cli.output import shown
from svcctl.errors import ConsentNeeded


def can_ask(context: Context) -> bool:
    return not context.json and sys.stdin.isatty() and sys.stderr.isatty()


def require_yes(context: Context, question: str, *, yes: bool, flag: str = "--yes") -> None:
    """`question` ends without a question mark: `promote 3 services into production`. `flag` is what to add."""
    if yes:
        return
    if not can_ask(context):
        raise ConsentNeeded(f"{question}: this needs a yes", hint=f"add {flag}", next=again(context, flag))
    if _ask(f"{question}? [y/N] ").lower() not in ("y", "yes"):
        raise ConsentNeeded("not confirmed; nothing was changed")


def require_name(context: Context, what: str, name: str, *, confirm: str | None) -> None:
    """For what cannot be undone. `what` says what happens: `delete the environment staging of 3 services`."""
    if confirm is None and not can_ask(context):
        flag = f"--confirm {name}"
        raise ConsentNeeded(f"{what}: this needs its name typed", hint=f"add {flag}", next=again(context, flag))
    typed = confirm if confirm is not None else _ask(f"{what}. Type {name} to go on: ")
    if typed != name:
        raise ConsentNeeded(f"{typed!r} is not {name!r}; nothing was changed", hint=f"--confirm {name}")


def ask_secret(context: Context, name: str) -> str:
    """A secret's value, without echo. Callers read standard input themselves where it is no terminal."""
    if not can_ask(context):
        raise ConsentNeeded(f"{name} has no value and nobody can be asked", hint="give the value on standard input")
    from getpass import getpass

    return getpass(f"{shown(name)}: ", stream=sys.stderr)


def _ask(question: str) -> str:
    sys.stderr.write(shown(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def again(context: Context, flag: str) -> str:
    """The command as it was typed, and the flag."""
    return _typed(context.arguments, flag)


def next_page(context: Context, cursor: str) -> str:
    """The command as it was typed, with its filters, from this cursor on."""
    words = [word for word in context.arguments if not word.startswith("--cursor=")]
    if "--cursor" in words:
        place = words.index("--cursor")
        del words[place : place + 2]
    return _typed(words, f"--cursor {cursor}")


def _typed(words: Sequence[str], flag: str) -> str:
    """Options stand before a `--`."""
    from shlex import join

    place = words.index("--") if "--" in words else len(words)
    return join(["svcctl", *words[:place], *flag.split(), *words[place:]])
