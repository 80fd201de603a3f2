"""A store moved, with its history, artifacts, secrets and KV entries, from any source into any backend.

History goes segment by segment: the artifacts that its versions run, durable first, then the segment, in one
transaction of the target. So a kill at any instant leaves the target with a beginning of the source's history, whole,
and the next run goes on behind it. Secrets come after the history that names them, KV entries last.

The target must be empty, or hold a beginning of the source's history. Nothing that arrives is believed: blobs and
manifests are hashed here, segments are checked by `Backend.append`, and the end must be the head that the source said.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from svcctl import digest, faults, keyvalues, sealing
from svcctl.backend.base import Artifact, Backend, Stream
from svcctl.backend.segment import Head, SealedSecrets, Segment, Standing, Valueless
from svcctl.digest import Digest
from svcctl.errors import Conflict, Damage, UsageError
from svcctl.keyvalues import Entry, KeyValues
from svcctl.model import Manifest, Model
from svcctl.progress import SILENT, Progress
from svcctl.sealing import SecretValue

Entries = Iterator[tuple[str, Entry]]
"""Of one namespace, in the order of `KeyValues.list`."""
_TOGETHER = 500
_SIZE = 4_000_000


class Outline(Model):
    """What a source has to give."""

    standing: Standing
    secrets: int
    """Values."""
    sealed: bool
    """Whether they can come along: with the passphrase."""
    namespaces: int | None
    """None where KV entries were left out."""


class Source(Protocol):
    """Asked in this order, once: an export is read from its beginning to its end."""

    @property
    def outline(self) -> Outline: ...

    def beginning(self, number: int) -> Head | None:
        """The head as of an earlier change; None where it can't be told without reading on."""

    def segments(self, after: int) -> Iterable[Segment]:
        """The first may begin before `after`."""

    def artifact(self, code: Digest) -> Artifact:
        """One that the segment given last names, in its order."""

    def secrets(self, passphrase: SecretValue) -> tuple[SealedSecrets, sealing.MasterKey]: ...

    def namespaces(self) -> Iterator[tuple[str, Entries]]: ...


class Differences(Model):
    """Between the KV entries of a source and a target."""

    added: int = 0
    replaced: int = 0
    removed: int = 0

    def __add__(self, other: "Differences") -> "Differences":
        return Differences(
            added=self.added + other.added,
            replaced=self.replaced + other.replaced,
            removed=self.removed + other.removed,
        )


class Moved(Model):
    """What was moved, or would be."""

    store: str
    before: Head
    """The target's."""
    head: Head
    """`verify` of source and target print it."""
    changes: int
    artifacts: int | None = None
    """This and the next two: of what was not there yet. None where nothing was moved, so that it is not known."""
    blobs: int | None = None
    bytes: int | None = None
    secrets: int = 0
    missing: tuple[Valueless, ...] = ()
    """Secrets that what is live needs, and the target has no value for."""
    namespaces: int | None = None
    """Those that the source gave; None where KV was left out."""
    entries: Differences = Differences()
    dry_run: bool = False


class FromBackend:
    """A Source. Its history ends where the backend's did when this was made."""

    def __init__(self, backend: Backend, now: float, *, kv: bool) -> None:
        self._backend = backend
        self._now = now
        places = backend.follow(0).places
        lives = {(place.identity.id, place.identity.born) for place in places}
        names = backend.keyvalues.namespaces() if kv else ()
        self._namespaces = [name for name in names if (life := keyvalues.life_of(name)) and life[:2] in lives]
        missing = len(backend.valueless())
        named = sum(len(place.settings.secrets) for place in places if place.settings)
        self.outline = Outline(
            standing=backend.standing(),
            secrets=named - missing,
            sealed=True,
            namespaces=len(self._namespaces) if kv else None,
        )

    def beginning(self, number: int) -> Head | None:
        return self._backend.standing(number).head

    def segments(self, after: int) -> Iterator[Segment]:
        until = self.outline.standing.number
        while after < until:
            segment = self._backend.segment(after, until)
            yield segment
            after += len(segment.changes)

    def artifact(self, code: Digest) -> Artifact:
        return Arriving(self._backend.manifest_bytes(code), code, self._backend.open_blob)

    def secrets(self, passphrase: SecretValue) -> tuple[SealedSecrets, sealing.MasterKey]:
        salt = sealing.new_salt()
        key = sealing.passphrase_key(passphrase, salt)
        return self._backend.seal_all(key, salt), key

    def namespaces(self) -> Iterator[tuple[str, Entries]]:
        for name in self._namespaces:
            yield name, entries_of(self._backend.keyvalues, name, self._now)

    def newer(self) -> int:
        """So many changes were made since: they are no part of what this gives."""
        number = self.outline.standing.number
        return self._backend.wait(number, 0) - number


# ---- what arrives is held to its name


class Open(Protocol):
    def __call__(self, blob: Digest, /) -> Stream: ...


class Arriving:
    """An Artifact that comes from elsewhere. Raises Damage where it is not `code`, or none that can be unpacked."""

    def __init__(self, content: bytes, code: Digest, open: Open) -> None:
        from svcctl.bundle.received import manifest_of

        if digest.of("artifact", content) != code:
            raise Damage(f"the manifest that came is not that of artifact {digest.short(code)}", hint=_NOTHING)
        try:
            self.manifest: Manifest = manifest_of(content)
        except UsageError as error:
            raise Damage(f"artifact {digest.short(code)}: {error.message}", hint=_NOTHING) from error
        self.digest = code
        self.content = content
        self._open = open
        self._sizes = {file.blob: file.size for file in self.manifest.files}

    def open(self, blob: Digest) -> Stream:
        return _Held(self._open(blob), blob, self._sizes[blob])


class _Held:
    """A blob's bytes while they come: no more than there should be, and those of its name when they end."""

    def __init__(self, stream: Stream, blob: Digest, size: int) -> None:
        self._stream = stream
        self._blob = blob
        self._left = size
        self._hasher = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        part = self._stream.read(size)
        self._left -= len(part)
        self._hasher.update(part)
        over = self._left < 0
        cut = not part and size != 0 and (self._left > 0 or self._hasher.hexdigest() != self._blob)
        if over or cut:
            raise Damage(f"blob {digest.short(self._blob)} came with other bytes than its name says", hint=_NOTHING)
        return part

    def close(self) -> None:
        self._stream.close()


_NOTHING = "nothing of it was kept"


# ---- the way


def check(source: Source, target: Backend) -> Standing:
    """Where the target stands. Raises Conflict where its history is not a beginning of the source's."""
    theirs, ours = source.outline.standing, target.standing()
    if ours.number == 0:
        return ours
    if ours.store != theirs.store:
        raise _other(f"it is store {ours.store[:8]}, and the source is {theirs.store[:8]}")
    if ours.number > theirs.number:
        raise _other(f"it is at c{ours.number}, and the source ends at c{theirs.number}")
    beginning = theirs.head if ours.number == theirs.number else source.beginning(ours.number)
    if beginning not in (None, ours.head):
        raise _other(f"the two part at or before c{ours.number}")
    return ours


def _other(why: str) -> Conflict:
    return Conflict(
        f"the target has a history of its own: {why}",
        hint="nothing was changed; move into a new store, or into an older copy of the source. The store of an API is "
        "not new: its first token is in it. Move into its folder or database before `svcctl api` first starts on it",
    )


def move(
    source: Source,
    target: Backend,
    *,
    now: float,
    passphrase: SecretValue | None = None,
    kv: bool = True,
    progress: Progress = SILENT,
) -> Moved:
    """Raises what `Backend.append`, `upload` and `take_secrets` raise; then what came before is kept, and the next call
    goes on behind it."""
    outline = source.outline
    before = check(source, target)
    changes, artifacts, blobs, size = outline.standing.number - before.number, 0, 0, 0
    for segment in source.segments(before.number):
        for code in segment.artifacts:
            stored = target.upload(source.artifact(code), progress)
            artifacts, blobs, size = artifacts + bool(stored.blobs), blobs + stored.blobs, size + stored.bytes
        reached = target.append(segment)
        progress.start("moving history", max(changes, 1))
        progress.advance(reached.number - before.number)
    progress.done()
    reached = target.standing(outline.standing.number)
    if outline.standing.number and reached != outline.standing:
        raise Damage(
            f"the target is at {reached.head}, and the source said {outline.standing.head}",
            hint="the source gave another history than its own",
            next="svcctl verify",
        )
    taken = 0
    if passphrase is not None and outline.sealed:
        sent, key = source.secrets(passphrase)
        taken = target.take_secrets(sent, key)
    faults.point("move.secrets")
    entries = Differences()
    if kv and outline.namespaces is not None:
        for name, given in source.namespaces():
            entries += _take_entries(target.keyvalues, name, given, now, progress)
    return Moved(
        store=outline.standing.store,
        before=before.head,
        head=reached.head,
        changes=changes,
        artifacts=artifacts,
        blobs=blobs,
        bytes=size,
        secrets=taken,
        missing=target.valueless(),
        namespaces=outline.namespaces if kv else None,
        entries=entries,
    )


# ---- KV: no chain tells what is new, so the two are compared


def entries_of(keyvalues_: KeyValues, namespace: str, now: float) -> Entries:
    """Keys that come or go meanwhile may be there or not; each entry is whole."""
    for key in _keys_of(keyvalues_, namespace, now):
        if entry := keyvalues_.get(namespace, key, now):
            yield key, entry


def _keys_of(keyvalues_: KeyValues, namespace: str, now: float) -> Iterator[str]:
    cursor = None
    while True:
        page = keyvalues_.list(namespace, "", keyvalues.LIST_LIMIT, cursor, now)
        yield from (key.name for key in page.keys)
        cursor = page.cursor
        if cursor is None:
            return


def compare(target: KeyValues, namespace: str, given: Entries, now: float) -> Differences:
    """What `move` would do to a namespace."""
    found = Differences()
    for _, entry, had in _differing(target, namespace, given, now):
        found += _counted(entry, had=had)
    return found


def _counted(entry: Entry | None, *, had: bool) -> Differences:
    if entry is None:
        return Differences(removed=1)
    return Differences(replaced=1) if had else Differences(added=1)


def _differing(
    target: KeyValues, namespace: str, given: Entries, now: float
) -> Iterator[tuple[str, Entry | None, bool]]:
    """(key, what it should be, whether the target has one). Both sides come in the order of their keys' UTF-8."""
    ours = _keys_of(target, namespace, now)
    mine = next(ours, None)
    for key, entry in given:
        while mine is not None and mine.encode() < key.encode():
            yield mine, None, True
            mine = next(ours, None)
        had = mine == key
        if had:
            mine = next(ours, None)
        if not had or target.get(namespace, key, now) != entry:
            yield key, entry, had
    while mine is not None:
        yield mine, None, True
        mine = next(ours, None)


def _take_entries(target: KeyValues, namespace: str, given: Entries, now: float, progress: Progress) -> Differences:
    found = Differences()
    step: list[tuple[str, Entry]] = []
    size = 0
    progress.start("moving KV entries")
    for key, entry, had in _differing(target, namespace, given, now):
        found += _counted(entry, had=had)
        progress.advance(1)
        if entry is None:
            target.delete(namespace, key)
            continue
        step.append((key, entry))
        size += len(entry.value)
        if len(step) == _TOGETHER or size > _SIZE:
            target.put_all(namespace, step)
            step, size = [], 0
    if step:
        target.put_all(namespace, step)
    progress.done()
    return found
