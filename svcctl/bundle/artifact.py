"""From a service's folder to its artifact: select, check, install, hash, write the manifest. Everything that can be
refused without reading file contents is refused before they are read."""

import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from svcctl import digest, wire
from svcctl.bundle.allowance import Allowance
from svcctl.bundle.entry import check_entry
from svcctl.bundle.installing import install, make_private
from svcctl.bundle.paths import refuse_twins
from svcctl.bundle.place import Place, open_file
from svcctl.bundle.requirements import find
from svcctl.bundle.selection import Selection, layers_above, never, repository_top
from svcctl.bundle.stat_index import StatIndex
from svcctl.bundle.target import platform_name
from svcctl.bundle.tree import Ground, walk
from svcctl.digest import Digest
from svcctl.errors import Refused, UsageError
from svcctl.model import File, Limits, Manifest, Model, Source
from svcctl.progress import SILENT, Progress
from svcctl.text import clean

_LIMITS = Limits()
_SETTINGS = "services.toml"
_COMPILED = re.compile(r".*\.(so|pyd|dylib)(\.\d+)*", re.DOTALL)


class Bundle(Model):
    """An artifact whose bytes still lie where they were found."""

    manifest: Manifest
    content: bytes
    """The manifest's canonical bytes."""
    digest: Digest
    places: dict[Digest, Place]

    def open(self, blob: Digest) -> BinaryIO:
        """The bytes of one blob, to be read in pieces and hashed by the reader. Raises Refused if the file is not the
        one that was hashed."""
        return open_file(self.places[blob])


def build(
    folder: Path,
    source: Source,
    *,
    cache: Path,
    limits: Limits = _LIMITS,
    progress: Progress = SILENT,
) -> Bundle:
    """`folder` is that of services.toml; `cache` holds the stat index and installed requirements. Raises Refused, and
    UsageError where services.toml is at fault. The tree, the lock and the platform alone decide the digest."""
    project = folder.resolve()
    make_private(cache)
    allowance = Allowance(limits)
    places = _collected(project, source, allowance)
    main, _, name = source.main.partition(":")
    entry = str(PurePosixPath(main).relative_to(source.root))
    _check_main(project, places.get(entry), main, name, source)
    if needed := find(places, posixpath.dirname(entry), source.python):
        places |= install(needed, cache / "requirements", allowance, progress)
    refuse_twins(sorted(places))
    blobs = StatIndex(cache, project / main).blobs(places, progress)
    manifest = Manifest(
        main=f"{entry}:{name}" if name else entry,
        files=tuple(_file(path, places[path], blobs[path]) for path in sorted(places)),
        python=source.python,
        platform=platform_name() if any(map(_COMPILED.fullmatch, places)) else None,
    )
    content = wire.canonical(manifest)
    return Bundle(
        manifest=manifest,
        content=content,
        digest=digest.of("artifact", content),
        places={blobs[path]: place for path, place in places.items()},
    )


def _file(path: str, place: Place, blob: Digest) -> File:
    return File(path=path, blob=blob, size=place.size, executable=place.executable)


def _collected(project: Path, source: Source, allowance: Allowance) -> dict[str, Place]:
    selection = Selection(source.include, source.exclude)
    top = repository_top(project)
    root = _inside(project, source.root, "root")
    without = _SETTINGS if root == project else None  # settings are no code: changing one must not make new code
    places = walk(_ground(project, top, root, "", without), selection, allowance)
    for name in source.with_:
        shared = _inside(project, name, "with")
        below = posixpath.basename(name) + "/"
        if shared == root / below:
            continue  # it is bundled already, under the same name
        found = walk(_ground(project, top, shared, below), selection, allowance)
        if clash := min(found.keys() & places.keys(), default=None):
            raise UsageError(
                f"{clean(places[clash].shown)} and {clean(found[clash].shown)} would both be {clean(clash)}",
                hint=f"`with` puts {name} into the artifact as {below}; rename one of them",
            )
        places |= found
    return places


def _ground(project: Path, top: Path, folder: Path, path: str, without: str | None = None) -> Ground:
    return Ground(
        top=folder,
        path=path,
        shown=_below(project, folder),
        full=_below(top, folder),
        layers=layers_above(top, folder),
        without=without,
    )


def _below(top: Path, folder: Path) -> str:
    return "".join(f"{part}/" for part in folder.relative_to(top).parts)


def _inside(project: Path, name: str, key: str) -> Path:
    """The real path of a folder that services.toml names."""
    try:
        folder = (project / name).resolve(strict=True)
    except OSError as error:
        raise UsageError(f"services.toml: {key}: {name} can't be opened: {error.strerror}") from error
    if not folder.is_dir():
        raise UsageError(f"services.toml: {key}: {name} is no folder")
    if not folder.is_relative_to(project):
        raise UsageError(
            f"services.toml: {key}: {name} is a link to {clean(os.fspath(folder))}, outside of the project's folder"
        )
    return folder


def _check_main(project: Path, place: Place | None, main: str, name: str, source: Source) -> None:
    if place is None:
        raise _no_main(project, main)
    with open_file(place) as stream:
        content = stream.read()
    check_entry(content, main, name or None, source.python)


def _no_main(project: Path, main: str) -> Exception:
    if any(map(never, main.split("/"))):
        return UsageError(f"main: {main} has a name that is never bundled", hint="move it, or give it another name")
    if not (project / main).exists():
        return UsageError(f"main: there is no file {main}", hint="main in services.toml names the file that starts")
    return Refused(
        f"main: {main} is left out by a .gitignore file or by `exclude`",
        hint=f'bring it back in services.toml: include = ["/{posixpath.basename(main)}"]',
    )
