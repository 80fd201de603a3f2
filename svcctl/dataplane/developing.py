"""Deployments from a working tree, followed save by save."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from svcctl.dataplane import workingtree
from svcctl.dataplane.assembling import NotLive
from svcctl.dataplane.output import Say
from svcctl.dataplane.router import Changed
from svcctl.dataplane.watching import Watch, services_of
from svcctl.errors import SvcctlError
from svcctl.runtime.assembly import Assembly

DOMAIN = "localhost"
_AT_ONCE = 10
"""Services that are started before anybody asks for them: of more, the first answer would have to wait."""


class Reading(NamedTuple):
    """What there is to run."""

    assemblies: dict[str, Assembly]
    """By the service whose hostname they answer."""
    folders: dict[str, tuple[str, ...]]
    """What each service of the working tree is made of, absolute."""
    files: frozenset[str]
    """Everything is read again when one of them changes: services.toml, secrets, requirements."""
    notes: tuple[str, ...]
    """What is worth knowing: secrets without a value."""
    begun: float
    """When its reading began, in seconds since 1970: what is saved later is an edit."""


class DevSource:
    """A Source (router). `read` is called in another thread each time; what it raises leaves everything as it is."""

    def __init__(
        self, first: Reading, read: Callable[[], Reading], say: Say, folder: Path, *, polling: bool = False
    ) -> None:
        """`folder` is what shown paths are relative to."""
        self._reading = first
        self._read = read
        self._say = say
        self._folder = folder
        self._polling = polling
        self._edits: dict[str, int] = {}
        self._watch: Watch | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, changed: Changed) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._follow()
        if len(self._reading.assemblies) <= _AT_ONCE:
            self._do(changed(start=self._reading.assemblies))

    def addresses(self) -> Iterable[tuple[str, str]]:
        """A project of one service answers at `localhost` too."""
        services = list(self._reading.assemblies)
        yield from ((hostname(service), service) for service in services)
        if len(services) == 1:
            yield from ((host, services[0]) for host in (DOMAIN, "127.0.0.1"))

    async def assemble(self, key: str) -> Assembly:
        if key not in self._reading.assemblies:
            raise NotLive(f"services.toml has no service {key} any more")
        return workingtree.editions(self._reading.assemblies[key], self._edits)

    async def close(self) -> None:
        if self._watch:
            self._watch.close()

    # ---- edits

    def _follow(self) -> None:
        if self._watch:
            self._watch.close()
        reading = self._reading
        folders = {folder for places in reading.folders.values() for folder in places}
        if folders or reading.files:
            self._watch = Watch(
                folders, reading.files, self._edited_elsewhere, self._cannot_watch,
                since=reading.begun, polling=self._polling,
            )  # fmt: skip
            self._watch.start()

    def _edited_elsewhere(self, paths: frozenset[str]) -> None:
        """In the thread that watches."""
        self._loop.call_soon_threadsafe(lambda: self._do(self._edited(paths)))

    def _cannot_watch(self, why: str) -> None:
        self._loop.call_soon_threadsafe(self._say, "error", why)

    async def _edited(self, paths: frozenset[str]) -> None:
        async with self._one_at_a_time:
            known = set(self._reading.assemblies)
            if settings := paths & self._reading.files:
                await self._read_again(settings)
            edited = services_of(paths - settings, self._reading.folders)
            for service in edited:
                self._edits[service] = self._edits.get(service, 0) + 1
            if edited:
                self._say("info", f"{self._shown(paths - settings)} changed: {', '.join(sorted(edited))} starts anew")
            new = set(self._reading.assemblies) - known
            await self._changed(start=(edited | new) & set(self._reading.assemblies))

    async def _read_again(self, paths: frozenset[str]) -> None:
        try:
            reading = await asyncio.to_thread(self._read)
        except SvcctlError as error:
            hint = f"\n{error.hint}" if error.hint else ""
            self._say("error", f"{error.message}{hint}\nuntil that is mended, everything stays as it was")
            return
        self._say("info", f"{self._shown(paths)} changed and was read again")
        for note in reading.notes:
            if note not in self._reading.notes:
                self._say("warning", note)
        moved = (reading.folders, reading.files) != (self._reading.folders, self._reading.files)
        self._reading = reading
        if moved:
            self._follow()

    def _shown(self, paths: Iterable[str]) -> str:
        first, *more = sorted(paths)
        path = Path(first)
        shown = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
        return f"{shown} and {len(more)} more" if more else str(shown)

    def _do(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def hostname(service: str) -> str:
    return f"{service}.{DOMAIN}"
