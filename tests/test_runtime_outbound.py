"""`workers.fetch`: what it sends, what it gives, where it refuses to go."""

import asyncio
import gzip
import ipaddress
import re
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from wire import Client

from svcctl.errors import UsageError
from svcctl.runtime.assembly import Part
from svcctl.runtime.invocation import Invocation, Outer, current
from svcctl.runtime.limits import TooManySubrequests
from svcctl.runtime.workers import FormData, Request, Response, fetch, outbound
from svcctl.runtime.workers.outbound import AddressRefused, FetchError, FetchTimeout, is_public

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: 1\r\n\r\nhi"
ENDED = b"HTTP/1.1 200 Fine\r\nconnection: close\r\n"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    async def within_limit() -> Any:
        async with asyncio.timeout(10):
            try:
                return await work
            finally:
                await outbound.close()

    return asyncio.run(within_limit())


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """What is allowed belongs to the process: each test says its own."""
    outbound.allow(["localhost"])
    yield
    outbound.allow([])


class Asked:
    """What a server was asked: each request's first line, its headers, its body."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.headers: list[dict[bytes, bytes]] = []
        self.bodies: list[bytes] = []
        self.connections = 0


Answer = Callable[[str], bytes]


@asynccontextmanager
async def server(answer: Answer | bytes, **options: Any) -> AsyncIterator[tuple[str, Asked]]:
    """Its URL. `answer` is what it says to each request, or how it finds that from the path."""
    asked = Asked()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.connections += 1
        incoming = Client(reader, writer)
        try:
            while line := await reader.readline():
                head = b"HTTP/1.1 200 OK\r\n" + await reader.readuntil(b"\r\n\r\n")
                reader._buffer[:0] = head  # type: ignore[attr-defined]
                _, headers = await incoming.head()
                asked.lines.append(line.decode().strip())
                asked.headers.append(dict(headers))
                asked.bodies.append(await incoming.body(headers))
                path = line.split()[1].decode()
                writer.write(answer if isinstance(answer, bytes) else answer(path))
                if b"connection: close" in (answer if isinstance(answer, bytes) else answer(path)):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", asked
    finally:
        listening.close()


def redirect(where: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} There\r\nlocation: {where}\r\ncontent-length: 5\r\n\r\nmoved".encode()


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


# ---- what is sent, what is given


def test_a_fetch():
    async def scene() -> None:
        async with server(OK) as (url, asked):
            response = await fetch(f"{url}/a b?c=d#e", headers={"X-B": 5, "Host": "elsewhere", "Connection": "x"})
            assert isinstance(response, Response)
            assert (response.status, response.status_text, response.ok) == (200, "OK", True)
            assert (response.headers["X-A"], response.url, response.redirected) == ("1", f"{url}/a%20b?c=d#e", False)
            assert await response.text() == "hi"
            assert asked.lines == ["GET /a%20b?c=d HTTP/1.1"]
            assert asked.headers == [
                {
                    b"host": url.removeprefix("http://").encode(),
                    b"x-b": b"5",
                    b"accept": b"*/*",
                    b"accept-encoding": b"gzip, deflate",
                }
            ]

    run(scene())


@pytest.mark.parametrize(
    ("body", "sent", "framing"),
    [
        ("gr\u00fc\u00df", "gr\u00fc\u00df".encode(), b"content-length"),
        (b"\x00", b"\x00", b"content-length"),
        (None, b"", b"content-length"),
        (lambda: pieces(b"a", b"b"), b"ab", b"transfer-encoding"),
        (lambda: Response("whole").body, b"whole", b"content-length"),
    ],
)
def test_a_body_is_sent(body: Any, sent: bytes, framing: bytes):
    async def scene() -> None:
        async with server(OK) as (url, asked):
            await fetch(url, method="POST", body=body() if callable(body) else body)
            assert asked.bodies == [sent]
            assert framing in asked.headers[0]

    run(scene())


def test_a_request_is_sent_and_a_form_comes_back():
    form, kind = FormData({"field": "value"}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind.encode(), len(form), form)

    async def scene() -> None:
        async with server(answer) as (url, asked):
            request = Request(url, method="PUT", headers={"authorization": "Bearer x"}, body="a")
            assert (await (await fetch(request)).formData())["field"] == "value"
            assert asked.lines == ["PUT / HTTP/1.1"]
            assert asked.headers[0][b"authorization"] == b"Bearer x"
            assert request.body_used

    run(scene())


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_comes_packed_is_unpacked(coding: str):
    packed = gzip.compress(b"hi" * 500) if coding == "gzip" else zlib.compress(b"hi" * 500)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n" % (coding.encode(), len(packed))

    async def scene() -> None:
        async with server(head + packed) as (url, _):
            response = await fetch(url)
            assert response.headers.get("content-encoding") is response.headers.get("content-length") is None
            assert await response.text() == "hi" * 500

    run(scene())


def test_a_coding_that_nobody_here_unpacks_is_passed_on():
    async def scene() -> None:
        async with server(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nhi") as (url, _):
            response = await fetch(url, headers={"accept-encoding": "br"})
            assert (response.headers["content-encoding"], await response.bytes()) == ("br", b"hi")

    run(scene())


def test_a_body_comes_as_it_is_sent():
    async def scene() -> None:
        sent, go_on = asyncio.Event(), asyncio.Event()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            sent.set()
            await go_on.wait()
            writer.write(b"1\r\nb\r\n0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(connected, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            stream = (await fetch(f"http://127.0.0.1:{port}/")).body
            assert await anext(stream) == b"a"
            go_on.set()
            assert [chunk async for chunk in stream] == [b"b"]

    run(scene())


def test_connections_are_used_again_and_given_up_with_their_response():
    async def scene() -> None:
        async with server(OK) as (url, asked):
            for _ in range(3):
                await (await fetch(url)).text()
            assert asked.connections == 1
        long = ENDED + b"content-length: 1000000\r\n\r\n" + b"x" * 1000
        async with server(long) as (url, asked):
            for _ in range(outbound.CONNECTIONS + 20):
                response = await fetch(url)
                assert response.status == 200
                del response  # unread

    run(scene())


def test_no_cookie_goes_from_one_fetch_to_the_next():
    async def scene() -> None:
        async with server(b"HTTP/1.1 204 No\r\nset-cookie: a=b\r\n\r\n") as (url, asked):
            for _ in range(2):
                response = await fetch(url)
                assert response.headers.getSetCookie() == ["a=b"]
                assert response.body is None
            assert all(b"cookie" not in headers for headers in asked.headers)

    run(scene())


def test_head_has_no_body():
    async def scene() -> None:
        async with server(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n") as (url, asked):
            for _ in range(2):
                response = await fetch(url, method="HEAD")
                assert (response.headers["content-length"], await response.text()) == ("500", "")
            assert asked.connections == 1

    run(scene())


def test_a_fetcher_takes_over():
    async def fetcher(request: Request) -> Response:
        return Response(f"{request.method} {request.url}")

    assert run(text_of(fetch("http://auth/x", method="PUT", fetcher=fetcher))) == "PUT http://auth/x"


async def text_of(fetching: Awaitable[Response]) -> str:
    text: str = await (await fetching).text()
    return text


def test_a_second_positional_argument_is_javascript():
    with pytest.raises(TypeError, match=r"^fetch\(\) takes 1 positional argument but 2 were given$"):
        fetch("http://a", {"headers": {}})  # type: ignore[call-arg]


@pytest.mark.parametrize("url", ["ftp://a/", "file:///etc/passwd", "/relative", "http://u:p@a/"])
def test_only_http_is_fetched(url: str):
    with pytest.raises(TypeError, match="Invalid URL"):
        run(fetch(url))


# ---- what goes wrong


def test_nobody_there():
    async def scene() -> None:
        async with server(OK) as (url, _):
            pass
        with pytest.raises(FetchError, match=re.escape(f"GET {url}/x: ")) as caught:
            await fetch(f"{url}/x?key=hush")
        assert isinstance(caught.value, OSError)
        assert "hush" not in str(caught.value)
        with pytest.raises(FetchError, match=r"nobody\.invalid can't be resolved"):
            await fetch("http://nobody.invalid/")

    run(scene())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"connection: close", "illegal|malformed|disconnected"),
        (ENDED + b"content-length: 10\r\n\r\nhalf", "its body broke off"),
        (ENDED + b"transfer-encoding: chunked\r\n\r\n5\r\nha", "its body broke off"),
    ],
)
def test_an_answer_that_is_none(answer: bytes, text: str):
    async def scene() -> None:
        async with server(answer) as (url, _):
            with pytest.raises(FetchError, match=text):
                await (await fetch(url)).text()

    run(scene())


def test_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(outbound.TIMEOUT, "read", 0.05)

    async def scene() -> None:
        async with server(b"") as (url, _):
            with pytest.raises(FetchTimeout, match="no answer in time") as caught:
                await fetch(url)
            assert isinstance(caught.value, TimeoutError)
        async with server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx") as (url, _):
            with pytest.raises(FetchTimeout, match="its body stopped coming"):
                await (await fetch(url)).text()

    run(scene())


def test_a_request_may_make_so_many():
    async def scene() -> None:
        outer = Outer("1")
        outer.subrequests = 3
        current.set(Invocation(outer, Part(place="a/b", version=1, folder="/", main="m.py"), None))
        async with server(lambda path: redirect("/b") if path == "/a" else OK) as (url, _):
            await fetch(f"{url}/a")
            await fetch(f"{url}/b")
            with pytest.raises(TooManySubrequests):
                await fetch(f"{url}/b")

    run(scene())


# ---- redirects


def test_redirects_are_followed():
    async def scene() -> None:
        answers = {"/a/b": redirect("../c?x"), "/c?x": redirect("//{host}/d", 307), "/d": OK}
        async with server(lambda path: answers[path].replace(b"{host}", host)) as (url, asked):
            host = url.removeprefix("http://").encode()
            response = await fetch(f"{url}/a/b", headers={"authorization": "x"})
            assert (response.url, response.redirected, await response.text()) == (f"{url}/d", True, "hi")
            assert [headers[b"authorization"] for headers in asked.headers] == [b"x"] * 3
            assert asked.connections == 1

    run(scene())


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"), (303, "HEAD", "HEAD"),
        (302, "PUT", "PUT"), (307, "POST", "POST"), (308, "POST", "POST"),
    ],
)  # fmt: skip
def test_what_a_redirect_does_to_the_method(status: int, method: str, then: str):
    async def scene() -> None:
        head = redirect("/b", status).removesuffix(b"moved")
        moved = head if method == "HEAD" else head + b"moved"
        answers = {"/a": moved, "/b": OK.removesuffix(b"hi") if then == "HEAD" else OK}
        async with server(lambda path: answers[path]) as (url, asked):
            await fetch(f"{url}/a", method=method, body=None if method == "HEAD" else "x")
            assert asked.lines[1].split()[0] == then
            assert asked.bodies[1] == (b"x" if then in {"POST", "PUT"} else b"")
            assert (b"content-type" in asked.headers[1]) is (then in {"POST", "PUT"})

    run(scene())


def test_a_redirect_to_another_origin_takes_no_credentials_along():
    async def scene() -> None:
        async with server(OK) as (other, asked), server(redirect(other)) as (url, _):
            await fetch(url, headers={"Authorization": "x", "Cookie": "a=b", "X-A": "1"})
            assert b"authorization" not in asked.headers[0]
            assert b"cookie" not in asked.headers[0]
            assert asked.headers[0][b"x-a"] == b"1"

    run(scene())


def test_redirects_that_are_not_followed():
    async def scene() -> None:
        async with server(redirect("/b", 301)) as (url, asked):
            response = await fetch(url, redirect="manual")
            assert (response.status, response.headers["location"], await response.text()) == (301, "/b", "moved")
            with pytest.raises(FetchError, match='redirect="error"'):
                await fetch(url, redirect="error")
            with pytest.raises(FetchError, match="Too many redirects: more than 20"):
                await fetch(url)
            assert len(asked.lines) == 1 + 1 + 21
        async with server(redirect("/b", 307)) as (url, _):
            with pytest.raises(FetchError, match="streamed body"):
                await fetch(url, method="POST", body=pieces(b"a"))
        async with server(redirect("file:///etc/passwd")) as (url, _):
            with pytest.raises(FetchError, match="no http or https URL"):
                await fetch(url)

    run(scene())


# ---- where it does not go


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
     "100.64.0.1", "[fe80::1]", "[fd00:ec2::254]", "224.0.0.1", "[ff02::1]", "[64:ff9b::a00:1]", "[2002:a00:1::]",
     "168.63.129.16", "255.255.255.255", "[::127.0.0.1]"],
)  # fmt: skip
def test_private_addresses_are_refused(host: str):
    outbound.allow([])
    with pytest.raises(AddressRefused, match="a private address, which handlers may not reach") as caught:
        run(fetch(f"http://{host}:9/"))
    assert "svcctl serve --allow-private " in str(caught.value)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]
)
def test_public_addresses_are_not(address: str):
    assert is_public(ipaddress.ip_address(address))


def test_a_redirect_into_the_house_is_refused():
    async def scene() -> None:
        async with server(OK) as (inside, asked):
            port = inside.rpartition(":")[2]
            async with server(redirect(f"http://[::ffff:127.0.0.1]:{port}/")) as (url, _):
                outbound.allow(["localhost"])
                await fetch(url)
                assert len(asked.lines) == 1
                await outbound.close()
                outbound.allow([url.removeprefix("http://").partition(":")[0] + "/32"])
                host_of_it = url.replace("127.0.0.1", "127.0.0.2")
                with pytest.raises(AddressRefused, match=r"127\.0\.0\.2 is a private address"):
                    await fetch(host_of_it)
                assert len(asked.lines) == 1

    run(scene())


@pytest.mark.parametrize(
    ("entries", "reached"),
    [
        (["*"], True),
        (["localhost"], True),
        (["127.0.0.0/8"], True),
        (["127.0.0.1"], True),
        (["10.0.0.0/8", "db.internal"], False),
        (["::1"], False),
        ([], False),
    ],
)
def test_what_is_allowed_is_reached(entries: list[str], reached: bool):
    outbound.allow(entries)

    async def scene() -> None:
        async with server(OK) as (url, asked):
            if reached:
                assert await text_of(fetch(url)) == "hi"
            else:
                with pytest.raises(AddressRefused):
                    await fetch(url)
            assert asked.connections == int(reached)

    run(scene())


def test_a_name_is_allowed_with_where_it_leads():
    async def scene() -> None:
        async with server(OK) as (url, asked):
            by_name = url.replace("127.0.0.1", "LocalHost")
            outbound.allow([])
            with pytest.raises(AddressRefused, match=r"localhost is at .*1, a private address"):
                await fetch(by_name)
            outbound.allow(["localhost"])
            assert await text_of(fetch(by_name)) == "hi"
            assert asked.headers[0][b"host"] == by_name.removeprefix("http://").lower().encode()

    run(scene())


@pytest.mark.parametrize("entry", ["", "10.0.0.0/99", "a b", "http://a/", "-,-"])
def test_a_policy_that_can_not_be_read_says_so(entry: str):
    with pytest.raises(UsageError, match="neither a network nor a host") as caught:
        outbound.allow([entry])
    assert "10.0.0.0/8" in (caught.value.hint or "")


def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    async def scene() -> None:
        async with server(OK) as (url, _):
            assert await text_of(fetch(url)) == "hi"

    run(scene())


def test_a_certificate_is_checked_against_the_name(tmp_path: Any):
    key, certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked_for = []
    context.sni_callback = lambda _socket, name, _context: asked_for.append(name)

    async def scene() -> None:
        async with server(OK, ssl=context) as (url, asked):
            with pytest.raises(FetchError, match="certificate verify failed"):
                await fetch(url.replace("http://127.0.0.1", "https://localhost"))
            assert asked.lines == []

    run(scene())
    assert asked_for == ["localhost"]


def self_signed(folder: Any) -> tuple[str, str]:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return str(folder / "key.pem"), str(folder / "certificate.pem")
