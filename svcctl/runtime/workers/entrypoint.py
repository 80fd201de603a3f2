"""What a handler is made of, and what it reaches without being handed it: `env`, `waitUntil`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Protocol, TypeVar

from svcctl.runtime.invocation import current

F = TypeVar("F", bound=Callable[..., Any])

_patches: ContextVar[Mapping[str, Any]] = ContextVar("svcctl.workers.patches")


def wait_until(work: Awaitable[Any]) -> None:
    """`work` goes on after the response was sent. In a sync handler too, where it runs on the event loop."""
    invocation = current.get(None)
    if invocation is None:
        if asyncio.iscoroutine(work):
            work.close()
        raise RuntimeError("waitUntil works while a request is handled: here there is none")
    invocation.outer.wait_until(work)


class Context(Protocol):
    """`ctx` of a handler."""

    def waitUntil(self, other: Any) -> None: ...  # noqa: N802  # the platform's name

    def wait_until(self, work: Any) -> None: ...


class WorkerEntrypoint:
    """Base of the classes that answer: `Default` for requests and for bindings without an entrypoint, others by their
    name. One instance is made for each call."""

    ctx: Context
    env: Any

    def __init__(self, ctx: Context, env: Any) -> None:
        self.ctx = ctx
        self.env = env


class _Absent:
    """A class that can be imported, so that a module which names it loads, but not subclassed."""

    what: ClassVar[str] = ""
    instead: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if _Absent not in cls.__bases__:
            raise TypeError(f"class {cls.__name__}: {cls.what} are not supported by svcctl. {cls.instead}")

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise TypeError(f"{self.what} are not supported by svcctl. {self.instead}")


class DurableObject(_Absent):
    what = "Durable Objects"
    instead = "Keep state in a KV namespace or in a database of your own"


class WorkflowEntrypoint(_Absent):
    what = "Workflows"
    instead = "Run the steps in a request, after it with waitUntil, or from a queue of your own"


def handler(function: F) -> F:
    """Marks a handler. Nothing has to be converted here, so the function stays as it is."""
    return function


class _Env:
    """The module's `env`: the bindings of whoever is being called."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        patches = _patches.get(None)
        if patches is not None and name in patches:
            return patches[name]
        return getattr(_present_env(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"env.{name} can't be set: vars and bindings come from services.toml")

    def __dir__(self) -> list[str]:
        return sorted({*dir(_present_env()), *_patches.get({})})

    def __repr__(self) -> str:
        return repr(_present_env()) if current.get(None) is not None else "<env of no request>"


def _present_env() -> Any:
    invocation = current.get(None)
    if invocation is None:
        raise RuntimeError(
            "env is known while a service is loaded and while it handles a request; here there is none. "
            "In an ASGI app's lifespan, take what was read when its module was loaded"
        )
    return invocation.env


env = _Env()


@contextmanager
def patch_env(patch: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None, **more: Any) -> Iterator[None]:
    """The module's `env` has other values inside: for tests."""
    token = _patches.set({**_patches.get({}), **dict(patch or {}), **more})
    try:
        yield
    finally:
        _patches.reset(token)


def import_from_javascript(module_name: str) -> Any:
    """Of JavaScript's modules there is `cloudflare:workers`, with `env` and `waitUntil`: this package."""
    if module_name == "cloudflare:workers":
        from svcctl.runtime import workers

        return workers
    raise ImportError(f"{module_name!r} is a JavaScript module, and handlers run on CPython here: use a Python package")


def python_from_rpc(value: Any) -> Any:
    """Nothing to convert: a call over a binding stays in Python."""
    return value


python_to_rpc = python_from_rpc
