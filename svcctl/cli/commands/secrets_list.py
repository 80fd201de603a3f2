from collections.abc import Iterator, Sequence

from svcctl.cli import effective, secrecy, target
from svcctl.cli.context import Context
from svcctl.cli.options import EnvOption, ServiceOption
from svcctl.cli.output import Block, Cell, Content, Note, Table
from svcctl.cli.secrecy import SecretName


def secrets_list(context: Context, env: EnvOption = None, service: ServiceOption = None) -> None:
    """List the names of secrets, and which are missing.

    Of every environment, or of --env alone. Values are never shown."""
    env, service = target.narrowed(env, service)
    found = tuple(secrecy.listing(context, effective.chosen(context, service), env))
    context.show({"secrets": found}, _blocks(found))


def _blocks(found: Sequence[SecretName]) -> Iterator[Block]:
    yield Table(["service", "environment", "name", "value"], [_row(each) for each in found], empty="no secrets")
    missing = next((each for each in found if each.required and not each.set), None)
    if missing:
        yield Note(f"svcctl secrets set {missing.name} -s {missing.service} --env {missing.environment}")


def _row(each: SecretName) -> list[Content]:
    if each.set:
        state = Cell("set", "ok")
    else:
        state = Cell("missing", "bad") if each.required else Cell("not set (optional)", "dim")
    return [each.service, each.environment, each.name, state]
