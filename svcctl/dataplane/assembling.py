"""From an environment to what a worker is told: its deployment, each version's files, settings and secrets."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from svcctl.dataplane.landscape import Landscape
from svcctl.digest import Digest
from svcctl.errors import SvcctlError
from svcctl.model import Binding, EnvironmentId, Manifest, Node, Settings, Version
from svcctl.rules import closure
from svcctl.rules.state import Place
from svcctl.runtime.assembly import (
    Assembly,
    Part,
    Reach,
    Secrets,
    ToNamespace,
    ToNothing,
    ToService,
    ToVersion,
)
from svcctl.sealing import SecretValue


class NotLive(Exception):
    """An environment that can't answer, and why: the words of its 503."""


class Unpacked(Protocol):
    """An artifact's files on this machine."""

    @property
    def folder(self) -> Path: ...

    @property
    def manifest_file(self) -> Path: ...

    @property
    def manifest(self) -> Manifest: ...


Reveal = Callable[[EnvironmentId, Mapping[str, str]], Mapping[str, SecretValue]]
Unpack = Callable[[Digest], Unpacked]
Elsewhere = Mapping[str, Callable[[Node], Part]]
"""By place: parts that are no stored versions."""


def assemble(
    landscape: Landscape, place: Place, unpack: Unpack, reveal: Reveal, elsewhere: Elsewhere | None = None
) -> Assembly:
    """Raises NotLive; and Damage, Unreachable as `unpack` and `reveal` do."""
    deployment = landscape.deployment(place)
    elsewhere = elsewhere or {}
    if place.ref not in elsewhere:
        _refuse_lifeless(place)
    parts = []
    for node in deployment.nodes:
        if node.ref in elsewhere:
            parts.append(elsewhere[node.ref](node))
            continue
        reached = landscape.by_id(node.environment)
        if reached and reached.head and reached.head.code and reached.settings:
            parts.append(_part(landscape, reached, reached.head, reached.settings, node, unpack, reveal))
    living = {part.place for part in parts}
    return Assembly(parts=tuple(_without_dangling(part, living) for part in parts))


def _refuse_lifeless(place: Place) -> None:
    head = place.head
    if head is None:
        raise NotLive(f"{place.ref} has no version yet")
    if head.code is None:
        raise NotLive(f"{place.ref} has settings and no code yet")
    lacking = head.code.requires.lacking(place.settings or Settings())
    if lacking:
        raise NotLive(f"{place.ref} is not live: it lacks {', '.join(lacking)}")


def _part(
    landscape: Landscape,
    place: Place,
    head: Version,
    settings: Settings,
    node: Node,
    unpack: Unpack,
    reveal: Reveal,
) -> Part:
    if head.code is None:  # the caller looked
        raise NotLive(f"{place.ref} has no code")
    files = unpack(head.code.digest)
    return Part(
        place=place.ref,
        version=head.number,
        folder=str(files.folder),
        main=files.manifest.main,
        code=head.code.digest,
        manifest=str(files.manifest_file),
        vars=settings.vars,
        secrets=_secrets(place, settings, reveal),
        reaches={
            name: _reach(landscape, place, head, name, binding, node.bindings.get(name))
            for name, binding in sorted(settings.bindings.items())
        },
    )


def _secrets(place: Place, settings: Settings, reveal: Reveal) -> Secrets:
    if not settings.secrets:
        return Secrets()
    try:
        revealed = reveal(place.identity.id, settings.secrets)
        return Secrets(values={name: value.reveal().decode() for name, value in revealed.items()})
    except UnicodeDecodeError as error:
        raise NotLive(f"{place.ref} is not live: a secret of it is no UTF-8 text") from error
    except SvcctlError as error:
        raise NotLive(f"{place.ref} is not live: {error.message}") from error


def _reach(
    landscape: Landscape, place: Place, head: Version, name: str, binding: Binding, reached: str | None
) -> Reach:
    match binding.kind:
        case "service":
            if reached is None:
                return ToNothing(why=f"{binding} leads nowhere")
            return ToService(place=reached, entrypoint=binding.entrypoint)
        case "kv":
            namespace = closure.namespace(place.identity, name, binding, landscape)
            return ToNamespace(namespace=namespace) if namespace else ToNothing(why=f"{binding} leads nowhere")
        case "version_metadata":
            return ToVersion(id=head.ref, tag=head.tags[0] if head.tags else "", timestamp=head.at)
        case "bucket":
            return ToNothing(why="buckets are not built yet")


def _without_dangling(part: Part, living: set[str]) -> Part:
    """A service that has no code yet must not keep those from starting that may never call it."""
    dead = {
        name: ToNothing(why=f"{reach.place} has no code yet")
        for name, reach in part.reaches.items()
        if isinstance(reach, ToService) and reach.place not in living
    }
    return replace(part, reaches={**part.reaches, **dead}) if dead else part
