"""Folders of the project that a service uses: in an artifact they lie in its root, in a working tree elsewhere."""

import os
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location

from svcctl.runtime.loader.source import Source


class Beside:
    """A finder of a few top-level packages, at an entry of `sys.path` that is no real folder."""

    def __init__(self, folders: Mapping[str, str], source: Callable[[str, str], Source]) -> None:
        self._folders = folders
        self._source = source

    def find_spec(self, fullname: str, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        folder = self._folders.get(fullname.rpartition(".")[2])
        if folder is None:
            return None
        file = os.path.join(folder, "__init__.py")  # noqa: PTH118
        if os.path.isfile(file):  # noqa: PTH113
            return spec_from_file_location(
                fullname, file, loader=self._source(fullname, file), submodule_search_locations=[folder]
            )
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec
