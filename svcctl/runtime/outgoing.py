"""From the `Response` of a handler to ASGI's messages."""

import asyncio
from collections.abc import Callable

from svcctl.runtime.incoming import IncomingRequest, Send
from svcctl.runtime.workers.body import Content
from svcctl.runtime.workers.headers import Raw
from svcctl.runtime.workers.response import NULL_BODY, Response
from svcctl.runtime.workers.stream import BodyUsedError, ReadableStream

Respond = Callable[[int, list[Raw], bytes], bool]
"""Sends a whole answer without messages; False where it can't at this moment."""

_LENGTH = b"content-length"
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)
"""Of one connection, not of the response: a handler that passes an answer on must not pass these."""
_DROPPED = _HOP_BY_HOP | {_LENGTH}


async def send_response(
    response: Response, send: Send, *, head: bool = False, request: IncomingRequest | None = None
) -> None:
    """An exception of a streamed body is raised on, after the start was sent: the server closes the connection, and the
    client sees that the body is not whole. With `request`, a streamed body ends when its client goes."""
    await send_content(response, response.take(), send, head=head, request=request)


async def send_content(
    response: Response,
    content: Content,
    send: Send,
    *,
    head: bool = False,
    request: IncomingRequest | None = None,
    respond: Respond | None = None,
) -> None:
    """The same, with the content that was taken from the response."""
    if isinstance(content, ReadableStream):
        whole = content.whole()
        if whole is None:
            await _stream(response, content, send, head=head, request=request)
            return
        content = whole
    status = response.status
    own = response._headers  # this is the hot path
    headers = [] if own is None else [each for each in own.raw if each[0] not in _DROPPED]
    kind = response._kind
    if kind is not None:
        headers.append(kind)
    if status in NULL_BODY:
        content = b""
        if status == 205:
            headers.append((_LENGTH, b"0"))
    elif not content:
        # To HEAD, the length is that of what GET would get, which a handler or an application may know.
        content = b""
        headers.append((_LENGTH, (head and own is not None and own.find(_LENGTH)) or b"0"))
    else:
        headers.append((_LENGTH, b"%d" % len(content)))
    body = b"" if head else content
    if respond is None or not respond(status, headers, body):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _stream(
    response: Response, stream: ReadableStream, send: Send, *, head: bool, request: IncomingRequest | None
) -> None:
    headers: list[Raw] = [each for each in response.raw_headers() if each[0] not in _HOP_BY_HOP]
    bodiless = head or response.status in NULL_BODY
    try:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if bodiless:
            await send({"type": "http.response.body", "body": b""})
        elif request is None:
            await _chunks(stream, send)
        else:
            await _while_connected(stream, send, request)
    finally:
        await stream.cancel()


async def _chunks(stream: ReadableStream, send: Send) -> None:
    """Each waits until the client took enough of the one before."""
    while (chunk := await stream.next_chunk()) is not None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        # Neither a generator that awaits nothing nor a server whose client left gives way by itself.
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _while_connected(stream: ReadableStream, send: Send, request: IncomingRequest) -> None:
    """A generator that waits for its next event does not notice that nobody listens: it is cancelled there."""
    sender = asyncio.current_task()
    assert sender is not None  # noqa: S101  # a coroutine runs in one
    watcher = asyncio.create_task(request.disconnected())
    cancelled = sender.cancelling()
    left = False

    def leave(done: asyncio.Task[None]) -> None:
        nonlocal left
        if not done.cancelled() and not left:
            left = True
            sender.cancel()

    watcher.add_done_callback(leave)
    try:
        await _chunks(stream, send)
    except asyncio.CancelledError:
        if not left or sender.uncancel() > cancelled:
            raise
    else:
        left = True
    finally:
        watcher.remove_done_callback(leave)
        watcher.cancel()


__all__ = ["BodyUsedError", "send_content", "send_response"]
