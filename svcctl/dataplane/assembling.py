"""From an environment to what a worker is told: its deployment, each version's files, settings and secrets."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from svcctl.bundle.target import platform_name
from svcctl.dataplane.landscape import Landscape
from svcctl.digest import Digest
from svcctl.errors import Refused
from svcctl.model import Binding, EnvironmentId, Manifest, Node, Settings, Version
from svcctl.rules import closure, vendored
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
    """Raises NotLive where the ledger says that it must not run; Refused where this machine can't run it; and Damage,
    Refused and Unreachable as `unpack` and `reveal` do: what runs before may go on."""
    deployment = landscape.deployment(place)
    elsewhere = elsewhere or {}
    if place.ref not in elsewhere:
        _refuse_lifeless(place)
    parts = []
    manifests: dict[str, Manifest] = {}
    for node in deployment.nodes:
        if node.ref in elsewhere:
            parts.append(elsewhere[node.ref](node))
            continue
        reached = landscape.by_id(node.environment)
        if reached and reached.head and reached.head.code and reached.settings:
            files = unpack(reached.head.code.digest)
            manifests[reached.ref] = files.manifest
            parts.append(_part(landscape, reached, reached.head, reached.settings, node, files, reveal))
    _refuse_misfits(manifests)
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


def _refuse_misfits(manifests: Mapping[str, Manifest]) -> None:
    """What was deployed for another Python or platform, and what can't share a process: the deploy looked at the same,
    but on another machine, or at another set of services."""
    for ref, manifest in manifests.items():
        if wrong := _misfit(manifest):
            raise Refused(f"{ref} {wrong}")
    if found := vendored.conflicts(manifests):
        raise Refused("; ".join(found))


def _misfit(manifest: Manifest) -> str | None:
    """Pure Python runs on later versions than its own; what is compiled, on its own alone."""
    here = sys.version_info[:2]
    wanted = tuple(map(int, manifest.python.split(".")[:2])) if manifest.python else here
    if wanted > here or (manifest.platform and wanted != here):
        return f"was deployed for Python {manifest.python}, and svcctl runs with {here[0]}.{here[1]} here"
    if manifest.platform and manifest.platform != platform_name():
        return (
            f"has compiled parts for {manifest.platform}, and this machine is {platform_name()}: "
            "deploy it from such a machine"
        )
    return None


def _part(
    landscape: Landscape,
    place: Place,
    head: Version,
    settings: Settings,
    node: Node,
    files: Unpacked,
    reveal: Reveal,
) -> Part:
    return Part(
        place=place.ref,
        version=head.number,
        folder=str(files.folder),
        main=files.manifest.main,
        code=head.code.digest if head.code else None,
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
    revealed = reveal(place.identity.id, settings.secrets)
    return Secrets(values={name: _text(place, name, value) for name, value in revealed.items()})


def _text(place: Place, name: str, value: SecretValue) -> str:
    try:
        return value.reveal().decode()
    except UnicodeDecodeError as error:
        raise Refused(f"secret {name} of {place.ref} is no UTF-8 text") from error


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
