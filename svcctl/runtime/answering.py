"""Requests from outside, answered by the front part: the ASGI application that a worker's server calls.

Each request has an id, one deadline for its answer's first byte, and one for what it leaves behind in `waitUntil`. An
exception that the handler does not catch is logged with its traceback and answered with 500; limits that it ran into
have a status of their own.
"""

import asyncio
import itertools
import math
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from svcctl.runtime import capture
from svcctl.runtime.explaining import explain
from svcctl.runtime.handlers import as_response
from svcctl.runtime.incoming import IncomingRequest
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.limits import LimitExceeded
from svcctl.runtime.outgoing import Respond, send_content
from svcctl.runtime.running import Running
from svcctl.runtime.tracebacks import readable
from svcctl.runtime.workers import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BACKGROUND = 30.0
"""Seconds that `waitUntil` may go on after the answer, as on Cloudflare."""


class Answering:
    """`timeout`: seconds until a handler must have answered. `explain`: errors are shown to the client."""

    def __init__(self, running: Running, *, timeout: float, explain: bool = False, log: bool = False) -> None:
        self._front = running.front
        self._part = running.assembly.front
        self._timeout = timeout
        self._explain = explain
        self._log = log
        self._folders = {part.folder: part.ref for part in running.assembly.parts}
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Task[Any], Outer] = {}
        """Requests without an answer."""
        self._background: dict[asyncio.Task[Any], float] = {}
        self._answers = 0
        self._ending = False
        prefix, numbers = os.urandom(4).hex(), itertools.count(1)
        self._new_id: Callable[[], str] = lambda: f"{prefix}{next(numbers):06x}"
        self._asgi = self._front.subject if self._front.form == "asgi" else None

    @property
    def active(self) -> int:
        """Requests at work, and background work."""
        return self._answers + len(self._background)

    async def app(self, scope: Scope, receive: Receive, send: Send, respond: Respond | None = None) -> None:
        outer = Outer(self._new_id())
        outer.deadline = self._loop.time() + self._timeout
        invocation = Invocation(outer, self._part, self._front.env)
        current.set(invocation)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a server calls this in a task
        self._waiting[task] = outer
        began = time.perf_counter() if self._log else 0.0
        self._answers += 1
        try:
            if self._asgi is not None:
                scope["env"] = self._front.env
                await self._asgi(scope, receive, self._watched(task, send, outer))
            else:
                request = IncomingRequest(scope, receive)
                response = await self._front.begin(request, invocation)
                if type(response) is not Response:
                    response = await as_response(response)
                content = response.take()
                del self._waiting[task]
                outer.status = response.status
                head = scope["method"] == "HEAD"
                await send_content(response, content, send, head=head, request=request, respond=respond)
        except asyncio.CancelledError:
            if outer.deadline:
                raise
            await self._answer_late(task, send, outer)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a handler may raise anything
            await self._answer_error(task, scope, send, outer, error)
        finally:
            self._waiting.pop(task, None)
            if outer.background:
                self._go_on(outer.background)
            self._answers -= 1
            capture.flush(outer)
            if self._log:
                capture.log_request(scope, outer.status or 500, time.perf_counter() - began, outer.id)

    def _watched(self, task: asyncio.Task[Any], send: Send, outer: Outer) -> Send:
        """An application's answer begins when it says so."""

        def watched(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self._waiting.pop(task, None)
                outer.status = message["status"]
            return send(message)

        return watched

    # ---- deadlines

    def end_overdue(self, now: float) -> None:
        for task, outer in list(self._waiting.items()):
            if 0 < outer.deadline < now:
                outer.deadline = 0
                task.cancel()
        for task, deadline in list(self._background.items()):
            if deadline < now:
                task.cancel()

    def give_up(self) -> None:
        """The process ends: who has no answer yet is told so."""
        self._ending = True
        self.end_overdue(math.inf)

    def _go_on(self, background: set[asyncio.Task[Any]]) -> None:
        deadline = self._loop.time() + BACKGROUND
        for task in background:
            if not task.done():
                self._background[task] = deadline
                task.add_done_callback(self._background_done)
            else:
                self._say_failed(task)

    def _background_done(self, task: asyncio.Task[Any]) -> None:
        self._background.pop(task, None)
        self._say_failed(task)

    def _say_failed(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            capture.log_exception(f"in waitUntil: {readable(error, self._folders)}")

    # ---- what went wrong

    async def _answer_late(self, task: asyncio.Task[Any], send: Send, outer: Outer) -> None:
        task.uncancel()
        status, text = 504, f"the handler did not answer within {self._timeout:g} s"
        if self._ending:
            status, text = 503, "the handler did not answer before its process had to end"
        capture.log_event("error", text)
        if task in self._waiting:
            outer.status = status
            await _send_text(send, status, f"{text} (request {outer.id})")

    async def _answer_error(
        self, task: asyncio.Task[Any], scope: Scope, send: Send, outer: Outer, error: BaseException
    ) -> None:
        """Once an answer has begun there is no other: the connection is cut, so that nobody takes it for whole."""
        text = readable(error, self._folders)
        capture.log_exception(text)
        if task not in self._waiting:
            raise error
        outer.status = error.status if isinstance(error, LimitExceeded) else 500
        if isinstance(error, LimitExceeded):
            await _send_text(send, error.status, f"{error} (request {outer.id})")
        elif self._explain:
            await explain(scope, send, f"{type(error).__name__}: {error}", f"in {self._part.ref}", text)
        else:
            await _send_text(send, 500, f"Internal Server Error (request {outer.id})")


async def _send_text(send: Send, status: int, text: str) -> None:
    await _send(send, status, b"text/plain; charset=utf-8", f"{text}\n".encode())


async def _send(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
