"""What a deploy asks of new code before it is stored: that it can be imported, and that it can share a process with the
services that it is bound to.

Code is imported in processes of their own (`svcctl.runtime.check`) from what was bundled: Python files are copied into
a temporary folder, other files are links, and a folder without Python in it is one link.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from svcctl import wire
from svcctl.backend.base import Backend
from svcctl.cli import building
from svcctl.cli.context import Context
from svcctl.cli.output import Note
from svcctl.digest import Digest
from svcctl.errors import Forbidden, NotFound, Refused
from svcctl.model import Block, Environment, Manifest, Node, Overrides, Settings, Source
from svcctl.names import PRODUCTION
from svcctl.rules import vendored

if TYPE_CHECKING:
    from svcctl.bundle import Bundle
    from svcctl.runtime.check import Finding, Subject

T = TypeVar("T")
_HINT = "--no-check deploys it all the same"
_PASSED_ON = ("PATH", "HOME", "LANG")
_COPIED = 500
"""So many Python files are copied; more are linked. Code that resolves its own path finds its neighbours by a copy."""
_MODULES = (".py", ".so")
_VENDORED = "python_modules/"


class Deployed:
    """What runs now, asked once: over a network each question takes its time."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._environments: dict[tuple[str, str], Environment | None] = {}
        self._nodes: dict[tuple[str, str], tuple[Node, ...]] = {}

    def environment(self, service: str, name: str) -> Environment | None:
        if (service, name) not in self._environments:
            self._environments[service, name] = _if_there(lambda: self.backend.environment(service, name))
        return self._environments[service, name]

    def nodes(self, service: str, environment: str) -> tuple[Node, ...]:
        """None where there is no such environment, and of one that is out of reach of a token and nothing is known of.
        What a deployment reaches was told with it."""
        if (service, environment) not in self._nodes:
            nodes = tuple(self._known_from(f"{service}/{environment}"))
            with suppress(Forbidden):
                found = None if nodes else _if_there(lambda: self.backend.deployment(service, environment))
                nodes = found.nodes if found else nodes
            self._nodes[service, environment] = nodes
        return self._nodes[service, environment]

    def _known_from(self, ref: str) -> Iterator[Node]:
        known = {node.ref: node for nodes in self._nodes.values() for node in nodes}
        waiting = [ref]
        while waiting:
            if node := known.pop(waiting.pop(), None):
                yield node
                waiting += node.bindings.values()

    def code(self, service: str, environment: str) -> Digest | None:
        nodes = self.nodes(service, environment)
        return nodes[0].code if nodes else None


def _if_there(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except NotFound:
        return None


def check(context: Context, deployed: Deployed, bundles: "Mapping[str, Bundle]", environment: str) -> None:
    """Raises Refused, naming each service that can't be imported. Code that the store has was checked before."""
    new = [name for name, built in bundles.items() if not deployed.backend.has_artifact(built.digest)]
    fitting = [name for name in new if _is_for_this_python(context, name, bundles[name].manifest)]
    if not fitting:
        return
    with TemporaryDirectory(prefix="svcctl-check-") as folder:
        subjects = [
            _subject(context, name, bundles[name], Path(folder) / name, _block(context, deployed, name, environment))
            for name in fitting
        ]
        context.progress.start(f"importing {', '.join(fitting)}")
        try:
            findings = _findings(context, subjects, folder)
        finally:
            context.progress.done()
    for finding in findings:
        if finding.note:
            context.tell(Note(f"{finding.service}: {finding.note}"))
    if problems := [_sentence(context, finding) for finding in findings if finding.problem]:
        raise Refused("\n".join(problems), hint=_HINT)


def check_neighbours(context: Context, deployed: Deployed, bundles: "Mapping[str, Bundle]", environment: str) -> None:
    """Raises Refused where the services of one deployment would need different versions of a package."""
    problems: dict[str, None] = {}
    for name in bundles:
        problems |= dict.fromkeys(vendored.conflicts(_closure(context, deployed, bundles, name, environment)))
    if problems:
        raise Refused(
            "\n".join(problems),
            hint="services that are bound to each other run in one process, where each package has one version",
        )


# ---- imports


def _is_for_this_python(context: Context, name: str, manifest: Manifest) -> bool:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if manifest.python in (None, here):
        return True
    context.tell(Note(f"{name} is for Python {manifest.python} and this is {here}: its import was not checked"))
    return False


def _findings(context: Context, subjects: "list[Subject]", folder: str) -> "list[Finding]":
    from svcctl.runtime.check import Finding

    done = subprocess.run(
        [sys.executable, "-P", "-B", "-m", "svcctl.runtime.check"],
        input=wire.canonical(subjects),
        env={name: context.environ[name] for name in _PASSED_ON if name in context.environ},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise Refused(f"the import check could not run: {last}", hint=_HINT)
    return wire.decode(done.stdout, list[Finding])


def _sentence(context: Context, finding: "Finding") -> str:
    if finding.file is None:
        return f"{finding.service}: {finding.problem}"
    shown = _source(building.source_of(context.project.services[finding.service]), finding.file)
    return f"{finding.service}: {shown}:{finding.line}: {finding.problem}"


def _subject(context: Context, name: str, built: "Bundle", folder: Path, block: Block) -> "Subject":
    from svcctl.runtime.check import Subject

    installed = _installed(built)
    paths = [file.path for file in built.manifest.files if not (installed and file.path.startswith(_VENDORED))]
    source = building.source_of(context.project.services[name])
    _lay_out(context.required_file.parent.resolve(), source, paths, folder)
    return Subject(
        service=name,
        folder=str(folder),
        main=built.manifest.main,
        vendored=installed,
        vars=block.layer.vars,
        secrets=block.secrets,
        bindings=tuple(block.layer.bindings),
        entrypoints=tuple(sorted({*_entrypoints(context, name)})),
    )


def _entrypoints(context: Context, name: str) -> Iterator[str]:
    """Classes of this service that a binding in services.toml names."""
    for service in context.project.services.values():
        for block in (service.base, *service.blocks.values()):
            for binding in block.layer.bindings.values():
                if binding.service == name and binding.entrypoint is not None:
                    yield binding.entrypoint


def _installed(built: "Bundle") -> str | None:
    """The folder of the cache that holds the installed requirements."""
    for file in built.manifest.files:
        if file.path.startswith(_VENDORED):
            place, below = built.places[file.blob], file.path.removeprefix(_VENDORED)
            if not place.own and place.file.endswith(f"/{below}"):
                return place.file.removesuffix(f"/{below}")
    return None


def _lay_out(project: Path, source: Source, paths: list[str], folder: Path) -> None:
    modules = [path for path in paths if path.endswith(_MODULES)]
    with_modules = {above for path in modules for above in _above(path)} | {""}
    folder.mkdir()
    for above in sorted(with_modules):
        (folder / above).mkdir(exist_ok=True)
    linked = set()
    for path in paths:
        top = next((above for above in _above(path) if above not in with_modules), path)
        if top in linked:
            continue
        real = project / _source(source, top)
        if path.endswith(".py") and len(modules) <= _COPIED:
            shutil.copy(real, folder / path)
        else:
            linked.add(top)
            os.symlink(real, folder / top)  # noqa: PTH211  # thousands of times


def _above(path: str) -> Iterator[str]:
    """The folders that it is in, the outermost first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _source(source: Source, path: str) -> str:
    """Where a file of the artifact lies in the project."""
    top, _, rest = path.partition("/")
    for shared in source.with_:
        if shared.rstrip("/").rpartition("/")[2] == top:
            return f"{shared.rstrip('/')}/{rest}".rstrip("/")
    return path if source.root == "." else f"{source.root}/{path}"


# ---- requirements


def _closure(
    context: Context, deployed: Deployed, bundles: "Mapping[str, Bundle]", service: str, environment: str
) -> dict[str, Manifest]:
    """By place: what a service and those that it reaches would run."""
    found: dict[str, Manifest] = {}
    waiting = [(service, environment)]
    while waiting:
        name, where = waiting.pop()
        if f"{name}/{where}" in found:
            continue
        if name in bundles and where == environment:
            found[f"{name}/{where}"] = bundles[name].manifest
            waiting += _bound(context, deployed, bundles, name, environment)
            continue
        for node in deployed.nodes(name, where):
            known, _, place = node.ref.partition("/")
            if known in bundles and place == environment:
                waiting.append((known, place))
            elif node.code:
                found[node.ref] = deployed.backend.manifest(node.code)
    return found


def _bound(
    context: Context, deployed: Deployed, bundles: "Mapping[str, Bundle]", service: str, environment: str
) -> Iterator[tuple[str, str]]:
    """Where its bindings will lead, as far as the file, the store and this deploy tell."""
    overrides, leads = Overrides(), {}
    nodes, there = deployed.nodes(service, environment), deployed.environment(service, environment)
    if nodes and there:
        overrides = deployed.backend.settings_of(there).cli
        leads = nodes[0].bindings
    settings = Settings(file=_block(context, deployed, service, environment).layer, cli=overrides)
    for name, binding in settings.bindings.items():
        if binding.service is None:
            continue
        if binding.environment or binding.service in bundles:
            yield binding.service, binding.environment or environment
        elif name in leads:
            known, _, place = leads[name].partition("/")
            yield known, place
        else:
            yield binding.service, environment if deployed.nodes(binding.service, environment) else PRODUCTION


def _block(context: Context, deployed: Deployed, service: str, environment: str) -> Block:
    file = context.project.services[service]
    there = deployed.environment(service, environment)
    return file.block(there.block if there and environment not in file.blocks else environment)
