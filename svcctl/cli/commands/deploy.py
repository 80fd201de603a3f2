from pathlib import Path
from typing import Annotated

import typer

from svcctl.cli import building, importing, target, values, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import (
    BranchOption,
    DryRunOption,
    EnvOption,
    ExpectOption,
    ForceOption,
    MessageOption,
    MetaOption,
    ServiceOption,
    YesOption,
)
from svcctl.commands import Deploy, new_id


def deploy(
    context: Context,
    env: EnvOption = None,
    branch: BranchOption = False,
    service: ServiceOption = None,
    message: MessageOption = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="NAME", help="Name the new versions.")] = None,
    meta: MetaOption = None,
    settings_only: Annotated[
        bool, typer.Option("--settings-only", help="The file's settings, no code; also where protected.")
    ] = False,
    secrets_file: Annotated[
        Path | None, typer.Option("--secrets-file", metavar="FILE", help="Set secrets along, from a .env or JSON file.")
    ] = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="Take services over from another project.")] = False,
    move_domain: Annotated[
        bool, typer.Option("--move-domain", help="Move hostnames under the file's new domain; --yes does too.")
    ] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not try whether new code can be imported.")] = False,
    force: ForceOption = False,
    expect: ExpectOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Deploy services to an environment.

    Bundles the code of all services (or -s), tries whether new code can be imported, stores what is new of it, and
    makes one version per environment whose code or settings differ: one change, all or nothing."""
    env, service = target.narrowed(env, service)
    environment = target.environment(context, env, branch=branch)
    chosen = building.chosen(context.project, service)
    bundles = {} if settings_only else building.bundles(context, chosen)
    deployed = importing.Deployed(context.new_backend())
    importing.check_neighbours(context, deployed, bundles, environment)
    if not no_check:
        importing.check(context, deployed, bundles, environment)
    command = Deploy(
        id=new_id(),
        project=target.project(context),
        services=chosen,
        environment=environment,
        code=building.code(context, bundles),
        settings_only=settings_only,
        tag=tag,
        meta=target.meta(meta),
        secrets=values.for_deploy(context, chosen, environment, secrets_file, ask=not (settings_only or dry_run)),
        adopt=adopt,
        move_domain=move_domain or yes or dry_run,
        message=message,
        force=force,
        expect=target.expected(context, expect, service),
    )
    change = carry_out(
        context,
        command,
        yes=yes,
        dry_run=dry_run,
        before=lambda backend: building.upload(
            context, backend, bundles, lambda name: deployed.code(name, environment)
        ),
    )
    if change:
        context.show(change, views.with_hostnames(context, change, (environment,)))
