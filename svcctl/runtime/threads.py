"""Sync code beside the event loop: handlers written as `def`, and WSGI apps.

A thread can't be stopped. Who waits for one and gives up leaves it behind: it ends when its function does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 40

_home: ContextVar[asyncio.AbstractEventLoop] = ContextVar("svcctl.home")
_pool: ThreadPoolExecutor | None = None
_left: set[Future[Any]] = set()


def home() -> asyncio.AbstractEventLoop | None:
    """In a thread of ours, the loop that waits for it. None on that loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _home.get(None)
    return None


def abandoned() -> int:
    """Threads at work whose caller gave up."""
    return len(_left)


async def in_thread(function: Callable[..., T], /, *args: Any, **options: Any) -> T:
    """Runs it with the caller's context variables. A cancelled caller leaves it running."""
    future = _submit(partial(function, *args, **options))
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        if not future.done():
            _left.add(future)
            future.add_done_callback(_left.discard)
        raise


def _submit(work: Callable[[], T]) -> Future[T]:
    global _pool  # noqa: PLW0603  # made at the first use: a worker without sync code has no thread
    if _pool is None:
        _pool = ThreadPoolExecutor(THREADS, thread_name_prefix="svcctl-sync")
    context = copy_context()
    context.run(_home.set, asyncio.get_running_loop())
    return _pool.submit(context.run, work)


def run_sync(work: Awaitable[T]) -> T:
    """For sync handlers and WSGI apps: awaits on the event loop, while this thread stands still."""
    loop = home()
    if loop is None:
        if asyncio.iscoroutine(work):
            work.close()
        raise RuntimeError("run_sync is for sync handlers and WSGI apps: in a coroutine, await instead")
    return asyncio.run_coroutine_threadsafe(_awaited(work), loop).result()


def _awaited(work: Awaitable[T]) -> Coroutine[Any, Any, T]:
    async def awaited() -> T:
        return await work

    return awaited()
