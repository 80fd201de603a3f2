"""`FormData`, and the two ways a form travels: `multipart/form-data` and `application/x-www-form-urlencoded`."""

import re
import secrets
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any, Self
from urllib.parse import parse_qsl

from svcctl.runtime.workers.blob import Blob, File

FormDataValue = str | Blob

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')
_ESCAPED = {'"': "%22", "\r": "%0D", "\n": "%0A"}


class FormData(MutableMapping[str, Any]):
    """Several values for one name, in the order they came. `form[name]` gives the first, None where there is none;
    `get_all(name)` gives each. A file is a `File`."""

    __slots__ = ("_entries",)

    def __init__(self, form_data: "FormData | MutableMapping[str, Any] | None" = None) -> None:
        self._entries: list[tuple[str, FormDataValue]] = []
        if isinstance(form_data, FormData):
            self._entries = list(form_data._entries)
        elif isinstance(form_data, dict):
            for name, value in form_data.items():
                self.append(name, value)
        elif form_data is not None:
            raise TypeError("Expected form_data to be a dict or an instance of FormData")

    def __getitem__(self, key: str) -> Any:
        return next((value for name, value in self._entries if name == key), None)

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list):
            raise TypeError("Expected single item in arguments to FormData.__setitem__")
        entry = (key, _value(value, None))
        at = next((number for number, (name, _) in enumerate(self._entries) if name == key), None)
        self._entries = [
            each for number, each in enumerate(self._entries) if each[0] != key or number == at
        ]  # fmt: skip
        if at is None:
            self._entries.append(entry)
        else:
            self._entries[at] = entry

    set = __setitem__

    def append(self, key: str, value: Any, filename: str | None = None) -> None:
        self._entries.append((str(key), _value(value, filename)))

    def delete(self, key: str) -> None:
        self._entries = [each for each in self._entries if each[0] != key]

    __delitem__ = delete

    def __contains__(self, key: object) -> bool:
        return any(name == key for name, _ in self._entries)

    has = __contains__

    def get_all(self, key: str) -> list[Any]:
        return [value for name, value in self._entries if name == key]

    getAll = get_all  # noqa: N815  # the platform's name

    def keys(self) -> Iterator[str]:  # type: ignore[override]
        return (name for name, _ in self._entries)

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        return (value for _, value in self._entries)

    def items(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        return iter(list(self._entries))

    entries = items

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"FormData({[name for name, _ in self._entries]!r})"

    @property
    def js_object(self) -> Self:
        return self

    def encode(self) -> tuple[bytes, str]:
        """As multipart/form-data: the bytes, and the content type with their boundary."""
        boundary = f"----svcctl-{secrets.token_hex(16)}"
        lines: list[bytes] = []
        for name, value in self._entries:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_escape(name)}"'
            if isinstance(value, File):
                kind = value.content_type or "application/octet-stream"
                head += f'; filename="{_escape(value.name)}"\r\nContent-Type: {kind}'
                content = value.content
            else:
                content = str(value).encode()
            lines += [head.encode(), b"\r\n\r\n", content, b"\r\n"]
        lines.append(f"--{boundary}--\r\n".encode())
        return b"".join(lines), f"{MULTIPART}; boundary={boundary}"


def parse_form(body: bytes, content_type: str | None) -> FormData:
    kind = (content_type or "").partition(";")[0].strip().lower()
    form = FormData()
    if kind == URLENCODED:
        for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True):
            form.append(name, value)
    elif kind == MULTIPART:
        boundary = parameters(content_type or "").get("boundary")
        if not boundary:
            raise TypeError("No boundary string in Content-Type header. The multipart body can't be parsed without it")
        for name, entry in _parts(body, boundary.encode("latin-1")):
            form.append(name, entry)
    else:
        raise TypeError(
            f'Unrecognized Content-Type header value {content_type or ""!r}: a form is "{MULTIPART}" or "{URLENCODED}"'
        )
    return form


def parameters(header: str) -> dict[str, str]:
    """`{"boundary": "x"}` of `multipart/form-data; boundary="x"`."""
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        for name, quoted, plain in _PARAMETER.findall(header)
    }


def _parts(body: bytes, boundary: bytes) -> Iterable[tuple[str, FormDataValue]]:
    """Each part's name and value. What stands before the first boundary and after the last is no part."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if len(pieces) < 2:
        raise TypeError("The multipart body does not hold the boundary that its Content-Type names")
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return
        head, found, content = piece.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not found:
            raise TypeError("A part of the multipart body has no end of its headers")
        yield _part(head.decode("utf-8", "replace"), content)
    raise TypeError("The multipart body ends before its closing boundary")


def _part(head: str, content: bytes) -> tuple[str, FormDataValue]:
    fields = {}
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    # Browsers write a quote in a name as %22 and a backslash as itself: no other escape is undone.
    disposition = {
        name.lower(): _unescape(quoted or plain)
        for name, quoted, plain in _PARAMETER.findall(fields.get("content-disposition", ""))
    }
    if "name" not in disposition:
        raise TypeError("A part of the multipart body has no name in its Content-Disposition")
    if "filename" not in disposition:
        return disposition["name"], content.decode("utf-8", "replace")
    kind = fields.get("content-type", "application/octet-stream")
    return disposition["name"], File(content, disposition["filename"], content_type=kind)


def _value(value: object, filename: str | None) -> FormDataValue:
    match value:
        case File() if filename is None:
            return value
        case Blob():
            return File(value, filename or "blob", content_type=value.content_type)
    return value if isinstance(value, str) else str(value)


def _escape(name: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in name)


def _unescape(name: str) -> str:
    for character, written in _ESCAPED.items():
        name = name.replace(written, character)
    return name
