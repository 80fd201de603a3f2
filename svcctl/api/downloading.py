"""A blob on its way out, or a range of it: one part at a time, and the backend is held until the last, for its stream
may need it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

from litestar import Response
from litestar.response import Stream as Streamed

from svcctl.api.answers import FOREVER
from svcctl.api.asking import Asking
from svcctl.api.guarded import Guarded
from svcctl.api.pool import Lease, Pool
from svcctl.api.ranges import wanted_of
from svcctl.backend.base import Authority, Stream
from svcctl.backend.messages import BLOB
from svcctl.digest import Digest

_CHUNK = 1 << 18


async def blob(pool: Pool, asking: Asking) -> Response[Any]:
    def opened(backend: Guarded) -> tuple[Stream, int, str]:
        asked = asking.asked
        size = backend.blob_size(Digest(asked.digest))
        return asking.route.handler(backend, asked), size, asked.digest

    closing = _Closing(pool)
    lease = await closing.enter()
    try:
        stream, size, digest = await lease.run(asking.doing(opened))
    except BaseException:
        await closing.leave()
        raise
    etag = f'"{digest}"'
    wanted = wanted_of(asking.request.headers.get("range"), size)
    headers = {"etag": etag, "cache-control": FOREVER, "accept-ranges": "bytes"}
    if asking.request.headers.get("if-none-match") == etag:
        await closing.leave(stream)
        return Response(None, status_code=304, headers=headers)
    if wanted is None:
        await closing.leave(stream)
        return Response(b"", status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
    start, length, is_part = wanted
    if is_part:
        headers["content-range"] = f"bytes {start}-{start + length - 1}/{size}"
    headers["content-length"] = str(length)
    parts = _parts(lease, stream, start, length, closing)
    return Streamed(parts, media_type=BLOB, headers=headers, status_code=206 if is_part else 200)


class _Closing:
    """A lease that ends with an answer, not with the function that began it."""

    def __init__(self, pool: Pool) -> None:
        self._context = pool.lease()
        self._lease: Lease | None = None

    async def enter(self) -> Lease:
        self._lease = await self._context.__aenter__()
        return self._lease

    async def leave(self, stream: Stream | None = None) -> None:
        if self._lease is None:
            return
        lease, self._lease = self._lease, None
        try:
            if stream is not None:
                await lease.run(lambda _: stream.close())
        finally:
            await self._context.__aexit__(None, None, None)


async def _parts(lease: Lease, stream: Stream, start: int, length: int, closing: _Closing) -> AsyncIterator[bytes]:
    try:
        await lease.run(lambda _: _skip(stream, start))
        while length:
            part = await lease.run(partial(_next, stream, min(_CHUNK, length)))
            if not part:
                return  # shorter than its answer said: the client sees a cut body
            length -= len(part)
            yield part
    finally:
        with suppress(asyncio.CancelledError):
            await asyncio.shield(closing.leave(stream))


def _next(stream: Stream, size: int, _: Authority) -> bytes:
    return stream.read(size)


def _skip(stream: Stream, count: int) -> None:
    while count and (part := stream.read(min(1 << 20, count))):
        count -= len(part)
