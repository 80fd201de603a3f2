"""The URL of an API: `https://svc.example.com`, or plain http on this machine."""

import ipaddress
from urllib.parse import urlsplit

from svcctl.errors import UsageError
from svcctl.text import mask_urls

SCHEMES = ("https://", "http://")
_LOOPBACK = "localhost"


def is_url(text: str) -> bool:
    """Whether it is the URL of an API, rather than of a database, or a folder."""
    return text.lower().startswith(SCHEMES)


def normal(text: str) -> str:
    """One form for all that mean the same: tokens are kept by it. Raises UsageError for what must not be used."""
    shown = mask_urls(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{shown}: not a URL ({error})") from error
    scheme = parts.scheme.lower()
    if scheme not in ("https", "http") or not host or any(c.isspace() or not c.isprintable() for c in text):
        raise UsageError(f"{shown}: not the URL of an API", hint="such as https://svc.example.com")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            f"{shown}: a URL must not hold credentials",
            hint="it ends in logs and histories; a token goes into the keyring, or into SVCCTL_TOKEN",
            next=f"svcctl login {scheme}://{_netloc(host, port, scheme)}",
        )
    if parts.query or parts.fragment:
        raise UsageError(f"{shown}: the URL of an API has neither ? nor #")
    if scheme == "http" and not is_loopback(host):
        raise UsageError(
            f"{shown}: plain http would show the token, secrets and code to everybody on the way",
            hint="https:// reaches an API on another machine; http:// is for this one (127.0.0.1) alone",
        )
    return f"{scheme}://{_netloc(host, port, scheme)}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """By what it says, not by what a resolver says: names of one's own can be made to lead anywhere."""
    if host == _LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _netloc(host: str, port: int | None, scheme: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port in (None, {"https": 443, "http": 80}[scheme]) else f"{shown}:{port}"
