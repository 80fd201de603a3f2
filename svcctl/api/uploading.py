"""Bodies, as they arrive on the event loop: whole, or read by a thread as a file.

Neither silence nor a trickle is waited for: both keep what others need. And more than `UNKNOWN` bytes are taken from
those alone whose token is good.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError

from svcctl.errors import Refused, TooLarge, UsageError

IDLE = 30.0
"""Seconds without a byte after which a body is given up."""
PACE = 4_000
"""Bytes that must have come for each second over that."""
UNKNOWN = 1 << 20
_SMALL = 1 << 16
"""Bytes that need not come by any pace."""


class Arriving:
    """A Stream. The next part is fetched when the thread asks for it: a slow disk slows its client down."""

    def __init__(self, parts: AsyncIterator[bytes], limit: int) -> None:
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._size = 0
        self._waited = 0.0
        self._buffer = b""
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """What is there, at most `size` bytes; empty at the end."""
        if not self._buffer and not self._ended:
            self._buffer = self._next()
        part = self._buffer if size < 0 else self._buffer[:size]
        self._buffer = self._buffer[len(part) :]
        return part

    def close(self) -> None:
        pass

    def _next(self) -> bytes:
        try:
            part = asyncio.run_coroutine_threadsafe(self._fetch(), self._loop).result(IDLE + 5)
        except (CancelledError, TimeoutError) as error:
            raise Refused("the body stopped arriving", hint="nothing was stored") from error
        self._ended = not part
        self._size += len(part)
        if self._size > self._limit:
            raise TooLarge("the body is too large", hint="send fewer blobs at a time")
        return part

    async def _fetch(self) -> bytes:
        """Empty at the end."""
        began = self._loop.time()
        async with asyncio.timeout(min(IDLE, IDLE + self._size / PACE - self._waited)):
            async for part in self._parts:
                if part:
                    self._waited += self._loop.time() - began
                    return part
        return b""


async def whole(
    parts: AsyncIterator[bytes], limit: int, said: str | None, identify: Callable[[], Awaitable[None]]
) -> bytes:
    """A body of at most `limit` bytes; what says that it has more is not read. `identify` raises where its sender is
    nobody; it is called only if the body is large, for whatever the route does asks it too."""
    if said is not None and (not said.isdecimal() or int(said) > limit):
        raise _too_large(limit)
    loop = asyncio.get_running_loop()
    began, found, known = loop.time(), bytearray(), False
    try:
        async with asyncio.timeout(IDLE) as patience:
            async for part in parts:
                found += part
                if len(found) > limit:
                    raise _too_large(limit)
                if len(found) > UNKNOWN and not known:
                    await identify()
                    known = True
                if len(found) > _SMALL:
                    patience.reschedule(min(loop.time(), began + len(found) / PACE) + IDLE)
    except TimeoutError as error:
        raise UsageError("the body did not arrive in time") from error
    return bytes(found)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes") if limit else TooLarge("this route takes no body")
