"""Service bindings: one service calls another on the same event loop, at the price of a function call.

`await env.AUTH.fetch(request)` awaits the other's handler; `await env.AUTH.check(token)` calls a method of a new
instance of its entrypoint class. What is checked on the way is what keeps a circle of bindings from eating the worker:
the depth, kept in the caller's invocation, and the number of calls, kept in the outer request. There is no timer per
call: the outer request has a deadline, and its end cancels everything below it.
"""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from svcctl.runtime.assembly import Part
from svcctl.runtime.copying import AS_THEY_ARE, copied
from svcctl.runtime.handlers import Handler, NoHandler, as_response, beside
from svcctl.runtime.invocation import DEPTH, Invocation, current
from svcctl.runtime.limits import CallDepthExceeded, LimitExceeded, TooManySubrequests
from svcctl.runtime.workers import Blob, File, FormData, Headers, Request, Response

AS_THEY_ARE.update({Request, Response, Headers, FormData, Blob, File})

# Bound once: at each call a method of an imported name is made anew.
_present, _enter, _leave = current.get, current.set, current.reset


class NoReceiver(TypeError):
    """What a handler calls over a binding is not there. The line that calls it is told, as for any other error."""


class ServiceBinding:
    """What a handler finds in its `env` for `{ service = … }`."""

    def __init__(self, name: str, part: Part, entrypoint: str | None, handler: Callable[[], Handler]) -> None:
        """`handler` is asked at the first call: services may be bound in a circle."""
        self.__dict__.update(_name=name, _part=part, _entrypoint=entrypoint, _handler=handler)

    def __getattr__(self, name: str) -> Any:
        """`fetch` and methods are made when first asked for, and kept."""
        if name.startswith("_"):
            raise AttributeError(f"binding {self._name}: {name} begins with _, so that no other service can call it")
        made = self.__dict__[name] = self._fetch() if name == "fetch" else self._method(name)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"binding {self._name} can't be changed")

    def __repr__(self) -> str:
        return f"<binding {self._name} to {self._part.place}>"

    def _fetch(self) -> Callable[..., Awaitable[Response]]:
        handler: Handler = self._handler()
        begin = handler.begin if self._entrypoint is None else handler.begin_of(self._kind(handler))
        part, env = self._part, handler.env

        async def fetch(request: Request | str, init: dict[str, Any] | None = None, **options: Any) -> Response:
            if init or options or not isinstance(request, Request):
                request = Request(request, **(init or {}), **options)
            caller = _present()  # as below: a function of its own would cost a tenth of the call
            depth, outer = caller.depth, caller.outer
            outer.subrequests -= 1
            if depth >= DEPTH or outer.subrequests < 0:
                raise _too_far(caller, part)
            callee = Invocation(outer, part, env, caller, depth + 1)
            token = _enter(callee)
            try:
                response = await begin(request, callee)
                return response if type(response) is Response else await as_response(response)
            finally:
                _leave(token)

        return fetch

    def _kind(self, handler: Handler) -> type:
        try:
            return handler.entrypoint(self._entrypoint)
        except NoHandler as error:
            raise NoReceiver(f"binding {self._name}: {self._part.place}: {error}") from None

    def _method(self, name: str) -> Callable[..., Awaitable[Any]]:
        handler: Handler = self._handler()
        kind = self._kind(handler)
        function = inspect.getattr_static(kind, name, None)
        if not inspect.isfunction(function):
            raise NoReceiver(f"binding {self._name}: {kind.__name__} of {self._part.place} has no method {name}")
        part, env = self._part, handler.env
        begin = function if inspect.iscoroutinefunction(function) else partial(beside, function)

        async def call(*arguments: Any, **named: Any) -> Any:
            for argument in arguments:
                if type(argument) not in AS_THEY_ARE:
                    arguments = tuple(map(copied, arguments))
                    break
            if named:
                named = {key: copied(value) for key, value in named.items()}
            caller = _present()
            depth, outer = caller.depth, caller.outer
            outer.subrequests -= 1
            if depth >= DEPTH or outer.subrequests < 0:
                raise _too_far(caller, part)
            callee = Invocation(outer, part, env, caller, depth + 1)
            token = _enter(callee)
            try:
                result = await begin(kind(callee, env), *arguments, **named)
            finally:
                _leave(token)
            return result if type(result) in AS_THEY_ARE else copied(result)

        call.__qualname__ = call.__name__ = name
        return call


def _too_far(caller: Invocation, part: Part) -> LimitExceeded:
    return CallDepthExceeded(caller, part.place) if caller.depth >= DEPTH else TooManySubrequests()
