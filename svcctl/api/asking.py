"""One request on its way to its route: who asks, and for what. What is done for them is done by a thread, on a
`Guarded` backend."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from litestar import Request

from svcctl import tokens, wire
from svcctl.api.callers import Callers, note
from svcctl.api.guarded import Guarded, OutOfReach
from svcctl.api.parsing import body_of, query_of
from svcctl.api.route import Route
from svcctl.backend.base import Authority
from svcctl.commands import Command
from svcctl.errors import Forbidden, Unauthorized
from svcctl.model import Kind, Refusal, Token

T = TypeVar("T")
Asked = Request[Any, Any, Any]


class Asking:
    def __init__(self, route: Route, request: Asked, callers: Callers) -> None:
        """Raises Unauthorized where there is no token, Throttled where its sender must wait."""
        self.route = route
        self.request = request
        self._callers = callers
        self._peer = request.client.host if request.client else ""
        self._hash = callers.hash_of(request.headers.get("authorization"), self._peer)

    def known(self, backend: Authority) -> None:
        """Raises Forbidden where they are not, or may not ask this."""
        self.doing(lambda _: None)(backend)

    def doing(self, work: Callable[[Guarded], T], body: bytes = b"") -> Callable[[Authority], T]:
        """`work` in the name of who asks. A refusal of somebody known is kept; one of a token that is not, `Callers`
        keeps."""

        def do(backend: Authority) -> T:
            try:
                return work(self._entered(backend))
            except Unauthorized:
                raise
            except (Forbidden, OutOfReach) as error:
                holder: Token = self.request.scope["state"]["holder"]
                what = self._kind_of(body) or f"{self.route.method} {tokens.masked(self.request.url.path[:200])}"
                why = error.why if isinstance(error, OutOfReach) else error.message
                note(backend, Refusal(at="", actor=holder.name, peer=self._peer, what=what, why=why, token=holder.id))
                raise

        return do

    def _entered(self, backend: Authority) -> Guarded:
        token = self._callers.identify(backend, self._hash, self._peer, f"{self.route.method} {self.route.path}")
        self.request.scope["state"]["token"] = token.name
        self.request.scope["state"]["holder"] = token
        guarded = Guarded(backend, token)
        guarded.require(self.route.power)
        return guarded

    def _kind_of(self, body: bytes) -> Kind | None:
        """Of the command that it carries, also where it was refused before it was looked at."""
        if self.route.body == Command:
            with suppress(msgspec.MsgspecError, RecursionError):
                return wire.decode(body, _OfKind).kind
        return None

    @property
    def asked(self) -> Any:
        """What path and query say, as the route takes it."""
        kind: Any = self.route.asked
        return query_of(self.request.scope["query_string"], self.request.path_params, kind)

    def answering(self, body: bytes) -> Callable[[Authority], Any]:
        """What the route says, as `doing`."""

        def answer(backend: Guarded) -> Any:
            given: dict[str, Any] = {}
            if self.route.asked:
                given["asked"] = self.asked
            if self.route.limit:
                given["body"] = body if self.route.kind == "bytes" else body_of(body, self.route.body)
            return self.route.handler(backend, **given)

        return self.doing(answer, body)


class _OfKind(msgspec.Struct):
    kind: Kind
