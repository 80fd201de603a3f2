"""Uploads: the manifest first, for the answer says what is missing of it; that in batches; and the manifest again. Of
one that is much like another that is there, the difference stands for the manifest.

A batch is stored whole, durably, or not at all. So an upload that was cut, also by the end of this process, goes on
with what is still missing, and has lost one batch at most. A file that is larger than that goes in parts, which are
blobs too until the API has joined them. Each file is hashed as it is read: one that changed since it was bundled ends
the upload before the API could store half of it.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count

from svcctl import digest, wire
from svcctl.backend.altered import Altered
from svcctl.backend.base import Artifact, Stored, Stream
from svcctl.backend.messages import FRAMES, exactly, frame_head
from svcctl.backend.remote.naming import Naming
from svcctl.backend.remote.session import Session
from svcctl.digest import Digest
from svcctl.errors import Damage, Refused, Unreachable
from svcctl.progress import Progress

_LOOKUP = 50_000
_BATCH_BYTES, _BATCH_BLOBS = 32_000_000, 2_000
_PART = 16_000_000
_CHUNK = 262_144
_ROUNDS = 5
"""Another upload's gc, or a store that loses what it was given, must not keep this one going for ever."""


def missing(session: Session, blobs: Collection[Digest]) -> frozenset[Digest]:
    wanted = list(dict.fromkeys(blobs))
    found: set[Digest] = set()
    for start in range(0, len(wanted), _LOOKUP):
        body = wire.canonical(wanted[start : start + _LOOKUP])
        found |= session.ask(frozenset[Digest], "POST", "/v1/blobs/missing", body=body)
    if not found <= set(wanted):
        raise Unreachable(f"{session.url} misses blobs that it was not asked for")
    return frozenset(found)


def upload(session: Session, artifact: Artifact, progress: Progress, told: Altered | None) -> Stored:
    sizes = {file.blob: file.size for file in artifact.manifest.files}
    naming = Naming(session, artifact, told)
    blobs = size = 0
    for _ in range(_ROUNDS):
        gone = naming.artifact()
        if not gone:
            return Stored(blobs=blobs, bytes=size)
        if unknown := gone - sizes.keys():
            raise Damage(f"{session.url} misses blob {digest.short(min(unknown))}, which is none of this artifact")
        new = [blob for blob in sizes if blob in gone]
        progress.start("uploading", sum(sizes[blob] for blob in new))
        for batch in _batches([blob for blob in new if sizes[blob] <= _BATCH_BYTES], sizes):
            _send(session, batch, lambda left, told: _frames(artifact, left, sizes, told), progress)
        for blob in new:
            if sizes[blob] > _BATCH_BYTES:
                _send_in_parts(session, naming, artifact, blob, progress)
        progress.done()
        if not blobs:  # the manifest is stored with the first blobs of an artifact
            blobs, size = 1, len(artifact.content)
        blobs, size = blobs + len(new), size + sum(sizes[blob] for blob in new)
    raise _not_kept(session)


def _not_kept(session: Session) -> Unreachable:
    return Unreachable(f"{session.url} does not keep what is uploaded", hint="on its machine, svcctl verify says more")


def _batches(blobs: Iterable[Digest], sizes: dict[Digest, int]) -> Iterator[list[Digest]]:
    batch: list[Digest] = []
    size = 0
    for blob in blobs:
        if batch and (size + sizes[blob] > _BATCH_BYTES or len(batch) == _BATCH_BLOBS):
            yield batch
            batch, size = [], 0
        batch.append(blob)
        size += sizes[blob]
    if batch:
        yield batch


def _send_in_parts(session: Session, naming: Naming, artifact: Artifact, blob: Digest, progress: Progress) -> None:
    with closing(artifact.open(blob)) as stream:
        parts = [digest.of_blob(part) for part in _parts(stream, blob)]
    for attempt in range(_ROUNDS):
        gone = naming.joined(blob, parts)
        if not gone:
            return
        with closing(artifact.open(blob)) as stream:
            for name, part in zip(parts, _parts(stream, blob), strict=True):
                if name in gone:
                    gone -= {name}
                    _send(session, [name], partial(_frame, part), progress)
                elif attempt == 0:
                    progress.advance(len(part))
    raise _not_kept(session)


def _parts(stream: Stream, blob: Digest) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    while part := exactly(stream, _PART):
        hasher.update(part)
        yield part
    if hasher.hexdigest() != blob:
        raise _changed(stream)


def _send(
    session: Session,
    batch: Sequence[Digest],
    body: Callable[[Sequence[Digest], "_Told"], Iterable[bytes]],
    progress: Progress,
) -> None:
    """Each further try asks what is still missing: the answer to the one before may be all that was lost."""
    tries = count()

    def post() -> None:
        gone = missing(session, batch) if next(tries) else batch
        left = [blob for blob in batch if blob in gone]
        if not left:
            return
        told = _Told(progress)
        try:
            with session.answering("POST", "/v1/blobs", body=lambda: body(left, told), media=FRAMES) as response:
                session.decoded(session.all_of(response), Stored)
        except BaseException:
            told.take_back()
            raise

    session.trying(post)


def _frames(artifact: Artifact, blobs: Sequence[Digest], sizes: dict[Digest, int], told: "_Told") -> Iterator[bytes]:
    """Small blobs travel together: a write for each would cost more than their bytes."""
    buffer = bytearray()
    for blob in blobs:
        buffer += frame_head(blob, sizes[blob])
        hasher, left = hashlib.sha256(), sizes[blob]
        with closing(artifact.open(blob)) as stream:
            while part := stream.read(_CHUNK):
                hasher.update(part)
                left -= len(part)
                if left < 0:
                    break
                buffer += part
                if len(buffer) >= _CHUNK:
                    told.sent(len(buffer))
                    yield bytes(buffer)
                    buffer.clear()
            if left or hasher.hexdigest() != blob:
                raise _changed(stream)
    told.sent(len(buffer))
    yield bytes(buffer)


def _frame(part: bytes, names: Sequence[Digest], told: "_Told") -> Iterator[bytes]:
    yield frame_head(names[0], len(part))
    for start in range(0, len(part), _CHUNK):
        chunk = part[start : start + _CHUNK]
        told.sent(len(chunk))
        yield chunk


def _changed(stream: Stream) -> Refused:
    return Refused(
        f"{getattr(stream, 'name', None) or 'a file'} changed while it was being read",
        hint="nothing was changed; type the command again",
    )


class _Told:
    """Progress of one try, to be taken back with it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._sent = 0

    def sent(self, count: int) -> None:
        self._sent += count
        self._progress.advance(count)

    def take_back(self) -> None:
        self._progress.advance(-self._sent)
        self._sent = 0
