"""What a request says of where it came from: believed from a trusted proxy, taken out else.

X-Forwarded-For is read from its right end, where the nearest proxy wrote: the client is the first address that is not
itself a trusted proxy's. Whatever stands left of it was sent by that client, and may be a lie. X-Forwarded-Proto counts
as the nearest proxy sent it. X-Forwarded-Host never decides who answers: the proxy has to pass Host on.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

Header = tuple[bytes, bytes]

CLAIMS: Final = rb"forwarded|x-(?:forwarded-[^:]*+|real-ip)|true-client-ip|cf-(?:connecting-ip|ipcountry|visitor)"
"""Names of headers, to be matched in any case: proxies' own, and those of Cloudflare that Workers code reads."""

_CLAIM: Final = re.compile(CLAIMS, re.IGNORECASE)
_SETTLED: Final = re.compile(
    rb"forwarded|x-forwarded-(?:for|proto)|x-real-ip|true-client-ip|cf-connecting-ip", re.IGNORECASE
)
_KNOWN_ADDRESSES: Final = 4096
_HOP: Final = re.compile(r"\[([^\]]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+|(.+)")
"""`[::1]:80`, `192.0.2.1:80` and a bare address."""


def strip(headers: list[Header], *, trusted: bool = False) -> None:
    """Takes such headers out of the list; of a trusted proxy's, those that say what we then say ourselves."""
    claim = _SETTLED if trusted else _CLAIM
    headers[:] = [header for header in headers if not claim.fullmatch(header[0])]


def marks(address: str, scheme: str) -> list[Header]:
    """What the handler is told of the client: as a proxy would say it, and by the name that Workers code reads."""
    client = address.encode()
    return [(b"x-forwarded-for", client), (b"x-forwarded-proto", scheme.encode()), (b"cf-connecting-ip", client)]


class TrustedProxies:
    """`networks` are addresses or networks in CIDR form; ValueError for anything else."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = tuple(ip_network(network) for network in networks)
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        known = self._known.get(address)
        return known if known is not None else self._look_up(address)

    def _look_up(self, address: str) -> bool:
        hop = _address(address)
        trusted = hop is not None and any(hop in network for network in self._networks)
        if len(self._known) >= _KNOWN_ADDRESSES:
            self._known.clear()
        self._known[address] = trusted
        return trusted

    def client(self, peer: str, headers: Sequence[Header]) -> tuple[str, str]:
        """Address and scheme of the client, as the trusted proxy `peer` tells."""
        client = peer
        for hop in reversed(_values(headers, b"x-forwarded-for")):
            address = _address(hop)
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        schemes = _values(headers, b"x-forwarded-proto")
        return client, "https" if schemes and schemes[-1].lower() in {"https", "wss"} else "http"


def _values(headers: Sequence[Header], name: bytes) -> list[str]:
    """Of a header that is a list and may come several times."""
    found = [value for each, value in headers if each.lower() == name]
    return [part.strip() for part in b",".join(found).decode("latin-1").split(",")] if found else []


def _address(hop: str) -> IPv4Address | IPv6Address | None:
    """None for `unknown`, an obfuscated name or nonsense. The same host in two notations is one address."""
    match = _HOP.fullmatch(hop)
    if match is None:
        return None
    try:
        address = ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))  # without its zone, which networks don't have
    return address
