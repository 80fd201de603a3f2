"""A clone's KV entries: copied after the change that made it, by the same command.

No change records entries, so this is no part of one. What makes it whole is that the command stays pending until its
answer is printed (`pending`): typed again, it finds its change done and copies what was not copied yet.
"""

from collections.abc import Collection, Iterator, Sequence

from svcctl import reference
from svcctl.cli import target
from svcctl.cli.context import Context
from svcctl.errors import NotFound, Refused
from svcctl.model import Binding, Change
from svcctl.names import did_you_mean


def check(context: Context, source: str, service: Sequence[str] | None, names: Collection[str]) -> None:
    """Before anything is cloned: each name must be one of the source's own namespaces, in one service at least."""
    wanted = reference.parse(source)
    project = target.project(context).name
    services = [wanted.service] if wanted.service else target.services(service)
    bindings = [
        binding
        for environment in context.backend.environments(project, services, (wanted.environment,))
        for binding in context.backend.settings_of(environment).bindings.items()
    ]
    known = {name for name, each in bindings if each.kv} | {each.kv for _, each in bindings if each.kv}
    for wanted_name in names:
        meant = [each for name, each in bindings if _means(wanted_name, name, each)]
        if not meant:
            hint = did_you_mean(wanted_name, known)
            raise NotFound(f"{source} has no KV binding {wanted_name!r}", hint=hint)
        if all(each.environment for each in meant):
            raise Refused(
                f"{wanted_name} is the namespace of {meant[0].environment}: a clone of {source} uses the same one",
                hint="leave --copy out",
            )


def copy(context: Context, change: Change, source: str, name: str, names: Collection[str]) -> Sequence[str]:
    """A sentence for each namespace, of those environments that the change made."""
    origin = reference.parse(source).environment
    return [
        sentence
        for service in sorted({each.service for each in change.versions})
        for sentence in _copied(context, service, origin, name, names)
    ]


def _copied(context: Context, service: str, origin: str, name: str, names: Collection[str]) -> Iterator[str]:
    backend = context.backend
    sources = backend.namespaces(service, origin)
    targets = backend.namespaces(service, name)
    done = set()
    for binding, each in backend.settings_of(backend.environment(service, name)).bindings.items():
        if each.environment or each.kv in done or not any(_means(wanted, binding, each) for wanted in names):
            continue
        done.add(each.kv)
        if binding not in sources:
            yield f"{service}/{name}: {binding} begins empty: the head of {origin} does not have it"
            continue
        count = backend.keyvalues.copy(sources[binding], targets[binding])
        words = "copied already" if count is None else f"{count:,} {'entry' if count == 1 else 'entries'} copied"
        yield f"{service}/{name}: {each.kv}: {words} from {service}/{origin}"


def _means(wanted: str, name: str, binding: Binding) -> bool:
    return binding.kv is not None and wanted in (name, binding.kv)
