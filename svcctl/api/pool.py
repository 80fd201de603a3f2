"""Backends for requests: as many as may work at once, each used by one request at a time, in a thread, for they block.

Made when needed and kept. One whose connection broke makes a new one by itself or is of no use to the next either, so
none is ever thrown away.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from svcctl.backend.base import Authority
from svcctl.errors import Unreachable

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds that a request waits for a backend."""


class Busy(Unreachable):
    """The API itself, not what is behind it."""


class Lease:
    """A backend for one request; its calls come one after the other."""

    def __init__(self, backend: Authority, executor: ThreadPoolExecutor) -> None:
        self._backend = backend
        self._executor = executor

    async def run(self, work: Callable[[Authority], T]) -> T:
        """A client that goes away does not stop what has begun: the backend is given back when it is free."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, work, self._backend)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise


class Pool:
    def __init__(self, connect: Callable[[], Authority], size: int) -> None:
        self._connect = connect
        self._free: list[Authority] = []
        self._room = asyncio.Semaphore(size)
        self._executor = ThreadPoolExecutor(size, thread_name_prefix="api")

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._room.acquire()
        except TimeoutError:
            raise Busy("the API is busy", hint="nothing was changed; try again") from None
        try:
            backend = self._free.pop() if self._free else await self._new()
            try:
                yield Lease(backend, self._executor)
            finally:
                self._free.append(backend)
        finally:
            self._room.release()

    async def _new(self) -> Authority:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._connect)

    def close(self) -> None:
        self._executor.shutdown()
        while self._free:
            self._free.pop().close()
