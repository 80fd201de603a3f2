"""A working tree as deployments, for `svcctl dev`: values, no IO.

A service of the tree stands where an environment would: in a view of the landscape it takes the place of its service
wherever that is reached, so bindings lead where they always lead, and assembling is the same as for stored versions.
What it reaches outside of the tree are stored versions, if there is a store.

KV namespaces are development's own, one for each service and label, whatever the environment; they lie in another
database than those of environments.
"""

import posixpath
from collections.abc import Iterable, Mapping
from functools import partial

from msgspec.structs import replace

from svcctl.dataplane.assembling import Reveal, Unpack, assemble
from svcctl.dataplane.landscape import Landscape
from svcctl.model import Binding, EnvironmentId, Layer, Model, Node, Settings, Source
from svcctl.rules.state import Identity, Place
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

NAME = "dev"
"""Of the environment where the working tree stands, unless it has a real one's settings."""


class Work(Model):
    """One service of the working tree, and what it runs with."""

    service: str
    source: Source
    layer: Layer
    environment: str = NAME
    """Whose settings these are; bindings lead where they lead from there."""
    cloned_from: EnvironmentId | None = None
    """Of that environment, if it is stored."""
    secrets: Secrets = Secrets()
    missing: tuple[str, ...] = ()
    """Secrets without a value."""

    @property
    def place(self) -> Place:
        identity = Identity(
            id=EnvironmentId(f"working tree: {self.service}"),
            service=self.service,
            name=self.environment,
            block=self.environment,
            cloned_from=self.cloned_from,
        )
        return Place(identity=identity, settings=Settings(file=self.layer))


class Tree:
    """`folder`: that of services.toml, absolute. `landscape`: what the store has, or nothing."""

    def __init__(self, folder: str, works: Iterable[Work], landscape: Landscape, now: str) -> None:
        self._folder = folder
        self._works = {work.service: work for work in works}
        self._stored = landscape
        self._now = now

    def assemble(self, service: str, unpack: Unpack, reveal: Reveal, chosen: Iterable[Place] = ()) -> Assembly:
        """What answers for a service of the tree; or for a stored one, as it stands in `chosen`."""
        standing = {name: work.place for name, work in self._works.items()}
        versions = {place.identity.service: place for place in chosen}
        view = self._stored.choosing(versions.values(), standing.values())
        elsewhere = {standing[name].ref: partial(self._part, work) for name, work in self._works.items()}
        assembly = assemble(view, standing.get(service) or versions[service], unpack, reveal, elsewhere)
        return Assembly(parts=tuple(self._with_own_data(part, view) for part in assembly.parts))

    def _part(self, work: Work, node: Node) -> Part:
        main, colon, name = work.source.main.partition(":")
        root = posixpath.join(self._folder, work.source.root)
        return Part(
            place=work.place.ref,
            version=0,
            folder=posixpath.normpath(root),
            main=posixpath.relpath(posixpath.join(self._folder, main), root) + colon + name,
            beside=beside(self._folder, work.source),
            vars=work.layer.vars,
            secrets=work.secrets,
            reaches={
                name: self._reach(work, binding, node.bindings.get(name))
                for name, binding in sorted(work.layer.bindings.items())
            },
        )

    def _reach(self, work: Work, binding: Binding, reached: str | None) -> Reach:
        match binding.kind:
            case "service":
                if reached is None:
                    return ToNothing(why=_nowhere(binding, known=bool(self._stored.store)))
                return ToService(place=reached, entrypoint=binding.entrypoint)
            case "kv":
                return ToNamespace(namespace=namespace(work.service, work.environment, binding))
            case "version_metadata":
                return ToVersion(id=work.place.ref, tag="", timestamp=self._now)
            case "bucket":
                return ToNothing(why="buckets are not built yet")

    def _with_own_data(self, part: Part, view: Landscape) -> Part:
        place = view.place(part.service, part.environment)
        if part.version == 0 or place is None or place.settings is None:
            return part
        own = {
            name: ToNamespace(namespace=namespace(part.service, part.environment, binding))
            for name, binding in place.settings.bindings.items()
            if binding.kind == "kv"
        }
        return replace(part, reaches={**part.reaches, **own})


def namespace(service: str, environment: str, binding: Binding) -> str:
    """A label with an environment of its own is another namespace than the label alone."""
    other = binding.environment if binding.environment != environment else None
    return ".".join(["dev", service, binding.kv or "", *([other] if other else [])])


def _nowhere(binding: Binding, *, known: bool) -> str:
    where = f"{binding.service}/{binding.environment}" if binding.environment else f"service {binding.service}"
    return f"{where} is neither in services.toml nor {'in the store' if known else 'anywhere else: there is no store'}"


def beside(folder: str, source: Source) -> dict[str, str]:
    """The folders of `with` that do not lie in the root, by the names that they are imported by."""
    found = {posixpath.basename(each): posixpath.join(folder, each) for each in source.with_}
    root = posixpath.normpath(posixpath.join(folder, source.root))
    return {name: path for name, path in found.items() if path != posixpath.join(root, name)}


def folders(folder: str, source: Source) -> tuple[str, ...]:
    """Everything that a service is made of."""
    root = posixpath.normpath(posixpath.join(folder, source.root))
    return (root, *beside(folder, source).values())


def with_installed(assembly: Assembly, installed: Mapping[str, str | None]) -> Assembly:
    """`installed`: by service of the tree, the folder of its requirements."""
    return Assembly(
        parts=tuple(
            replace(part, vendored=installed[part.service]) if part.version == 0 else part for part in assembly.parts
        )
    )


def editions(assembly: Assembly, edits: Mapping[str, int]) -> Assembly:
    """As it is after so many edits of each service."""
    return Assembly(
        parts=tuple(
            replace(part, edition=edits.get(part.service, 0)) if part.version == 0 else part for part in assembly.parts
        )
    )
