"""Deployments from a backend's ledger, followed change by change; from the cache while the backend is gone.

Two threads work for the router's loop. The *follower* waits for changes. The *reader* answers everything: what changed,
artifacts, secrets; being one, it needs no lock. What every head needs is fetched before anybody asks for it, a piece at
a time, so that a request waits for one piece at most; so all that was live is served without the backend too.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import msgspec

from svcctl.backend.base import Backend, Followed
from svcctl.dataplane.assembling import NotLive, assemble
from svcctl.dataplane.cache import Cache, Files
from svcctl.dataplane.follower import WAIT, Close, Follower, Open, Standing
from svcctl.dataplane.landscape import Landscape
from svcctl.dataplane.logbook import Level
from svcctl.dataplane.output import Say
from svcctl.dataplane.router import Changed
from svcctl.digest import Digest
from svcctl.errors import NotFound, SvcctlError, Unreachable
from svcctl.model import Environment, EnvironmentId
from svcctl.rules.reading import described
from svcctl.rules.state import Place
from svcctl.runtime.assembly import Assembly
from svcctl.sealing import SecretValue

T = TypeVar("T")
_SWEEP = 3_600.0
_ENDING = 5.0


class LedgerSource:
    """A Source (router). `open` is called in the thread that uses what it opens; `close` ends a backend. What
    `open_hastily` opens is given up soon where it does not answer: for a start that has the cache to serve from."""

    def __init__(
        self,
        open: Open,
        close: Close,
        standing: Standing,
        cache: Cache,
        say: Say,
        *,
        wait: float = WAIT,
        open_hastily: Open | None = None,
    ) -> None:
        self.landscape = Landscape()
        self.reachable = True
        self._open = open
        self._open_hastily = open_hastily
        self._close = close
        self._standing = standing
        self._cache = cache
        self._say = say
        self._wait = wait
        self._backend: Backend | None = None
        self._stands: object = None
        self._reader = ThreadPoolExecutor(1, "reader")
        self._addresses: list[tuple[str, str]] = []
        self._news = asyncio.Event()
        self._anew = False
        self._knew = False
        """Whether there was a store before."""
        self._follower: Follower | None = None
        self._keeping_up: asyncio.Task[None] | None = None
        self._fetched: set[tuple[EnvironmentId, int]] = set()
        self._complaints: dict[str, str] = {}
        self._swept_at = 0.0

    async def start(self, changed: Changed) -> None:
        """Knows what there is when it returns; from then on calls `changed` after each change."""
        self._loop = asyncio.get_running_loop()
        await self._read(self._begin)
        self._follower = Follower(
            self._open,
            self._close,
            self._standing,
            lambda anew: self._call(self._heard, anew),
            lambda error: self._call(self._heard_lost, error),
            seen=self.landscape.number,
            stands=self._stands if self.reachable else None,
            wait=self._wait,
        )
        self._follower.start()
        self._news.set()
        self._keeping_up = self._loop.create_task(self._keep_up(changed))

    def environments(self) -> list[Environment]:
        """As the landscape has them, by service and name."""
        return sorted(map(described, self.landscape.living()), key=lambda each: (each.service, each.name))

    def addresses(self) -> Iterable[tuple[str, str]]:
        return self._addresses

    async def assemble(self, key: str) -> Assembly:
        return await self._read(partial(self._assembled, EnvironmentId(key)))

    async def close(self) -> None:
        if self._follower is not None:
            self._follower.end()
        if self._keeping_up is not None:
            self._keeping_up.cancel()
        with suppress(TimeoutError):  # where the reader hangs in a file system that does
            async with asyncio.timeout(_ENDING):
                await self._read(self._let_go)
        self._reader.shutdown(wait=False, cancel_futures=True)

    # ---- following, on the loop

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """From another thread, which may be at it when the loop is not there any more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _heard(self, anew: bool) -> None:
        self._anew = self._anew or anew
        self._news.set()

    def _heard_lost(self, error: SvcctlError) -> None:
        self._reader.submit(self._lost, error)

    async def _keep_up(self, changed: Changed) -> None:
        """Changes that come together are taken together."""
        while True:
            await self._news.wait()
            self._news.clear()
            anew, self._anew = self._anew, False
            try:
                await self._read(partial(self._take, anew=anew))
                await changed()
                await self._fetch_ahead()
            except Exception as error:  # noqa: BLE001 - a bug in one change must not hide all that follow
                self._loop.call_exception_handler({"message": "a change was not taken in", "exception": error})

    async def _fetch_ahead(self) -> None:
        for place in list(self.landscape.living()):
            if self._news.is_set():
                return
            if place.head is not None and (place.identity.id, place.head.number) not in self._fetched:
                await self._read(partial(self._fetch, place))
        if time.monotonic() - self._swept_at > _SWEEP:
            self._swept_at = time.monotonic()
            await self._read(self._sweep)

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._reader, work)

    # ---- in the reader's thread

    def _begin(self) -> None:
        if self._open_hastily is None or self._cache.kept() is None:
            self._take(anew=False)
        else:
            self._take(anew=False, open=self._open_hastily)
            self._let_go()

    def _take(self, *, anew: bool, open: Open | None = None) -> None:
        """News from the backend; without one, what was kept of it. One that is gone is not waited for here, where
        requests would wait too: the follower tells when it is there again."""
        if not (anew or self.reachable):
            return
        if anew:
            self._let_go()
        try:
            backend = self._reached(open)
            self._learn(backend, anew=anew)
        except (SvcctlError, msgspec.MsgspecError) as error:
            self._doubt(error)
            if not self.landscape.store and (kept := self._cache.kept()):
                self.landscape.take(kept)
        else:
            self._found()
        self._addresses = list(self.landscape.addresses())

    def _learn(self, backend: Backend, *, anew: bool) -> None:
        """Another store's numbers mean nothing here, nor do those of one that was set back."""
        followed = backend.follow(0 if anew else self.landscape.number)
        whole = anew or not self.landscape.store
        if not whole and (followed.store != self.landscape.store or followed.number < self.landscape.number):
            followed, whole = backend.follow(0), True
        if followed.store != self.landscape.store:
            self._fetched.clear()
        was = self.landscape.number
        self.landscape.take(followed, whole=whole)
        if whole or followed.number != was:
            self._keep(followed, whole=whole)

    def _keep(self, followed: Followed, *, whole: bool) -> None:
        try:
            self._cache.keep(self.landscape.everything())
            if whole or any(place.identity.deleted for place in followed.places):
                self._cache.forget([place.identity.id for place in self.landscape.living()])
        except OSError as error:
            text = f"the cache can't be written: {_words(error)}"
            self._complain("cache", f"{text}; a restart without the store would serve what was kept before")
        else:
            self._complaints.pop("cache", None)

    def _reached(self, open: Open | None = None) -> Backend:
        if self._backend is None:
            try:
                self._stands = self._standing()
            except OSError:
                self._stands = None  # `open` says it better
            self._backend = (open or self._open)()
        return self._backend

    def _found(self) -> None:
        self._complaints.pop("store", None)
        if not self.reachable:
            self.reachable = True
            if self._knew:
                self._tell("info", "the store is there again")
        self._knew = True

    def _doubt(self, error: Exception) -> None:
        self._lost(error)
        if self._follower is not None:
            self._follower.doubt()

    def _lost(self, error: Exception) -> None:
        self._let_go()
        self.reachable = False
        text = _words(error)
        if not isinstance(error, NotFound) or self.landscape.store or self._cache.kept() is not None:
            self._knew = True
            self._complain("store", f"the store can't be read ({text}); what was last seen of it is served")

    def _complain(self, about: str, text: str) -> None:
        """Once, until it is mended."""
        if about not in self._complaints:
            self._complaints[about] = text
            self._tell("error", text)

    def _tell(self, level: Level, text: str) -> None:
        """The log is written by the loop's thread alone."""
        self._call(self._say, level, text)

    def _let_go(self) -> None:
        if self._backend is not None:
            self._close(self._backend)
            self._backend = None

    def _assembled(self, id: EnvironmentId) -> Assembly:
        place = self.landscape.by_id(id)
        if place is None or place.identity.deleted:
            raise NotLive("it was deleted")
        try:
            return assemble(self.landscape, place, self._files, self._reveal)
        except SvcctlError as error:
            raise type(error)(f"{place.ref} can't be started: {error.message}") from error
        except OSError as error:
            raise Unreachable(f"{place.ref} can't be started: {_words(error)}") from error

    def _files(self, code: Digest) -> Files:
        return self._asking(lambda backend: self._cache.files(code, backend))

    def _reveal(self, environment: EnvironmentId, secrets: Mapping[str, str]) -> Mapping[str, SecretValue]:
        return self._asking(lambda backend: self._cache.reveal(environment, secrets, backend))

    def _asking(self, ask: Callable[[Backend | None], T]) -> T:
        """With the backend if it answers, else with the cache alone."""
        try:
            return ask(self._reached() if self.reachable else None)
        except Unreachable as error:
            self._doubt(error)
            return ask(None)

    # ---- ahead of requests

    def _fetch(self, place: Place) -> None:
        head, about = place.head, place.ref
        if head is None:
            return
        try:
            if head.code is not None:
                self._files(head.code.digest)
            self._reveal(place.identity.id, place.settings.secrets if place.settings else {})
        except (SvcctlError, OSError) as error:
            if self.reachable:
                self._complain(about, f"{head.ref} can't be fetched: {_words(error)}")
            return
        self._complaints.pop(about, None)
        self._fetched.add((place.identity.id, head.number))

    def _sweep(self) -> None:
        try:
            self._cache.sweep(set(self._needed()))
        except OSError as error:
            self._complain("sweep", f"the cache can't be swept: {_words(error)}")
        heads = {(place.identity.id, place.head.number) for place in self.landscape.living() if place.head}
        self._fetched &= heads

    def _needed(self) -> Iterator[Digest]:
        for place in self.landscape.living():
            if place.head and place.head.code:
                yield place.head.code.digest


def _words(error: Exception) -> str:
    match error:
        case SvcctlError():
            return error.message
        case OSError(filename=str() as name, strerror=text):
            return f"{name}: {text}"
        case OSError(strerror=text):
            return str(text)
        case _:
            return f"it can't be understood: {error}"
