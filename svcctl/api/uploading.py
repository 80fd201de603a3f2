"""A body that arrives on the event loop, read by a thread as a file."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError

from svcctl.errors import Refused, TooLarge, UsageError

IDLE = 30.0
"""Seconds without a byte after which a body is given up."""


class Arriving:
    """A Stream. The next part is fetched when the thread asks for it: a slow disk slows its client down."""

    def __init__(self, parts: AsyncIterator[bytes], limit: int) -> None:
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._left = limit
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
        while not self._ended:
            try:
                part = asyncio.run_coroutine_threadsafe(self._fetch(), self._loop).result(IDLE + 5)
            except (CancelledError, TimeoutError) as error:
                raise Refused("the body stopped arriving", hint="nothing was stored") from error
            self._ended = part is None
            if part:
                self._left -= len(part)
                if self._left < 0:
                    raise TooLarge("the body is too large", hint="send fewer blobs at a time")
                return part
        return b""

    async def _fetch(self) -> bytes | None:
        async with asyncio.timeout(IDLE):
            return await anext(self._parts, None)


async def whole(parts: AsyncIterator[bytes], limit: int, said: str | None) -> bytes:
    """A body of at most `limit` bytes; what says that it has more is not read."""
    if said is not None and (not said.isdecimal() or int(said) > limit):
        raise _too_large(limit)
    found = bytearray()
    try:
        async with asyncio.timeout(IDLE):
            async for part in parts:
                found += part
                if len(found) > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        raise UsageError("the body did not arrive in time") from error
    return bytes(found)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body has more than {limit} bytes") if limit else TooLarge("this route takes no body")
