"""Requests and answers of a bare ASGI application and of a handler, byte by byte: what a worker owes both."""

import time
from collections.abc import Iterator

import pytest
from serving import PATIENCE, Client, Server, Site, get

APP = """\
import asyncio

seen = []
opened = asyncio.Event()


async def app(scope, receive, send):
    async def start(status=200, *headers):
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(content=b"", more=False):
        await send({"type": "http.response.body", "body": content, "more_body": more})

    async def answer(content):
        await start(200, (b"content-length", b"%d" % len(content)))
        await body(content)

    match scope["path"]:
        case "/":
            await answer(b"whole")
        case "/slow":
            await start()
            await receive()
            await body(b"late")
        case "/chunks":
            await start()
            await body(b"one", more=True)
            await body(b"two", more=True)
            await body()
        case "/own-chunks":
            await start(200, (b"Transfer-Encoding", b"chunked"))
            await body(b"mine")
        case "/204":
            await start(204)
            await body(b"nobody sees this")
        case "/304":
            await start(304, (b"content-length", b"100"))
            await body()
        case "/more":
            await start(200, (b"content-length", b"2"))
            await body(b"hello")
        case "/less":
            await start(200, (b"content-length", b"9"))
            await body(b"hello")
        case "/value":
            await start(200, (b"x", b"a\\r\\nset-cookie: b"), (b"content-length", b"0"))
            await body()
        case "/name":
            await start(200, (b"x: a\\r\\nset-cookie", b"b"), (b"content-length", b"0"))
            await body()
        case "/nothing":
            pass
        case "/raises":
            raise ValueError("before")
        case "/breaks":
            await start()
            await body(b"half", more=True)
            raise ValueError("within")
        case "/stops":
            await start()
            await body(b"half", more=True)
        case "/close":
            await start(200, (b"connection", b"close"), (b"content-length", b"3"))
            await body(b"bye")
        case "/twice":
            await answer(b"once")
            try:
                await answer(b"again")
            except RuntimeError as error:
                seen.append(str(error))
        case "/after":
            await answer(b"first")
            message = await receive()
            await opened.wait()
            seen.append(message["type"])
            seen.append("went on")
        case "/open":
            opened.set()
            await asyncio.sleep(0)
            await answer(b"opened")
        case "/waits":
            while (message := await receive())["type"] != "http.disconnect":
                pass
            seen.append("left")
            await answer(b"nobody hears this")
        case "/large":
            await start(200, (b"content-length", b"300000"))
            await body(b"x" * 300_000)
        case "/seen":
            await answer(" ".join(seen).encode())
"""
HANDLER = """\
import sys
from workers import Response, WorkerEntrypoint

used = Response("used")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match request.url.rpartition("/")[2]:
            case "exit":
                sys.exit(3)
            case "used":
                return used
            case "head":
                return Response("as long as this")
            case "none":
                return Response(None, status=204)
        return Response("alive")
"""
SHOP, AUTH = "shop.localhost", "auth.localhost"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """shop is the application, auth the handler."""
    site = Site.new(tmp_path_factory.mktemp("site"))
    site.code("shop", APP)
    site.code("auth", HANDLER)
    site.live()
    with site.serving() as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.client() as client:
        yield client


def _sees(server: Server, text: str) -> None:
    """What the application noticed besides answering."""
    until = time.monotonic() + PATIENCE
    while text not in (seen := server.get(SHOP, "/seen").text):
        assert time.monotonic() < until, f"never saw {text!r}: {seen!r}"


# ---- of an application


def test_an_answer_that_is_whole_leaves_at_once(client: Client):
    for host, body in ((SHOP, b"whole"), (AUTH, b"alive")):
        client.send(get(host))
        head, _, rest = client.socket.recv(65536).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
        assert rest == body


def test_a_head_does_not_wait_for_a_body_that_comes_later(client: Client):
    client.send(get(SHOP, "/slow", "Content-Length: 1", method="POST"))
    assert client.head()[0] == 200
    client.send(b"x")
    assert [client.chunk(), client.chunk()] == [b"late", b""]
    assert client.ask(get(SHOP)).text == "whole"


def test_what_has_no_length_comes_in_chunks_unless_the_client_knows_none(client: Client):
    assert client.ask(get(SHOP, "/chunks")).text == "onetwo"
    assert client.ask(get(SHOP, "/own-chunks")).text == "mine"
    answer = client.ask(get(SHOP, "/chunks", version="1.0"))
    assert answer.text == "onetwo"
    assert answer.header("transfer-encoding") is None
    assert client.is_closed()


@pytest.mark.parametrize("path", ["/", "/chunks", "/more"])
def test_head_gets_the_head_alone(path: str, client: Client):
    assert client.ask(get(SHOP, path, method="HEAD")).status == 200
    assert client.ask(get(SHOP)).text == "whole"


def test_answers_that_can_have_no_body_have_none(client: Client):
    client.send(get(SHOP, "/304") + get(SHOP, "/204") + get(AUTH, "/none") + get(SHOP))
    assert [client.answer().status for _ in range(3)] == [304, 204, 204]
    assert client.answer().text == "whole"


@pytest.mark.parametrize("path", ["/more", "/less", "/breaks", "/stops"])
def test_an_answer_that_breaks_off_is_not_taken_for_whole(path: str, client: Client):
    with pytest.raises(ConnectionResetError, match="the connection ended within a"):
        client.ask(get(SHOP, path))


@pytest.mark.parametrize("path", ["/value", "/name", "/nothing", "/raises"])
def test_what_cannot_be_sent_is_answered_with_500(path: str, client: Client):
    answer = client.ask(get(SHOP, path))
    assert (answer.status, answer.header("set-cookie")) == (500, None)
    assert answer.text.startswith("Internal Server Error (request ")


def test_an_application_may_close_the_connection(client: Client):
    answer = client.ask(get(SHOP, "/close"))
    assert [value for name, value in answer.headers if name == "connection"] == ["close"]
    assert client.is_closed()


def test_an_answer_is_given_once(server: Server, client: Client):
    assert client.ask(get(SHOP, "/twice")).text == "once"
    assert client.ask(get(SHOP)).text == "whole"
    _sees(server, "after response already completed")


def test_an_application_goes_on_after_its_answer_beside_the_next_request(server: Server, client: Client):
    assert client.ask(get(SHOP, "/after")).text == "first"
    assert client.ask(get(SHOP, "/open")).text == "opened"
    _sees(server, "http.disconnect went on")


def test_an_application_learns_that_its_client_left(server: Server):
    with server.client() as client:
        client.send(get(SHOP, "/waits"))
    _sees(server, "left")


def test_a_body_too_large_to_be_copied_comes_whole(client: Client):
    assert client.ask(get(SHOP, "/large")).body == b"x" * 300_000
    assert client.ask(get(SHOP)).text == "whole"


# ---- of a handler


def test_a_handler_that_exits_is_an_error_of_one_request(client: Client):
    assert client.ask(get(AUTH, "/exit")).status == 500
    assert client.ask(get(AUTH)).text == "alive"


def test_a_response_that_was_sent_before_is_an_error_and_no_cut_connection(client: Client):
    assert client.ask(get(AUTH, "/used")).text == "used"
    answer = client.ask(get(AUTH, "/used"))
    assert (answer.status, answer.text.startswith("Internal Server Error (request ")) == (500, True)


def test_head_says_how_long_the_answer_would_be(client: Client):
    assert client.ask(get(AUTH, "/head", method="HEAD")).header("content-length") == "15"
    assert client.ask(get(AUTH)).text == "alive"


# ---- heads of further requests


def test_a_head_that_comes_in_pieces_is_read_when_it_is_whole(client: Client):
    assert client.ask(get(SHOP)).text == "whole"
    for byte in get(SHOP):
        client.send(bytes([byte]))
    assert client.answer().text == "whole"
