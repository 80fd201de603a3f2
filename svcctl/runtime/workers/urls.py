"""URLs in one form, as the platform's `request.url` shows them."""

import re
from urllib.parse import quote, urljoin, urlsplit

PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_HOST = re.compile(r"[a-z0-9._~!$&'()*+,;=-]+|\[[0-9a-f:.]+\]")
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_DOT = re.compile(r"(?:^|(?<=/))(?:\.|%2e)(?=/|$)", re.IGNORECASE)
_DOTS = re.compile(r"(?:\.|%2e)(?:\.|%2e)", re.IGNORECASE)


def absolute(url: object) -> str:
    """`https://example.com/a%20b?c#d` of `HTTPS://Example.com:443/x/../a b?c#d`. Raises TypeError for what is none."""
    text = str(url).strip("\t\n\r ")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = _host(parts.hostname or "")
    except (ValueError, UnicodeError):
        raise TypeError(f"Invalid URL: {text!r}") from None
    scheme = parts.scheme.lower()
    if _SCHEME.match(text) is None or scheme not in PORTS:
        raise TypeError(f"Invalid URL: {text!r}: it must be absolute and begin with http:// or https://")
    if not host or _HOST.fullmatch(host) is None:
        raise TypeError(f"Invalid URL: {text!r}: no host")
    if "@" in parts.netloc:
        raise TypeError(f"Invalid URL: a URL to {host!r} carries credentials. Send an Authorization header instead")
    where = host if port is None or port == PORTS[scheme] else f"{host}:{port}"
    path = _path(_quoted(parts.path, "/:@!$&'()*+,;=~%[]|\\^`{}\"<>"))
    query = f"?{_quoted(parts.query, chr(47) + QUERY_SAFE)}" if parts.query else ""
    fragment = f"#{_quoted(parts.fragment, chr(47) + QUERY_SAFE)}" if parts.fragment else ""
    return f"{scheme}://{where}{path}{query}{fragment}"


QUERY_SAFE = "?:@!$&'()*+,;=~%[]|\\^`{}"


def joined(base: str, reference: str) -> str:
    """Where a Location leads."""
    return absolute(urljoin(base, _UNSAFE.sub(lambda found: quote(found[0]), reference.strip("\t\n\r "))))


def _host(host: str) -> str:
    if host.isascii():
        return f"[{host}]" if ":" in host else host.lower()
    return host.encode("idna").decode("ascii").lower()


def _quoted(text: str, safe: str) -> str:
    return text if text.isascii() and text.isalnum() else quote(text, safe=safe)


def _path(path: str) -> str:
    """Without `.` and `..`, as every client sends it."""
    if "." not in path and "%2" not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if _DOTS.fullmatch(segment):
            if kept:
                kept.pop()
            if last:
                kept.append("")
        elif _DOT.fullmatch(segment):
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/" + "/".join(kept)
