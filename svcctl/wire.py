"""Bytes and back: canonical JSON for the ledger and the API, full JSON for `--json`."""

import re
import threading
from typing import Any, TypeVar

import msgspec

from svcctl.errors import SvcctlError
from svcctl.text import mask_urls

T = TypeVar("T")

_ACTIVE = re.compile("[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")

_canonical = msgspec.json.Encoder(order="sorted")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_making = threading.Lock()


def canonical(value: Any) -> bytes:
    """UTF-8, keys by code point, compact, fields equal to their default left out."""
    return _canonical.encode(value)


def decode(content: bytes | str, kind: type[T]) -> T:
    """Raises msgspec.ValidationError or msgspec.DecodeError."""
    decoded: T = (_decoders.get(kind) or _decoder(kind)).decode(content)
    return decoded


def convert(value: Any, kind: type[T]) -> T:
    """Of texts, as a query has them. Raises msgspec.ValidationError."""
    if kind not in _decoders:
        _decoder(kind)
    return msgspec.convert(value, kind, strict=False)


def _decoder(kind: Any) -> "msgspec.json.Decoder[Any]":
    """One thread at a time: what msgspec is about to learn of a Struct, it shows to other threads before it is whole,
    and one that decodes by it ends the process."""
    with _making:
        if kind not in _decoders:
            _decoders[kind] = msgspec.json.Decoder(kind)
        return _decoders[kind]


def full(value: Any) -> Any:
    """Plain dicts and lists with every field of every Struct, also those equal to their default."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        fields = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
        return tag | {encoded: full(getattr(value, name)) for name, encoded in fields}
    if isinstance(value, dict):
        return {str(key): full(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [full(item) for item in value]
    return value


def document(value: Any) -> str:
    """One JSON document, as `--json` prints it: every field, indented."""
    return _inert(msgspec.json.format(msgspec.json.encode(full(value)), indent=2).decode())


def line(value: Any) -> str:
    """The same on one line, for documents that follow each other."""
    return _inert(msgspec.json.encode(full(value)).decode())


def _inert(text: str) -> str:
    """JSON must escape control characters below space alone. Those above, and characters that change how others are
    shown, are escaped too: it is the same document, and may be seen on a terminal."""
    return text if text.isascii() and "\x7f" not in text else _ACTIVE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def problem(error: SvcctlError) -> dict[str, Any]:
    """Credentials in URLs are masked: an error may quote what it was given."""
    words = {"message": error.message, "hint": error.hint, "next": error.next}
    return {"error": {"code": error.code} | {name: text and mask_urls(text) for name, text in words.items()}}
