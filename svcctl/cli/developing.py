"""What `svcctl dev` runs: services of the working tree with their settings, versions of the store, or both."""

import json
import posixpath
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from svcctl import config, reference, wire
from svcctl.cli.building import CACHE, chosen, source_of
from svcctl.cli.context import STORE, Context
from svcctl.cli.pinned import Pinned
from svcctl.dataplane import workingtree
from svcctl.dataplane.assembling import NotLive
from svcctl.dataplane.developing import Reading
from svcctl.dataplane.workingtree import Tree, Work
from svcctl.digest import Digest
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Block, File, Layer, Manifest, Model, Overrides, Project, ServiceFile, Source
from svcctl.names import did_you_mean
from svcctl.reference import Reference
from svcctl.rules import vendored
from svcctl.rules.reading import check_one_service
from svcctl.rules.state import Place
from svcctl.runtime.assembly import Assembly, Part, Secrets

SECRETS = ".svcctl.vars"
"""Beside services.toml; `svcctl init` keeps it out of git."""
FOLDER = "dev"
"""Of `.svcctl`: development's own data and logs."""
INSTALLED = "python_modules"
_REQUIREMENTS = ("requirements.txt", "uv.lock", "pyproject.toml", "uv.toml")


class Asked(Model):
    """What the options say."""

    services: tuple[str, ...] | None = None
    settings: str | None = None
    """The environment whose settings the working tree has; None: each service's own."""
    rest: str | None = None
    """The environment that has what is not taken from the working tree."""
    at: Reference | None = None
    """Stored versions alone."""


def asked(services: list[str] | None, env: str | None, from_: str | None, at: str | None) -> Asked:
    """Raises UsageError where options contradict each other."""
    several = tuple(dict.fromkeys(services)) if services else None
    if at is None:
        for option, name in (("--env", env), ("--from", from_)):
            if name and (found := reference.parse(name)) != Reference(found.environment):
                raise UsageError(f"{option} {name}: must be an environment's name", hint="choose services with -s")
        if env and from_ and env != from_:
            raise UsageError(f"--from {from_} has the settings of {from_}; --env {env} says otherwise")
        return Asked(services=several, settings=env or from_, rest=from_)
    if env or from_:
        raise UsageError(
            f"--at runs stored versions with their own settings; {'--env' if env else '--from'} has no meaning there"
        )
    found = reference.parse(at)
    if found.service and several and several != (found.service,):
        raise UsageError(f"{at} names service {found.service}; -s names {', '.join(several)}")
    return Asked(services=(found.service,) if found.service else several, at=found)


class Development:
    """The project, read as often as it changes."""

    def __init__(self, context: Context, asked: Asked) -> None:
        self.folder = context.required_file.parent.absolute()
        self._context = context
        self._asked = asked
        self._pinned = Pinned(context)

    @property
    def own_folder(self) -> Path:
        return self.folder / STORE / FOLDER

    def read(self) -> Reading:
        """Raises SvcctlError: what is wrong with services.toml, with requirements, with what was asked for."""
        begun = time.time()
        project = config.load(self._context.required_file)
        if self._asked.at:
            return self._stored(project, self._asked.at, begun)
        served = chosen(project, self._asked.services)
        if self._asked.rest and len(served) > 1 and not self._asked.services:
            raise UsageError(
                f"--from {self._asked.rest}: which services come from the working tree?",
                hint="name them with -s; what they reach comes from the store",
            )
        disk = served if self._asked.rest else tuple(project.services)
        with self._pinned.opened(wanted=self._wants_store(project, disk), needed=bool(self._asked.rest)):
            values = self._values()
            works = {work.service: work for work in self._works(project, disk, values)}
            tree = Tree(str(self.folder), works.values(), self._pinned.landscape, self._now())
            assemblies = {service: self._assembled(tree, service) for service in served}
        used = sorted({part.service for each in assemblies.values() for part in each.parts if not part.version})
        sources = {name: self._checked(name, works[name].source) for name in used}
        installed = {name: self._installed(source) for name, source in sources.items()}
        assemblies = {name: workingtree.with_installed(each, installed) for name, each in assemblies.items()}
        for assembly in assemblies.values():
            _check_neighbours(assembly)
        return Reading(
            assemblies=assemblies,
            folders={name: workingtree.folders(str(self.folder), source) for name, source in sources.items()},
            files=frozenset(self._files(sources.values())),
            notes=tuple(_notes([works[name] for name in used], values, self._wanted(project, disk))),
            begun=begun,
        )

    def _stored(self, project: Project, at: Reference, begun: float) -> Reading:
        with self._pinned.opened(wanted=True, needed=True):
            services = self._asked.services or self._pinned.services(project.name)
            check_one_service(at.at, list(services))
            places = {place.identity.service: place for place in self._places(services, at)}
            tree = Tree(str(self.folder), (), self._pinned.landscape, self._now())
            assemblies = {service: self._assembled(tree, service, places.values()) for service in places}
        return Reading(assemblies=assemblies, folders={}, files=frozenset(), notes=(), begun=begun)

    def _places(self, services: Iterable[str], at: Reference) -> Iterator[Place]:
        """Of each service that has such a version."""
        found, absent = False, None
        for service in services:
            try:
                place = self._pinned.place(Reference(at.environment, service, at.at))
            except NotFound as error:
                absent = error
            else:
                found = True
                yield place
        if not found:
            raise absent or NotFound("the store has no services", next="svcctl deploy")

    def _assembled(self, tree: Tree, service: str, places: Iterable[Place] = ()) -> Assembly:
        try:
            return tree.assemble(service, self._pinned.files, self._pinned.reveal, places)
        except NotLive as error:
            raise Refused(str(error)) from error

    def _now(self) -> str:
        return self._context.clock().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    # ---- services of the working tree

    def _wants_store(self, project: Project, disk: Iterable[str]) -> bool:
        """Also for what another project's service is bound to."""
        bindings = [each for name in disk for each in project.services[name].base.layer.bindings.values()]
        return bool(self._asked.settings) or any(each.service and each.service not in disk for each in bindings)

    def _works(self, project: Project, disk: Iterable[str], values: Mapping[str, str]) -> Iterator[Work]:
        self._check_environment(project)
        for name in disk:
            file = project.services[name]
            block, over, place = self._settings(name, file)
            secrets = {key: values[key] for key in block.secrets if key in values}
            secrets |= self._revealed(place, {key: seal for key, seal in over.secrets.items() if key not in secrets})
            yield Work(
                service=name,
                source=source_of(file),
                layer=Layer(vars={**block.layer.vars, **over.vars}, bindings={**block.layer.bindings, **over.bindings}),
                environment=self._asked.settings or workingtree.NAME,
                cloned_from=place.identity.cloned_from if place else None,
                secrets=Secrets(values=secrets),
                missing=tuple(key for key in block.secrets if key not in secrets and key not in file.optional),
            )

    def _check_environment(self, project: Project) -> None:
        name = self._asked.settings
        stored = {place.identity.name for place in self._pinned.landscape.living()}
        known = stored if self._asked.rest else stored | project.environments
        if name and name not in known:
            raise NotFound(f"no environment {name!r}", hint=did_you_mean(name, known))

    def _settings(self, service: str, file: ServiceFile) -> tuple[Block, Overrides, Place | None]:
        """What the file says, and what was set on top of it."""
        name = self._asked.settings
        if name is None:
            return file.base, Overrides(), None
        place = self._pinned.landscape.place(service, name)
        follows = place.identity.block if place and name not in file.blocks else name
        over = place.settings.cli if place and place.settings else Overrides()
        return file.block(follows), over, place

    def _wanted(self, project: Project, disk: Iterable[str]) -> set[str]:
        return {key for name in disk for key in self._settings(name, project.services[name])[0].secrets}

    def _values(self) -> dict[str, str]:
        file = self.folder / SECRETS
        if not file.exists():
            return {}
        from svcctl.cli import values

        found = values.read_pairs(self._context, file)
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}

    def _revealed(self, place: Place | None, secrets: Mapping[str, str]) -> dict[str, str]:
        if place is None or not secrets:
            return {}
        try:
            found = self._pinned.reveal(place.identity.id, secrets)
            return {name: value.reveal().decode() for name, value in found.items()}
        except UnicodeDecodeError as error:
            raise Refused(f"a secret of {place.ref} is no UTF-8 text") from error

    def _checked(self, name: str, source: Source) -> Source:
        main = source.main.partition(":")[0]
        if not (self.folder / main).is_file():
            raise UsageError(f"services.{name}.main: there is no file {main}")
        for folder in source.with_:
            if not (self.folder / folder).is_dir():
                raise UsageError(f"services.{name}.with: there is no folder {folder}")
        return source

    def _installed(self, source: Source) -> str | None:
        if not any(Path(path).exists() for path in self._requirements(source)):
            return None
        from svcctl.bundle import beside

        found = beside.install(self.folder, source, self.folder / STORE / CACHE, self._context.progress)
        return str(found) if found else None

    def _files(self, sources: Iterable[Source]) -> Iterator[str]:
        yield str(self.folder / config.NAME)
        yield str(self.folder / SECRETS)
        for source in sources:
            yield from self._requirements(source)

    def _requirements(self, source: Source) -> Iterator[str]:
        entry = self.folder / posixpath.dirname(source.main)
        return (str(entry / name) for name in _REQUIREMENTS)


def _notes(works: Iterable[Work], values: Iterable[str], wanted: Iterable[str]) -> Iterator[str]:
    for work in works:
        if work.missing:
            names = ", ".join(work.missing)
            yield f"{work.service} has no value for {names}: write {work.missing[0]}=... into {SECRETS}"
    for name in sorted(set(values) - set(wanted)):
        yield f"{SECRETS}: no service lists {name} under `secrets`, so none is given it"


def _check_neighbours(assembly: Assembly) -> None:
    """Raises Refused where services of one process would need different versions of a package, as a deploy does."""
    if len(assembly.parts) == 1 or not any(part.vendored for part in assembly.parts):
        return
    if problems := vendored.conflicts({part.place: _manifest(part) for part in assembly.parts}):
        raise Refused(
            "\n".join(problems),
            hint="services that are bound to each other run in one process, where each package has one version",
        )


def _manifest(part: Part) -> Manifest:
    """As far as it tells what is installed."""
    if part.manifest:
        return wire.decode(Path(part.manifest).read_bytes(), Manifest)
    installed = Path(part.vendored).glob("*.dist-info") if part.vendored else ()
    files = (File(path=f"{INSTALLED}/{each.name}/METADATA", blob=Digest(""), size=0) for each in installed)
    return Manifest(main=part.main, files=tuple(files))
