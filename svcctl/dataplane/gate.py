"""The one strict look at a request's head, before anything is decided by it.

The router looks at the first request of a connection, the worker's protocol at each further one; the bytes then go to
llhttp as they came. So what passes here must mean the same there: method, target, host, where the body ends, whether
the connection stays. llhttp alone takes a missing Host, two of them, `user@host` or a bare line feed, and each of
those is a way to be read as one thing by a proxy and as another by us. What is refused, and with which status, is a
table in docs/data-plane.md, which a test holds against this module.

A head costs two regular expressions: one that it matches as a whole, and one that finds the few headers that decide
something. Only a head that fails the first is taken apart to say why.

`Upgrade` needs care: with it llhttp ends the request at its head and takes the body for the next request. Where
`Head.upgrade` is true and nobody upgrades, feed llhttp what `without_upgrade` makes of the head.
"""

import re
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import IPv6Address
from typing import Final, NoReturn

import msgspec

from svcctl.dataplane.forwarding import CLAIMS

HEAD_LIMIT: Final = 1 << 16
LINE_LIMIT: Final = 1 << 14
"""Of the request line."""
HEADERS_LIMIT: Final = 256
LENGTH_LIMIT: Final = (1 << 63) - 1

_SHORTEST_HEADER: Final = len(b"a:\r\n")
_HOST_LENGTH: Final = 253
_KNOWN_HOSTS: Final = 4096

# What llhttp knows, without CONNECT, PRI and what RTSP alone has.
_METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE PATCH OPTIONS TRACE QUERY COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND "
    b"REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK "
    b"UNLINK SOURCE".split()
)

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_HEADER: Final = _TOKEN + rb":[\t -~\x80-\xff]*+"
_HEAD: Final = re.compile(
    # One empty line may come first: some clients send one after a body. A target is visible ASCII without #.
    rb"(?:\r\n)?+(" + _TOKEN + rb") ([!\"$-~]++) HTTP/(1\.[01])\r\n(?:" + _HEADER + rb"\r\n)*+\r\n"
)
_DECISIVE: Final = re.compile(
    rb"\r\n(?=[HhCcTtPpUuEeFfXx])((?i:host|con(?:tent-length|nection)|transfer-encoding|proxy-connection|upgrade|expect|"
    + CLAIMS
    + rb")):[\t ]*+([^\r]*+)"
)
_UPGRADE_LINE: Final = re.compile(rb"\r\n(?i:upgrade):[^\r]*+")
_ABSOLUTE: Final = re.compile(rb"((?i:https?))://([^/?]*+)(/[^?]*+)?+")
_DOT_SEGMENT: Final = re.compile(rb"/(?:\.|%2[eE]){1,2}(?:/|\Z)")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")

_LABEL: Final = rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?+"
_PORT: Final = rb"(?::([1-9][0-9]{0,4}))?+"
_HOST: Final = re.compile(rb"(" + _LABEL + rb"(?:\." + _LABEL + rb")*+)\.?+" + _PORT)
_IPV6: Final = re.compile(rb"\[([0-9a-f:.]++)\]" + _PORT)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class BadRequest(Exception):
    """Not to be answered by anybody's handler. The connection can't go on: where the next request begins is unknown."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class Head(msgspec.Struct, frozen=True, gc=False):
    method: bytes
    target: bytes
    """As sent."""
    host: str
    """Lower case, no port, no trailing dot; IPv6 in brackets, in its canonical form."""
    path: bytes
    """The target's, as sent, without the query; `*` for `OPTIONS *`."""
    size: int
    """Bytes up to the body, the blank line and an empty line at the start included."""
    length: int | None
    """Content-Length. No body where it is None and `chunked` is false."""
    chunked: bool
    version: bytes
    close: bool
    """No further request may follow on this connection."""
    upgrade: bool
    """llhttp would stop behind the head; see `without_upgrade`."""
    forwarding: bool
    """Has a header that says where the request came from; see `forwarding`."""


_hosts: dict[bytes, str] = {}


def parse(data: bytes | bytearray | memoryview, start: int = 0, seen: int = 0) -> Head | None:
    """The head that begins at `start`, or None if more bytes are needed; raises BadRequest.

    `seen` is how many bytes from `start` the last call had, if it returned None. Without a new line feed behind them
    there is no second look, so that a client pays for each look with a line, not with a byte.
    """
    if seen and seen <= len(data) - start <= HEAD_LIMIT and b"\n" not in bytes(data[start + seen :]):
        return None
    shape = _HEAD.match(data, start)
    if shape is None:
        _wait(bytes(data[start : start + HEAD_LIMIT + 1]))
        return None
    method, target, version = shape.group(1, 2, 3)
    end = shape.end()
    size = end - start
    if size > LINE_LIMIT or size > HEADERS_LIMIT * _SHORTEST_HEADER:
        _check_sizes(bytes(data[start:end]), shape.end(3) - start)
    if method not in _METHODS:
        _refuse_method(method)
    fields = _DECISIVE.findall(data, shape.end(3), end)
    if target[0] != 0x2F:
        path = _path_of_other_form(method, target, fields)
    else:
        query = target.find(b"?")
        path = target if query < 0 else target[:query]
    if b"/." in path or b"%2" in path or b"\\" in path:
        _check_path(path)
    if len(fields) == 1 and len(fields[0][0]) == len(b"host"):  # as in most requests
        raw = fields[0][1]
        host = _hosts.get(raw) or _host(raw)
        return Head(method, target, host, path, size, None, False, version, version == b"1.0", False, False)
    return _decide(method, target, path, size, version, fields)


def _decide(
    method: bytes, target: bytes, path: bytes, size: int, version: bytes, fields: list[tuple[bytes, bytes]]
) -> Head:
    host = length = None
    chunked = upgrade = forwarding = False
    options: set[bytes] = set()
    for raw_name, value in fields:
        match raw_name.lower():
            case b"host":
                if host is not None:
                    raise BadRequest(400, "two Host headers")
                host = _hosts.get(value) or _host(value)
            case b"content-length":
                if length is not None:
                    raise BadRequest(400, "two Content-Length headers")
                length = _length(value)
            case b"transfer-encoding":
                if chunked:
                    raise BadRequest(400, "two Transfer-Encoding headers")
                chunked = _chunked(value, version)
            case b"connection" | b"proxy-connection":  # to llhttp they are one
                options |= _options(value)
            case b"upgrade":
                upgrade = upgrade or value != b""
            case b"expect":
                if value.lower() != b"100-continue":
                    raise BadRequest(417, "Expect may say 100-continue only")
            case _:
                forwarding = True
    if host is None:
        raise BadRequest(400, "no Host header")
    if chunked and length is not None:
        raise BadRequest(400, "Content-Length beside Transfer-Encoding")
    close = b"close" in options or (version == b"1.0" and b"keep-alive" not in options)
    upgrade = upgrade and b"upgrade" in options
    return Head(method, target, host, path, size, length, chunked, version, close, upgrade, forwarding)


def without_upgrade(head: bytes) -> bytes:
    """The bytes of a head without its Upgrade headers, which a server may ignore (RFC 9110, 7.8).

    Java's HttpClient offers h2c with each first request, those with bodies too."""
    return _UPGRADE_LINE.sub(b"", head)


# ---- host


def _host(raw: bytes) -> str:
    host, _ = _authority(raw)
    if len(_hosts) >= _KNOWN_HOSTS:
        _hosts.clear()
    _hosts[raw] = host
    return host


def _authority(raw: bytes) -> tuple[str, int | None]:
    """Host and port of a Host header or an absolute target. Labels are those that `names.check_host` allows, so no
    request can have a host that no route can have; an underscore is refused for that reason."""
    text = raw.lower()
    if match := _HOST.fullmatch(text):
        host = match[1].decode("ascii")
        if len(host) > _HOST_LENGTH:
            raise BadRequest(400, "Host is too long")
    elif match := _IPV6.fullmatch(text):
        try:
            host = f"[{IPv6Address(match[1].decode('ascii')).compressed}]"
        except ValueError:
            raise BadRequest(400, "Host is not a host name") from None
    else:
        raise BadRequest(400, "Host is not a host name" if raw else "Host is empty")
    port = int(match[2]) if match[2] else None
    if port is not None and port > 65535:
        raise BadRequest(400, "Host has a port above 65535")
    return host, port


# ---- target


def _path_of_other_form(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest(400, "the target * is for OPTIONS")
        return target
    match = _ABSOLUTE.match(target)
    if match is None:
        raise BadRequest(400, "the target is neither a path nor an http address")
    scheme, authority, path = match.groups()
    if path is None:
        raise BadRequest(400, "the target has no path")
    default = _DEFAULT_PORTS[scheme.lower()]
    host, port = _authority(authority)
    for name, value in fields:
        if name.lower() == b"host":
            named, named_port = _authority(value)
            if (host, port or default) != (named, named_port or default):
                raise BadRequest(400, "the target names another host than the Host header")
    return path


def _check_path(path: bytes) -> None:
    """A path that some reader would resolve to another one could dodge a route."""
    if _DOT_SEGMENT.search(path):
        raise BadRequest(400, "the path has a . or .. segment")
    if b"\\" in path:
        raise BadRequest(400, "the path has a backslash")


# ---- the other decisive headers


def _length(value: bytes) -> int:
    if not value.isdigit():
        raise BadRequest(400, "Content-Length is not a number")
    if len(value) > len(str(LENGTH_LIMIT)) or int(value) > LENGTH_LIMIT:
        raise BadRequest(413, "Content-Length is too large")
    return int(value)


def _chunked(value: bytes, version: bytes) -> bool:
    if version == b"1.0":
        raise BadRequest(400, "Transfer-Encoding in HTTP/1.0")
    if value.lower() != b"chunked":
        raise BadRequest(501, "Transfer-Encoding may say chunked only")
    return True


_OPTIONS: Final = re.compile(rb"[\t ]*+(?:" + _TOKEN + rb"[\t ]*+)?+(?:,[\t ]*+(?:" + _TOKEN + rb"[\t ]*+)?+)*+")


def _options(value: bytes) -> set[bytes]:
    if not _OPTIONS.fullmatch(value):
        raise BadRequest(400, "Connection is not a list of words")
    return {option.strip() for option in value.lower().split(b",")}


# ---- what is wrong


def _check_sizes(head: bytes, line: int) -> None:
    if line > LINE_LIMIT:
        raise BadRequest(414, f"the request line is longer than {LINE_LIMIT} bytes")
    if len(head) > HEAD_LIMIT:
        raise BadRequest(431, f"the head is longer than {HEAD_LIMIT} bytes")
    if head.removeprefix(b"\r\n").count(b"\r\n") > HEADERS_LIMIT + 2:
        raise BadRequest(431, f"more than {HEADERS_LIMIT} headers")


def _wait(head: bytes) -> None:
    """Returns if `head` is the beginning of a good one, as far as it says; raises BadRequest else. A client that can't
    be understood hears so at once and not after the time for its head is over."""
    text = head.removeprefix(b"\r\n")
    end = text.find(b"\r\n\r\n")
    line, complete, _ = text.partition(b"\r\n")
    if text.startswith(b"\x16\x03"):
        raise BadRequest(400, "this looks like TLS; the port speaks plain HTTP")
    if end >= 0:
        text = text[: end + 4]
    _check_characters(text)
    _check_sizes(text, len(line))
    if complete:
        _refuse_line(line)
        if end >= 0:
            _refuse_headers(text[len(line) + 2 : end])
    elif not re.match(rb"(?:" + _TOKEN + rb"(?: |\Z)|\r?\Z)", line):
        raise BadRequest(400, "the request line does not begin with a method")


def _check_characters(text: bytes) -> None:
    if b"\0" in text:
        raise BadRequest(400, "the head has a NUL")
    lines = text.count(b"\r\n")
    returns = text.count(b"\r") - text.endswith(b"\r")  # the last may be half of a line end
    if text.count(b"\n") != lines or returns != lines:
        raise BadRequest(400, "the head has a line end other than CR LF")


def _refuse_line(line: bytes) -> None:
    parts = line.split(b" ")
    if len(parts) != 3 or not all(parts):
        raise BadRequest(400, "the request line is not a method, a target and a version")
    method, target, version = parts
    if not re.fullmatch(_TOKEN, method):
        raise BadRequest(400, "the method is not a word")
    if not _VERSION.fullmatch(version):
        raise BadRequest(400, "the request line does not end in an HTTP version")
    if version not in {b"HTTP/1.0", b"HTTP/1.1"}:
        raise BadRequest(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if not re.fullmatch(rb"[!\"$-~]++", target):
        raise BadRequest(400, "the target may hold only visible ASCII without #")


def _refuse_headers(lines: bytes) -> NoReturn:
    for line in lines.split(b"\r\n"):
        if line[:1] in {b" ", b"\t"}:
            raise BadRequest(400, "a header goes on in the next line")
        name, colon, _ = line.partition(b":")
        if not colon or not re.fullmatch(_TOKEN, name):
            raise BadRequest(400, "a header has no name, or one with a character that names can't hold")
        if not re.fullmatch(_HEADER, line):
            raise BadRequest(400, "a header's value has a control character")
    raise AssertionError(lines)


def _refuse_method(method: bytes) -> NoReturn:
    if method == b"CONNECT":
        raise BadRequest(501, "CONNECT is for proxies")
    raise BadRequest(501, "unknown method")


# ---- answers that no handler gives


def answer(
    status: int, text: str, *, close: bool = True, headers: Iterable[tuple[str, str]] = (), bodiless: bool = False
) -> bytes:
    """A whole small response. `bodiless` is for HEAD on a connection that stays: it announces a body and has none."""
    body = (text.rstrip("\n") + "\n").encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        *(f"{name}: {value}" for name, value in headers),
    ]
    if close:
        lines.append("connection: close")
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise ValueError("a header of an answer holds a line end")
    return head.encode("latin-1") + b"\r\n\r\n" + (b"" if bodiless else body)
