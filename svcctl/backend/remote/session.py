"""Requests to one API: sent, tried again where that is safe, and answered by a value or an SvcctlError.

*Safe* is what may be done twice with the effect of once: reads, plans, changes (by their id), uploads (by digest).
These are tried again, with back-off and jitter, when the connection could not be made, broke, or led to a server that
was not ready. What an API refused is refused. Redirects are not followed: a token goes to the host that it is for.

An answer is bytes of another machine. It is read up to a limit, must be of the type that was asked for, and where it
is not, the outcome is unknown: Unreachable, not Damage, so that a command which may have been done stays pending.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple, NoReturn, TypeVar

import msgspec

from svcctl import __version__, wire
from svcctl.backend.address import normal
from svcctl.backend.messages import VERSION_HEADER
from svcctl.backend.remote.failures import NOT_READY, Failures
from svcctl.backend.remote.library import httpx
from svcctl.errors import Damage, SvcctlError, Unreachable
from svcctl.sealing.value import SecretValue
from svcctl.text import clean

T = TypeVar("T")
Query = Mapping[str, object]
Body = bytes | Callable[[], Iterable[bytes]]
"""A callable makes it anew for each try."""

JSON = "application/json"
_LARGEST = 256_000_000
_CHUNK = 65_536
_LONGEST_PAUSE = 3.0
_LONGEST_PROBLEM = 1_000_000
_REFUSALS = [status for status in range(300, 600) if status not in NOT_READY]


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
        self._failures = Failures(self.url, has_token=token is not None)
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

    def change(self, kind: type[T], path: str, body: bytes) -> T:
        """For what alters the ledger, under an id: any error but Unreachable is the store's own word that nothing was
        done, whatever came of an earlier try and whoever answered meanwhile."""
        unsure = False

        def once() -> bytes:
            nonlocal unsure
            try:
                with self.answering("POST", path, body=body, accepted=_REFUSALS) as response:
                    content = self.all_of(response)
            except _Broken:
                unsure = True
                raise
            if not response.is_success:
                raise self._failures.of_change(response, content, unsure=unsure)
            return content

        return self.decoded(self.trying(once), kind)

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
            raise _Broken(self._failures.unreachable(error, self._patience.connect)) from error

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

    def _refused(self, response: httpx.Response) -> NoReturn:
        status = response.status_code
        try:
            content = self.all_of(response, _LONGEST_PROBLEM)
        except Damage:
            content = b""
        error = self._failures.told(response, content)
        after = _seconds(response.headers.get("retry-after"))
        if status in NOT_READY and (after or 0) <= _LONGEST_PAUSE:
            raise _Broken(error, after)
        raise error


def _seconds(said: str | None) -> float | None:
    return float(said) if said and said.isascii() and said.isdigit() and len(said) < 6 else None


def _pairs(query: Query) -> httpx.QueryParams:
    """What is None or False is left out; a list repeats its name."""
    pairs: list[tuple[str, str | int | float | bool | None]] = []
    for name, value in query.items():
        if value is None or value is False:
            continue
        many: Iterable[Any] = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        pairs += [(name, "true" if each is True else str(each)) for each in many]
    return httpx.QueryParams(pairs)
