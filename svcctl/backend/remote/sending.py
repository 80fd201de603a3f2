"""Uploads: the manifest first, for the answer says what is missing of it; that in batches; and the manifest again. Of
one that is much like another that is there, the difference stands for the manifest.

A batch is stored whole, durably, or not at all. So an upload that was cut, also by the end of this process, goes on
with what is still missing, and has lost one batch at most. Each file is hashed as it is read: one that changed since
it was bundled ends the upload before the API could store half of it.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing

from svcctl import digest, wire
from svcctl.backend.altered import Altered
from svcctl.backend.base import Artifact, Stored
from svcctl.backend.messages import FRAMES, MANIFEST, Registered, frame_head
from svcctl.backend.remote.session import JSON, Session
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Refused, Unreachable, UsageError
from svcctl.progress import Progress

_LOOKUP = 50_000
_BATCH_BYTES, _BATCH_BLOBS = 32_000_000, 2_000
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
    naming = _Naming(session, artifact, told)
    blobs = size = 0
    for _ in range(_ROUNDS):
        gone = naming.ask()
        if not gone:
            return Stored(blobs=blobs, bytes=size)
        if unknown := gone - sizes.keys():
            raise Damage(f"{session.url} misses blob {digest.short(min(unknown))}, which is none of this artifact")
        new = [blob for blob in sizes if blob in gone]
        progress.start("uploading", sum(sizes[blob] for blob in new))
        for batch in _batches(new, sizes):
            _send(session, artifact, batch, sizes, progress)
        progress.done()
        if not blobs:  # the manifest is stored with the first blobs of an artifact
            blobs, size = 1, len(artifact.content)
        blobs, size = blobs + len(new), size + sum(sizes[blob] for blob in new)
    raise Unreachable(f"{session.url} does not keep what is uploaded", hint="on its machine, svcctl verify says more")


class _Naming:
    """Of what was sent, as an artifact."""

    def __init__(self, session: Session, artifact: Artifact, told: Altered | None) -> None:
        self._session = session
        self._artifact = artifact
        self._told = wire.canonical(told) if told else None

    def ask(self) -> frozenset[Digest]:
        """What is missing of it, or damaged; nothing: it is an artifact of the store now."""
        if self._told is not None:
            try:
                return self._ask("POST", self._told, JSON)
            except (Damage, NotFound, Refused, UsageError):  # no such base, or no such route
                self._told = None
        return self._ask("PUT", self._artifact.content, MANIFEST)

    def _ask(self, method: str, body: bytes, media: str) -> frozenset[Digest]:
        def name() -> bytes:
            path = f"/v1/artifacts/{self._artifact.digest}"
            with self._session.answering(method, path, body=body, media=media, accepted=(409,)) as response:
                return self._session.all_of(response)

        return frozenset(self._session.decoded(self._session.trying(name), Registered).missing)


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


def _send(
    session: Session, artifact: Artifact, batch: Sequence[Digest], sizes: dict[Digest, int], progress: Progress
) -> None:
    """Each further try asks what is still missing: the answer to the one before may be all that was lost."""
    tries = 0

    def post() -> None:
        nonlocal tries
        tries += 1
        left = batch if tries == 1 else [blob for blob in batch if blob in missing(session, batch)]
        if not left:
            return
        told = _Told(progress)
        try:
            with session.answering(
                "POST", "/v1/blobs", body=lambda: _frames(artifact, left, sizes, told), media=FRAMES
            ) as response:
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
                raise Refused(
                    f"{getattr(stream, 'name', None) or 'a file'} changed while it was being read",
                    hint="nothing was changed; type the command again",
                )
    told.sent(len(buffer))
    yield bytes(buffer)


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
