"""Who asks: tokens in requests, and how often one may be wrong.

An address that was wrong too often is told to wait, whatever it sends, before any token is looked for: a guess is not
even tried. Tokens that were right from there a short while ago go on working, for a whole team may share an address.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TypeVar

from svcctl import ages, tokens
from svcctl.backend.base import Authority
from svcctl.digest import Digest
from svcctl.errors import SvcctlError, Throttled, Unauthorized
from svcctl.model import Refusal, Token
from svcctl.rules import access
from svcctl.sealing.value import SecretValue

K = TypeVar("K", bound=Hashable)

FAILURES = 10
"""So many at once, and one more for every so many seconds:"""
EVERY = 6.0
_REMEMBERED = 10_000  # addresses, and tokens that were right
_RIGHT = 3600.0
_USE = 60.0  # seconds between two notes that a token was used


class Callers:
    """Shared by all requests of a process; its parts are plain dicts, changed under the interpreter's lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` never goes back: one that is set anew must hold nobody off for as long as that."""
        self._clock = clock
        self._failures: OrderedDict[str, float] = OrderedDict()
        self._right: OrderedDict[tuple[str, Digest], float] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()

    def hash_of(self, authorization: str | None, peer: str) -> Digest:
        """Raises Unauthorized where there is no token, Throttled where its sender must wait."""
        scheme, _, secret = (authorization or "").partition(" ")
        hash = tokens.hash_of(SecretValue(secret.strip()))
        right = self._right.get((peer, hash))
        if right is None or right < self._clock() - _RIGHT:
            self._hold_off(peer)
        if not authorization:
            raise Unauthorized("a token is needed", hint="Authorization: Bearer svc_…", next="svcctl login")
        if scheme.lower() != "bearer" or not tokens.is_token(secret.strip()):
            self._failed(peer)
            raise Unauthorized("that is no token of svcctl", hint="one begins with svc_", next="svcctl login")
        return hash

    def identify(self, backend: Authority, hash: Digest, peer: str, what: str) -> Token:
        """Raises Unauthorized for a token that is unknown, revoked or expired."""
        token = backend.token(hash)
        why = _wrong(token, ages.timestamp(backend.now()))
        if token is None or why is not None:
            self._failed(peer)
            self._right.pop((peer, hash), None)
            named, id = (token.name, token.id) if token else ("unknown", None)
            note(backend, Refusal(at="", actor=named, peer=peer, what=what, why=why or "", token=id))
            raise Unauthorized(f"{why}", next="svcctl login")
        _remember(self._right, (peer, hash), self._clock())
        self._note_use(backend, token)
        return token

    def _note_use(self, backend: Authority, token: Token) -> None:
        now = self._clock()
        if now - self._used.get(token.id, -_USE) < _USE:
            return
        _remember(self._used, token.id, now)
        try:
            backend.used(token.id)
        except SvcctlError:
            self._used.pop(token.id, None)  # a busy store: the request itself matters more

    def _hold_off(self, peer: str) -> None:
        """Each failure costs its time; who owes more than that of FAILURES waits."""
        owed = self._failures.get(peer, 0.0) - self._clock()
        if owed > (FAILURES - 1) * EVERY:
            raise Throttled(
                "too many wrong tokens came from this address", hint=f"try again in {ages.span(EVERY)} or later"
            )

    def _failed(self, peer: str) -> None:
        now = self._clock()
        _remember(self._failures, peer, max(self._failures.get(peer, 0.0), now) + EVERY)


def note(backend: Authority, refusal: Refusal) -> None:
    with suppress(SvcctlError):  # a busy store or a full disk; the refusal itself stands, and is in the log
        backend.refused(refusal)


def _wrong(token: Token | None, now: str) -> str | None:
    if token is None:
        return "this token is not known here"
    if token.revoked is not None:
        return f"token {token.name!r} was revoked at {token.revoked}"
    if access.is_expired(token, now):
        return f"token {token.name!r} expired at {token.expires}"
    return None


def _remember(known: "OrderedDict[K, float]", key: K, value: float) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
