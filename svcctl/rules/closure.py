"""Where bindings lead.

A service binding without `environment` reaches the same-named environment of its target; else the same-named one of
what this environment was cloned from, and so on; else production. It is resolved when a deployment is built, so it
follows what exists then. An explicit one is fixed to an environment when its version is made, and follows that
through renames.
"""

from collections.abc import Iterable
from typing import Protocol

from svcctl import keyvalues
from svcctl.model import Binding, Deployment, EnvironmentId, Model, Node, Settings
from svcctl.names import PRODUCTION
from svcctl.rules.state import Bound, Identity, Place


class Lookup(Protocol):
    """Environments by name or by id: the ledger's, or a draft's."""

    def place(self, service: str, name: str) -> Place | None:
        """Living."""

    def by_id(self, id: EnvironmentId) -> Place | None:
        """Living or deleted."""

    def former(self, service: str, name: str) -> EnvironmentId | None:
        """The one last renamed away from that name."""


class Dangling(Model):
    """A binding that leads nowhere."""

    name: str
    binding: Binding
    service: str
    environment: str


def resolve(identity: Identity, name: str, binding: Binding, look: Lookup) -> Place | None:
    """The environment that a service binding of `identity`'s head reaches now."""
    target = binding.service
    if target is None:
        return None
    if binding.environment is not None:
        bound = identity.bound.get(name)
        place = (
            look.by_id(bound.environment) if bound and bound.environment else look.place(target, binding.environment)
        )
        return place if place and not place.identity.deleted else None
    for candidate in _lineage(identity, look):
        if place := look.place(target, candidate):
            return place
    return look.place(target, PRODUCTION)


def namespace(identity: Identity, name: str, binding: Binding, look: Lookup) -> str | None:
    """The name of the KV namespace that a binding of `identity`'s head reaches now; None for another kind of binding,
    and where the environment that it names is gone."""
    if binding.kv is None:
        return None
    if binding.environment is None:
        return keyvalues.namespace(identity.id, identity.born, binding.kv)
    bound = identity.bound.get(name)
    place = (
        look.by_id(bound.environment)
        if bound and bound.environment
        else look.place(identity.service, binding.environment)
    )
    if place is None or place.identity.deleted:
        return None
    return keyvalues.namespace(place.identity.id, place.identity.born, binding.kv)


def _lineage(identity: Identity, look: Lookup) -> Iterable[str]:
    seen = set()
    current: Identity | None = identity
    while current is not None and current.id not in seen:
        seen.add(current.id)
        yield current.name
        place = look.by_id(current.cloned_from) if current.cloned_from else None
        current = place.identity if place else None


def bind(
    identity: Identity,
    settings: Settings,
    before: Settings | None,
    look: Lookup,
) -> tuple[dict[str, Bound], list[Dangling]]:
    """What a new head of `identity` is bound to, and its bindings that lead nowhere. An explicit binding that the head
    before had too stays with its environment; else its name is looked up, last among former names."""
    bound: dict[str, Bound] = {}
    dangling: list[Dangling] = []
    old = before.bindings if before else {}
    for name, binding in settings.bindings.items():
        if binding.service is None and binding.environment is None:
            continue
        service = binding.service or identity.service
        if binding.environment is None:
            found = look.place(service, PRODUCTION) is not None
            bound[name] = Bound(service=service)
        else:
            kept = identity.bound.get(name) if old.get(name) == binding else None
            id = _explicit(service, binding.environment, kept, look)
            found = id is not None
            bound[name] = Bound(service=service, environment=id)
        if not found:
            bound.pop(name)
            dangling.append(
                Dangling(name=name, binding=binding, service=service, environment=binding.environment or PRODUCTION)
            )
    return bound, dangling


def _explicit(
    service: str,
    name: str,
    kept: Bound | None,
    look: Lookup,
) -> EnvironmentId | None:
    if kept and kept.environment and _lives(look.by_id(kept.environment)):
        return kept.environment
    if place := look.place(service, name):
        return place.identity.id
    id = look.former(service, name)
    return id if id and _lives(look.by_id(id)) else None


def _lives(place: Place | None) -> bool:
    return place is not None and not place.identity.deleted


def deployment(place: Place, look: Lookup) -> Deployment:
    """`place` and what it reaches, breadth first, each environment once; cycles are allowed."""
    nodes: list[Node] = []
    queue, seen = [place], {place.identity.id}
    while queue:
        current = queue.pop(0)
        reached = {}
        for name, binding in sorted((current.settings.bindings if current.settings else {}).items()):
            target = resolve(current.identity, name, binding, look)
            if target is None:
                continue
            reached[name] = target.ref
            if target.identity.id not in seen:
                seen.add(target.identity.id)
                queue.append(target)
        head = current.head
        nodes.append(
            Node(
                ref=current.ref,
                environment=current.identity.id,
                version=head.number if head else 0,
                code=head.code.digest if head and head.code else None,
                bindings=reached,
            )
        )
    return Deployment(ref=place.ref, nodes=tuple(nodes))
