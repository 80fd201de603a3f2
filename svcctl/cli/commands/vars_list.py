from collections.abc import Iterator

from svcctl.cli import effective, target
from svcctl.cli.context import Context
from svcctl.cli.effective import Setting
from svcctl.cli.options import EnvOption, ServiceOption
from svcctl.cli.output import Block, Cell, Column, Content, Table
from svcctl.config.explain import Shadowed
from svcctl.errors import NotFound
from svcctl.model import Model, Value
from svcctl.names import did_you_mean


class Var(Model):
    ref: str
    service: str
    environment: str
    name: str
    value: Value
    origin: str
    shadows: Shadowed | None


def vars_list(context: Context, env: EnvOption = None, service: ServiceOption = None) -> None:
    """List an environment's vars and where each comes from.

    These are the vars in effect; what services.toml says by now and was not deployed yet is in `svcctl status`."""
    env, service = target.narrowed(env, service)
    name = target.environment(context, env)
    vars = _vars(context, name, effective.chosen(context, service))
    context.show({"vars": vars}, _blocks(vars))


def _vars(context: Context, name: str, services: tuple[str, ...] | None) -> list[Var]:
    project = target.project(context).name
    places = context.backend.environments(project, services, (name,))
    if not places:
        known = {each.name for each in context.backend.environments(project, services)}
        raise NotFound(f"no environment {name!r}", hint=did_you_mean(name, known))
    return [
        _var(place.service, name, setting)
        for place in places
        for setting in effective.of_version(context.backend.settings_of(place))
        if setting.kind == "var"
    ]


def _var(service: str, environment: str, setting: Setting) -> Var:
    value: Value = setting.value  # type: ignore[assignment]  # a var's is neither None nor a Binding
    return Var(
        ref=f"{service}/{environment}",
        service=service,
        environment=environment,
        name=setting.name,
        value=value,
        origin=setting.origin,
        shadows=setting.shadows,
    )


def _blocks(vars: list[Var]) -> Iterator[Block]:
    columns: list[str | Column] = ["service", "name", Column("value", wrap=True), "from", Column("covers", wrap=True)]
    yield Table(columns, [_row(each) for each in vars], empty="no vars")


def _row(each: Var) -> list[Content]:
    origin = Cell(each.origin, "warn" if each.origin == effective.OVERRIDE else "dim")
    covers = Cell(effective.words(each.shadows.value), "dim") if each.shadows else ""
    return [each.service, each.name, effective.words(each.value), origin, covers]
