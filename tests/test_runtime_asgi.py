"""ASGI and WSGI applications behind `fetch`."""

import asyncio
import io
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from wire import GET, client, serving

from svcctl.runtime import asgi, wsgi
from svcctl.runtime.assembly import Part
from svcctl.runtime.incoming import request_of
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.outgoing import send_response
from svcctl.runtime.workers import Request, Response, run_sync

Application = Callable[[Any, Any, Any], Awaitable[None]]
ENV = object()
START = {"type": "http.response.start", "status": 200, "headers": []}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def within_limit() -> Any:
        async with asyncio.timeout(10):
            return await work

    return asyncio.run(within_limit())


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def asked(app: Application, request: Request | None = None) -> Response:
    return await asgi.fetch(app, request or Request("http://a/"), ENV, None, state={})


# ---- ASGI


def test_an_application_sees_the_request():
    scopes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        message = await receive()
        assert message == {"type": "http.request", "body": b"hi", "more_body": False}
        await send({"type": "http.response.start", "status": 201, "headers": [(b"X-A", b"1"), (b"set-cookie", b"a")]})
        await send(body(b"done"))
        assert await receive() == {"type": "http.disconnect"}

    async def scene() -> None:
        request = Request("https://Shop.example:8443/a%20b?x=%20", method="POST", body="hi", headers={"X-B": "2"})
        response = await asgi.fetch(app, request, ENV, None, state={"db": 1})
        assert (response.status, response.headers.items()) == (201, [("x-a", "1"), ("set-cookie", "a")])
        assert await response.text() == "done"

    run(scene())
    (scope,) = scopes
    assert scope["env"] is ENV
    assert scope["state"] == {"db": 1}
    assert scope | {"env": None, "state": None} == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"x=%20",
        "root_path": "",
        "headers": [
            (b"host", b"shop.example:8443"),
            (b"x-b", b"2"),
            (b"content-type", b"text/plain;charset=UTF-8"),
            (b"content-length", b"2"),
        ],
        "server": ("shop.example", 8443),
        "client": None,
        "env": None,
        "state": None,
    }


def test_an_incoming_request_keeps_its_scope():
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await send(body(f"{scope['path']} {scope['client'][0]} {scope['env'] is ENV}".encode()))

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        request = request_of(scope, receive)
        await send_response(await asked(app, request), send, request=request)
        assert "env" not in scope

    async def scene() -> None:
        async with serving(handler) as port, client(port) as connection:
            assert (await connection.ask(GET % b"/a%20b"))[2] == b"/a b 127.0.0.1 True"

    run(scene())


def test_bodies_stream_both_ways():
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while (message := await receive())["more_body"]:
            await send(body(message["body"].upper(), more=True))
        await send(body(b"!"))

    async def scene() -> None:
        more = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield b"a"
            await more.wait()
            yield b"b"

        response = await asked(app, Request("http://a/", method="POST", body=source()))
        stream = response.body
        assert await anext(stream) == b"A"
        more.set()
        assert [chunk async for chunk in stream] == [b"B", b"!"]

    run(scene())


def test_an_application_waits_for_its_reader():
    sent = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        while sent < 100:
            await send(body(b"x", more=True))
            sent += 1
        await send(body(b""))

    async def scene() -> None:
        response = await asked(app)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent < 5
        assert len(await response.text()) == 100

    run(scene())


@pytest.mark.parametrize("leave", ["cancel", "drop", "read half and drop"])
def test_an_application_learns_that_nobody_listens(leave: str):
    async def scene() -> None:
        told = asyncio.Event()

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(START)
            await send(body(b"a", more=True))
            assert await receive() == {"type": "http.disconnect"}
            for _ in range(10):
                await send(body(b"b", more=True))
            told.set()

        response = await asked(app)
        if leave == "cancel":
            await response.body.cancel()
        elif leave == "read half and drop":
            await anext(response.body)
        del response
        await told.wait()

    run(scene())


def test_an_application_learns_that_the_client_left():
    async def scene() -> None:
        told = asyncio.Event()

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(START)
            await send(body(b"a", more=True))
            assert await receive() == {"type": "http.disconnect"}
            told.set()

        async def handler(scope: Any, receive: Any, send: Any) -> None:
            request = request_of(scope, receive)
            await send_response(await asked(app, request), send, request=request)

        async with serving(handler) as port:
            async with client(port) as connection:
                connection.writer.write(GET % b"/")
                await connection.head()
                assert await connection.chunk() == b"a"
            await told.wait()

    run(scene())


def test_work_after_the_answer_goes_on():
    async def scene() -> None:
        release, done = asyncio.Event(), asyncio.Event()

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"a"))
            await release.wait()
            done.set()

        outer = Outer("1")
        current.set(Invocation(outer, Part(place="a/b", version=1, folder="/", main="m.py"), ENV))
        response = await asked(app)
        assert await response.text() == "a"
        assert outer.background is not None
        (task,) = outer.background
        assert not task.done()
        release.set()
        await task
        assert done.is_set()

    run(scene())


def test_an_exception_before_the_answer_is_the_callers():
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        raise LookupError("nothing there")

    async def silent(_scope: Any, _receive: Any, _send: Any) -> None: ...

    with pytest.raises(LookupError, match="nothing there"):
        run(asked(app))
    with pytest.raises(RuntimeError, match="did not generate a response"):
        run(asked(silent))


def test_an_exception_within_the_answer_is_its_readers():
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"a", more=True))
        raise LookupError("nothing more")

    async def short(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"a", more=True))

    async def scene() -> None:
        with pytest.raises(LookupError, match="nothing more"):
            await (await asked(app)).text()
        with pytest.raises(RuntimeError, match="ended before its response was complete"):
            await (await asked(short)).text()

    run(scene())


def test_an_exception_after_the_answer_is_logged(caplog: pytest.LogCaptureFixture):
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"a"))
        raise LookupError("too late")

    async def scene() -> None:
        assert await (await asked(app)).text() == "a"

    with caplog.at_level(logging.ERROR, logger="asgi"):
        run(scene())
    assert "too late" in str(caplog.records[0].exc_info)


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([body(b"a")], "before http.response.start"),
        ([START, START], "twice"),
        ([START, body(b"a"), body(b"b")], None),
        ([{"type": "http.response.push"}], "Unexpected ASGI message"),
        ([{**START, "headers": [(b"a", b"b\r\nc: d")]}], "line break or NUL"),
        ([{**START, "headers": [(b"a: b\r\nc", b"d")]}], "Invalid header name"),
    ],
)
def test_messages_out_of_order_are_refused(messages: list[dict[str, Any]], text: str | None):
    failed = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            failed.append(error)
            raise

    if text is None:
        run(asked(app))
    else:
        with pytest.raises(RuntimeError, match=text):
            run(asked(app))
    assert len(failed) == 1


def test_a_cancelled_caller_cancels_the_application():
    async def scene() -> None:
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def app(_scope: Any, _receive: Any, _send: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        task = asyncio.create_task(asked(app))
        await began.wait()
        task.cancel()
        await cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scene())


def test_a_lifespan_surrounds_a_request_whose_state_nobody_brought():
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert current.get(None) is None
            seen.append((await receive())["type"])
            scope["state"]["db"] = "open"
            await send({"type": "lifespan.startup.complete"})
            seen.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        seen.append(scope["state"])
        await send(START)
        await send(body(b"a"))

    async def scene() -> None:
        outer = Outer("1")
        current.set(Invocation(outer, Part(place="a/b", version=1, folder="/", main="m.py"), ENV))
        assert await (await asgi.fetch(app, Request("http://a/"), ENV)).text() == "a"
        await asyncio.gather(*outer.background or ())

    run(scene())
    assert seen == ["lifespan.startup", {"db": "open"}, "lifespan.shutdown"]


def test_an_application_without_a_lifespan_is_asked_once():
    asks = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        asks.append(scope["type"])
        assert scope["type"] == "http"
        await send(START)
        await send(body(b"a"))

    async def scene() -> None:
        for _ in range(2):
            assert await (await asgi.fetch(app, Request("http://a/"), ENV)).text() == "a"

    run(scene())
    assert asks == ["lifespan", "http", "http"]


def test_a_lifespan_that_fails_to_start_fails_the_request():
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="no database"):
        run(asgi.fetch(app, Request("http://a/"), ENV))


def test_an_entrypoint_of_an_application():
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send(START)
        await send(body(str(scope["env"]).encode()))

    async def scene() -> None:
        response = await asgi.entrypoint(app)(None, "env").fetch(Request("http://a/"))  # type: ignore[arg-type,attr-defined]
        assert await response.text() == "env"
        with pytest.raises(NotImplementedError, match="WebSockets"):
            await asgi.websocket(app, Request("http://a/"))

    run(scene())


# ---- WSGI


async def asked_wsgi(app: Any, request: Request | None = None) -> Response:
    return await wsgi.fetch(app, request or Request("http://a/"), ENV)


def test_a_wsgi_application_sees_the_request():
    environs: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("201 Made", [("X-A", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])), b"!"]

    async def scene() -> None:
        request = Request(
            "https://shop.example/caf%C3%A9?x=%20",
            method="POST",
            body="hi",
            headers=[("X-B", "2"), ("X-B", "3"), ("X_B", "forged"), ("Proxy", "http://evil"), ("Cookie", "a=b")],
        )
        response = await asked_wsgi(app, request)
        assert (response.status, response.headers["x-a"]) == (201, "1")
        assert response.headers.getSetCookie() == ["a=1", "b=2"]
        assert response.headers["content-length"] == "3"
        assert await response.text() == "hi!"

    run(scene())
    (environ,) = environs
    assert environ["workers.env"] is ENV
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\u00c3\u00a9",
        "QUERY_STRING": "x=%20",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "CONTENT_TYPE": "text/plain;charset=UTF-8",
        "CONTENT_LENGTH": "2",
        "HTTP_HOST": "shop.example",
        "HTTP_X_B": "2,3",
        "HTTP_COOKIE": "a=b",
        "wsgi.url_scheme": "https",
    }
    assert expected.items() <= environ.items()
    assert "HTTP_PROXY" not in environ


def test_a_wsgi_application_has_a_thread_with_the_callers_variables():
    word: ContextVar[str] = ContextVar("word")
    threads = set()

    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        threads.add(threading.current_thread())
        start_response("200 OK", [])
        yield word.get().encode()
        threads.add(threading.current_thread())
        yield run_sync(later()).encode()

    async def later() -> str:
        await asyncio.sleep(0)
        return f" and {word.get()}"

    async def scene() -> None:
        word.set("the caller's")
        assert await (await asked_wsgi(app)).text() == "the caller's and the caller's"

    run(scene())
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_a_wsgi_answer_streams_and_is_closed():
    class Chunks:
        def __init__(self) -> None:
            self.closed = threading.Event()
            self.made = 0

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(100):
                self.made += 1
                yield b"x"

        def close(self) -> None:
            self.closed.set()

    async def scene() -> None:
        for wanted in (100, 1):
            chunks = Chunks()

            def app(_environ: Any, start_response: Any, chunks: Chunks = chunks) -> Chunks:
                start_response("200 OK", [])
                return chunks

            response = await asked_wsgi(app)
            stream = response.body
            assert await anext(stream) == b"x"
            assert chunks.made < 10
            if wanted == 1:
                await stream.cancel()
            else:
                assert len([chunk async for chunk in stream]) == 99
            await asyncio.to_thread(chunks.closed.wait)
            assert (chunks.made == 100) is (wanted == 100)

    run(scene())


def test_a_wsgi_answer_with_its_length_is_sent_as_one():
    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        yield b""
        yield b"hi"
        ended.set()

    ended = threading.Event()

    async def scene() -> None:
        response = await asked_wsgi(app)
        assert isinstance(response.content(), bytes)
        assert await response.text() == "hi"
        assert await asyncio.to_thread(ended.wait, 30), "the iterable is read to its end"

    run(scene())


def test_write_comes_before_what_is_returned():
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    async def scene() -> None:
        assert await (await asked_wsgi(app)).text() == "abc"

    run(scene())


def test_a_large_body_reaches_a_wsgi_application_as_it_comes():
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        lines = [environ["wsgi.input"].readline()]
        release.set()
        lines += list(environ["wsgi.input"])
        return [b"%d" % len(b"".join(lines)), lines[0]]

    release = threading.Event()

    async def source() -> AsyncIterator[bytes]:
        yield b"first\n"
        await asyncio.to_thread(release.wait)
        for _ in range(3):
            yield b"x" * 100_000

    async def scene() -> None:
        request = Request("http://a/", method="POST", body=source(), headers={"transfer-encoding": "chunked"})
        assert await (await asked_wsgi(app, request)).text() == "300006first\n"

    run(scene())


def test_wsgi_exceptions_go_where_they_belong():
    def before(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        raise LookupError("before")

    def within(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        raise LookupError("within")

    def replaced(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            raise LookupError("found later")  # noqa: TRY301
        except LookupError as error:
            start_response("500 Oh", [], (type(error), error, error.__traceback__))
        return [b"sorry"]

    def silent(_environ: Any, _start_response: Any) -> list[bytes]:
        return [b"a"]

    def twice(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    def split(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("a", "b\r\nc: d")])
        return []

    async def scene() -> None:
        with pytest.raises(LookupError, match="before"):
            await asked_wsgi(before)
        response = await asked_wsgi(within)
        with pytest.raises(LookupError, match="within"):
            await response.text()
        response = await asked_wsgi(replaced)
        assert (response.status, await response.text()) == (500, "sorry")
        with pytest.raises(RuntimeError, match="did not call start_response"):
            await asked_wsgi(silent)
        with pytest.raises(AssertionError, match="twice"):
            await asked_wsgi(twice)
        with pytest.raises(TypeError, match="Invalid header value"):
            await asked_wsgi(split)

    run(scene())


def test_a_wsgi_application_on_a_server():
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("204 Gone" if environ["PATH_INFO"] == "/none" else "200 OK", [("Connection", "close")])
        return [] if environ["PATH_INFO"] == "/none" else [environ["REMOTE_ADDR"].encode()]

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        request = request_of(scope, receive)
        await send_response(await asked_wsgi(app, request), send, request=request)

    async def scene() -> None:
        async with serving(handler) as port, client(port) as connection:
            assert await connection.ask(GET % b"/") == (200, [(b"content-length", b"9")], b"127.0.0.1")
            assert await connection.ask(GET % b"/none") == (204, [], b"")
        async with serving(wsgi.as_asgi(app)) as port, client(port) as connection:
            assert (await connection.ask(GET % b"/"))[2] == b"127.0.0.1"

    run(scene())


def test_an_environ_by_hand():
    environ = wsgi.build_environ(Request("http://a/x", headers={"Header1": "Value1"}), ENV, b"abc")
    assert (environ["HTTP_HEADER1"], environ["wsgi.input"].read()) == ("Value1", b"abc")
    assert wsgi.build_environ(Request("http://a/"), ENV, io.BytesIO())["PATH_INFO"] == "/"


def test_an_entrypoint_of_a_wsgi_application():
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["workers.env"].encode()]

    async def scene() -> None:
        response = await wsgi.entrypoint(app)(None, "env").fetch(Request("http://a/"))  # type: ignore[arg-type,attr-defined]
        assert await response.text() == "env"

    run(scene())
