"""`Blob` and `File`: bytes with a type, and with a name."""

from collections.abc import Iterable
from enum import StrEnum
from time import time
from typing import Any, Self, Union

from svcctl.runtime.workers.stream import Chunk, ReadableStream

Octets = bytes
"""`bytes` is a method's name below."""
BlobValue = Union[str, bytes, bytearray, memoryview, "Blob"]


class BlobEnding(StrEnum):
    TRANSPARENT = "transparent"
    NATIVE = "native"


class Blob:
    __slots__ = ("_bytes", "_type")

    def __init__(
        self,
        blob_parts: "Iterable[BlobValue] | BlobValue" = (),
        content_type: str | None = None,
        endings: BlobEnding | str | None = None,
    ) -> None:
        if endings is not None and endings not in tuple(BlobEnding):
            raise TypeError(f'endings is "transparent" or "native", not {endings!r}')
        single = isinstance(blob_parts, str | Octets | bytearray | memoryview | Blob)
        if single and not content_type and isinstance(blob_parts, Blob):
            content_type = blob_parts.content_type
        parts: Iterable[Any] = (blob_parts,) if single else blob_parts  # type: ignore[assignment]
        self._bytes = b"".join(_part(part, native=endings == BlobEnding.NATIVE) for part in parts)
        self._type = _type(content_type)

    @property
    def size(self) -> int:
        return len(self._bytes)

    @property
    def content_type(self) -> str:
        return self._type

    @property
    def type(self) -> str:
        return self._type

    @property
    def js_object(self) -> Self:
        return self

    @property
    def content(self) -> Octets:
        """At once, without awaiting: this is our own addition."""
        return self._bytes

    async def text(self) -> str:
        return self._bytes.decode("utf-8", "replace")

    async def bytes(self) -> Octets:
        return self._bytes

    async def array_buffer(self) -> Chunk:
        return Chunk(self._bytes)

    arrayBuffer = array_buffer  # noqa: N815  # the platform's name

    def stream(self) -> ReadableStream:
        return ReadableStream(self._bytes)

    def slice(self, start: int | None = None, end: int | None = None, content_type: str | None = None) -> "Blob":
        return Blob([self._bytes[start:end]], content_type=content_type)

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return f"Blob(size={self.size}, content_type={self._type!r})"


class File(Blob):
    __slots__ = ("_modified", "_name")

    def __init__(
        self,
        blob_parts: "Iterable[BlobValue] | BlobValue",
        filename: str,
        content_type: str | None = None,
        endings: BlobEnding | str | None = None,
        last_modified: int | None = None,
    ) -> None:
        super().__init__(blob_parts, content_type, endings)
        if last_modified is None:
            last_modified = blob_parts.last_modified if isinstance(blob_parts, File) else int(time() * 1000)
        self._name = filename
        self._modified = last_modified

    @property
    def name(self) -> str:
        return self._name

    @property
    def last_modified(self) -> int:
        """In milliseconds."""
        return self._modified

    lastModified = last_modified  # noqa: N815  # the platform's name

    def __repr__(self) -> str:
        return f"File(name={self._name!r}, size={self.size}, content_type={self.content_type!r})"


def _part(part: object, *, native: bool) -> bytes:
    match part:
        case str():
            return (part.replace("\r\n", "\n").replace("\r", "\n") if native else part).encode()
        case bytes():
            return part
        case Blob():
            return part.content
    try:
        return bytes(memoryview(part))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"Don't know how to handle {type(part)} for Blob()") from None


def _type(given: str | None) -> str:
    """Lower case; empty if it could not stand in a header."""
    return given.lower() if given and given.isascii() and given.isprintable() else ""
