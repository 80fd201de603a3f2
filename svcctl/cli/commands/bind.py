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
    entrypoint: Annotated[
        str | None,
        typer.Option("--entrypoint", metavar="CLASS", help="To this class of the service's main file."),
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
    version_metadata: Annotated[
        bool, typer.Option("--version-metadata", help="To what says which version it runs as.")
    ] = False,
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
    binding = _checked(
        name,
        Binding(
            service=to_service,
            entrypoint=entrypoint,
            kv=kv,
            bucket=bucket,
            version_metadata=version_metadata,
            environment=environment,
        ),
    )
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


def _checked(name: str, binding: Binding) -> Binding:
    if wrong := names.check_variable(name):
        raise UsageError(f"{name!r} {wrong}")
    reached = (binding.service, binding.kv, binding.bucket, binding.version_metadata or None)
    if sum(each is not None for each in reached) != 1:
        raise UsageError(
            f"what does {name} reach? Say one of --service, --kv, --bucket and --version-metadata",
            hint="the service that gets it is -s",
        )
    for each in (binding.service, binding.kv, binding.bucket, binding.environment):
        if each is not None and (wrong := names.check_name(each)):
            raise UsageError(f"{each!r} {wrong}")
    if binding.entrypoint is not None and (wrong := names.check_variable(binding.entrypoint)):
        raise UsageError(f"{binding.entrypoint!r} {wrong}")
    if binding.entrypoint is not None and binding.service is None:
        raise UsageError("--entrypoint names a class of another service", hint="it goes with --service")
    if binding.version_metadata and binding.environment:
        raise UsageError("--environment has no meaning with --version-metadata: a handler is its own version")
    return binding
