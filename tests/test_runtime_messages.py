"""Between a socket and a handler: a scope becomes a Request, a Response becomes messages, on a real uvicorn."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from wire import GET, client, serving

from svcctl.runtime.incoming import ClientDisconnected, IncomingRequest, request_of
from svcctl.runtime.outgoing import send_response
from svcctl.runtime.workers import Blob, BodyUsedError, FormData, Request, Response

Handler = Callable[[IncomingRequest], Awaitable[Response]]
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s"


@asynccontextmanager
async def handling(handler: Handler, errors: list[BaseException] | None = None) -> AsyncIterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = request_of(scope, receive)
        try:
            response = await handler(request)
            await send_response(response, send, head=scope["method"] == "HEAD", request=request)
        except Exception as error:
            if errors is None:
                raise
            errors.append(error)
            raise

    async with serving(app) as port:
        yield port


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def within_limit() -> Any:
        async with asyncio.timeout(10):
            return await work

    return asyncio.run(within_limit())


async def answer_of(handler: Handler, request: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    async with handling(handler) as port, client(port) as connection:
        return await connection.ask(request)


def test_a_request_is_what_the_client_sent():
    async def handler(request: IncomingRequest) -> Response:
        assert isinstance(request, Request)
        assert request.url == "http://shop.example/a%20b/../c?x=1&y=%20"
        assert request.method == "GET"
        assert request.headers["X-A"] == "1, 2"
        assert request.headers["host"] == "Shop.example:80"
        assert request.body is None
        assert request.body_used is False
        assert (request.redirect, request.cf) == ("manual", {})
        assert repr(request) == "Request(method='GET', url='http://shop.example/a%20b/../c?x=1&y=%20')"
        with pytest.raises(TypeError, match="immutable"):
            request.headers.set("x", "y")
        own = Request(request, headers={**request.headers, "x-b": "3"})
        assert own.headers["x-b"] == "3"
        return Response("hi")

    assert run(answer_of(handler, GET % b"/a%20b/../c?x=1&y=%20")) == (
        200,
        [(b"content-type", b"text/plain;charset=UTF-8"), (b"content-length", b"2")],
        b"hi",
    )


def test_a_body_is_read_once_and_cloned_before():
    async def handler(request: IncomingRequest) -> Response:
        assert not request.body_used
        clone = request.clone()
        assert await request.json() == [1]
        assert request.body_used
        with pytest.raises(BodyUsedError):
            await request.text()
        with pytest.raises(BodyUsedError):
            request.clone()
        return Response(await clone.bytes())

    assert run(answer_of(handler, POST % (3, b"[1]")))[2] == b"[1]"


def test_a_body_streams_in_and_out():
    async def handler(request: IncomingRequest) -> Response:
        async def shouted() -> AsyncIterator[bytes]:
            async for chunk in request.body:
                yield chunk.to_bytes().upper()

        return Response(shouted())

    async def scene() -> None:
        async with handling(handler) as port, client(port) as connection:
            connection.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            status, headers = await connection.head()
            assert (status, headers) == (200, [(b"transfer-encoding", b"chunked")])
            assert await connection.chunk() == b"A"
            connection.writer.write(b"2\r\nbc\r\n")
            assert await connection.chunk() == b"BC"
            connection.writer.write(b"0\r\n\r\n")
            assert await connection.chunk() == b""
            assert (await connection.ask(POST % (1, b"x")))[2] == b"X"

    run(scene())


def test_a_client_that_leaves_breaks_the_reading():
    async def scene() -> None:
        seen: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

        async def handler(request: IncomingRequest) -> Response:
            with pytest.raises(ClientDisconnected, match="before it had sent the whole body") as caught:
                await request.text()
            seen.set_result(caught.value)
            return Response("x")

        async with handling(handler) as port:
            async with client(port) as connection:
                connection.writer.write(POST % (10, b"half"))
            assert isinstance(await seen, ConnectionError)

    run(scene())


def test_a_form_comes_in():
    async def handler(request: IncomingRequest) -> Response:
        form = await request.formData()
        return Response(f"{form['a']} {await form['f'].text()}")

    form = FormData({"a": "1"})
    form.append("f", Blob("file"))
    body, kind = form.encode()
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
    assert run(answer_of(handler, request % (kind.encode(), len(body), body)))[2] == b"1 file"


@pytest.mark.parametrize(
    ("response", "headers", "body"),
    [
        (lambda: Response(b"x", headers={"Content-Length": "1"}), [(b"content-length", b"1")], b"x"),
        (lambda: Response(b"x", headers={"Content-Length": "7"}), [(b"content-length", b"1")], b"x"),
        (lambda: Response(b"x", headers={"Connection": "close", "Transfer-Encoding": "chunked", "Upgrade": "h2c"}),
         [(b"content-length", b"1")], b"x"),
        (lambda: Response(None), [(b"content-length", b"0")], b""),
        (lambda: Response(None, 204), [], b""),
        (lambda: Response(None, 205), [(b"content-length", b"0")], b""),
        (lambda: Response(None, 304, headers={"ETag": "x"}), [(b"etag", b"x")], b""),
        (lambda: Response(b"x", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
         [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"1")], b"x"),
        (lambda: Response(Response("x").body), [(b"content-length", b"1")], b"x"),
        (lambda: Response.redirect("http://a/", 303), [(b"location", b"http://a/"), (b"content-length", b"0")], b""),
        (lambda: Response(once(b"ab"), headers={"content-length": "2"}), [(b"content-length", b"2")], b"ab"),
        (lambda: Response(once(b"ab")), [(b"transfer-encoding", b"chunked")], b"ab"),
    ],
)  # fmt: skip
def test_a_response_on_the_wire(response: Callable[[], Response], headers: list[tuple[bytes, bytes]], body: bytes):
    async def handler(_request: IncomingRequest) -> Response:
        return response()

    async def scene() -> None:
        async with handling(handler) as port, client(port) as connection:
            for _ in range(2):  # the connection can be used again: the body ended where it said
                assert (await connection.ask(GET % b"/"))[1:] == (headers, body)

    run(scene())


async def once(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


@pytest.mark.parametrize(
    ("response", "length"),
    [
        (lambda: Response("hello"), b"5"),
        (lambda: Response(None, headers={"content-length": "7"}), b"7"),
        (lambda: Response(once(b"x"), headers={"content-length": "7"}), b"7"),
    ],
)
def test_head_tells_the_length_and_no_more(response: Callable[[], Response], length: bytes):
    async def handler(_request: IncomingRequest) -> Response:
        return response()

    async def scene() -> None:
        async with handling(handler) as port, client(port) as connection:
            for _ in range(2):
                status, headers, _ = await connection.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (status, dict(headers)[b"content-length"]) == (200, length)

    run(scene())


def test_a_response_is_sent_once():
    sent = Response("x")

    async def handler(_request: IncomingRequest) -> Response:
        return sent

    async def scene() -> None:
        errors: list[BaseException] = []
        async with handling(handler, errors) as port, client(port) as connection:
            assert (await connection.ask(GET % b"/"))[0] == 200
            assert (await connection.ask(GET % b"/"))[0] == 500
        assert [type(error) for error in errors] == [BodyUsedError]

    run(scene())


def test_a_stream_that_fails_is_seen_to_be_cut_off():
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    async def handler(_request: IncomingRequest) -> Response:
        return Response(broken())

    async def scene() -> None:
        errors: list[BaseException] = []
        async with handling(handler, errors) as port, client(port) as connection:
            connection.writer.write(GET % b"/")
            await connection.head()
            assert await connection.chunk() == b"half"
            with pytest.raises(asyncio.IncompleteReadError):
                await connection.chunk()
        assert [str(error) for error in errors] == ["no more"]

    run(scene())


def test_a_generator_is_closed_when_its_client_leaves():
    async def scene() -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[str]:
            try:
                yield "data: 1\n\n"
                await asyncio.Event().wait()
            finally:
                closed.set()

        async def handler(_request: IncomingRequest) -> Response:
            return Response(endless(), headers={"content-type": "text/event-stream"})

        errors: list[BaseException] = []
        async with handling(handler, errors) as port:
            async with client(port) as connection:
                connection.writer.write(POST % (3, b"abc"))
                await connection.head()
                assert await connection.chunk() == b"data: 1\n\n"
            await closed.wait()
        assert errors == []

    run(scene())


def test_a_cancelled_answer_closes_its_generator():
    async def scene() -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                yield b"x"
                await asyncio.Event().wait()
            finally:
                closed.set()

        async def handler(request: IncomingRequest) -> Response:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_later(0.05, task.cancel)
            assert request.body is None
            return Response(endless())

        async with handling(handler) as port, client(port) as connection:
            connection.writer.write(GET % b"/")
            await connection.head()
            await closed.wait()

    run(scene())


def test_a_reader_that_does_not_read_holds_the_generator_back():
    async def scene() -> None:
        made = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield bytes(256 * 1024)

        async def handler(_request: IncomingRequest) -> Response:
            return Response(endless())

        async with handling(handler) as port, client(port) as connection:
            connection.writer.write(GET % b"/")
            await connection.head()
            last = -1
            while made != last:  # until it stands still
                last = made
                await asyncio.sleep(0.05)
            assert made < 200

    run(scene())


def test_without_a_host_the_url_has_the_servers():
    request = request_of(
        {"scheme": "https", "headers": [], "server": ("127.0.0.1", 443), "path": "/\u00e9", "method": "GET"},
        lambda: None,  # type: ignore[arg-type,return-value]
    )
    assert request.url == "https://127.0.0.1/\u00c3\u00a9"
