"""Handler code in its forms, made one: something that takes a Request and answers a Response.

A main module has one of: a class `Default` (a WorkerEntrypoint), a function `fetch(request, env, ctx)` or
`on_fetch(request, env)`, or an ASGI or WSGI application; `main = "app.py:app"` names any of them.
"""

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, Literal

from svcctl.names import did_you_mean
from svcctl.runtime import asgi, wsgi
from svcctl.runtime.env import Env
from svcctl.runtime.invocation import Invocation
from svcctl.runtime.threads import in_thread
from svcctl.runtime.tracebacks import Explained
from svcctl.runtime.workers import Request, Response, WorkerEntrypoint

Begin = Callable[[Request, Invocation], Awaitable[Any]]
"""Starts an answer: what is to be awaited, inside the invocation that it is given. No coroutine of its own, because
each costs; so whoever awaits it makes sure of the result by `as_response`."""
Form = Literal["class", "function", "asgi", "wsgi"]
_CONVENTIONAL = ("Default", "fetch", "on_fetch", "app", "application")


class NoHandler(Explained):
    """The main module has nothing that could answer."""


class NoResponse(Explained, TypeError):
    """A handler answered with something else."""


class Handler:
    """What one part answers with. `state` is that of its lifespan, for ASGI."""

    def __init__(self, module: ModuleType, name: str | None, env: Env) -> None:
        self.env = env
        self.module = module
        self.subject = _found(module, name)
        self.form = form_of(self.subject)
        self.state: dict[str, Any] = {}
        self.begin = self._begin()

    async def fetch(self, request: Request, invocation: Invocation) -> Response:
        return await as_response(await self.begin(request, invocation))

    def begin_of(self, kind: type) -> Begin:
        """As `begin`, of another class of the module."""
        return _of_class(kind, self.env)

    def entrypoint(self, name: str | None) -> type:
        """The class that RPC calls go to. Raises NoHandler."""
        if name is None:
            if isinstance(self.subject, type):
                return self.subject
            raise NoHandler(
                "its handler is no class; methods are called on a WorkerEntrypoint, such as "
                "class Default(WorkerEntrypoint)"
            )
        found = getattr(self.module, name, None)
        if not isinstance(found, type):
            own = self.module.__name__
            classes = [
                key for key, value in vars(self.module).items() if isinstance(value, type) and value.__module__ == own
            ]
            raise NoHandler(f"there is no class {name}; {did_you_mean(name, classes) or 'the module has none'}")
        return found

    # ---- forms

    def _begin(self) -> Begin:
        match self.form:
            case "class":
                return _of_class(self.subject, self.env)
            case "function":
                return _of_function(self.subject, self.env)
            case "asgi":
                return self._asgi
            case "wsgi":
                return self._wsgi

    def _asgi(self, request: Request, invocation: Invocation) -> Awaitable[Response]:
        return asgi.fetch(self.subject, request, self.env, invocation, state=self.state)

    def _wsgi(self, request: Request, invocation: Invocation) -> Awaitable[Response]:
        return wsgi.fetch(self.subject, request, self.env, invocation)


def _found(module: ModuleType, name: str | None) -> Any:
    if name is not None:
        found: Any = module
        for part in name.split("."):
            if not hasattr(found, part):
                raise NoHandler(f"there is no {part} at the top level of its main file")
            found = getattr(found, part)
        return found
    for usual in _CONVENTIONAL:
        found = module.__dict__.get(usual)
        # `from workers import fetch` binds a name of svcctl's own: the outbound one.
        if found is not None and not str(getattr(found, "__module__", "")).startswith("svcctl."):
            return found
    for found in module.__dict__.values():
        if isinstance(found, type) and issubclass(found, WorkerEntrypoint) and found.__module__ == module.__name__:
            return found
    raise NoHandler("its main file has no handler: no class Default, no fetch, on_fetch, app or application")


def form_of(subject: Any) -> Form:
    if isinstance(subject, type):
        if hasattr(subject, "fetch") or issubclass(subject, WorkerEntrypoint):
            return "class"
        return "asgi" if inspect.iscoroutinefunction(_call_of(subject)) else "wsgi"
    name = getattr(subject, "__name__", "")
    if inspect.isfunction(subject) and name in ("fetch", "on_fetch"):
        return "function"
    call = subject if inspect.isroutine(subject) else _call_of(type(subject))
    if call is None:
        raise NoHandler(f"{subject!r} can't be called: it is no application")
    if inspect.iscoroutinefunction(call):
        return "asgi" if _positional(subject) == 3 else "function"
    return "wsgi" if _positional(subject) == 2 else "asgi" if _positional(subject) == 3 else "wsgi"


def _call_of(kind: type) -> Any:
    """What an instance is called with."""
    return next((vars(each)["__call__"] for each in kind.__mro__ if "__call__" in vars(each)), None)


def _positional(function: Callable[..., Any]) -> int:
    """How many positional arguments it takes: 0 to 3."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 3
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return 3
    return sum(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters)


def _of_class(kind: type, env: Env) -> Begin:
    fetch = getattr(kind, "fetch", None)
    if fetch is None:

        def absent(_request: Request, _invocation: Invocation) -> Awaitable[Any]:
            raise NoHandler(f"class {kind.__name__} has no fetch")

        return absent
    takes_request = _positional(fetch) > 1 or not inspect.isfunction(inspect.unwrap(fetch))
    if not inspect.iscoroutinefunction(fetch):

        def threaded(request: Request, invocation: Invocation) -> Awaitable[Any]:
            bound = kind(invocation, env).fetch
            return beside(bound, request) if takes_request else beside(bound)

        return threaded
    if not takes_request:

        def without_request(_request: Request, invocation: Invocation) -> Awaitable[Any]:
            begun: Awaitable[Any] = kind(invocation, env).fetch()
            return begun

        return without_request

    def with_request(request: Request, invocation: Invocation) -> Awaitable[Any]:
        begun: Awaitable[Any] = kind(invocation, env).fetch(request)
        return begun

    return with_request


def _of_function(function: Callable[..., Any], env: Env) -> Begin:
    count = min(_positional(function), 3)

    def threaded(request: Request, invocation: Invocation) -> Awaitable[Any]:
        return beside(function, *(request, env, invocation)[:count])

    def call(request: Request, invocation: Invocation) -> Awaitable[Any]:
        begun: Awaitable[Any] = function(*(request, env, invocation)[:count])
        return begun

    return call if inspect.iscoroutinefunction(function) else threaded


async def beside(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """A sync function in a thread. It may hand on a coroutine, such as that of a binding's fetch."""
    result = await in_thread(function, *arguments, **named)
    return await result if inspect.isawaitable(result) else result


async def as_response(value: Any) -> Response:
    """A handler may hand on what is still to be awaited, `return fetch(url)`, as it may on Cloudflare."""
    if inspect.isawaitable(value):
        value = await value
    if isinstance(value, Response):
        return value
    found = "None" if value is None else f"a {type(value).__name__}"
    raise NoResponse(f"a handler must return a Response, not {found}: return Response(…)")
