from pathlib import Path
from typing import Annotated

import typer

from svcctl import config
from svcctl.cli import building, target, values, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import DryRunOption, EnvOption, ExpectOption, MessageOption, ServiceOption
from svcctl.cli.output import Lines, Note, Success
from svcctl.commands import Configure, new_id
from svcctl.errors import UsageError
from svcctl.model import Value


def vars_import(
    context: Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .env or JSON file; - is standard input.")],
    env: EnvOption = None,
    service: ServiceOption = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write them into services.toml; with --env, for that environment alone.")
    ] = False,
    message: MessageOption = None,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Set vars from a .env or JSON file.

    As `vars set` would: on top of services.toml, at once. With --write they go into services.toml instead, and take
    effect with the next deploy. Values of a .env file are texts."""
    env, service = target.narrowed(env, service)
    read = values.read_pairs(context, file)
    pairs = {name: values.checked(context, name, value) for name, value in read.items()}
    if not pairs:
        raise UsageError(f"{file} holds no vars")
    if write:
        if message or expect or dry_run:
            raise UsageError("--write edits services.toml alone: -m, --expect and --dry-run have no meaning there")
        _write(context, pairs, service, env)
        return
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=target.services(service),
        environment=target.environment(context, env),
        vars=pairs,
        message=message,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(context, command, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))


def _write(context: Context, pairs: dict[str, Value], service: list[str] | None, env: str | None) -> None:
    from svcctl.config import edit

    path = context.required_file
    services = building.chosen(context.project, service)
    text = config.read(path)
    for each in services:
        text = edit.set_vars(text, each, pairs, env)
    edit.write(path, text)
    tables = [f"services.{each}" + (f".environments.{env}" if env else "") for each in services]
    answer = {"file": str(path), "tables": tables, "vars": pairs}
    written = [f"  [{table}] {', '.join(pairs)}" for table in tables]
    context.show(
        answer, [Success(f"written to {path.name}"), Lines(written), Note("in effect with the next svcctl deploy")]
    )
