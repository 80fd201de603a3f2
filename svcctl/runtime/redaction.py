"""Secrets that a handler prints, made unreadable before they are written anywhere.

Defence in depth, not a promise: exact values are found, also as JSON, percent-encoding, base64 and hex would write
them, but not a half of one, one turned around, or one that C code or a child process writes by itself. Short values are
left alone: `a` or `8080` would be found everywhere.
"""

import re
from collections.abc import Iterable, Iterator

MASK = "***"
SHORTEST = 6
"""Characters of a value that is looked for."""
_SHORTEST_LINE = 16
_SHORTEST_BASE64 = 8


class Redaction:
    def __init__(self) -> None:
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.longest = 0
        """Characters of the longest form: so much of a text that is to be cut must be looked at beyond the cut."""

    def add(self, values: Iterable[str]) -> None:
        self._known.update(form for value in values if len(value) >= SHORTEST for form in _forms(value))
        if self._known:
            # The longest first: of two that begin alike the shorter would leave the other's end readable.
            forms = sorted(self._known, key=len, reverse=True)
            self.longest = len(forms[0])
            self._pattern = re.compile("|".join(map(re.escape, forms)))

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


def _forms(value: str) -> Iterator[str]:
    import json
    from urllib.parse import quote, quote_plus

    content = value.encode("utf-8", "surrogatepass")
    yield from (value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    for quoted in (quote(content, safe=""), quote(content), quote_plus(content)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
    yield from (content.hex(), content.hex().upper())
    yield from _base64(content)
    if "\n" in value:  # a key that is printed line by line; not its first line, which says only what it is
        yield from (line for line in value.splitlines() if len(line) >= _SHORTEST_LINE and not line.startswith("-----"))


def _base64(content: bytes) -> Iterator[str]:
    """Also where it stands inside something longer (`user:password`): the characters that depend on it alone, for each
    of the three places in which it may begin."""
    import base64

    for before in range(3):
        encoded = base64.b64encode(bytes(before) + content).rstrip(b"=").decode()
        first = -(-before * 8 // 6)
        last = (before + len(content)) * 8 // 6
        if last - first >= _SHORTEST_BASE64:
            yield encoded[first:last]
            yield encoded[first:last].translate(str.maketrans("+/", "-_"))
