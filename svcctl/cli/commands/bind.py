from typing import Annotated

import typer

from svcctl import names
from svcctl.cli import complete, editing, target, views
from svcctl.cli.context import Context
from svcctl.cli.mutation import carry_out
from svcctl.cli.options import CliOption, DryRunOption, EnvOption, ForceOption, MessageOption, YesOption
from svcctl.commands import Configure, new_id
from svcctl.errors import UsageError
from svcctl.model import Binding


def bind(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in the handler's env, such as AUTH.")],
    to_service: Annotated[
        str | None,
        typer.Option("--service", metavar="TARGET", help="To this service.", autocompletion=complete.services),
    ] = None,
    kv: Annotated[str | None, typer.Option("--kv", metavar="LABEL", help="To this KV namespace.")] = None,
    bucket: Annotated[str | None, typer.Option("--bucket", metavar="LABEL", help="To this bucket.")] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment",
            metavar="ENV",
            help="To the one of this environment, wherever NAME stands. Without it: the environment's own.",
            autocompletion=complete.environments,
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option("-s", metavar="NAME", help="The service that gets it.", autocompletion=complete.services),
    ] = None,
    env: EnvOption = None,
    cli: CliOption = False,
    message: MessageOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Bind a name to a service, a KV namespace or a bucket.

    Without --cli it is written into services.toml (without --env for every environment), and the next deploy applies
    it. With --cli it holds at once in one environment, on top of the file. -s is the service that calls, --service
    the one that is called."""
    env, service = target.narrowed_one(env, service)
    binding = _binding(name, to_service, kv, bucket, environment)
    chosen = target.one_service(context, service)
    if not cli:
        from svcctl.config import edit

        place = f"{chosen}/{env}" if env else chosen
        editing.carry_out(
            context,
            lambda text: edit.bind(text, chosen, name, binding, env),
            [f"{place}: {name} is bound to {binding}"],
            editing.deploy_of(chosen, env),
            dry_run=dry_run,
            only_with_cli={"--message": message, "--force": force},
        )
        return
    command = Configure(
        id=new_id(),
        project=target.project(context),
        services=(chosen,),
        environment=target.environment(context, env),
        bindings={name: binding},
        message=message,
        force=force,
    )
    change = carry_out(context, command, yes=yes, dry_run=dry_run)
    if change:
        context.show(change, views.change(change))


def _binding(name: str, service: str | None, kv: str | None, bucket: str | None, environment: str | None) -> Binding:
    if wrong := names.check_variable(name):
        raise UsageError(f"{name!r} {wrong}")
    if sum(each is not None for each in (service, kv, bucket)) != 1:
        raise UsageError(
            f"what does {name} reach? Say one of --service, --kv and --bucket",
            hint="the service that gets it is -s",
        )
    for each in (service, kv, bucket, environment):
        if each is not None and (wrong := names.check_name(each)):
            raise UsageError(f"{each!r} {wrong}")
    return Binding(service=service, kv=kv, bucket=bucket, environment=environment)
