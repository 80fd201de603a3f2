"""`Headers`: names without case, several values for one name, Set-Cookie never joined.

Kept as the raw pairs that ASGI speaks (lower-case names, bytes), so an incoming request wraps its scope's list without
a copy and a response hands its own on as it is. Whatever enters through a handler is checked here: a CR, LF or NUL in a
value would let it write headers, or a whole response, of its own.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar, overload

Raw = tuple[bytes, bytes]
T = TypeVar("T")

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SET_COOKIE = b"set-cookie"
_HIDDEN = frozenset({b"authorization", b"proxy-authorization", b"cookie", _SET_COOKIE})
_SPACE = " \t\r\n"

_names: dict[str, bytes] = {}
"""Names seen before, as they are written: a handler uses the same dozen for each request."""
_NAMES_KEPT = 512


def raw_name(name: object) -> bytes:
    """Lower-case bytes of a header's name. Raises TypeError for what is no token."""
    known = _names.get(name) if isinstance(name, str) else None
    return known if known is not None else _checked_name(name)


def _checked_name(name: object) -> bytes:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
        raise TypeError(f"Invalid header name: {name!r}")
    raw = name.lower().encode("ascii")
    if len(_names) < _NAMES_KEPT:
        _names[name] = raw
    return raw


def raw_value(value: object, name: object = "") -> bytes:
    """Bytes of a header's value, without the space around it. Raises TypeError for what can't stand on one line."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    elif value is None:
        raise TypeError(f"Invalid header value for {name!r}: None")
    elif not isinstance(value, str):
        value = str(value)
    text = value.strip(_SPACE)
    if "\n" in text or "\r" in text or "\0" in text:
        raise TypeError(f"Invalid header value for {name!r}: it holds a line break or NUL: {text!r}")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise TypeError(f"Invalid header value for {name!r}: only characters up to U+00FF fit: {text!r}") from None


def _joint(name: bytes) -> bytes:
    return b"; " if name == b"cookie" else b", "


class Headers:
    """A name that is missing gives None, from `get` and from `headers[name]`: as the `http.client.HTTPMessage` does
    that Cloudflare's requests carry. Several values for one name read as one, joined by a comma; Set-Cookie alone stays
    apart, in `get_all`, `getSetCookie` and iteration. Names are listed in lower case."""

    __slots__ = ("_fixed", "_raw")

    _raw: list[Raw]
    _fixed: bool

    def __init__(self, init: "HeadersInit | None" = None) -> None:
        self._fixed = False
        if init is None:
            self._raw = []
        elif isinstance(init, Headers):
            self._raw = list(init._raw)
        else:
            self._raw = [(raw_name(name), raw_value(value, name)) for name, value in _pairs(init)]

    @classmethod
    def of_raw(cls, raw: Iterable[Raw], *, fixed: bool = False) -> Self:
        """Around pairs that were checked elsewhere: lower-case names, no CR, LF or NUL. A list is kept, not copied."""
        made = cls.__new__(cls)
        made._raw = raw if isinstance(raw, list) else list(raw)
        made._fixed = fixed
        return made

    @property
    def raw(self) -> list[Raw]:
        """Not a copy."""
        return self._raw

    # ---- reading

    def find(self, name: bytes) -> bytes | None:
        """By its raw name: the values joined."""
        found: bytes | None = None
        for each, value in self._raw:
            if each == name:
                found = value if found is None else found + _joint(name) + value
        return found

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: T) -> str | T: ...
    def get(self, name: str, default: T | None = None) -> str | T | None:
        found = self.find(raw_name(name))
        return default if found is None else found.decode("latin-1")

    def get_all(self, name: str, failobj: Any = None) -> Any:
        """A list with the joined value, or with each Set-Cookie; `failobj` where there is none."""
        raw = raw_name(name)
        if raw == _SET_COOKIE:
            return self.getSetCookie() or failobj
        found = self.find(raw)
        return failobj if found is None else [found.decode("latin-1")]

    def getAll(self, name: str) -> list[str]:  # noqa: N802  # the platform's name
        found: list[str] = self.get_all(name, [])
        return found

    def getSetCookie(self) -> list[str]:  # noqa: N802  # the platform's name
        return [value.decode("latin-1") for name, value in self._raw if name == _SET_COOKIE]

    get_set_cookie = getSetCookie

    def has(self, name: str) -> bool:
        raw = raw_name(name)
        return any(each == raw for each, _ in self._raw)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __getitem__(self, name: str) -> str | None:
        return self.get(name)

    def items(self) -> list[tuple[str, str]]:
        """One pair for each name, one for each Set-Cookie."""
        found: dict[bytes, bytes] = {}
        order: list[Raw] = []
        for name, value in self._raw:
            if name == _SET_COOKIE:
                order.append((name, value))
            elif name in found:
                found[name] += _joint(name) + value
            else:
                found[name] = value
                order.append((name, b""))
        return [(name.decode("latin-1"), (found.get(name) or value).decode("latin-1")) for name, value in order]

    entries = items

    def keys(self) -> list[str]:
        return [name for name, _ in self.items()]

    def values(self) -> list[str]:
        return [value for _, value in self.items()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and sorted(self.items()) == sorted(other.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = {
            name: "***" if name.encode("latin-1") in _HIDDEN else value
            for name, value in self.items()
        }  # fmt: skip
        return f"Headers({shown!r})"

    # ---- changing

    def set(self, name: str, value: object) -> None:
        raw = raw_name(name)
        pair = (raw, raw_value(value, name))
        self._open()
        kept = [each for each in self._raw if each[0] != raw]
        at = next((number for number, each in enumerate(self._raw) if each[0] == raw), len(kept))
        kept.insert(at, pair)
        self._raw = kept

    def append(self, name: str, value: object) -> None:
        pair = (raw_name(name), raw_value(value, name))
        self._open()
        self._raw.append(pair)

    def delete(self, name: str) -> None:
        raw = raw_name(name)
        self._open()
        self._raw = [each for each in self._raw if each[0] != raw]

    def __setitem__(self, name: str, value: object) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def _open(self) -> None:
        if self._fixed:
            raise TypeError(
                "Can't modify immutable headers: those of an incoming request belong to it. "
                "Make a request of your own: Request(request, headers=…)"
            )

    def copy(self) -> "Headers":
        """May be changed, whatever it was copied from."""
        return Headers.of_raw(list(self._raw))

    @property
    def js_object(self) -> Self:
        return self


HeadersInit = Headers | Mapping[str, Any] | Iterable[tuple[str, Any]]


def _pairs(init: object) -> Iterable[tuple[object, object]]:
    items = getattr(init, "items", None)
    if items is not None:
        pairs: Iterable[tuple[object, object]] = items()
        return pairs
    if isinstance(init, str | bytes) or not isinstance(init, Iterable):
        raise TypeError(f"Received unexpected type for headers argument: {type(init).__name__}")
    return [_pair(each) for each in init]


def _pair(each: object) -> tuple[object, object]:
    match each:
        case (name, value):
            return name, value
    raise TypeError(f"Headers are pairs of a name and a value, not {each!r}")
