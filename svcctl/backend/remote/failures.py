"""What is said where an API did not do what it was asked: by what it answered, or by how the connection failed."""

import ssl
from collections.abc import Iterator

import msgspec

from svcctl import __version__, errors, wire
from svcctl.backend.messages import REQUEST_HEADER, VERSION_HEADER
from svcctl.backend.remote.library import httpx
from svcctl.errors import Forbidden, NotFound, SvcctlError, Throttled, TooLarge, Unauthorized, Unreachable
from svcctl.text import clean

_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
"""What OpenSSL calls it, by version, where plain http is answered."""
NOT_READY = frozenset({429, 502, 503, 504})
_NAMES = {
    400: "the request is wrong", 401: "not logged in", 403: "not allowed", 404: "nothing there", 413: "too large",
    429: "asked too often", 500: "a bug in the API", 502: "nothing behind its proxy", 503: "not ready",
    504: "no answer behind its proxy",
}  # fmt: skip


class Failures:
    def __init__(self, url: str, *, has_token: bool) -> None:
        self._url = url
        self._has_token = has_token

    def told(self, response: httpx.Response, content: bytes) -> SvcctlError:
        """By an answer: the error of its problem document, where it is one."""
        told = _problem(content)
        if told is None:
            return self._untold(response)
        if response.status_code == 401:
            return self._unauthorized(told.message)
        if told.code == errors.BUG[0]:
            request = response.headers.get(REQUEST_HEADER)
            of = f" (request {clean(request)})" if request else ""
            return Unreachable(
                f"{self._url}: a bug in the API{of}: {told.message}",
                hint="its log says more; what it was asked may be done",
            )
        found = errors.revived(told.code, told.message, told.hint, told.next)
        if found is None:
            return Unreachable(f"{self._url}: {told.message}", hint=told.hint or _versions(response))
        return found

    def of_change(self, response: httpx.Response, content: bytes, *, unsure: bool) -> SvcctlError:
        """Any error but Unreachable means that the change was not done. `unsure`: an earlier try may have done it;
        then whoever did not get as far as the store, which knows its id, can't say."""
        error = self.told(response, content)
        if _problem(content) is None or (unsure and isinstance(error, _BEFORE_THE_STORE)):
            return Unreachable(error.message, hint="what was asked may be done; type it again to know")
        return error

    def _untold(self, response: httpx.Response) -> SvcctlError:
        """Something else answered: a proxy, a balancer, another program."""
        status = response.status_code
        what = f"{self._url} answered {status}"
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
        return Unreachable(what, hint=None if status in NOT_READY else hint)

    def _unauthorized(self, message: str) -> SvcctlError:
        if self._has_token:
            return Unauthorized(message, hint=f"{self._url} does not take this token", next=f"svcctl login {self._url}")
        return Unauthorized(f"no token for {self._url} is known here", next=f"svcctl login {self._url}")

    def unreachable(self, error: httpx.HTTPError, connect: float) -> SvcctlError:
        """Without an answer, which it had `connect` seconds for to begin."""
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLError):
                return self._untrusted(cause)
        match error:
            case httpx.ConnectTimeout():
                return Unreachable(f"{self._url} can't be reached: no answer in {connect:g} seconds")
            case httpx.TimeoutException():
                return Unreachable(f"{self._url} did not answer in time", hint="it may be busy; type the command again")
            case httpx.ProxyError():
                return Unreachable(f"{self._url}: the proxy refused: {clean(str(error))}", hint="look at HTTPS_PROXY")
            case httpx.ConnectError():
                return Unreachable(
                    f"{self._url} can't be reached: {_why(error)}", hint="is it running there, and is the URL right?"
                )
            case httpx.DecodingError():
                return Unreachable(f"{self._url} gave an answer that can't be decoded")
        return Unreachable(
            f"the connection to {self._url} broke: {_why(error)}",
            hint="what was asked may be done; type it again to know",
        )

    def _untrusted(self, error: ssl.SSLError) -> SvcctlError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{self._url}: its certificate is not trusted: {clean(error.verify_message)}",
                hint="SSL_CERT_FILE names a file of certificates to trust instead of the well-known ones",
            )
        if error.reason in _NO_TLS:
            return Unreachable(f"{self._url} does not speak TLS", hint="http:// is for an API on this machine")
        return Unreachable(f"{self._url}: TLS failed: {clean(error.reason or str(error))}")


_BEFORE_THE_STORE = (Unauthorized, Forbidden, TooLarge, Throttled)


class _Told(msgspec.Struct):
    code: str
    message: str
    hint: str | None = None
    next: str | None = None


class _Problem(msgspec.Struct):
    error: _Told


def _problem(content: bytes) -> _Told | None:
    """None: something else answered."""
    try:
        return wire.decode(content, _Problem).error
    except (msgspec.MsgspecError, RecursionError):
        return None


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
    return clean(str(error)).removesuffix(".") or type(error).__name__


def _versions(response: httpx.Response) -> str | None:
    theirs = response.headers.get(VERSION_HEADER)
    if theirs is None or theirs == __version__:
        return None
    return f"the API is svcctl {clean(theirs)}, this is {__version__}: bring the older one up to date"
