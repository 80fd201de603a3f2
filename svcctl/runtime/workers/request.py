"""`Request`: what a handler is called with, and what `fetch` sends."""

import re
from http import HTTPMethod
from typing import Any, Self

from svcctl.runtime.workers.body import Body, Content, content_of, loads
from svcctl.runtime.workers.headers import Headers
from svcctl.runtime.workers.urls import absolute

_METHODS = {method.value: method for method in HTTPMethod}
_FORBIDDEN = frozenset({"CONNECT", "TRACE", "TRACK"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
REDIRECTS = ("follow", "manual", "error")


class Request(Body):
    """`Request(url, method=…, headers=…, body=…, redirect=…)`, or of another request with some of that changed; its
    body is then taken over. Other options that the platform knows are accepted and change nothing."""

    __slots__ = ("_headers", "_method", "_redirect", "_url", "cf")

    _headers: Headers | None
    _method: str
    _redirect: str
    _url: str | None
    cf: Any
    """What Cloudflare knows of a client. None on a request that a handler made, an empty dict on an incoming one."""

    def __init__(
        self,
        input: "Request | str",
        *,
        method: str | HTTPMethod | None = None,
        headers: Any = None,
        body: Any = None,
        redirect: str | None = None,
        cf: Any = None,
        **_options: Any,
    ) -> None:
        other = input if isinstance(input, Request) else None
        self._url = other.url if other is not None else absolute(input)
        self._method = _method(method if method is not None else other.raw_method if other is not None else "GET")
        self._redirect = redirect if redirect is not None else other._redirect if other is not None else "follow"
        self.cf = cf if cf is not None else other.cf if other is not None else None
        if self._redirect not in REDIRECTS:
            raise TypeError(f'Invalid redirect value, must be one of "follow", "manual" or "error": {redirect!r}')
        self._headers = Headers(headers if headers is not None else other.headers if other is not None else None)
        self._used = False
        self._content, kind = content_of(body, "Request")
        if self._content is not None and self._method in {"GET", "HEAD"}:
            raise TypeError("Request with a GET or HEAD method cannot have a body.")
        if self._content is None and other is not None and self._method not in {"GET", "HEAD"}:
            self._content = other.take()
        if kind is not None and self._headers.find(b"content-type") is None:
            self._headers.raw.append(kind)

    @property
    def url(self) -> str:
        url = self._url
        assert url is not None  # noqa: S101  # an incoming request, which makes it late, has its own
        return url

    @property
    def headers(self) -> Headers:
        headers = self._headers
        assert headers is not None  # noqa: S101  # the same
        return headers

    @property
    def raw_method(self) -> str:
        return self._method

    @property
    def method(self) -> HTTPMethod | str:
        """Equal to its name; a plain str for a method that `http.HTTPMethod` does not know."""
        method = self.raw_method
        return _METHODS.get(method, method)

    @property
    def redirect(self) -> str:
        return self._redirect

    def clone(self) -> "Request":
        """Both may be read. Raises BodyUsedError if the body was."""
        copy = Request.__new__(Request)
        copy._content = self.split()
        copy._used = False
        copy._url = self.url
        copy._method = self.raw_method
        copy._redirect = self._redirect
        copy._headers = self.headers.copy()
        copy.cf = self.cf
        return copy

    async def json(self, **options: Any) -> Any:
        return loads(await self.bytes(), options)

    @property
    def js_object(self) -> Self:
        return self

    def __repr__(self) -> str:
        return f"Request(method={self.raw_method!r}, url={self.url!r})"


for _name, _value in {
    "cache": "default",
    "credentials": "include",
    "destination": "",
    "integrity": "",
    "is_history_navigation": False,
    "keepalive": False,
    "mode": "cors",
    "referrer": "about:client",
    "referrer_policy": "",
    "signal": None,
}.items():
    # What a request of a browser has beyond ours: constants, so that code which looks at them goes on.
    setattr(Request, _name, _value)


def as_request(resource: Any, options: dict[str, Any]) -> Request:
    """What `fetch(resource, **options)` means, of the outbound one and of a binding's alike."""
    if not options and isinstance(resource, Request):
        return resource
    return Request(resource, **options)


def _method(given: str | HTTPMethod) -> str:
    method = str(given)
    if _TOKEN.fullmatch(method) is None:
        raise TypeError(f"Invalid HTTP method string: {method!r}")
    if method.upper() in _FORBIDDEN:
        raise TypeError(f"Requests with the method {method} can't be sent")
    return method.upper() if method.upper() in _METHODS else method


__all__ = ["Content", "Request", "as_request"]
