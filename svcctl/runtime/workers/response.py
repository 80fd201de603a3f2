"""`Response`: what a handler answers, and what `fetch` gives."""

import json
from http import HTTPStatus
from typing import Any, Self

from svcctl.runtime.workers.body import JSON, TEXT, Body, Content, content_of, loads
from svcctl.runtime.workers.headers import Headers, Raw
from svcctl.runtime.workers.urls import absolute

NULL_BODY = frozenset({101, 204, 205, 304})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class HttpStatusError(OSError):
    """By `raise_for_status`."""

    def __init__(self, status: int, status_text: str, url: str) -> None:
        super().__init__(f"{status} {status_text}" + (f" from {url}" if url else ""))
        self.status = status
        self.status_text = status_text
        self.url = url


class Response(Body):
    """The body is str, bytes, a Blob, a FormData, a ReadableStream, or an async iterator of str and bytes; for JSON
    take `Response.json(value)`."""

    __slots__ = ("_headers", "_kind", "_status_text", "redirected", "status", "url")

    _headers: Headers | None
    """None: nobody asked for them yet."""
    _kind: Raw | None
    """The content type that its body has by itself, until it stands in `_headers`."""
    _status_text: str
    redirected: bool
    status: int
    url: str
    """Empty, unless it came from `fetch`."""

    def __init__(
        self,
        body: Any = None,
        status: HTTPStatus | int | None = None,
        status_text: str = "",
        headers: Any = None,
        web_socket: Any = None,
    ) -> None:
        self._used = False
        self.url = ""
        self.redirected = False
        self._status_text = status_text
        self._headers = None
        if type(body) is str:
            self._content = body.encode()
            self._kind = TEXT
        elif isinstance(body, Response):
            self._become(body, plain=status is None and not status_text and headers is None)
            return
        else:
            self._content, self._kind = content_of(body, "Response")
        self.status = 200 if not status else _status(status)
        if self.status in NULL_BODY:
            self._leave_body_out()
        if status_text:
            _check_text(status_text)
        if headers:
            self._headers = own = Headers(headers)
            if self._kind is not None and own.find(b"content-type") is not None:
                self._kind = None
        if web_socket is not None:
            raise TypeError("WebSockets are not supported: svcctl answers HTTP alone")

    def _become(self, other: "Response", *, plain: bool) -> None:
        if not plain:
            raise ValueError("Expected no options when constructing Response from a Response")
        self._content = other.take()
        self._kind, self._headers = other._kind, other._headers
        self.status, self._status_text, self.url = other.status, other._status_text, other.url

    def _leave_body_out(self) -> None:
        """An empty str is what a careful handler gives; anything else would be lost on the way."""
        if self._content:
            raise TypeError("Response with null body status (101, 204, 205, or 304) cannot have a body.")
        self._content = self._kind = None

    @classmethod
    def of_raw(cls, status: int, raw: list[Raw], content: Content, url: str = "", status_text: str = "") -> "Response":
        """Of parts that were checked elsewhere."""
        made = cls.__new__(cls)
        made._content = content
        made._used = made.redirected = False
        made._kind = None
        made._headers = Headers.of_raw(raw)
        made._status_text = status_text
        made.status = status
        made.url = url
        return made

    @property
    def headers(self) -> Headers:
        """May be changed until the response is sent."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers()
        if self._kind is not None:
            headers.raw.append(self._kind)
            self._kind = None
        return headers

    def raw_headers(self) -> list[Raw]:
        """A list of the caller's own."""
        raw = [] if self._headers is None else self._headers.raw.copy()
        if self._kind is not None:
            raw.append(self._kind)
        return raw

    @property
    def ok(self) -> bool:
        return 200 <= self.status <= 299

    @property
    def status_text(self) -> str:
        return self._status_text or _PHRASES.get(self.status, "")

    statusText = status_text  # noqa: N815  # the platform's name

    @property
    def type(self) -> str:
        return "default"

    @property
    def js_object(self) -> Self:
        return self

    def clone(self) -> "Response":
        """Both may be read. Raises BodyUsedError if the body was."""
        return self._with(self.split(), self._kind)

    def replace_body(self, body: Any) -> "Response":
        """Another response with the same status and headers."""
        content, kind = content_of(body, "Response")
        made = self._with(content, kind if self.headers.find(b"content-type") is None else None)
        if made.status in NULL_BODY:
            made._leave_body_out()
        return made

    def _with(self, content: Content, kind: Raw | None) -> "Response":
        made = Response.__new__(Response)
        made._content = content
        made._used = False
        made._kind = kind
        made._headers = None if self._headers is None else self._headers.copy()
        made._status_text = self._status_text
        made.status, made.url, made.redirected = self.status, self.url, self.redirected
        return made

    def raise_for_status(self) -> None:
        if 400 <= self.status < 600:
            raise HttpStatusError(self.status, self.status_text, self.url)

    def json(self: Any, *args: Any, **options: Any) -> Any:
        """Two in one, as on the platform: `await response.json()` reads, `Response.json(value, status=…)` makes."""
        if isinstance(self, Response):
            return self._read_json(options)
        return Response.from_json(self, *args, **options)

    async def _read_json(self, options: dict[str, Any]) -> Any:
        return loads(await self.bytes(), options)

    @staticmethod
    def from_json(
        data: Any,
        status: HTTPStatus | int | None = None,
        status_text: str = "",
        headers: Any = None,
    ) -> "Response":
        made = Response(json.dumps(data), status, status_text, headers)
        if made._kind is not None:
            made._kind = JSON
        return made

    @staticmethod
    def redirect(url: str, status: HTTPStatus | int = HTTPStatus.FOUND) -> "Response":
        if int(status) not in _REDIRECTS:
            raise ValueError(f"{int(status)} is not a redirect status code.")
        return Response(None, status, headers={"location": absolute(url)})

    def __repr__(self) -> str:
        shown = [f"status={self.status}"]
        if self.status_text:
            shown.append(f"status_text={self.status_text!r}")
        if kind := self.headers.get("content-type"):
            shown.append(f"content_type={kind!r}")
        if self.url:
            shown.append(f"url={self.url!r}")
        return f"Response({', '.join(shown)})"


FetchResponse = Response


def _status(given: HTTPStatus | int) -> int:
    try:
        status = int(given)
    except (TypeError, ValueError):
        raise TypeError(f"A status is a number, not {given!r}") from None
    if not 200 <= status <= 599:
        raise ValueError(f"Responses may only be constructed with status codes in the range 200 to 599, not {status}.")
    return status


def _check_text(status_text: str) -> None:
    if not status_text.isascii() or not status_text.isprintable():
        raise TypeError(f"Invalid statusText: {status_text!r}")
