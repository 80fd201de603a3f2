"""The gate: what is a request, and what it says. The tables of docs/data-plane.md are true."""

import re
from pathlib import Path

import pytest

from svcctl.dataplane import gate
from svcctl.dataplane.forwarding import TrustedProxies, marks, strip
from svcctl.dataplane.gate import BadRequest, Head, answer, parse, without_upgrade

PAGE = (Path(__file__).parent.parent / "docs" / "data-plane.md").read_text()
REFUSED = [
    (int(status), example.encode("latin-1").decode("unicode-escape").encode("latin-1").replace(b"\x0b", b"\r\n"))
    for status, example in re.findall(r"^\| ([0-9]{3}) \|.*\| `([^`]+)` \|$", PAGE.replace("⏎", "\x0b"), re.MULTILINE)
]
HOSTS = re.findall(
    r"^\| (?:`([^`]*)`|\(empty\)) \| (`[^`]+`|refused)", PAGE.split("| Host | is |")[1].split("##")[0], re.MULTILINE
)


def request(*lines: str, line: str = "GET / HTTP/1.1", host: str = "shop.localhost") -> bytes:
    return "\r\n".join([line, f"Host: {host}", *lines, "", ""]).encode("latin-1")


def read(data: bytes) -> Head:
    head = parse(data)
    assert head is not None
    return head


def refused(data: bytes) -> tuple[int, str]:
    with pytest.raises(BadRequest) as wrong:
        parse(data)
    return wrong.value.status, wrong.value.reason


# ---- what passes


def test_a_request_says_what_it_wants():
    data = request(
        "Content-Length: 12", "User-Agent: curl/8.5.0", line="POST /carts/7?full=1 HTTP/1.1", host="Shop.Localhost:8787"
    )
    assert read(data + b"and its body") == Head(
        method=b"POST",
        target=b"/carts/7?full=1",
        host="shop.localhost",
        path=b"/carts/7",
        size=len(data),
        length=12,
        chunked=False,
        version=b"1.1",
        close=False,
        upgrade=False,
        forwarding=False,
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_it_is_read_from_any_buffer_at_any_place(kind):
    first, second = request(line="GET /first HTTP/1.1"), request("Connection: close", line="GET /second HTTP/1.1")
    head = parse(kind(first + second), len(first))
    assert head is not None
    assert (head.path, head.size, head.close) == (b"/second", len(second), True)
    assert type(head.path) is bytes


def test_it_waits_for_the_blank_line():
    data = request("Accept: */*", line="OPTIONS * HTTP/1.1")
    assert [parse(data[:size]) for size in range(len(data))] == [None] * len(data)
    assert read(data).path == b"*"


def test_one_empty_line_may_come_first():
    data = b"\r\n" + request()
    assert read(data).size == len(data)
    assert [parse(data[:size]) for size in range(5)] == [None] * 5


def test_an_absolute_target_says_the_same_as_host():
    assert read(request(line="GET HTTP://SHOP.localhost:80/a?b HTTP/1.1")).path == b"/a"
    assert read(request(line="GET https://shop.localhost./ HTTP/1.1", host="shop.localhost:443")).path == b"/"
    assert refused(request(line="GET http://shop.localhost/ HTTP/1.1", host="shop.localhost:8787"))[0] == 400
    assert refused(request(line="GET http://user@shop.localhost/ HTTP/1.1"))[0] == 400


@pytest.mark.parametrize(
    ("line", "connection", "close"),
    [
        ("GET / HTTP/1.1", [], False),
        ("GET / HTTP/1.1", ["Keep-Alive"], False),
        ("GET / HTTP/1.1", ["CLOSE"], True),
        ("GET / HTTP/1.1", ["keep-alive, close"], True),
        ("GET / HTTP/1.1", ["te", "close"], True),
        ("GET / HTTP/1.0", [], True),
        ("GET / HTTP/1.0", ["keep-alive"], False),
        ("GET / HTTP/1.0", ["keep-alive", "close"], True),
    ],
)
def test_whether_the_connection_stays(line, connection, close):
    assert read(request(*(f"Connection: {each}" for each in connection), line=line)).close is close


def test_chunked_and_expect_pass():
    head = read(request("Transfer-Encoding: Chunked", "Expect: 100-Continue", line="PUT / HTTP/1.1"))
    assert (head.chunked, head.length) == (True, None)


def test_an_upgrade_is_seen_and_can_be_taken_out():
    data = request("Connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Upgrade:\tx")
    assert read(data).upgrade
    assert not read(request("Connection: keep-alive", "Upgrade: h2c")).upgrade
    plain = request("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
    assert without_upgrade(data) == plain
    assert not read(plain).upgrade


# ---- what does not


@pytest.mark.parametrize(("status", "example"), REFUSED)
def test_what_the_page_says_is_refused(status, example):
    assert refused(example + b"\r\n\r\n" if not example.endswith(b"\r\n") else example + b"\r\n")[0] == status


def test_the_page_has_every_status_and_reason():
    source = Path(gate.__file__).read_text()
    raised = {int(status) for status in re.findall(r"BadRequest\(([0-9]{3})", source)}
    listed = {int(status) for status in re.findall(r"^\| ([0-9]{3}) \|", PAGE, re.MULTILINE)}
    assert raised == listed
    assert len({refused(example + b"\r\n\r\n") for _, example in REFUSED}) >= 20


@pytest.mark.parametrize(("raw", "outcome"), HOSTS)
def test_a_host_has_one_form_or_none(raw, outcome):
    data = "\r\n".join(["GET / HTTP/1.1", f"Host: {raw}", "", ""]).encode()
    if outcome == "refused":
        assert refused(data)[0] == 400
    else:
        assert read(data).host == outcome.strip("`")


def test_a_host_is_no_longer_than_names_are():
    assert read(request(host=".".join(["a" * 63] * 3 + ["a" * 61]))).host
    assert refused(request(host=".".join(["a" * 63] * 3 + ["a" * 62])))[0] == 400
    assert refused(request(host="a" * 64))[0] == 400


def test_many_hosts_are_not_kept():
    for number in range(5000):
        assert read(request(host=f"host{number}.localhost")).host == f"host{number}.localhost"
    assert len(gate._hosts) <= 4096


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Content-Length: 5", "content-length: 5"], 400),
        (["Content-Length: "], 400),
        (["Content-Length: 5, 5"], 400),
        (["Content-Length: 0x5"], 400),
        (["Content-Length: 5 "], 400),
        (["Content-Length: 00000000000000000005"], 413),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], 400),
        (["Transfer-Encoding: chunked, chunked"], 501),
        (["Transfer-Encoding: identity"], 501),
        (["Transfer-Encoding: xchunked"], 501),
        (["Transfer-Encoding:\x0bchunked"], 400),
        (["Transfer-Encoding : chunked"], 400),
        (["Host: auth.localhost"], 400),
        (["Expect: 100-continue, x"], 417),
        (["Connection: close\x00"], 400),
        (["X\xe9: a"], 400),
        (["X"], 400),
        ([": a"], 400),
        (["X: a\rY: b"], 400),
        (["X: a\nY: b"], 400),
    ],
)
def test_shapes_that_could_be_read_in_two_ways(lines, status):
    assert refused(request(*lines, line="POST / HTTP/1.1"))[0] == status


@pytest.mark.parametrize("path", ["/.", "/..", "/a/./b", "/a/..", "/%2e", "/%2E%2e/x", "/a/.%2E/b", "/..?x", "/a\\b"])
def test_a_path_that_resolves_to_another_is_refused(path):
    assert refused(request(line=f"GET {path} HTTP/1.1"))[0] == 400
    assert refused(request(line=f"GET http://shop.localhost{path} HTTP/1.1"))[0] == 400


@pytest.mark.parametrize("path", ["/.well-known/x", "/...", "/a..b/..c", "/a?x=/../y\\z", "/%2e%2e%2e", "/a//b", "/%"])
def test_a_path_that_only_looks_like_it_passes(path):
    assert read(request(line=f"GET {path} HTTP/1.1")).path == path.partition("?")[0].encode()


@pytest.mark.parametrize("method", ["get", "BREW", "PRI", "DESCRIBE", "G(T"])
def test_unknown_methods(method):
    assert refused(request(line=f"{method} / HTTP/1.1"))[0] == (400 if "(" in method else 501)


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9"])
def test_other_versions(version):
    assert refused(request(line=f"GET / {version}"))[0] == 505


# ---- limits


def test_a_request_line_has_16_kib():
    line = "GET /{} HTTP/1.1".format
    room = gate.LINE_LIMIT - len(line(""))
    assert read(request(line=line("a" * room)))
    assert refused(request(line=line("a" * (room + 1))))[0] == 414
    assert refused(b"GET /" + b"a" * gate.LINE_LIMIT)[0] == 414


def test_a_head_has_64_kib():
    room = gate.HEAD_LIMIT - len(request("X: "))
    assert read(request("X: " + "a" * room)).size == gate.HEAD_LIMIT
    assert refused(request("X: " + "a" * (room + 1)))[0] == 431
    assert parse(request("X: " + "a" * (room + 1))[: gate.HEAD_LIMIT]) is None
    assert refused(request()[:-2] + b"X: " + b"a" * gate.HEAD_LIMIT)[0] == 431


def test_a_head_has_256_headers_and_its_body_is_not_counted():
    full = request(*["X:"] * 255)
    assert read(full + b"\r\n" * 10_000)
    assert refused(request(*["X:"] * 256))[0] == 431
    assert refused(request(*["X:"] * 257)[:-2] + b"Y")[0] == 431


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (b"GET / HTTP/1.1\n", "CR LF"),
        (b"\x00", "NUL"),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "CR LF"),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "CR LF"),
        (b"(", "method"),
        (b"GET /\r\n", "request line"),
        (b"GET / HTTP/1.1\r\nHost: a\nX", "CR LF"),
    ],
)
def test_what_can_t_become_a_request_is_refused_at_once(data, words):
    status, reason = refused(data)
    assert status == 400
    assert words in reason


def test_a_second_look_needs_a_line_feed():
    data = request("X: " + "a" * 100)
    for size in range(1, len(data)):
        assert parse(data[:size], 0, size - 1) is None
    assert parse(data, 0, len(data) - 1) == parse(data)
    with pytest.raises(BadRequest, match="431"):
        parse(b"GET / HTTP/1.1\r\nX: " + b"a" * gate.HEAD_LIMIT, 0, 60_000)


# ---- answers


def test_an_answer_is_whole():
    assert answer(404, "nobody here", headers=[("retry-after", "5")]) == (
        b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 12\r\n"
        b"cache-control: no-store\r\nretry-after: 5\r\nconnection: close\r\n\r\nnobody here\n"
    )
    assert answer(404, "nobody", close=False, bodiless=True).endswith(
        b"content-length: 7\r\ncache-control: no-store\r\n\r\n"
    )


def test_an_answer_s_headers_can_t_make_another():
    with pytest.raises(ValueError, match="line end"):
        answer(404, "x", headers=[("location", "a\r\nset-cookie: b")])


# ---- where it came from


def test_forwarding_headers_are_seen_in_any_case():
    for name in (
        *("X-Forwarded-For", "x-forwarded-proto", "X-FORWARDED-HOST", "X-Forwarded-Anything", "Forwarded"),
        *("X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "CF-IPCountry", "CF-Visitor"),
    ):
        assert read(request(f"{name}: 1.2.3.4")).forwarding
        headers = [(name.encode(), b"1.2.3.4"), (b"x-forwarding", b"a")]
        strip(headers)
        assert headers == [(b"x-forwarding", b"a")]
    assert not read(request("X-Forward: 1", "XForwarded-For: 1", "CF-Ray: 1", "Forwarded-For: 1")).forwarding


def test_of_a_trusted_proxy_s_only_what_is_said_anew_goes():
    headers = [(b"x-forwarded-for", b"a"), (b"X-Forwarded-Host", b"b"), (b"cf-ipcountry", b"SE"), (b"x-real-ip", b"c")]
    strip(headers, trusted=True)
    assert headers == [(b"X-Forwarded-Host", b"b"), (b"cf-ipcountry", b"SE")]


def test_the_client_is_the_rightmost_that_is_not_trusted():
    proxies = TrustedProxies(["10.0.0.0/8", "::1", "192.0.2.7"])

    def client(*values: str) -> str:
        return proxies.client("10.0.0.1", [(b"X-Forwarded-For", value.encode()) for value in values])[0]

    assert client() == "10.0.0.1"
    assert client("203.0.113.9") == "203.0.113.9"
    assert client("6.6.6.6, 203.0.113.9") == "203.0.113.9"
    assert client("6.6.6.6, 203.0.113.9, 10.1.1.1", "192.0.2.7") == "203.0.113.9"
    assert client("10.0.0.3, 10.0.0.2") == "10.0.0.3"
    assert client("203.0.113.9, unknown, 10.0.0.2") == "10.0.0.2"
    assert client("203.0.113.9:4711") == "203.0.113.9"
    assert client("[2001:DB8::1]:80") == "2001:db8::1"
    assert client("203.0.113.9, ::ffff:10.0.0.2") == "203.0.113.9"
    assert client("203.0.113.9\xe9", "") == "10.0.0.1"


def test_the_scheme_is_the_nearest_proxy_s():
    proxies = TrustedProxies(["10.0.0.1"])
    for value, scheme in ((b"https", "https"), (b"https, http", "http"), (b"WSS", "https"), (b"gopher", "http")):
        assert proxies.client("10.0.0.1", [(b"x-forwarded-proto", value)]) == ("10.0.0.1", scheme)


def test_who_is_trusted():
    proxies = TrustedProxies(["10.0.0.0/8", "fe80::/10"])
    trusted = ["10.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0", "10.1.2.3"]
    assert all(proxies.trusts(each) for each in trusted)
    assert not any(proxies.trusts(each) for each in ("11.0.0.1", "", "unix", "::", "10.0.0.0/8"))
    assert not TrustedProxies(()).trusts("127.0.0.1")
    with pytest.raises(ValueError, match="host bits"):
        TrustedProxies(["10.0.0.1/8"])


def test_what_the_handler_is_told_of_the_client():
    assert marks("203.0.113.9", "https") == [
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"https"),
        (b"cf-connecting-ip", b"203.0.113.9"),
    ]
