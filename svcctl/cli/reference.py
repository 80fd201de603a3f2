"""docs/cli.md, from the program: `python -m svcctl.cli.reference docs/cli.md`."""

import sys
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from pathlib import Path

from svcctl.cli import catalogue
from svcctl.cli.app import root
from svcctl.cli.click import ClickContext, Command, Parameter
from svcctl.cli.context import Context
from svcctl.cli.loading import Group, build

_HEAD = """\
# Commands

Written by the program: `make docs`. Every command takes the options of `svcctl` itself but `-C` and `--version`, before
and after its name.

## Exit statuses

| status | meaning |
| --- | --- |
| 0 | done, also when there was nothing to do |
| 1 | refused or failed |
| 2 | the command line or services.toml is wrong |
| 3 | not found |
| 4 | conflict: the state moved since this was planned |
| 5 | needs consent, and nobody could be asked |
| 6 | not allowed |
| 7 | the backend can't be reached, or is locked |
| 8 | there are differences (`--exit-code`) |
| 9 | damage found |
| 70 | a bug, with a report file |
| 130, 143 | interrupted, terminated: no answer is printed, also with `--json` |
| 141 | the reader of the output went away |

## Environment variables

| variable | what it says |
| --- | --- |
| `SVCCTL_BACKEND` | where the store is, as `--backend`; else `backend` in services.toml, else `.svcctl` beside it |
| `SVCCTL_ENV` | the environment, as `--env`; else `default_environment` in services.toml |
| `SVCCTL_ACTOR` | who makes changes; else git's `user.name` and `user.email`, else the login name |
| `SVCCTL_SECRET_KEY` | the master key of secrets, 32 bytes in base64; else the file `secret.key` of the store |
| `SVCCTL_SECRET_KEY_NEXT` | with it, the key that `secrets rewrap` changes to |
| `SVCCTL_LOCK_TIMEOUT` | seconds to wait for another writer; 30 unless said |
| `NO_COLOR` | no colours, as `--no-color` |
| `UV_*`, `PIP_INDEX_URL` and the like | where requirements come from ([bundling](bundling.md)) |
"""


def document(commands: Iterable[str] = catalogue.COMMANDS) -> str:
    group = root()
    common = {option for parameter in group.params for option in parameter.opts}
    sections = [_HEAD, _section("svcctl", group, hidden=set())]
    panel = ""
    for command in commands:
        entry = catalogue.COMMANDS[command]
        if entry.panel != panel:
            panel = entry.panel
            sections.append(f"## {panel}\n")
        sections.append(_section(f"svcctl {command}", build(command, Context()), common))
    return "\n".join(sections)


def _section(name: str, command: Command, hidden: set[str]) -> str:
    ctx = ClickContext(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(ctx))
    heading = "##" if isinstance(command, Group) else "###"
    lines = [f"{heading} {name}", "", cleandoc(command.help or ""), "", "```", f"{name} {usage}".rstrip(), "```", ""]
    rows = list(_rows(ctx, command.params, hidden))
    if rows:
        lines += ["| | |", "| --- | --- |", *rows, ""]
    return "\n".join(lines)


def _rows(ctx: ClickContext, parameters: Iterable[Parameter], hidden: set[str]) -> Iterator[str]:
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record and not hidden.intersection(parameter.opts):
            name, help = (text.replace("|", "\\|") for text in record)
            yield f"| `{name}` | {help} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
