"""One source file of a service, read and proved before any of it runs."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from svcctl import digest, wire
from svcctl.digest import Digest
from svcctl.errors import Damage
from svcctl.model import Manifest
from svcctl.runtime.assembly import Part
from svcctl.runtime.loader.spaces import Asker
from svcctl.text import clean

_RACY = 2.0
"""Byte code knows its source by whole seconds: one that is younger may change once more in the same second."""


class Proof:
    """The digests that an artifact's manifest has for its files."""

    def __init__(self, part: Part, manifest: str) -> None:
        self._part = part
        self._manifest = Path(manifest)

    def check(self, path: str, content: bytes) -> None:
        """`path` is that in the artifact. Raises Damage."""
        wanted = self._digests.get(path)
        if wanted is None:
            raise self._damage(path, "is no file of its artifact")
        if digest.of_blob(content) != wanted:
            raise self._damage(path, "does not hold the bytes that were deployed")

    @cached_property
    def _digests(self) -> Mapping[str, Digest]:
        content = self._manifest.read_bytes()
        if self._part.code and digest.of("artifact", content) != self._part.code:
            raise self._damage(self._manifest.name, "is not that of its artifact")
        return {file.path: file.blob for file in wire.decode(content, Manifest).files}

    def _damage(self, path: str, what: str) -> Damage:
        return Damage(f"{self._part.ref}: {clean(path)} {what}; none of it was run", next="svcctl verify")


class Ground:
    """A folder whose modules are a service's own, or its installed requirements."""

    def __init__(self, folder: str, within: str, asker: Asker, proof: Proof | None) -> None:
        """`within` is the folder's path in the artifact: empty, or with a slash at its end."""
        self.asker = asker
        self._folder = folder
        self._within = within
        self._proof = proof

    @property
    def changes(self) -> bool:
        """Whether its files may be edited where they are."""
        return self._proof is None and not self._within

    def check(self, path: str, content: bytes) -> None:
        if self._proof:
            below = os.path.relpath(path, self._folder).replace(os.sep, "/")
            self._proof.check(self._within + below, content)


class Source(SourceFileLoader):
    """What a module's `__spec__.loader` is tells whose code it is: `asker`."""

    def __init__(self, fullname: str, path: str, ground: Ground, asker: Asker) -> None:
        super().__init__(fullname, path)
        self.ground = ground
        self.asker = asker
        self._content: bytes | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        """The bytes that were proved are the bytes that are compiled, or that cached byte code was made from."""
        content = self._content = self.get_data(self.path)
        try:
            self.ground.check(self.path, content)
            return super().get_code(fullname)
        finally:
            self._content = None

    def get_data(self, path: str) -> bytes:
        if self._content is not None and path == self.path:
            return self._content
        return super().get_data(path)

    def set_data(self, path: str, data: Any, **options: Any) -> None:
        if self.ground.changes and time.time() - os.stat(self.path).st_mtime < _RACY:  # noqa: PTH116
            return
        super().set_data(path, data, **options)
        with suppress(OSError):  # there may be none: the folder may not be written to
            if os.stat(path).st_size != len(data):  # noqa: PTH116 - a full disk takes half of it, and Python says nothing
                os.unlink(path)  # noqa: PTH108
