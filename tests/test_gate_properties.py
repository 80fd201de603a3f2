"""What the gate lets pass is the same request to llhttp, which gets the bytes next; and it is one request."""

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from svcctl.dataplane import gate
from svcctl.dataplane.gate import BadRequest, Head, parse, without_upgrade

methods = st.sampled_from(["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS", "M-SEARCH", "CONNECT", "PRI", "get", "BREW"])
targets = st.sampled_from(
    [
        *(
            "/",
            "/a/b?c=d",
            "//a",
            "/%61?",
            "/?a?b",
            '/"<>^`{|}',
            "*",
            "/a#b",
            "/../a",
            "http://a.test/",
            "http://a.test",
        ),
        *("HTTPS://A.test:443/x?y", "http://b.test/", "http://u@a.test/", "/a\x80", "a", "", "/ b", "http:///", "?a"),
    ]
) | st.text(alphabet="/ab.%2eE?*:@#\\ ~", max_size=8).map("/".__add__)
versions = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/1.2", "http/1.1", ""])
header_names = st.sampled_from(
    [
        *("Host", "Connection", "Connection", "Proxy-Connection", "Upgrade", "Content-Length", "Transfer-Encoding"),
        *("Expect", "X-Forwarded-For", "Accept", "Cookie", "TE", "X y", "Content-Length ", "", "content-length"),
    ]
)
header_values = st.sampled_from(
    [
        *(
            "a.test",
            "A.TEST.:80",
            "[::1]",
            "b.test",
            "keep-alive",
            "close",
            "Close , x",
            "upgrade",
            "x,,Upgrade",
            "h2c",
        ),
        *("close close", "keep-alive\t,close", "0", "5", "007", "+5", "5,5", "99999999999999999999", "chunked"),
        *(
            "Chunked",
            "gzip, chunked",
            "chunked\t",
            "identity",
            "100-continue",
            "",
            " ",
            "a\tb",
            "\x80",
            "a\x7f",
            "closex",
        ),
    ]
) | st.text(alphabet="closekeep-alive,upgrade \t;\x0b", max_size=16)
separators = st.sampled_from([": ", ":", ":\t ", ": ", " : "])
line_ends = st.sampled_from(["\r\n"] * 30 + ["\n", "\r", "\r\n ", "\r\r\n", "\n\r\n"])
headers = st.tuples(header_names, separators, header_values, line_ends).map("".join)

words = st.sampled_from(["close", "keep-alive", "Upgrade", "x", "closed", "te", ""])
connections = st.lists(words, max_size=3).flatmap(
    lambda some: st.sampled_from([",", ", ", " ,\t"]).map(lambda c: c.join(some))
)
good_headers = st.one_of(
    connections.map("Connection: {}\r\n".format),
    connections.map("proxy-connection:{}\r\n".format),
    st.sampled_from(["h2c", "websocket", ""]).map("Upgrade: {}\r\n".format),
    st.sampled_from(["100-continue", "100-Continue"]).map("Expect:\t{}\r\n".format),
    st.text(alphabet="ab \t\x80\xff;,:=", max_size=10).map("X-Any: {}\r\n".format),
)
bodies = st.sampled_from(
    [
        "",
        "",
        "Content-Length: 0\r\n",
        "CONTENT-LENGTH: 5\r\n",
        "content-length:007\r\n",
        "Transfer-Encoding:  Chunked\r\n",
    ]
)
good_targets = st.sampled_from(
    ["/", "/a/b?c=d", "//a", "/%61?", "/?a?b", "/|", "http://a.test/", "HTTP://A.test:80/x?y"]
)


@st.composite
def good_heads(draw: st.DrawFn) -> bytes:
    line = (
        f"{draw(st.sampled_from(['GET', 'POST', 'QUERY']))} {draw(good_targets)} HTTP/1.{draw(st.sampled_from('1110'))}"
    )
    some = draw(st.permutations([draw(bodies), "Host: A.test\r\n", *draw(st.lists(good_headers, max_size=4))]))
    return "".join([draw(st.sampled_from(["", "\r\n"])), line, "\r\n", *some, "\r\n"]).encode("latin-1")


@st.composite
def odd_heads(draw: st.DrawFn) -> bytes:
    line = " ".join([draw(methods), draw(targets), draw(versions)]) + draw(line_ends)
    before, after = draw(st.lists(headers, max_size=1)), draw(st.lists(headers, max_size=2))
    lead = draw(st.sampled_from(["", "", "", "\r\n", "\r\n\r\n", "\n"]))
    return "".join([lead, line, *before, "Host: a.test\r\n", *after, "\r\n"]).encode("latin-1")


heads = good_heads() | odd_heads()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(heads))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["insert", "delete", "replace", "repeat"])):
            case "insert":
                data[at:at] = draw(
                    st.sampled_from([b"\r", b"\n", b"\0", b" ", b"\t", b":", b"\x0b", b"\xff", b"\r\n", b","])
                )
            case "delete":
                del data[at : at + draw(st.integers(1, 3))]
            case "replace":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case _:
                size = draw(st.integers(1, 40))
                data[at:at] = data[at : at + size]
    return bytes(data)


class Parsed:
    """What llhttp makes of bytes, set up as uvicorn does."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.facts: tuple[bytes, str, bool, bool] | None = None
        self.body = b""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self.facts = (
            parser.get_method(),
            parser.get_http_version(),
            parser.should_keep_alive(),
            parser.should_upgrade(),
        )

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1


def look(data: bytes) -> Head | BadRequest | None:
    try:
        return parse(data)
    except BadRequest as wrong:
        return wrong


def same(head: Head, data: bytes) -> None:
    parsed = Parsed()
    raw = data[: head.size]
    if head.upgrade:
        with pytest.raises(httptools.HttpParserUpgrade):
            Parsed().feed(raw)
        raw = without_upgrade(raw)
    parsed.feed(raw)
    assert parsed.begun == 1
    assert parsed.facts is not None
    method, version, keeps, upgrades = parsed.facts
    assert (method, version.encode(), parsed.url) == (head.method, head.version, head.target)
    assert not upgrades
    assert keeps or head.close
    assert not (head.close and keeps) or head.version == b"1.0"  # `keep-alive, close`, which llhttp keeps alive
    url = httptools.parse_url(parsed.url)
    assert url.path == head.path
    (host,) = [value for name, value in parsed.headers if name == b"host"]
    assert gate._authority(host)[0] == head.host
    lengths = [int(value) for name, value in parsed.headers if name == b"content-length"]
    assert lengths == ([] if head.length is None else [head.length])
    assert [value.lower() for name, value in parsed.headers if name == b"transfer-encoding"] == [
        b"chunked"
    ] * head.chunked
    ends(parsed, head)


BODY = b"GET /smuggled HTTP/1.1\r\nHost: b.test\r\n\r\n" * 30


def ends(parsed: Parsed, head: Head) -> None:
    """Where the body ends, and that no second request comes out of it."""
    if head.chunked:
        parts = [b"%x\r\n%b\r\n" % (len(BODY), BODY), b"0\r\n\r\n"]
        body = BODY
    else:
        body = BODY[: head.length or 0]
        parts = [body[:-1], body[-1:]] if body else []
        if len(body) < (head.length or 0):
            return
    for part in parts:
        assert not parsed.ended
        parsed.feed(part)
    assert (parsed.begun, parsed.ended, parsed.body) == (1, 1, body)


@settings(max_examples=600)
@given(heads | mutated())
@example(b"GET / HTTP/1.1\r\nHost: a.test\r\nProxy-Connection: close\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: x\r\nConnection: ,close,\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \x7f\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x80\xff\tb \r\n\r\n")
@example(b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive, close\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
def test_what_passes_is_the_same_to_llhttp(data):
    if isinstance(head := look(data), Head):
        same(head, data)


@given(st.binary(max_size=200) | mutated())
def test_any_bytes_are_a_head_a_refusal_or_a_beginning(data):
    match look(data):
        case Head() as head:
            assert 0 < head.size <= len(data)
            assert head.method
        case BadRequest() as wrong:
            assert wrong.status in {400, 413, 414, 417, 431, 501, 505}
            assert wrong.reason.isprintable()
        case None:
            assert look(data + b"\r\n\r\n") is not None


@given(mutated(), st.data())
def test_a_beginning_is_refused_only_if_the_whole_would_be(data, draw):
    part = data[: draw.draw(st.integers(0, len(data)))]
    whole, begun = look(data), look(part)
    if isinstance(begun, BadRequest):
        assert isinstance(whole, BadRequest)
    if isinstance(whole, Head) and len(part) < whole.size:
        assert begun is None


@given(heads, heads, st.binary(max_size=20))
def test_what_follows_a_head_changes_nothing(first, second, rest):
    whole = look(first)
    if isinstance(whole, Head):
        assert look(first + second + rest) == whole
        assert parse(rest + first, len(rest)) == whole
        assert parse(memoryview(first)) == whole
