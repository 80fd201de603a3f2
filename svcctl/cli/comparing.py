"""The two sides of a diff: versions in the store, and the working tree as a deploy would find it."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from svcctl.backend.base import Stream
from svcctl.cli import building
from svcctl.cli.context import Context
from svcctl.digest import Digest
from svcctl.errors import NotFound
from svcctl.model import Block, Commit, Diff, Environment, File, FileDifference, LoggedCommit, ServiceFile, Settings
from svcctl.reference import Reference
from svcctl.rules.diff import Side, compare
from svcctl.rules.patch import LIMIT, Patch, patch, too_large

WORKING_TREE = "working tree"


class Version(NamedTuple):
    """One side, with what only a diff needs of it."""

    side: Side
    commit: Commit | None
    open: Callable[[Digest], Stream]
    missing: NotFound | None = None
    """Why it is compared as if it had nothing."""


class Pair(NamedTuple):
    service: str
    a: Version
    b: Version


def stored(context: Context, reference: Reference) -> Version:
    backend = context.backend
    try:
        version = backend.version(reference)
    except NotFound as error:
        return Version(Side(ref=str(reference)), None, backend.open_blob, error)
    environment = backend.environment(version.service, version.environment)
    code = version.code
    side = Side(
        ref=version.ref,
        settings=backend.settings(version.settings.digest),
        manifest=backend.manifest(code.digest) if code else None,
        routes=environment.routes,
        protected=environment.protected,
    )
    return Version(side, code.commit if code else None, backend.open_blob)


def present(pairs: Sequence[Pair]) -> list[Pair]:
    """Those that exist on a side. Raises NotFound where a side is in no service at all."""
    for side in ([pair.a for pair in pairs], [pair.b for pair in pairs]):
        errors = [version.missing for version in side if version.missing]
        if errors and len(errors) == len(side):
            raise errors[0]
    return [pair for pair in pairs if not (pair.a.missing and pair.b.missing)]


def working_tree(context: Context, services: Sequence[str], environment: str) -> dict[str, Version]:
    """By service: what a deploy to that environment would make of it. Nothing is stored."""
    bundles = building.bundles(context, services)
    code = building.code(context, bundles)
    found = {}
    for name, bundle in bundles.items():
        side = replace(_declared(context, name, environment), manifest=bundle.manifest)
        found[name] = Version(side, code[name].commit, bundle.open)
    return found


def _declared(context: Context, service: str, name: str) -> Side:
    """Overrides and secrets stay where they are; the file's routes come to those of the command line."""
    declared = context.project.services[service]
    try:
        environment = context.backend.environment(service, name)
    except NotFound:
        block = declared.block(name)
        return Side(
            ref=WORKING_TREE, settings=Settings(file=block.layer), routes=block.routes, protected=block.protected
        )
    block, owned = _block(declared, environment)
    return Side(
        ref=WORKING_TREE,
        settings=replace(context.backend.settings_of(environment), file=block.layer),
        routes=tuple(sorted({*block.routes, *environment.cli_routes})) if owned else environment.routes,
        protected=environment.protected or (owned and block.protected),
    )


def _block(declared: ServiceFile, environment: Environment) -> tuple[Block, bool]:
    """The table that it follows, and whether that table's routes and protection are its own: a clone's are not."""
    if environment.name in declared.blocks:
        return declared.block(environment.name), True
    return declared.block(environment.block), environment.cloned_from is None


def difference(context: Context, pair: Pair) -> Diff:
    return _with_commits(context, pair, compare(pair.a.side, pair.b.side))


def _with_commits(context: Context, pair: Pair, diff: Diff) -> Diff:
    """The repository's own words where it has both commits, else the two that were kept."""
    old, new = pair.a.commit, pair.b.commit
    if old is None or new is None or old.sha == new.sha:
        return diff
    from svcctl import provenance

    folder = context.file.parent if context.file else context.folder
    logged = provenance.log_between(folder, old.sha, new.sha, _paths(context, pair.service))
    kept = (
        LoggedCommit(sha=old.sha, subject=old.subject, author=old.author, side="a"),
        LoggedCommit(sha=new.sha, subject=new.subject, author=new.author, side="b"),
    )
    return replace(
        diff,
        commits=kept if logged is None else logged,
        logged=logged is not None,
        compare=provenance.compare_link(new.remote or old.remote, old.sha, new.sha),
    )


def _paths(context: Context, service: str) -> Sequence[Path]:
    """Of the service; all of the repository where services.toml does not know it."""
    known = context.file is not None and service in context.project.services
    return building.paths(context, service) if known else ()


def patch_of(pair: Pair, file: FileDifference) -> Patch:
    """Reads both contents, unless they are too large to compare."""
    if any(side is not None and side.size > LIMIT for side in (file.old, file.new)):
        return too_large(file.path)
    return patch(file.path, _content(pair.a, file.old), _content(pair.b, file.new))


def _content(version: Version, file: File | None) -> bytes | None:
    if file is None:
        return None
    with closing(version.open(file.blob)) as stream:
        return stream.read()
