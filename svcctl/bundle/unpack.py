"""From an artifact to files. A manifest may come from anywhere, so nothing in it is believed: paths are checked again,
bytes are hashed as they are written, and all of it appears at once or not at all.

Files are written into a private folder that is new, so no link in it can lead elsewhere, and take their places when the
last of them is whole.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

from svcctl.bundle.paths import check_path, refuse_twins
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Refused
from svcctl.model import File, Manifest
from svcctl.progress import SILENT, Progress
from svcctl.text import clean

_CHUNK = 1 << 20
_LONGEST = 4096


class _Source(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


def unpack(manifest: Manifest, open: Callable[[Digest], _Source], folder: Path, progress: Progress = SILENT) -> None:
    """Into a folder that is new or empty. Raises Refused where it is neither, and Damage; then nothing was written."""
    folder = folder.resolve()
    there = _check_folder(folder)
    _check_paths(manifest)
    staging = Path(tempfile.mkdtemp(prefix=".svcctl-", dir=folder if there else folder.parent))
    root = staging / "files"
    root.mkdir()
    try:
        progress.start("writing", sum(file.size for file in manifest.files))
        for file in manifest.files:
            with closing(_opened(file, open)) as source:
                _write(file, source, root, progress)
        _appear(root, folder, there=there)
    finally:
        progress.done()
        shutil.rmtree(staging)


def _check_folder(folder: Path) -> bool:
    """Whether it exists, and is empty."""
    if not folder.exists():
        if not folder.parent.is_dir():
            raise Refused(f"{folder.parent} is no folder", hint="make it first", next=f"mkdir -p {folder.parent}")
        return False
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder", hint="name a new folder")
    if any(folder.iterdir()):
        raise Refused(f"{folder} is not empty", hint="name a new or an empty folder: nothing is ever written over")
    return True


def _check_paths(manifest: Manifest) -> None:
    paths = [file.path for file in manifest.files]
    for path in paths:
        if wrong := check_path(path, _LONGEST):
            raise Damage(f"the artifact holds a path that no bundle has: {clean(path)!r} {wrong}", next="svcctl verify")
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise Damage(f"the artifact holds {clean(twice)!r} twice", next="svcctl verify")
    try:
        refuse_twins(paths)
    except Refused as error:
        raise Damage(f"the artifact holds paths that no bundle has: {error.message}", next="svcctl verify") from error


def _opened(file: File, open: Callable[[Digest], _Source]) -> _Source:
    try:
        return open(file.blob)
    except (Damage, NotFound) as error:
        raise Damage(
            f"{clean(file.path)}: {error.message}", hint="nothing was written", next="svcctl verify"
        ) from error


def _write(file: File, source: _Source, root: Path, progress: Progress) -> None:
    place = root / file.path
    place.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(place, flags, 0o777 if file.executable else 0o666)
    hasher, size = hashlib.sha256(), 0
    with os.fdopen(descriptor, "wb") as target:
        while part := source.read(_CHUNK):
            hasher.update(part)
            target.write(part)
            size += len(part)
            progress.advance(len(part))
    if size != file.size or hasher.hexdigest() != file.blob:
        raise Damage(f"{clean(file.path)}: the stored bytes are not those of the artifact", next="svcctl verify")


def _appear(root: Path, folder: Path, *, there: bool) -> None:
    """An existing folder may be somebody's current one: it is filled, not replaced."""
    if not there:
        root.rename(folder)
        return
    for path in root.iterdir():
        path.rename(folder / path.name)
