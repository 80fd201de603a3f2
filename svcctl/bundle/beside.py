"""Requirements of a working tree: installed as for a bundle, and left where they are."""

import posixpath
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from svcctl.bundle.installing import installed, make_private
from svcctl.bundle.place import Place, identity
from svcctl.bundle.requirements import find
from svcctl.model import Source
from svcctl.progress import Progress


def install(folder: Path, source: Source, cache: Path, progress: Progress) -> Path | None:
    """Where they lie; None for a service that needs none. Raises Refused and UsageError, as bundling does."""
    entry = PurePosixPath(source.main.partition(":")[0]).relative_to(source.root)
    files = _Files(folder / source.root, source.root)
    needed = find(files, posixpath.dirname(str(entry)), source.python)
    if needed is None:
        return None
    make_private(cache)
    return installed(needed, cache / "requirements", progress)


class _Files(Mapping[str, Place]):
    """The files of a service's root by artifact path, looked up one by one."""

    def __init__(self, root: Path, shown: str) -> None:
        self._root = root.resolve()
        self._shown = shown

    def __getitem__(self, path: str) -> Place:
        file = (self._root / path).resolve()
        try:
            found = file.stat()
        except OSError as error:
            raise KeyError(path) from error
        if not stat.S_ISREG(found.st_mode) or not file.is_relative_to(self._root):
            raise KeyError(path)
        return Place(str(file), identity(found), posixpath.normpath(posixpath.join(self._shown, path)))

    def __iter__(self) -> Iterator[str]:
        return (str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())

    def __len__(self) -> int:
        return sum(1 for _ in self)
