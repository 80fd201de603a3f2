from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from svcctl import config
from svcctl.backend.base import Backend
from svcctl.cli import building, effective, target
from svcctl.cli.context import Context
from svcctl.cli.effective import Leads, Setting
from svcctl.cli.options import EnvOption, ServiceOption
from svcctl.cli.output import Block
from svcctl.errors import NotFound
from svcctl.model import Binding, Environment, Model, Overrides
from svcctl.names import did_you_mean


class Shown(Model):
    ref: str
    service: str
    environment: str
    block: str
    """The environment's table in services.toml; the service's own is used where there is none of that name."""
    settings: tuple[Setting, ...]


def config_show(context: Context, env: EnvOption = None, service: ServiceOption = None) -> None:
    """Show an environment's effective settings and where each value comes from.

    What would be in effect after a deploy now: services.toml as it is, and on top of it what was set from the command
    line. Works before the first deploy too."""
    env, service = target.narrowed(env, service)
    services = building.chosen(context.project, service)
    name = target.environment(context, env)
    backend = effective.stored(context)
    places = backend.environments(context.project.name, services, (name,)) if backend else ()
    known = {place.service: place for place in places}
    if not known and name not in context.project.environments:
        raise NotFound(f"no environment {name!r}", hint=did_you_mean(name, context.project.environments))
    found = tuple(
        _shown(context, backend, each, name, known.get(each))
        for each in services
        if each in known or name in context.project.environments
    )
    context.show({"environment": name, "services": found}, _blocks(found))


def _shown(
    context: Context, backend: Backend | None, service: str, name: str, environment: Environment | None
) -> Shown:
    declared = context.project.services[service]
    block = effective.block_name(declared, name, environment)
    file = effective.of_file(config.explain(context.required_file, context.project, service, block))
    if environment and not effective.owns_identity(declared, environment):
        file = [each for each in file if each.kind not in ("route", "protected")]
    over = backend.settings_of(environment).cli if backend and environment else Overrides()
    identity = _set_in_store(environment, file) if environment else []
    leads = Leads(backend, service, name, environment)
    settings = [_leading(leads, each) for each in (*effective.overlaid(file, over), *identity)]
    return Shown(ref=f"{service}/{name}", service=service, environment=name, block=block, settings=tuple(settings))


def _leading(leads: Leads, setting: Setting) -> Setting:
    if isinstance(setting.value, Binding):
        return replace(setting, leads_to=leads.of(setting.name, setting.value))
    return setting


def _set_in_store(environment: Environment, file: Sequence[Setting]) -> Iterator[Setting]:
    """Routes and protection that came from the command line."""
    said = {each.name for each in file if each.kind in ("route", "protected")}
    for route in environment.cli_routes:
        if route not in said:
            yield Setting(kind="route", name=route, origin=effective.OVERRIDE)
    if environment.protected and "protected" not in said:
        yield Setting(kind="protected", name="protected", value=True, origin=effective.OVERRIDE)


def _blocks(found: Sequence[Shown]) -> Iterator[Block]:
    for each in found:
        yield effective.table(each.settings, each.ref)
