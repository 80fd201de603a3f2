"""What handlers import as `workers`: bodies, requests, responses, forms, and what nobody hands to them."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from http import HTTPMethod, HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl.runtime import workers
from svcctl.runtime.assembly import Part
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.threads import in_thread
from svcctl.runtime.workers import Blob, BodyUsedError, File, FormData, Headers, ReadableStream, Request, Response
from svcctl.runtime.workers.forms import parse_form
from svcctl.runtime.workers.request import as_request


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def pieces(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


# ---- responses


@pytest.mark.parametrize(
    ("body", "read", "kind"),
    [
        ("gr\u00fc\u00df", b"gr\xc3\xbc\xc3\x9f", "text/plain;charset=UTF-8"),
        ("", b"", "text/plain;charset=UTF-8"),
        (b"x", b"x", None),
        (bytearray(b"x"), b"x", None),
        (memoryview(b"x"), b"x", None),
        (None, b"", None),
        (Blob("x", content_type="Image/PNG"), b"x", "image/png"),
        (Blob("x"), b"x", None),
    ],
)
def test_a_body_brings_its_content_type(body: object, read: bytes, kind: str | None):
    response = Response(body)
    assert response.headers.get("content-type") == kind
    assert run(response.bytes()) == read
    assert Response(body, headers={"Content-Type": "a/b"}).headers.get_all("content-type") == ["a/b"]


@pytest.mark.parametrize("body", [{"a": 1}, [1], (1,), 5, object(), {1}, iter([b"x"])])
def test_what_is_no_body_is_refused_by_its_type(body: object):
    with pytest.raises(TypeError) as caught:
        Response(body)
    assert str(caught.value) == f"Unsupported type in Response: {type(body).__name__}"


def test_a_refused_dict_says_what_to_write():
    with pytest.raises(TypeError) as caught:
        Response({"a": 1})
    assert "Response.json" in caught.value.__notes__[0]


def test_json_makes_and_reads():
    made = Response.json({"field": [42, None]}, status=HTTPStatus.NOT_FOUND, headers={"X": "1"})
    assert (made.status, made.headers["content-type"], made.headers["x"]) == (404, "application/json", "1")
    assert run(made.clone().text()) == '{"field": [42, null]}'
    assert run(made.json()) == {"field": [42, None]}
    assert run(Response.from_json("test").text()) == '"test"'
    assert Response.json(1, headers={"Content-Type": "42"}).headers["content-type"] == "42"
    assert repr(Response.json([1])) == "Response(status=200, status_text='OK', content_type='application/json')"
    with pytest.raises(TypeError, match=r"^Object of type set is not JSON serializable$"):
        Response.json({1})


def test_statuses():
    assert Response("x").status == Response("x", status=None).status == Response("x", 0).status == 200
    teapot = Response("x", HTTPStatus.IM_A_TEAPOT, "Short and stout")
    assert (teapot.status, teapot.status_text, teapot.ok) == (418, "Short and stout", False)
    assert Response(status=201).status_text == "Created"
    for status in (101, 199, 600, -1):
        with pytest.raises(ValueError, match="status codes in the range 200 to 599, not"):
            Response(None, status=status)
    with pytest.raises(TypeError, match="a number"):
        Response(None, status="many")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Invalid statusText"):
        Response(None, status_text="OK\r\nx: y")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_some_statuses_have_no_body(status: int):
    with pytest.raises(TypeError, match="cannot have a body"):
        Response("x", status=status)
    with pytest.raises(TypeError, match="cannot have a body"):
        Response(pieces(b"x"), status=status)
    for body in (None, "", b""):
        response = Response(body, status=status)
        assert response.body is None
        assert response.headers.get("content-type") is None


def test_redirects():
    assert Response.redirect("https://a").status == 302
    moved = Response.redirect("https://a/b c", 301)
    assert (moved.status, moved.headers["location"]) == (301, "https://a/b%20c")
    with pytest.raises(ValueError, match="is not a redirect status code"):
        Response.redirect("", HTTPStatus.BAD_GATEWAY)
    with pytest.raises(TypeError, match="Invalid URL"):
        Response.redirect("/relative")


def test_a_body_is_read_once():
    async def reads() -> None:
        for response in (Response("x"), Response(pieces("x")), Request("http://a", method="POST", body="x")):
            assert not response.body_used
            assert await response.text() == "x"
            assert response.body_used is response.bodyUsed is True
            for again in (response.text, response.json, response.bytes, response.array_buffer, response.blob):
                with pytest.raises(BodyUsedError, match=r"^Body already used$"):
                    await again()
            with pytest.raises(OSError, match=r"^Body already used$"):
                response.clone()
            with pytest.raises(BodyUsedError):
                Response(response.body)

    run(reads())


def test_no_body_can_be_read_again_and_again():
    async def reads() -> None:
        response = Response(None)
        assert [await response.text(), await response.text(), response.body_used] == ["", "", False]
        assert response.clone().body is None

    run(reads())


def test_a_response_of_another_ones_body():
    async def passes_on() -> None:
        first = Response("Hi there!", headers={"x": "1"})
        second = Response(first.body, status=201, headers={"x": "2"})
        assert not first.body_used
        assert (second.status, second.headers["x"], await second.text()) == (201, "2", "Hi there!")
        assert first.body_used
        with pytest.raises(OSError, match="Body already used"):
            Response(first.body)
        third = Response(Response("a", 202, headers={"b": "c"}).js_object)
        assert (third.status, third.headers["b"], await third.text()) == (202, "c", "a")
        with pytest.raises(ValueError, match="Expected no options"):
            Response(Response("a"), status=201)
        replaced = Response("test", status=201, status_text="Made").replace_body("other")
        assert (replaced.status, replaced.status_text, await replaced.text()) == (201, "Made", "other")

    run(passes_on())


def test_clones_are_independent():
    async def clones() -> None:
        response = Response(pieces("a", "b", "c"), headers={"x": "1"})
        other = response.clone()
        other.headers.set("x", "2")
        assert response.headers["x"] == "1"
        first = [chunk async for chunk in other.body]
        assert first == [b"a", b"b", b"c"]
        assert await response.text() == "abc"
        together = Response(pieces("a", "b"))
        twin = together.clone()
        assert await asyncio.gather(together.text(), twin.text()) == ["ab", "ab"]
        thrice = Response(pieces("a", "b"))
        assert [await each.text() for each in (thrice.clone(), thrice.clone(), thrice)] == ["ab"] * 3

    run(clones())


def test_a_body_that_fails_fails_for_each_clone():
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    async def clones() -> None:
        response = Response(broken())
        twin = response.clone()
        for each in (response, twin):
            with pytest.raises(ValueError, match="no more"):
                await each.text()

    run(clones())


def test_a_cancelled_reader_leaves_no_body_that_looks_whole():
    async def slow() -> AsyncIterator[bytes]:
        yield b"half"
        await asyncio.Event().wait()

    async def reads() -> None:
        response = Response(slow())
        twin = response.clone()
        stream = response.body
        assert await anext(stream) == b"half"
        reader = asyncio.create_task(response.body.__anext__())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        with pytest.raises(BodyUsedError, match="was cancelled"):
            await twin.text()

    run(reads())


def test_streams_are_read_in_chunks():
    async def reads() -> None:
        chunks = [chunk async for chunk in Response(pieces("a", b"", b"b", bytearray(b"c"))).body]
        assert chunks == [b"a", b"b", b"c"]
        assert [chunk.to_bytes() for chunk in chunks] == chunks
        reader = Response("whole").body.getReader()
        assert (await reader.read()).value.to_bytes() == b"whole"
        assert (await reader.read()).done
        reader.releaseLock()
        with pytest.raises(TypeError, match="yields str or bytes, not int"):
            await Response(pieces(5)).text()

    run(reads())


def test_a_cancelled_stream_closes_its_generator():
    closed = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    async def reads() -> None:
        stream = ReadableStream(source())
        assert await anext(stream) == b"a"
        await stream.cancel("enough")
        assert [chunk async for chunk in stream] == []

    run(reads())
    assert closed == [True]


def test_text_is_utf_8_whatever_comes():
    assert run(Response(b"\xef\xbb\xbfa\xff").text()) == "a\ufffd"


def test_raise_for_status():
    Response("x").raise_for_status()
    with pytest.raises(OSError, match="404 Not Found") as caught:
        Response("x", 404).raise_for_status()
    assert caught.value.status == 404


def test_websockets_say_that_they_are_not_there():
    with pytest.raises(TypeError, match="WebSockets are not supported"):
        Response(None, web_socket=object())


# ---- requests


def test_a_request_as_it_was_made():
    request = Request("https://test.com", method=HTTPMethod.POST, body='{"field": 42}')
    assert repr(request) == "Request(method='POST', url='https://test.com/')"
    assert request.method is HTTPMethod.POST
    assert request.method == "POST"
    assert request.headers["content-type"] == "text/plain;charset=UTF-8"
    assert (request.redirect, request.cf, request.signal) == ("follow", None, None)
    assert request.js_object is request
    assert run(request.json()) == {"field": 42}
    assert Request("http://a", method="post").method == "POST"
    assert Request("http://a", method="purge").method == "purge"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "GET", "body": "x"}, "GET or HEAD method cannot have a body"),
        ({"method": "a b"}, "Invalid HTTP method"),
        ({"method": "CONNECT"}, "can't be sent"),
        ({"redirect": "sometimes"}, "Invalid redirect value"),
        ({"headers": {"a": "b\r\nc"}}, "Invalid header value"),
        ({"method": "POST", "body": {"a": 1}}, "Unsupported type in Request: dict"),
    ],
)
def test_a_request_that_can_not_be(options: dict[str, Any], text: str):
    with pytest.raises(TypeError, match=text):
        Request("http://a", **options)


def test_a_request_of_another_one():
    async def derives() -> None:
        first = Request("http://a/b", method="POST", headers={"x": "1"}, body=pieces("a", "b"), redirect="manual")
        second = Request(first, headers={"y": "2"}, unknown=True)
        assert (second.url, second.method, second.redirect) == ("http://a/b", "POST", "manual")
        assert second.headers.items() == [("y", "2")]
        assert first.body_used
        assert await second.text() == "ab"
        third = Request(Request("http://a", method="POST", headers={"x": "1"}, body="a"), method="PUT", body="b")
        assert (third.method, third.headers["x"], await third.text()) == ("PUT", "1", "b")
        assert Request(Request("http://a", method="POST", body="x"), method="GET").body is None

    run(derives())


def test_what_fetch_is_given():
    request = Request("http://a")
    assert as_request(request, {}) is request
    assert as_request(request, {"method": "PUT"}).method == "PUT"
    assert as_request("http://a", {"headers": {"x": 1}}).headers["x"] == "1"


# ---- forms


def test_a_form_keeps_each_value():
    form = FormData({"key": "foobar"})
    form.append("key", "another")
    form.append("n", 123)
    assert form["key"] == form.get("key") == "foobar"
    assert form.get_all("key") == form.getAll("key") == ["foobar", "another"]
    assert (form["n"], form["nothing"], "nothing" in form, form.has("n")) == ("123", None, False, True)
    assert list(form.items()) == [("key", "foobar"), ("key", "another"), ("n", "123")]
    assert len(list(form.keys())) == len(form) == 3
    form["key"] = "one"
    assert list(form.items()) == [("key", "one"), ("n", "123")]
    del form["key"]
    form.delete("n")
    assert list(form) == []
    with pytest.raises(TypeError, match="Expected single item"):
        form["x"] = ["a"]
    with pytest.raises(TypeError, match="Expected form_data"):
        FormData("a=b")  # type: ignore[arg-type]


def test_a_form_travels():
    async def travels() -> None:
        form = FormData({"field": "gr\u00fc\u00df\r\n"})
        form.append('qu"ote\r\n', "x")
        form["blob.py"] = Blob("print(42)", content_type="text/python")
        form["metadata"] = File('{"a": 1}', "meta\u00e9.json", content_type="application/json")
        for travelled in (
            await Response(form).form_data(),
            await Request("http://a", method="POST", body=form).formData(),
        ):
            assert travelled["field"] == "gr\u00fc\u00df\r\n"
            assert travelled['qu"ote\r\n'] == "x"
            assert await travelled["blob.py"].text() == "print(42)"
            assert (travelled["blob.py"].content_type, travelled["blob.py"].name) == ("text/python", "blob")
            assert travelled["metadata"].name == "meta\u00e9.json"
            assert json.loads(await travelled["metadata"].text()) == {"a": 1}

    run(travels())


@given(st.lists(st.tuples(st.text(max_size=8), st.one_of(st.text(max_size=30), st.binary(max_size=30))), max_size=5))
def test_any_form_comes_back_as_it_went(entries: list[tuple[str, str | bytes]]):
    form = FormData()
    try:
        for name, value in entries:
            name.encode()
            form.append(name, File(value, "f") if isinstance(value, bytes) else value)
        body, kind = form.encode()
    except UnicodeEncodeError:
        return
    back = parse_form(body, kind)
    written = [(name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")) for name, _ in entries]
    assert list(back.keys()) == written
    values = [each.content if isinstance(each, File) else each for each in back.values()]
    assert values == [value for _, value in entries]


def test_a_urlencoded_form():
    request = Request(
        "http://a",
        method="POST",
        body="a=1&b=x+y%21&a=&c",
        headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    form = run(request.form_data())
    assert list(form.items()) == [("a", "1"), ("b", "x y!"), ("a", ""), ("c", "")]


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"a=1", "text/plain", "Unrecognized Content-Type"),
        (b"a=1", None, "Unrecognized Content-Type"),
        (b"x", "multipart/form-data", "No boundary"),
        (b"x", "multipart/form-data; boundary=b", "does not hold the boundary"),
        (b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx", "multipart/form-data; boundary=b", "ends before"),
        (b"--b\r\nno end\r\n--b--", "multipart/form-data; boundary=b", "no end of its headers"),
        (b"--b\r\nX: y\r\n\r\nz\r\n--b--", "multipart/form-data; boundary=b", "no name"),
    ],
)
def test_what_is_no_form_is_refused(body: bytes, kind: str | None, text: str):
    with pytest.raises(TypeError, match=text):
        parse_form(body, kind)


def test_a_form_as_browsers_send_it():
    body = (
        b'preamble\r\n--b \r\nContent-Disposition: form-data; name="a\\b"\r\n\r\n1\r\n'
        b'--b\r\ncontent-disposition: form-data; name="f"; filename="C:\\x%22.png"\r\n'
        b"Content-Type: image/png\r\n\r\n\x00\r\n--x\r\n--b--\r\nepilogue"
    )  # fmt: skip
    form = parse_form(body, 'multipart/form-data; boundary="b"')
    assert form["a\\b"] == "1"
    assert (form["f"].name, form["f"].content_type, form["f"].content) == ('C:\\x".png', "image/png", b"\x00\r\n--x")


# ---- blobs


def test_blobs():
    async def reads() -> None:
        blob = Blob(["te", b"st", memoryview(b"!"), Blob("?")], content_type="application/json")
        assert (blob.size, blob.content_type, blob.type, await blob.bytes()) == (
            6,
            "application/json",
            "application/json",
            b"test!?",
        )
        assert await blob.slice(1, 3).text() == "es"
        assert await Blob("a\r\nb\rc", endings="native").text() == "a\nb\nc"
        assert Blob(blob).content_type == "application/json"
        assert Blob([blob]).content_type == ""
        assert Blob(blob, content_type="other/type").content_type == "other/type"
        assert Blob("x", content_type="a\r\nb: c").content_type == ""
        file = File("my file", filename="test.txt", content_type="text/plain", last_modified=5)
        assert (file.name, file.last_modified, file.lastModified) == ("test.txt", 5, 5)
        assert File(file, "b.txt").last_modified == 5
        assert [chunk async for chunk in blob.stream()] == [b"test!?"]
        with pytest.raises(TypeError, match="Don't know how to handle"):
            Blob([5])  # type: ignore[list-item]

    run(reads())


# ---- what handlers are made of


def invocation(env: Any = None) -> Invocation:
    return Invocation(Outer("1"), Part(place="shop/production", version=1, folder="/x", main="worker.py"), env)


def test_what_cloudflares_examples_import_is_there():
    for name in [
        "Blob",
        "BlobEnding",
        "BlobValue",
        "Body",
        "Context",
        "DurableObject",
        "FetchKwargs",
        "FetchResponse",
        "File",
        "FormData",
        "FormDataValue",
        "Headers",
        "JSBody",
        "Request",
        "RequestInitCfProperties",
        "Response",
        "WorkerEntrypoint",
        "WorkflowEntrypoint",
        "asgi",
        "env",
        "fetch",
        "handler",
        "import_from_javascript",
        "patch_env",
        "python_from_rpc",
        "python_to_rpc",
        "waitUntil",
        "wait_until",
        "wsgi",
    ]:
        assert getattr(workers, name) is not None
    assert workers.import_from_javascript("cloudflare:workers").waitUntil is workers.wait_until
    with pytest.raises(ImportError, match="JavaScript module"):
        workers.import_from_javascript("node:fs")
    with pytest.raises(AttributeError, match="module 'workers' has no attribute 'nothing'"):
        workers.nothing  # noqa: B018


def test_an_entrypoint_has_ctx_and_env():
    class Default(workers.WorkerEntrypoint):
        @workers.handler
        async def fetch(self) -> Response:
            return Response(f"{self.env} {self.ctx}")

    assert run(run_text(Default("ctx", "env"))) == "env ctx"  # type: ignore[arg-type]


async def run_text(entrypoint: Any) -> str:
    return await (await entrypoint.fetch()).text()


@pytest.mark.parametrize("base", [workers.DurableObject, workers.WorkflowEntrypoint])
def test_what_is_not_supported_says_so_where_it_is_used(base: type):
    with pytest.raises(TypeError, match=r"class Mine: .* are not supported by svcctl\. \w"):
        type("Mine", (base,), {})
    with pytest.raises(TypeError, match="are not supported by svcctl"):
        base(None, None)


def test_env_is_that_of_whoever_is_called():
    class Env:
        MESSAGE = "hello"

    token = current.set(invocation(Env()))
    try:
        assert workers.env.MESSAGE == "hello"
        with workers.patch_env(MESSAGE="other", MORE=1):
            assert (workers.env.MESSAGE, workers.env.MORE) == ("other", 1)
            with workers.patch_env([("MORE", 2)]):
                assert (workers.env.MESSAGE, workers.env.MORE) == ("other", 2)
        assert not hasattr(workers.env, "MORE")
        with pytest.raises(AttributeError, match="can't be set"):
            workers.env.MESSAGE = "x"
    finally:
        current.reset(token)
    with pytest.raises(RuntimeError, match="env is known while"):
        workers.env.MESSAGE  # noqa: B018


def test_wait_until_goes_on():
    async def handles() -> None:
        done: list[str] = []

        async def later(word: str) -> None:
            await asyncio.sleep(0)
            done.append(word)

        class Awaitable:
            def __await__(self) -> Any:
                return later("awaitable").__await__()

        called = invocation()
        current.set(called)
        workers.waitUntil(later("coroutine"))
        workers.wait_until(asyncio.ensure_future(later("task")))
        workers.wait_until(Awaitable())
        await in_thread(lambda: called.waitUntil(later("thread")))
        await asyncio.sleep(0)
        assert called.outer.background is not None
        await asyncio.gather(*called.outer.background)
        assert sorted(done) == ["awaitable", "coroutine", "task", "thread"]

    run(handles())


def test_wait_until_outside_of_a_request_says_so():
    async def later() -> None: ...

    with pytest.raises(RuntimeError, match="while a request is handled"):
        workers.wait_until(later())


def test_sync_code_awaits_with_run_sync():
    async def handles() -> None:
        called = invocation("env")
        current.set(called)

        async def double(number: int) -> int:
            await asyncio.sleep(0)
            assert current.get() is called
            return 2 * number

        assert await in_thread(lambda: workers.run_sync(double(4))) == 8
        with pytest.raises(RuntimeError, match="await instead"):
            workers.run_sync(double(4))

    run(handles())


def test_headers_of_responses_may_be_changed():
    response = Response("x")
    response.headers["X-A"] = "1"
    response.js_object.headers.append("Set-Cookie", "a=b")
    assert response.headers.items() == [
        ("content-type", "text/plain;charset=UTF-8"),
        ("x-a", "1"),
        ("set-cookie", "a=b"),
    ]
    assert isinstance(response.headers, Headers)
