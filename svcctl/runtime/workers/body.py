"""What Request and Response share: one body, read once."""

import json
from collections.abc import AsyncIterable
from typing import Any

from svcctl.runtime.workers.blob import Blob
from svcctl.runtime.workers.forms import FormData, parse_form
from svcctl.runtime.workers.headers import Headers, Raw
from svcctl.runtime.workers.stream import BodyUsedError, Chunk, Octets, ReadableStream

Content = bytes | ReadableStream | None

TEXT: Raw = (b"content-type", b"text/plain;charset=UTF-8")
JSON: Raw = (b"content-type", b"application/json")


class Body:
    """Bytes stay bytes until somebody asks for a stream."""

    __slots__ = ("_content", "_used")

    _content: Content
    _used: bool

    @property
    def headers(self) -> Headers:
        raise NotImplementedError

    def content(self) -> Content:
        """Unread, as it lies here."""
        return self._content

    @property
    def body(self) -> ReadableStream | None:
        """None where there is no body."""
        content = self.content()
        if isinstance(content, Octets):
            content = ReadableStream(content)
            if self._used:
                content.whole()
            self._content = content
        return content

    @property
    def body_used(self) -> bool:
        content = self._content
        return content.disturbed if isinstance(content, ReadableStream) else self._used

    bodyUsed = body_used  # noqa: N815  # the platform's name

    def take(self) -> Content:
        """The content for a new owner. Here it counts as read."""
        content = self.content()
        if isinstance(content, Octets):
            if self._used:
                raise BodyUsedError
            self._used = True
            return content
        return None if content is None else content.take()

    def split(self) -> Content:
        """The content a second time, here it stays unread."""
        content = self.content()
        if isinstance(content, ReadableStream):
            self._content, other = content.tee()
            return other
        if self._used:
            raise BodyUsedError
        return content

    async def bytes(self) -> Octets:
        content = self.content()
        if content is None:
            return b""
        if isinstance(content, Octets):
            if self._used:
                raise BodyUsedError
            self._used = True
            return content
        if content.disturbed:
            raise BodyUsedError
        return await content.rest()

    async def text(self) -> str:
        return _text(await self.bytes())

    async def array_buffer(self) -> Chunk:
        return Chunk(await self.bytes())

    arrayBuffer = array_buffer  # noqa: N815  # the platform's name
    buffer = array_buffer

    async def blob(self) -> Blob:
        return Blob(await self.bytes(), content_type=self.headers.get("content-type"))

    async def form_data(self) -> FormData:
        kind = self.headers.get("content-type")
        return parse_form(await self.bytes(), kind)

    formData = form_data  # noqa: N815  # the platform's name


def content_of(body: object, whose: str) -> tuple[Content, Raw | None]:
    """A body as it was given, and the content type that it has by itself. Raises TypeError for what is none."""
    match body:
        case None:
            return None, None
        case str():
            return body.encode(), TEXT
        case bytes():
            return body, None
        case bytearray() | memoryview():
            return bytes(body), None
        case ReadableStream():
            # Shared, not taken over: whoever had it may still read it first, as on the platform.
            if body.disturbed:
                raise BodyUsedError
            return body, None
        case FormData():
            encoded, kind = body.encode()
            return encoded, (b"content-type", kind.encode())
        case Blob():
            return body.content, (b"content-type", body.type.encode()) if body.type else None
        case AsyncIterable():
            return ReadableStream(body), None
    raise _refused(body, whose)


def _refused(body: object, whose: str) -> TypeError:
    error = TypeError(f"Unsupported type in {whose}: {type(body).__name__}")
    if isinstance(body, dict | list | tuple | int | float):
        error.add_note("JSON: Response.json(value), or json.dumps(value) as the body.")
    elif hasattr(body, "__next__"):
        error.add_note("To stream, write the generator as `async def`.")
    return error


def _text(octets: Octets) -> str:
    return octets.decode("utf-8", "replace").removeprefix("\ufeff")


def loads(octets: Octets, options: dict[str, Any]) -> Any:
    return json.loads(_text(octets), **options)
