"""The long poll: however many wait for the next change, one thread looks for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from svcctl.backend.base import Authority
from svcctl.errors import SvcctlError

_LOOK = 1.0  # seconds of one look; nobody waits, nobody looks


class Watch:
    def __init__(self, connect: Callable[[], Authority]) -> None:
        self._connect = connect
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._backend: Authority | None = None
        self._waiting = 0
        self._looking: asyncio.Task[None] | None = None
        self._newest = 0
        self._moved = asyncio.Event()
        self._closed = False

    async def after(self, number: int, known: int, seconds: float) -> int:
        """The newest change's number, as soon as it is above `number` or after so many `seconds`; `known` is what the
        caller just read."""
        if known > self._newest:  # seen here first, so that the look finds nothing new: who waits is told now
            self._newest = known
            self._wake()
        if self._newest > number or seconds <= 0:
            return self._newest
        self._waiting += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                while self._newest <= number and not self._closed:
                    await self._moved.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return self._newest

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and not self._closed:
            try:
                found = await loop.run_in_executor(self._executor, self._wait)
            except SvcctlError:
                await asyncio.sleep(_LOOK)  # a database that restarts; those who wait are told nothing new
                continue
            if found > self._newest:
                self._newest = found
                self._wake()

    def _wait(self) -> int:
        if self._backend is None:
            self._backend = self._connect()
        return self._backend.wait(self._newest, _LOOK)

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    def stop(self) -> None:
        """Who waits is answered now."""
        self._closed = True
        self._wake()

    def close(self) -> None:
        self._executor.shutdown()
        if self._backend is not None:
            self._backend.close()
