"""A store as one file: frames in a row, so that it can be written to a pipe and read from one.

    svcctl store 1                          this line, then frames
    kind 1 byte · length 8 · payload · 32   the last: SHA-256 over the 32 of the frame before, and all of this one

    H   header: whose store, and the head that the file leads to          S   a segment of history
    M   an artifact's manifest                                            B   a blob: its name, then its bytes
    X   the secrets, sealed under a passphrase                            K   KV entries of one namespace
    E   the end: how many frames came before it

Manifests and blobs follow the segment that names them first; each blob is in the file once. A frame that is altered,
missing or moved breaks the sums that follow it, and a file without its E was cut. The sums find accidents; whoever
alters a file on purpose can make them anew, and is found by the digests inside, which the reader checks against names.

No name in a file leads to a place on disk: it is read into a store through the store's own doors. A length is believed
only as far as bytes follow.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from svcctl import digest, keyvalues, sealing, wire
from svcctl.backend.base import Artifact, Stream
from svcctl.backend.moving import Arriving, Entries, Outline, Source
from svcctl.backend.segment import Head, SealedSecrets, Segment, Standing, number_of
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Refused
from svcctl.keyvalues import Entry, KVError
from svcctl.model import Model
from svcctl.progress import SILENT, Progress
from svcctl.sealing import SecretValue

T = TypeVar("T")
MAGIC = b"svcctl store 1\n"
_CHUNK = 1 << 20
_LARGEST = 256 * 1024 * 1024
"""Bytes of a frame that is read as a whole."""
_NAME = 32
_SUM = 32
_TOGETHER = 500
_SIZE = 4_000_000
_AGAIN = "what came before it may be in the target already; get the file again, and type the command again"


class Header(Model):
    standing: Standing
    secrets: int
    """Values in the store that it was made of."""
    sealed: bool
    namespaces: int | None
    at: str


class KeptEntry(Model):
    key: str
    value: bytes
    metadata: str | None = None
    expires: int | None = None


class Kept(Model):
    """Entries of one namespace; a namespace may be in several frames, in the order of its keys."""

    namespace: str
    entries: tuple[KeptEntry, ...]


class _End(Model):
    frames: int


class Written(NamedTuple):
    header: Header
    changes: int
    artifacts: int
    blobs: int
    bytes: int
    entries: int


# ---- writing


class _Writer:
    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._before = bytes(_SUM)
        self.frames = 0
        self.bytes = len(MAGIC)
        write(MAGIC)

    def frame(self, kind: bytes, payload: bytes) -> None:
        self.parts(kind, len(payload), (payload,))

    def parts(self, kind: bytes, size: int, parts: Iterable[bytes]) -> None:
        head = kind + size.to_bytes(8, "big")
        hasher = hashlib.sha256(self._before + head)
        self._write(head)
        for part in parts:
            hasher.update(part)
            self._write(part)
        self._before = hasher.digest()
        self._write(self._before)
        self.frames += 1
        self.bytes += len(head) + size + _SUM


def write(
    source: Source,
    output: Callable[[bytes], object],
    at: str,
    passphrase: SecretValue | None = None,
    progress: Progress = SILENT,
) -> Written:
    outline = source.outline
    sealed = source.secrets(passphrase)[0] if passphrase is not None else None
    header = Header(
        standing=outline.standing,
        secrets=len(sealed.secrets) if sealed else outline.secrets,
        sealed=sealed is not None,
        namespaces=outline.namespaces,
        at=at,
    )
    writer = _Writer(output)
    writer.frame(b"H", wire.canonical(header))
    there: set[Digest] = set()
    artifacts: set[Digest] = set()
    for segment in source.segments(0):
        writer.frame(b"S", wire.canonical(segment))
        for code in segment.artifacts:
            if code not in artifacts:
                artifacts.add(code)
                _write_artifact(writer, source.artifact(code), there, progress)
    if sealed:
        writer.frame(b"X", wire.canonical(sealed))
    entries = 0
    for namespace, given in source.namespaces() if outline.namespaces else ():
        for step in _steps(given):
            writer.frame(b"K", wire.canonical(Kept(namespace=namespace, entries=tuple(step))))
            entries += len(step)
    writer.frame(b"E", wire.canonical(_End(frames=writer.frames)))
    return Written(header, outline.standing.number, len(artifacts), len(there), writer.bytes, entries)


def _write_artifact(writer: _Writer, artifact: Artifact, there: set[Digest], progress: Progress) -> None:
    writer.frame(b"M", artifact.content)
    sizes = {file.blob: file.size for file in artifact.manifest.files if file.blob not in there}
    progress.start("writing artifacts", sum(sizes.values()))
    for blob, size in sizes.items():
        with closing(artifact.open(blob)) as stream:
            writer.parts(b"B", _NAME + size, _parts(blob, stream, progress))
        there.add(blob)
    progress.done()


def _parts(blob: Digest, stream: Stream, progress: Progress) -> Iterator[bytes]:
    yield bytes.fromhex(blob)
    while part := stream.read(_CHUNK):
        progress.advance(len(part))
        yield part


def _steps(given: Entries) -> Iterator[list[KeptEntry]]:
    step: list[KeptEntry] = []
    size = 0
    for key, entry in given:
        step.append(KeptEntry(key=key, value=entry.value, metadata=entry.metadata, expires=entry.expires))
        size += len(entry.value)
        if len(step) == _TOGETHER or size > _SIZE:
            yield step
            step, size = [], 0
    if step:
        yield step


# ---- reading


class Input(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Reader:
    """Frame by frame. `kind` is that of the frame whose payload comes next; b"" after the end."""

    def __init__(self, stream: Input) -> None:
        self._stream = stream
        self._before = bytes(_SUM)
        self._hasher = hashlib.sha256()
        self._left = 0
        self.frames = 0
        self.kind = b""
        self.size = 0
        if stream.read(len(MAGIC)) != MAGIC:
            raise Refused("that is no export of a store", hint="or one of a newer svcctl")
        self.advance()

    def advance(self) -> None:
        """To the next frame; what is left of this one is read and summed."""
        if self.kind:
            while self.part():
                pass
            self._check_sum()
            if self.kind == b"E":
                self.kind = b""
                return
        head = self._exactly(9)
        self.kind, self.size = head[:1], int.from_bytes(head[1:], "big")
        if self.kind not in b"HSMBXKE" or self.size >= 1 << 62:
            raise Damage("the file is not what an export holds", hint=_AGAIN)
        self._hasher = hashlib.sha256(self._before + head)
        self._left = self.size
        self.frames += 1

    def part(self, most: int = _CHUNK) -> bytes:
        wanted = min(most, self._left, _CHUNK)
        if not wanted:
            return b""
        part = self._stream.read(wanted)
        if not part:
            raise self._cut()
        self._left -= len(part)
        self._hasher.update(part)
        return part

    def whole(self) -> bytes:
        """The payload, believed: its sum is right. The next frame is at hand afterwards."""
        if self.size > _LARGEST:
            raise Damage(f"the file has a part of {self.size:,} bytes; {_LARGEST:,} is the limit", hint=_AGAIN)
        parts = []
        while part := self.part():
            parts.append(part)
        self.advance()
        return b"".join(parts)

    def _check_sum(self) -> None:
        self._before = self._hasher.digest()
        if self._exactly(_SUM) != self._before:
            raise Damage("the file was altered", hint=_AGAIN)

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = self._stream.read(size - len(found))
            if not part:
                raise self._cut()
            found += part
        return found

    @staticmethod
    def _cut() -> Damage:
        return Damage("the file was cut short", hint=_AGAIN)


class FromFile:
    """A Source, read once from its beginning to its end."""

    def __init__(self, stream: Input, now: float) -> None:
        self._reader = _Reader(stream)
        self._now = now
        if self._reader.kind != b"H":
            raise Damage("the file does not begin with its header", hint=_AGAIN)
        self.header = _decoded(self._reader.whole(), Header)
        self.outline = Outline(
            standing=self.header.standing,
            secrets=self.header.secrets,
            sealed=self.header.sealed,
            namespaces=self.header.namespaces,
        )

    def beginning(self, number: int) -> Head | None:  # noqa: ARG002 - the segment that holds it will tell
        return None

    def segments(self, after: int) -> Iterator[Segment]:
        while self._reader.kind in (b"S", b"M", b"B"):
            if self._reader.kind != b"S":
                self._reader.advance()
                continue
            segment = _decoded(self._reader.whole(), Segment)
            if number_of(segment.head) > after:
                yield segment

    def artifact(self, code: Digest) -> Artifact:
        while self._reader.kind in (b"M", b"B"):
            if self._reader.kind == b"B":
                self._reader.advance()
                continue
            content = self._reader.whole()
            if digest.of("artifact", content) == code:
                return Arriving(content, code, self._open)
        raise Damage(f"the file lacks artifact {digest.short(code)}", hint=_AGAIN)

    def _open(self, blob: Digest, /) -> Stream:
        while self._reader.kind == b"B":
            name = self._reader.part(_NAME)
            while len(name) < _NAME and (more := self._reader.part(_NAME - len(name))):
                name += more
            if name.hex() == blob:
                return _Payload(self._reader)
            self._reader.advance()
        raise NotFound(
            f"the file does not hold blob {digest.short(blob)} where it is needed",
            hint="the target has lost a file that it had; import into a new store",
        )

    def secrets(self, passphrase: SecretValue) -> tuple[SealedSecrets, sealing.MasterKey]:
        self._skip(b"S", b"M", b"B")
        if self._reader.kind != b"X":
            raise Damage("the file lacks the secrets that its header names", hint=_AGAIN)
        sealed = _decoded(self._reader.whole(), SealedSecrets)
        key = sealing.passphrase_key(passphrase, sealed.salt)
        if key.id != sealed.key:
            raise Refused("that is not the passphrase that the secrets were sealed with", hint="no secret was taken")
        return sealed, key

    def namespaces(self) -> Iterator[tuple[str, Entries]]:
        self._skip(b"S", b"M", b"B", b"X")
        held: list[Kept] = []
        while self._reader.kind == b"K" or held:
            first = held.pop() if held else _kept(self._reader)
            yield first.namespace, self._entries(first, held)
            while self._reader.kind == b"K" and not held:  # what its reader left of the namespace
                following = _kept(self._reader)
                if following.namespace != first.namespace:
                    held.append(following)

    def _entries(self, kept: Kept, held: list[Kept]) -> Entries:
        namespace = kept.namespace
        while True:
            for each in kept.entries:
                if each.expires is None or each.expires > self._now:
                    yield each.key, Entry(each.value, each.metadata, each.expires)
            if self._reader.kind != b"K":
                return
            kept = _kept(self._reader)
            if kept.namespace != namespace:
                held.append(kept)
                return

    def _skip(self, *kinds: bytes) -> None:
        while self._reader.kind in kinds:
            self._reader.advance()

    def end(self) -> None:
        """What is left, to the E, with nothing behind it."""
        self._skip(b"H", b"S", b"M", b"B", b"X", b"K")
        if self._reader.kind == b"E":
            frames = self._reader.frames - 1
            if _decoded(self._reader.whole(), _End).frames != frames:
                raise Damage("the file lacks parts", hint=_AGAIN)
        if self._reader._stream.read(1):  # noqa: SLF001 - the reader is this module's
            raise Damage("the file goes on behind its end", hint=_AGAIN)


class _Payload:
    """The rest of one frame, as a stream."""

    def __init__(self, reader: _Reader) -> None:
        self._reader: _Reader | None = reader

    def read(self, size: int = -1, /) -> bytes:
        if self._reader is None:
            return b""
        if size >= 0:
            return self._reader.part(size)
        parts = []
        while part := self._reader.part():
            parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Its sum is checked: bytes that were handed on are not believed before."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.advance()


def _kept(reader: _Reader) -> Kept:
    kept = _decoded(reader.whole(), Kept)
    try:
        for each in kept.entries:
            keyvalues.check_key("PUT", each.key)
            keyvalues.check_value_size(len(each.value))
    except KVError as error:
        raise Damage(f"the file holds a KV entry that can't be: {error}", hint=_AGAIN) from error
    return kept


def _decoded(content: bytes, kind: type[T]) -> T:
    try:
        return wire.decode(content, kind)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Damage(f"the file is not what an export holds: {error}", hint=_AGAIN) from error
