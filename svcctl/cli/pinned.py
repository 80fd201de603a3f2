"""The store as it was when a command began: its landscape is read once, files and secrets when they are wanted."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from svcctl.cli.context import Context, backend_location, opened
from svcctl.dataplane.landscape import Landscape
from svcctl.digest import Digest
from svcctl.errors import NotFound
from svcctl.model import EnvironmentId
from svcctl.reference import Reference
from svcctl.rules.state import Place

if TYPE_CHECKING:
    from svcctl.backend.base import Backend
    from svcctl.dataplane.cache import Cache, Files
    from svcctl.sealing import SecretValue


class Pinned:
    """Where there is no store, or none is wanted, the landscape is empty."""

    def __init__(self, context: Context) -> None:
        self.landscape = Landscape()
        self._context = context
        self._store: Backend | None = None
        self._cache: Cache | None = None

    @contextmanager
    def opened(self, *, wanted: bool, needed: bool) -> Iterator[None]:
        """Inside, the other methods answer. `needed`: that there is none is an error."""
        if not wanted:
            yield
            return
        try:
            self._store = opened(self._context, backend_location(self._context), create=False)
        except NotFound:
            if needed:
                raise
            yield
            return
        try:
            if not self.landscape.store:
                self.landscape.take(self._store.follow(0))
            yield
        finally:
            self._store.close()
            self._store = None

    def place(self, wanted: Reference) -> Place:
        """An environment as it was at a version. Raises NotFound."""
        version = self._opened.version(wanted)
        known = self.landscape.place(version.service, version.environment)
        if known is None:
            raise NotFound(f"{version.ref} is not there any more")
        return Place(identity=known.identity, head=version, settings=self._opened.settings(version.settings.digest))

    def services(self, project: str) -> tuple[str, ...]:
        return tuple(each.name for each in self._opened.services(project))

    def files(self, code: Digest) -> "Files":
        if self._cache is None:
            from svcctl.cli.running import cache_folder
            from svcctl.dataplane.cache import Cache

            self._cache = Cache(cache_folder(backend_location(self._context)))
        return self._cache.files(code, self._opened)

    def reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> "dict[str, SecretValue]":
        return self._opened.reveal(environment, secrets)

    @property
    def _opened(self) -> "Backend":
        if self._store is None:
            raise NotFound("there is no store", next="svcctl deploy")
        return self._store
