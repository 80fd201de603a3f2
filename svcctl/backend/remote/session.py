"""Requests to one API: sent, tried again where that is safe, and answered by a value or an SvcctlError.

*Safe* is what may be done twice with the effect of once: reads, plans, changes (by their id), uploads (by digest).
These are tried again, with back-off and jitter, when the connection could not be made, broke, or led to a server that
was not ready. What an API refused is refused. Redirects are not followed: a token goes to the host that it is for.

An answer is bytes of another machine. It is read up to a limit, must be of the type that was asked for, and where it
is not, the outcome is unknown: Unreachable, not Damage, so that a command which may have been done stays pending.
"""

import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from svcctl import __version__, errors, wire
from svcctl.backend.address import normal
from svcctl.backend.messages import REQUEST_HEADER, VERSION_HEADER
from svcctl.backend.remote.library import httpx
from svcctl.errors import Damage, Forbidden, NotFound, SvcctlError, Throttled, TooLarge, Unauthorized, Unreachable
from svcctl.sealing.value import SecretValue
from svcctl.text import clean

T = TypeVar("T")
Query = Mapping[str, object]
Body = bytes | Callable[[], Iterable[bytes]]
"""A callable makes it anew for each try."""

JSON = "application/json"
_LARGEST = 256_000_000
_CHUNK = 65_536
_NOT_READY = frozenset({429, 502, 503, 504})
_LONGEST_PAUSE = 3.0
_NAMES = {
    400: "the request is wrong", 401: "not logged in", 403: "not allowed", 404: "nothing there", 413: "too large",
    429: "asked too often", 500: "a bug in the API", 502: "nothing behind its proxy", 503: "not ready",
    504: "no answer behind its proxy",
}  # fmt: skip


class Patience(NamedTuple):
    """Seconds."""

    connect: float = 5.0
    answer: float = 60.0
    """Between two parts of an answer."""
    pauses: tuple[float, ...] = (0.1, 0.3, 0.9)
    """Before each further try."""
    longest: float = 20.0
    """No try begins later than this after the first one."""


PATIENT = Patience()
HASTY = Patience(connect=0.5, answer=1.5, pauses=())


class _Broken(Exception):
    """A try that came to nothing and may be made again, and what to say if it was the last."""

    def __init__(self, error: SvcctlError, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.after = after
        """Seconds, where the server said so."""


class Session:
    """One client with its connections. May be used by several threads; not after a fork."""

    def __init__(
        self,
        url: str,
        token: SecretValue | None,
        transport: httpx.BaseTransport | None = None,
        patience: Patience = PATIENT,
    ) -> None:
        self.url = normal(url)
        self._patience = patience
        self._has_token = token is not None
        headers = {"user-agent": f"svcctl/{__version__}", VERSION_HEADER: __version__, "accept": JSON}
        if token is not None:
            headers["authorization"] = b"Bearer " + token.reveal()  # type: ignore[assignment]
        # Plain http stays on this machine: no proxy of the environment is shown the token, and no certificate is read.
        secure = self.url.startswith("https:")
        try:
            self._client = httpx.Client(
                base_url=self.url,
                headers=headers,
                transport=transport,
                verify=secure and transport is None,
                trust_env=secure,
                limits=httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=4.0),
            )
        except (OSError, ValueError, httpx.InvalidURL) as error:  # SSL_CERT_FILE, or a proxy's URL
            raise Unreachable(
                f"{self.url}: {clean(str(error))}", hint="look at SSL_CERT_FILE, SSL_CERT_DIR and HTTPS_PROXY"
            ) from error

    def with_patience(self, patience: Patience) -> "Session":
        """The same client and connections."""
        other = copy(self)
        other._patience = patience  # noqa: SLF001  # its own kind
        return other

    def close(self) -> None:
        self._client.close()

    # ---- asking

    def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body | None = None,
        media: str = JSON,
        again: bool = True,
        timeout: float | None = None,
    ) -> T:
        """The answer's document."""
        content = self.content(method, path, query=query, body=body, media=media, again=again, timeout=timeout)
        return self.decoded(content, kind)

    def content(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body | None = None,
        media: str = JSON,
        again: bool = True,
        timeout: float | None = None,
    ) -> bytes:
        def read() -> bytes:
            with self.answering(method, path, query=query, body=body, media=media, timeout=timeout) as response:
                return self.all_of(response)

        return self.trying(read, again=again)

    def decoded(self, content: bytes, kind: type[T]) -> T:
        try:
            return wire.decode(content, kind)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Unreachable(
                f"{self.url} gave an answer that can't be understood",
                hint="is it an API of svcctl, and of a version near this one (svcctl --version)?",
            ) from error

    @contextmanager
    def answering(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body | None = None,
        media: str = JSON,
        headers: Mapping[str, str] | None = None,
        accepted: Sequence[int] = (),
        timeout: float | None = None,
    ) -> Iterator[httpx.Response]:
        """One try: a good answer (2xx, or one of `accepted`) whose body is not read yet. Inside, what goes wrong on the
        way is told as it is for the request itself."""
        sent = dict(headers or {})
        if body is not None:
            sent["content-type"] = media
        request = self._client.build_request(
            method,
            path,
            params=_pairs(query or {}),
            content=body() if callable(body) else body,
            headers=sent,
            timeout=httpx.Timeout(timeout or self._patience.answer, connect=self._patience.connect),
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                if not response.is_success and response.status_code not in accepted:
                    self._refused(response)
                yield response
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise _Broken(self._unreachable(error)) from error

    def all_of(self, response: httpx.Response, most: int = _LARGEST) -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes(_CHUNK):
            size += len(part)
            if size > most:
                raise Damage(f"{self.url} gave an answer of more than {most // 1_000_000} MB where it can't be so long")
            parts.append(part)
        return b"".join(parts)

    def trying(self, work: Callable[[], T], *, again: bool = True) -> T:
        """Until it is answered, refused, or patience is over. `work` uses `answering`."""
        began = time.monotonic()
        pauses = iter(self._patience.pauses if again else ())
        while True:
            try:
                return work()
            except _Broken as broken:
                pause = next(pauses, None)
                if pause is not None:
                    pause = broken.after if broken.after is not None else pause * random.uniform(0.5, 1.5)  # noqa: S311
                if pause is None or time.monotonic() - began + pause > self._patience.longest:
                    raise broken.error from broken.__cause__
                time.sleep(pause)

    # ---- what went wrong

    def _refused(self, response: httpx.Response) -> NoReturn:
        status = response.status_code
        error = self._told(response) or self._untold(response)
        after = _seconds(response.headers.get("retry-after"))
        if status in _NOT_READY and (after or 0) <= _LONGEST_PAUSE:
            raise _Broken(error, after)
        raise error

    def _told(self, response: httpx.Response) -> SvcctlError | None:
        """The error of a problem document."""
        try:
            told = wire.decode(self.all_of(response, 1_000_000), _Problem).error
        except (msgspec.MsgspecError, RecursionError, Damage):
            return None
        if response.status_code == 401:
            return self._unauthorized(told.message)
        if told.code == errors.BUG[0]:
            request = response.headers.get(REQUEST_HEADER)
            of = f" (request {clean(request)})" if request else ""
            return Unreachable(
                f"{self.url}: a bug in the API{of}: {told.message}",
                hint="its log says more; what it was asked may be done",
            )
        found = errors.revived(told.code, told.message, told.hint, told.next)
        if found is None:
            return Unreachable(f"{self.url}: {told.message}", hint=told.hint or _versions(response))
        return found

    def _untold(self, response: httpx.Response) -> SvcctlError:
        """Something else answered: a proxy, a balancer, another program."""
        status = response.status_code
        what = f"{self.url} answered {status}"
        if name := _NAMES.get(status):
            what += f": {name}"
        hint = _versions(response) or "that is no answer of svcctl's API; is the URL right?"
        if response.is_redirect:
            where = clean(response.headers.get("location", ""))
            return Unreachable(f"{what}: it sends to {where}", hint="redirects are not followed; name the API itself")
        match status:
            case 401:
                return self._unauthorized(what)
            case 403:
                return Forbidden(what, hint=hint)
            case 404:
                return NotFound(what, hint=hint)
            case 413:
                return TooLarge(what, hint="a proxy before the API may have a limit of its own")
            case 429:
                return Throttled(what, hint="wait a little")
        return Unreachable(what, hint=None if status in _NOT_READY else hint)

    def _unauthorized(self, message: str) -> SvcctlError:
        if self._has_token:
            return Unauthorized(message, hint=f"{self.url} does not take this token", next=f"svcctl login {self.url}")
        return Unauthorized(f"no token for {self.url} is known here", next=f"svcctl login {self.url}")

    def _unreachable(self, error: httpx.HTTPError) -> SvcctlError:
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLError):
                return self._untrusted(cause)
        match error:
            case httpx.ConnectTimeout():
                return Unreachable(f"{self.url} can't be reached: no answer in {self._patience.connect:g} seconds")
            case httpx.TimeoutException():
                return Unreachable(f"{self.url} did not answer in time", hint="it may be busy; type the command again")
            case httpx.ProxyError():
                return Unreachable(f"{self.url}: the proxy refused: {clean(str(error))}", hint="look at HTTPS_PROXY")
            case httpx.ConnectError():
                return Unreachable(f"{self.url} can't be reached: {_why(error)}")
            case httpx.DecodingError():
                return Unreachable(f"{self.url} gave an answer that can't be decoded")
        return Unreachable(
            f"the connection to {self.url} broke: {_why(error)}",
            hint="what was asked may be done; type it again to know",
        )

    def _untrusted(self, error: ssl.SSLError) -> SvcctlError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{self.url}: its certificate is not trusted: {clean(error.verify_message)}",
                hint="SSL_CERT_FILE names a file of certificates to trust instead of the well-known ones",
            )
        return Unreachable(f"{self.url}: TLS failed: {clean(error.reason or str(error))}")


class _Told(msgspec.Struct):
    code: str
    message: str
    hint: str | None = None
    next: str | None = None


class _Problem(msgspec.Struct):
    error: _Told


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _why(error: Exception) -> str:
    """The operating system's words where there are any: httpx repeats the first of several addresses at most."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return clean(str(error)) or type(error).__name__


def _seconds(said: str | None) -> float | None:
    return float(said) if said and said.isascii() and said.isdigit() and len(said) < 6 else None


def _versions(response: httpx.Response) -> str | None:
    theirs = response.headers.get(VERSION_HEADER)
    if theirs is None or theirs == __version__:
        return None
    return f"the API is svcctl {clean(theirs)}, this is {__version__}: bring the older one up to date"


def _pairs(query: Query) -> httpx.QueryParams:
    """What is None or False is left out; a list repeats its name."""
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in query.items():
        if value is None or value is False:
            continue
        many: Iterable[Any] = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        pairs += [(name, "true" if each is True else str(each)) for each in many]
    return httpx.QueryParams(pairs)
