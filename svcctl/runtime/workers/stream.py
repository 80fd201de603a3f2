"""`ReadableStream`: a body that is read once, chunk by chunk, and can be split in two.

A body that is known whole stays so: who passes it on (a response, a binding call) never pays for the stream.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from inspect import isasyncgen
from typing import Any, NamedTuple, Self

Octets = bytes


class BodyUsedError(OSError):
    """A body is read once; `clone()` before the first reading gives it twice."""

    def __init__(self, text: str = "Body already used") -> None:
        super().__init__(text)


class Chunk(bytes):
    """Bytes that also answer as the buffers do that handlers get on Cloudflare."""

    __slots__ = ()

    def to_bytes(self) -> bytes:
        return bytes(self)

    def to_py(self) -> memoryview:
        return memoryview(self)

    @property
    def byteLength(self) -> int:  # noqa: N802  # the platform's name
        return len(self)


class Reading(NamedTuple):
    done: bool
    value: Chunk | None


class ReadableStream:
    """Iterate over it with `async for`. Made from bytes or from any async iterable of bytes and str."""

    __slots__ = ("_broken", "_disturbed", "_finished", "_source", "_whole")

    def __init__(self, source: "Octets | AsyncIterable[Any]") -> None:
        self._whole: Octets | None = None
        self._source: AsyncIterator[Any] | None = None
        if isinstance(source, Octets):
            self._whole = source
        else:
            self._source = source.__aiter__()
        self._disturbed = False
        self._finished = False
        self._broken: BaseException | None = None

    @property
    def disturbed(self) -> bool:
        """Somebody began to read it, or took it over."""
        return self._disturbed

    @property
    def locked(self) -> bool:
        return self._disturbed

    def whole(self) -> Octets | None:
        """All of it, if nothing need be awaited for that; it counts as read then."""
        if self._whole is None or self._disturbed:
            return None
        self._disturbed = self._finished = True
        return self._whole

    def take(self) -> "ReadableStream":
        """The same content for a new owner: this one counts as read."""
        if self._disturbed:
            raise BodyUsedError
        taken = ReadableStream.__new__(ReadableStream)
        taken._whole, taken._source = self._whole, self._source
        taken._disturbed = taken._finished = False
        taken._broken = None
        self._disturbed = self._finished = True
        self._source = None
        return taken

    async def next_chunk(self) -> Octets | None:
        """Never empty; None at the end."""
        self._disturbed = True
        if self._finished:
            return None
        if self._broken is not None:
            raise self._broken
        source = self._source
        if source is None:
            self._finished = True
            return self._whole or None
        while True:
            try:
                chunk = await source.__anext__()
            except StopAsyncIteration:
                self._finished = True
                self._source = None
                return None
            except BaseException as error:
                self._fail(error)
                raise
            if chunk := _octets(chunk):
                return chunk

    def _fail(self, error: BaseException) -> None:
        """A source that failed never looks finished to the next reader: half a body must not pass for a whole one."""
        if isinstance(error, Exception):
            self._broken = error
        elif isasyncgen(self._source):
            self._broken = BodyUsedError("The body can't be read on: whoever read it was cancelled")

    async def rest(self) -> Octets:
        """What has not been read, joined."""
        found: list[Octets] = []
        while (chunk := await self.next_chunk()) is not None:
            found.append(chunk)
        return found[0] if len(found) == 1 else b"".join(found)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        chunk = await self.next_chunk()
        if chunk is None:
            raise StopAsyncIteration
        return Chunk(chunk)

    async def cancel(self, _reason: object = None) -> None:
        """The rest is not wanted: the source is closed."""
        self._disturbed = self._finished = True
        source, self._source = self._source, None
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()

    aclose = cancel

    def tee(self) -> "tuple[ReadableStream, ReadableStream]":
        """Two that each give all of it. What one has read and the other not is kept in memory."""
        if self._disturbed:
            raise BodyUsedError
        if self._whole is not None:
            self._disturbed = self._finished = True
            return ReadableStream(self._whole), ReadableStream(self._whole)
        fork = _Fork(self.take())
        self._disturbed = True
        return ReadableStream(_Branch(fork, 0)), ReadableStream(_Branch(fork, 1))

    def getReader(self) -> "Reader":  # noqa: N802  # the platform's name
        return Reader(self)

    get_reader = getReader


class Reader:
    """As JavaScript's: `await reader.read()` gives `done` and `value`."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream

    async def read(self) -> Reading:
        chunk = await self._stream.next_chunk()
        return Reading(done=True, value=None) if chunk is None else Reading(done=False, value=Chunk(chunk))

    async def cancel(self, _reason: object = None) -> None:
        await self._stream.cancel()

    def releaseLock(self) -> None:  # noqa: N802  # the platform's name
        """Nothing is locked."""


class _Fork:
    """What two branches share: one of them reads on, both are given what it read."""

    __slots__ = ("lock", "queues", "stream")

    def __init__(self, stream: ReadableStream) -> None:
        self.stream = stream
        self.lock = asyncio.Lock()
        self.queues: list[deque[Octets | Exception | None] | None] = [deque(), deque()]

    async def next_chunk(self, branch: int) -> Octets:
        queue = self.queues[branch]
        if queue is None:
            raise StopAsyncIteration
        if not queue:
            async with self.lock:
                if not queue:
                    await self._read()
        match queue[0]:
            case None:
                raise StopAsyncIteration
            case Exception() as error:
                raise error
            case chunk:
                queue.popleft()
                return chunk

    async def _read(self) -> None:
        read: Octets | Exception | None
        try:
            read = await self.stream.next_chunk()
        except Exception as error:  # noqa: BLE001  # handed to each branch's reader
            read = error
        for queue in self.queues:
            if queue is not None:
                queue.append(read)

    def drop(self, branch: int) -> bool:
        """Whether nobody is left."""
        self.queues[branch] = None
        return self.queues == [None, None]


class _Branch:
    __slots__ = ("_fork", "_number")

    def __init__(self, fork: _Fork, number: int) -> None:
        self._fork = fork
        self._number = number

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Octets:
        return await self._fork.next_chunk(self._number)

    async def aclose(self) -> None:
        if self._fork.drop(self._number):
            await self._fork.stream.cancel()

    def __del__(self) -> None:
        self._fork.drop(self._number)


def _octets(chunk: object) -> Octets:
    if type(chunk) is Octets:
        return chunk
    match chunk:
        case str():
            return chunk.encode()
        case bytes() | bytearray() | memoryview():
            return Octets(chunk)
    raise TypeError(f"A streamed body yields str or bytes, not {type(chunk).__name__}")
