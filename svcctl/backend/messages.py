"""What travels between `Remote` and the API beside the models themselves: bodies of requests, and blobs in frames.

A frame is one blob on its way: its SHA-256 (32 bytes), its size (8 bytes, the most significant first), its bytes. A
body is frames, one behind the other, and ends with the last.
"""

import struct
from collections.abc import Iterator

from svcctl.backend.base import Stream
from svcctl.backend.segment import SealedSecrets
from svcctl.digest import Digest
from svcctl.errors import UsageError
from svcctl.model import EnvironmentId, Model

VERSION_HEADER = "svcctl-version"
REQUEST_HEADER = "x-request-id"
FRAMES = "application/vnd.svcctl.blobs"
MANIFEST = "application/vnd.svcctl.manifest+json"
BLOB = "application/octet-stream"

_HEAD = struct.Struct(">32sQ")


class Newest(Model):
    """Of the long poll."""

    number: int


class ToSeal(Model):
    service: str
    environment: str
    name: str
    value: bytes
    """In base64."""


class ToReveal(Model):
    environment: EnvironmentId
    secrets: dict[str, str]
    """Fingerprints, by name."""


class Registered(Model):
    """What a PUT of an artifact answers; with status 409 where any is missing."""

    missing: tuple[Digest, ...] = ()


class KVEntry(Model):
    key: str
    value: bytes
    """In base64."""
    metadata: str | None = None
    expires: int | None = None
    ttl: int | None = None
    """Where it is put; by the API's clock then."""


class KVGot(Model):
    entry: KVEntry | None = None
    larger: bool = False
    """There is one, longer than was asked for."""


class KVKey(Model):
    name: str
    expires: int | None = None
    metadata: str | None = None


class KVPage(Model):
    keys: tuple[KVKey, ...] = ()
    cursor: str | None = None


class KVCopy(Model):
    source: str


class KVCopied(Model):
    count: int | None = None
    """None: it was done before."""


class ToSealAll(Model):
    key: bytes
    """What a passphrase gave, in base64."""
    salt: bytes


class ToTake(Model):
    sent: SealedSecrets
    key: bytes


class Count(Model):
    count: int


class Live(Model):
    version: str


def frame_head(blob: Digest, size: int) -> bytes:
    return _HEAD.pack(bytes.fromhex(blob), size)


def frames(body: Stream) -> Iterator[tuple[Digest, int, "Frame"]]:
    """Each must be read before the next. Raises UsageError where the body ends within one."""
    while head := exactly(body, _HEAD.size):
        if len(head) < _HEAD.size:
            raise _cut()
        name, size = _HEAD.unpack(head)
        yield Digest(name.hex()), size, Frame(body, Digest(name.hex()), size)


class Frame:
    """The bytes of one blob, as a file."""

    def __init__(self, body: Stream, blob: Digest, size: int) -> None:
        self.name = f"blob {blob[:8]}"
        self._body = body
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        part = self._body.read(wanted) if wanted else b""
        if wanted and not part:
            raise _cut()
        self._left -= len(part)
        return part

    def close(self) -> None:
        pass


def exactly(body: Stream, size: int) -> bytes:
    """Less at the end alone."""
    found = b""
    while len(found) < size and (part := body.read(size - len(found))):
        found = part if not found else found + part
    return found


def _cut() -> UsageError:
    return UsageError("the body ends within a blob", hint="nothing of it was stored; ask for what is missing and go on")
