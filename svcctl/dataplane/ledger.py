"""Deployments from a backend's ledger, followed change by change; from the cache while the backend is gone.

Two threads work for the router's loop. The *follower* waits for change numbers on a connection of its own and does
nothing else. The *reader* answers everything: what changed, artifacts, secrets; being one, it needs no lock.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from svcctl import digest
from svcctl.backend.base import Backend
from svcctl.dataplane.assembling import NotLive, assemble
from svcctl.dataplane.cache import Cache, Files, without_backend
from svcctl.dataplane.landscape import Landscape
from svcctl.dataplane.output import Say
from svcctl.digest import Digest
from svcctl.errors import SvcctlError, Unreachable
from svcctl.model import Environment, EnvironmentId
from svcctl.rules.reading import described
from svcctl.runtime.assembly import Assembly
from svcctl.sealing import SecretValue

T = TypeVar("T")
_WAIT = 1.0
_AGAIN = 0.5
"""Seconds between two tries to reach a backend that is gone."""

Open = Callable[[], Backend]


class LedgerSource:
    """A Source (router). `open` is called in the thread that uses what it opens. `close` ends a backend."""

    def __init__(self, open: Open, close: Callable[[Backend], None], cache: Cache, say: Say) -> None:
        self.landscape = Landscape()
        self.reachable = True
        self._open = open
        self._close = close
        self._cache = cache
        self._say = say
        self._backend: Backend | None = None
        self._reader = ThreadPoolExecutor(1, "reader")
        self._ending = threading.Event()
        self._follower: threading.Thread | None = None
        self._addresses: list[tuple[str, str]] = []

    async def start(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Knows what there is when it returns; from then on calls `changed` after each change."""
        await self._read(self._take)
        loop = asyncio.get_running_loop()
        self._follower = threading.Thread(target=self._follow, args=(loop, changed), name="follower", daemon=True)
        self._follower.start()
        self._fetching = loop.create_task(self._fetch_ahead())

    def environments(self) -> list[Environment]:
        """As the landscape has them, by service and name."""
        return sorted(map(described, self.landscape.living()), key=lambda each: (each.service, each.name))

    def addresses(self) -> Iterable[tuple[str, str]]:
        return self._addresses

    async def assemble(self, key: str) -> Assembly:
        return await self._read(lambda: self._assembled(EnvironmentId(key)))

    async def close(self) -> None:
        self._ending.set()
        self._fetching.cancel()
        await self._read(self._let_go)
        self._reader.shutdown(wait=False)

    # ---- in the reader's thread

    def _take(self) -> None:
        """News from the backend; without one, what was kept of it."""
        try:
            backend = self._reached()
            followed = backend.follow(self.landscape.number)
            if followed.store != self.landscape.store and self.landscape.number:
                followed = backend.follow(0)
        except SvcctlError as error:
            self._lost(error)
            if not self.landscape.store and (kept := self._cache.kept()):
                self.landscape.take(kept)
        else:
            if not self.reachable:
                self._say("info", "the store is reachable again")
            self.reachable = True
            self.landscape.take(followed)
            self._cache.keep(self.landscape.everything())
        self._addresses = list(self.landscape.addresses())

    def _reached(self) -> Backend:
        if self._backend is None:
            self._backend = self._open()
        return self._backend

    def _lost(self, error: SvcctlError) -> None:
        if self.reachable:
            self._say("error", without_backend(error))
        self.reachable = False
        self._let_go()

    def _let_go(self) -> None:
        if self._backend is not None:
            self._close(self._backend)
            self._backend = None

    def _assembled(self, id: EnvironmentId) -> Assembly:
        place = self.landscape.by_id(id)
        if place is None or place.identity.deleted:
            raise NotLive("it was deleted")
        return assemble(self.landscape, place, self._files, self._reveal)

    def _files(self, code: Digest) -> Files:
        return self._asking(lambda backend: self._cache.files(code, backend))

    def _reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> dict[str, SecretValue]:
        return self._asking(lambda backend: self._cache.reveal(environment, secrets, backend))

    def _asking(self, ask: Callable[[Backend | None], T]) -> T:
        """With the backend if it answers, else with the cache alone."""
        try:
            return ask(self._reached() if self.reachable else None)
        except Unreachable as error:
            self._lost(error)
            return ask(None)

    async def _fetch_ahead(self) -> None:
        """One artifact at a time, so that a request that waits for another one waits for one at most."""
        done: set[Digest] = set()
        while True:
            heads = [place.head for place in list(self.landscape.living())]
            for code in dict.fromkeys(head.code.digest for head in heads if head and head.code):
                if code not in done:
                    done.add(code)
                    try:
                        await self._read(partial(self._files, code))
                    except (SvcctlError, OSError) as error:
                        self._say("error", f"artifact {digest.short(code)}: {error}")
            await asyncio.sleep(_AGAIN)

    async def _read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    # ---- in the follower's thread

    def _follow(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], Awaitable[None]]) -> None:
        backend: Backend | None = None
        seen = self.landscape.number
        while not self._ending.is_set():
            try:
                backend = backend or self._open()
                number = backend.wait(seen, _WAIT)
            except SvcctlError:
                if backend is not None:
                    self._close(backend)
                backend, seen = None, -1  # whatever comes back may be another store
                self._ending.wait(_AGAIN)
                number = -1
            if number != seen and not self._ending.is_set():
                seen = number
                asyncio.run_coroutine_threadsafe(self._tell(changed), loop)
        if backend is not None:
            self._close(backend)

    async def _tell(self, changed: Callable[[], Awaitable[None]]) -> None:
        await self._read(self._take)
        await changed()
