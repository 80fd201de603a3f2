"""Which environment answers a host and a path. docs/data-plane.md has the table, which a test reads.

An entry is a generated hostname, which takes every path, or a route `host/path*` (names.check_route). A hostname is
nobody else's, and no `*.parent` reaches into a domain under which hostnames are generated: there, an unknown name is
one that was deleted, or mistyped. Of the routes that match, the one with the most specific host answers: the host
itself, then the longest `*.parent`; of those the one with the longest path, and of two equally long the one without
`*`. Hosts arrive in the gate's normal form, paths as sent.

A path is compared as it was sent. But the handler behind it may read it decoded, without doubled slashes, or with its
dot segments resolved, and then `/%61dmin` is `/admin`, which a route gives to somebody else. So where another reading
of a path leads elsewhere than the path itself, nobody answers.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from typing import Final
from urllib.parse import unquote_to_bytes

Entry = tuple[str, str]

_READS_OTHERWISE: Final = re.compile(rb"[%\\]|//|/\.")
_SLASHES: Final = re.compile(rb"[/\\]+")


class _Paths:
    """The paths of one host. `prefixes` are without their `*`."""

    __slots__ = ("exact", "lengths", "prefixes")

    def __init__(self) -> None:
        self.exact: dict[bytes, str] = {}
        self.prefixes: dict[bytes, str] = {}
        self.lengths: tuple[int, ...] = ()
        """Of the prefixes, longest first."""

    @property
    def are_one(self) -> bool:
        return not self.exact and self.prefixes.keys() == {b"/"}

    def find(self, path: bytes) -> str | None:
        if (key := self.exact.get(path)) is not None:
            return key
        for length in self.lengths:
            if (key := self.prefixes.get(path[:length])) is not None:
                return key
        return None


class _Table:
    """Routes by host. With `read`, their paths are as a handler may read them."""

    __slots__ = ("_domains", "_wild", "exact")

    def __init__(self, routes: Iterable[Entry], domains: Collection[str], *, read: bool) -> None:
        self._domains = domains
        self.exact: dict[str, _Paths] = {}
        self._wild: dict[str, _Paths] = {}
        for pattern, key in routes:
            host, path = _split(pattern)
            hosts = self.exact
            if host.startswith("*."):
                host, hosts = host[2:], self._wild
            if (paths := hosts.get(host)) is None:
                paths = hosts[host] = _Paths()
            is_prefix = path.endswith("*")
            raw = path.removesuffix("*").encode()
            table = paths.prefixes if is_prefix else paths.exact
            table.setdefault(_read(raw, whole=not is_prefix) if read else raw, key)
        for paths in (*self.exact.values(), *self._wild.values()):
            paths.lengths = tuple(sorted({len(prefix) for prefix in paths.prefixes}, reverse=True))

    def find(self, host: str, path: bytes) -> str | None:
        paths = self.exact.get(host)
        if paths is not None and (key := paths.find(path)) is not None:
            return key
        if self._wild:
            for parent in _parents(host):
                if parent in self._domains:
                    return None
                paths = self._wild.get(parent)
                if paths is not None and (key := paths.find(path)) is not None:
                    return key
        return None


class Routes:
    """Of two entries with the same pattern, the first counts; the rules let none come into being."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        hostnames = [entry for entry in self.entries if "/" not in entry[0]]
        routes = [entry for entry in self.entries if "/" in entry[0]]
        domains = {host.partition(".")[2] for host, _ in hostnames}
        self._odd = any(_READS_OTHERWISE.search(_split(pattern)[1].encode()) for pattern, _ in routes)
        self._sent = _Table(routes, domains, read=False)
        self._read = _Table(routes, domains, read=True) if self._odd else self._sent
        self._whole = {host: paths.prefixes[b"/"] for host, paths in self._sent.exact.items() if paths.are_one}
        """Whose every path is one key's: no path has to be looked at."""
        self._whole.update(reversed(hostnames))

    def find(self, host: str, path: bytes) -> str | None:
        key = self._whole.get(host)
        return key if key is not None else self._find(host, path)

    def _find(self, host: str, path: bytes) -> str | None:
        if path == b"*":
            path = b"/"  # OPTIONS *: whoever has the root speaks for the host
        key = self._sent.find(host, path)
        if self._odd or _READS_OTHERWISE.search(path):
            for reading in _readings(path):
                if self._read.find(host, reading) != key:
                    return None
        return key

    def around(self, key: str) -> "Routes":
        """What is needed to say which requests are `key`'s: each entry that matches a host which one of its own
        matches. For any host and path, these find `key` exactly where all entries do."""
        of_key, of_host = self._index
        found: dict[Entry, None] = {}
        for pattern, _ in of_key.get(key, ()):
            for host in _touching(_split(pattern)[0], of_host):
                found.update(dict.fromkeys(of_host.get(host, ())))
        return Routes(found)

    @cached_property
    def _index(self) -> tuple[dict[str, list[Entry]], dict[str, list[Entry]]]:
        """The entries of each key, and of each host as written."""
        of_key: dict[str, list[Entry]] = {}
        of_host: dict[str, list[Entry]] = {}
        for entry in self.entries:
            of_key.setdefault(entry[1], []).append(entry)
            of_host.setdefault(_split(entry[0])[0], []).append(entry)
        return of_key, of_host


def _touching(host: str, hosts: Iterable[str]) -> Iterator[str]:
    """Hosts of entries, as written, that match one of the hosts which `host` matches."""
    yield host
    yield from ("*." + parent for parent in _parents(host.removeprefix("*.")))
    if host.startswith("*."):
        end = host[1:]
        yield from (other for other in hosts if other.endswith(end))


def _split(pattern: str) -> tuple[str, str]:
    """Host and path; the path of a hostname is empty."""
    host, slash, path = pattern.partition("/")
    return host, slash + path


def _parents(host: str) -> Iterator[str]:
    """The longest first. An address has none: `*.0.0.1` is no name."""
    if host[-1:].isdigit() and host.rpartition(".")[2].isdigit():
        return
    while True:
        _, dot, host = host.partition(".")
        if not dot:
            return
        yield host


def _readings(path: bytes) -> set[bytes]:
    """The path decoded, then also without doubled slashes, then also without dot segments."""
    decoded = unquote_to_bytes(path)
    return {decoded, _SLASHES.sub(b"/", decoded), _read(path, whole=True)}


def _read(path: bytes, *, whole: bool) -> bytes:
    """The last of the readings. What follows the last slash of a prefix is no segment yet: `/.*` means dot files."""
    *segments, last = _SLASHES.sub(b"/", unquote_to_bytes(path)).split(b"/")
    kept: list[bytes] = []
    for segment in segments[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if whole and last == b"..":
        del kept[-1:]
    kept.append(b"" if whole and last in {b".", b".."} else last)
    return b"/".join([*segments[:1], *kept])
