"""Blobs, in packs: those that arrive together are one file, one write, one fsync, or a few rows of a table (`shelf`).

Order of durability: the pack is written and fsynced under a temporary name, renamed, its folder fsynced; then the
rows that say where each blob lies are committed. A kill in between leaves a file that no row names, which `gc`
removes; the writer holds an flock on it until its rows are there, so that gc leaves a living writer's file alone.

A pack never changes. Its size, times and inode are kept with its rows: while they are what they were, its bytes are
taken for what was hashed when they were stored; once they differ, every blob of an artifact is hashed again before a
version may run it. So promote, roll back and clone cost the same for one file and for ten thousand.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TypeVar

import msgspec

from svcctl import digest, faults, wire
from svcctl.backend.altered import Altered, whole
from svcctl.backend.base import Artifact, Stored, Stream
from svcctl.backend.store.database import Database, Hold, Lost, Row, repeated
from svcctl.backend.store.ledger import marks
from svcctl.backend.store.packs import CHUNK, NewPack, Pack, check_arrival
from svcctl.backend.store.shelf import Shelf
from svcctl.digest import Digest
from svcctl.errors import Damage, NotFound, Refused, SvcctlError, UsageError
from svcctl.model import File, Manifest
from svcctl.progress import SILENT, Progress
from svcctl.text import clean

_LOOKUP = 500  # blobs asked for in one statement
_FRESH = 600.0  # seconds after which an upload of what is there already counts as new for gc's grace
_TRUST = "UPDATE packs SET size = ?, mtime_ns = ?, ctime_ns = ?, inode = ? WHERE name = ?"

T = TypeVar("T")


class Blobs:
    def __init__(self, shelf: Shelf, database: Database) -> None:
        self.shelf = shelf
        self._db = database

    # ---- storing

    def missing(self, blobs: Collection[Digest]) -> frozenset[Digest]:
        wanted = list(dict.fromkeys(blobs))
        found: set[str] = set()
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            rows = self._db.all(f"SELECT digest FROM blobs WHERE digest IN ({marks(part)})", part)  # noqa: S608
            found.update(name for (name,) in rows)
        return frozenset(name for name in wanted if name not in found)

    def upload(self, artifact: Artifact, progress: Progress) -> Stored:
        """Durable when it returns, and safe from gc for its time of grace. Blobs that were damaged are stored again."""
        sizes = {file.blob: file.size for file in artifact.manifest.files}
        manifest = digest.of_blob(artifact.content)
        damaged = self._damaged(artifact.digest, [*sizes, manifest])
        if not damaged and self._touch(artifact.digest):
            return Stored(blobs=0, bytes=0)
        wanted = self.missing([*sizes, manifest]) | damaged
        new = [blob for blob in sizes if blob in wanted and blob != manifest]
        progress.start("storing", sum(sizes[blob] for blob in new))
        with self._new_pack() as pack:
            for blob in new:
                with closing(artifact.open(blob)) as source:
                    pack.copy(source, blob, sizes[blob], progress)
            if manifest in wanted:
                pack.add(manifest, artifact.content)
            pack.finish()

            def name() -> None:
                self._record(pack, damaged)
                if gone := self._name(artifact.digest, artifact.manifest, manifest):
                    raise Refused(
                        f"{len(gone)} stored files of {digest.short(artifact.digest)} were removed by gc meanwhile",
                        hint="nothing was changed",
                        next="type the command again",
                    )

            self._naming(name)
        progress.done()
        return Stored(blobs=len(pack.places), bytes=sum(size for _, size in pack.places.values()))

    def store(self, blobs: Iterable[tuple[Digest, int, Stream]]) -> Stored:
        """Durable when it returns: all of them or, where one does not match its name, none."""
        with self._new_pack() as pack:
            damaged: set[Digest] = set()
            for blob, size, source in blobs:
                known = self._known((blob,))
                bad = self._damaged_in({where for where, _ in known.values()}, (blob,))
                if blob in pack.places or (known and not bad):
                    _drain(source, blob, size)
                else:
                    damaged |= bad
                    pack.copy(source, blob, size, SILENT)
            pack.finish()
            if pack.places and not self._naming(lambda: self._record(pack, frozenset(damaged))):
                pack.discard()  # others brought the same at the same time, and were first
        return Stored(blobs=len(pack.places), bytes=sum(size for _, size in pack.places.values()))

    def register(self, content: bytes) -> frozenset[Digest]:
        """Makes an artifact of what is there, durably; or returns what is missing of it, or damaged."""
        from svcctl.bundle.received import manifest_of

        name, manifest = digest.of("artifact", content), manifest_of(content)
        return frozenset() if self._is_sound(name) else self._register(name, content, manifest, manifest.files, None)

    def register_altered(self, name: Digest, told: Altered) -> frozenset[Digest]:
        """The same for one that is told by its difference from another. Raises NotFound where that is not there."""
        from svcctl.bundle.received import check

        if self._is_sound(name):
            return frozenset()
        manifest = whole(self.manifest(told.base), told)
        content = wire.canonical(manifest)
        if digest.of("artifact", content) != name:
            raise Refused("the manifest does not match its digest", hint="nothing was stored")
        check(manifest, told.manifest.files)
        return self._register(name, content, manifest, told.manifest.files, told.base)

    def _is_sound(self, artifact: Digest) -> bool:
        """Whether it is there, and nothing of it has to be looked at again; then it is as if it were uploaded now."""
        return not any(map(self._changed, self._packs_with(artifact))) and self._touch(artifact)

    def _register(
        self, name: Digest, content: bytes, manifest: Manifest, fresh: Collection[File], base: Digest | None
    ) -> frozenset[Digest]:
        """`fresh` are those of its files that `base` has not."""
        known = self._known(file.blob for file in fresh)
        packs = self._packs_with(name) | {pack for pack, _ in known.values()}
        if base:
            packs |= self._packs_with(base)
        missing = frozenset(file.blob for file in fresh).difference(known)
        if gone := missing | self._damaged_in(packs, {file.blob for file in manifest.files}):
            return gone
        _check_sizes(fresh, known)
        blob = digest.of_blob(content)
        with self._new_pack() as pack:
            damaged = self._damaged_of((blob,))
            if damaged or self.missing((blob,)):
                pack.add(blob, content)
            pack.finish()
            kept, gone = self._naming(lambda: (self._record(pack, damaged), self._name(name, manifest, blob)))
            if pack.places and not kept:
                pack.discard()
        return gone

    def _known(self, blobs: Iterable[Digest]) -> dict[Digest, tuple[str, int]]:
        """Pack and size of those that are there."""
        wanted = list(dict.fromkeys(blobs))
        known: dict[Digest, tuple[str, int]] = {}
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            rows = self._db.all(
                f"SELECT digest, pack, size FROM blobs WHERE digest IN ({marks(part)})",  # noqa: S608
                part,
            )
            known.update((name, (pack, size)) for name, pack, size in rows)
        return known

    def _touch(self, artifact: Digest) -> bool:
        row = self._db.one("SELECT uploaded FROM artifacts WHERE digest = ?", (artifact,))
        if row is None:
            return False
        now = self._db.now().timestamp()
        if now - row[0] < _FRESH:
            return True
        text = "UPDATE artifacts SET uploaded = ? WHERE digest = ?"
        return repeated(self._db, lambda: self._db.execute(text, (now, artifact))) == 1

    def _damaged(self, artifact: Digest, blobs: Collection[Digest]) -> frozenset[Digest]:
        """Those in packs that no longer look as they did, and do not match their names. Without this, one bad file
        would be taken for stored by every later deploy that holds it too."""
        return self._damaged_in(self._packs_with(artifact) or self._packs_of(blobs).keys(), blobs)

    def _packs_with(self, artifact: Digest) -> set[str]:
        rows = self._db.all("SELECT pack FROM artifact_packs WHERE artifact = ?", (artifact,))
        return {name for (name,) in rows}

    def _damaged_of(self, blobs: Collection[Digest]) -> frozenset[Digest]:
        return self._damaged_in(self._packs_of(blobs).keys(), blobs)

    def _damaged_in(self, packs: Collection[str], blobs: Collection[Digest]) -> frozenset[Digest]:
        bad = {blob for pack in sorted(packs) if self._changed(pack) for blob, _ in self.check(pack, self._rows(pack))}
        return frozenset(bad.intersection(blobs))

    def _changed(self, pack: str) -> bool:
        row = self._db.one("SELECT size, mtime_ns, ctime_ns, inode FROM packs WHERE name = ?", (pack,))
        return row is None or self.shelf.look(pack) != Pack(*row)

    def _rows(self, pack: str) -> list[Row]:
        return self._db.all("SELECT digest, position, size FROM blobs WHERE pack = ?", (pack,))

    def _record(self, pack: NewPack, damaged: frozenset[Digest]) -> bool:
        """The rows of a new pack; whether any of them names it. Inside a transaction."""
        if not pack.places:
            return False
        self._db.execute("INSERT INTO packs VALUES (?,?,?,?,?)", (pack.name, *msgspec.structs.astuple(pack.known())))
        if damaged:
            self._replace(damaged, pack.name)
        self._db.many(
            "INSERT INTO blobs (digest, pack, position, size) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
            # In one order for all writers: each waits for those who store the same.
            [(blob, pack.name, *place) for blob, place in sorted(pack.places.items())],
        )
        if self._db.one("SELECT 1 FROM blobs WHERE pack = ? LIMIT 1", (pack.name,)):
            return True
        self._db.execute("DELETE FROM packs WHERE name = ?", (pack.name,))
        self.shelf.forget((pack.name,))
        return False

    def _name(self, artifact: Digest, manifest: Manifest, manifest_blob: Digest) -> frozenset[Digest]:
        """The row of an artifact, if all its blobs are there; else those that are not. Inside a transaction."""
        blobs = {file.blob for file in manifest.files} | {manifest_blob}
        packs = self._packs_of(blobs)
        if sum(packs.values()) < len(blobs):
            return self.missing(blobs)
        size = sum(file.size for file in manifest.files)
        self._db.execute(
            "INSERT INTO artifacts (digest, manifest, files, size, uploaded) VALUES (?,?,?,?,?) "
            "ON CONFLICT (digest) DO UPDATE SET uploaded = excluded.uploaded",
            (artifact, manifest_blob, len(manifest.files), size, self._db.now().timestamp()),
        )
        self._record_packs(artifact, packs)
        return frozenset()

    def _replace(self, damaged: Collection[Digest], pack: str) -> None:
        """Room for the new rows. Every artifact of the old packs may now lie in the new one as well."""
        for old in self._packs_of(damaged):
            self._db.execute(
                "INSERT INTO artifact_packs SELECT artifact, ? FROM artifact_packs WHERE pack = ? "
                "ON CONFLICT DO NOTHING",
                (pack, old),
            )
        self._db.many("DELETE FROM blobs WHERE digest = ?", [(blob,) for blob in damaged])
        emptied = self._db.all(
            "SELECT name FROM packs WHERE name NOT IN (SELECT pack FROM blobs) AND name <> ?", (pack,)
        )
        self.forget_packs([name for (name,) in emptied])
        self._db.execute("DELETE FROM artifact_packs WHERE pack NOT IN (SELECT name FROM packs)")

    def _packs_of(self, blobs: Collection[Digest]) -> Counter[str]:
        """And how many of them each holds."""
        wanted = list(dict.fromkeys(blobs))
        packs: Counter[str] = Counter()
        for start in range(0, len(wanted), _LOOKUP):
            part = wanted[start : start + _LOOKUP]
            rows = self._db.all(
                f"SELECT pack, count(*) FROM blobs WHERE digest IN ({marks(part)}) GROUP BY pack",  # noqa: S608
                part,
            )
            packs.update(dict(rows))
        return packs

    def forget_packs(self, packs: Collection[str]) -> None:
        self._db.many("DELETE FROM packs WHERE name = ?", [(name,) for name in packs])
        self.shelf.forget(packs)

    def _record_packs(self, artifact: Digest, packs: Collection[str]) -> None:
        """Which packs hold the bytes of an artifact."""
        self._db.execute("DELETE FROM artifact_packs WHERE artifact = ?", (artifact,))
        self._db.many("INSERT INTO artifact_packs VALUES (?,?)", [(artifact, pack) for pack in sorted(packs)])

    def _naming(self, work: Callable[[], T]) -> T:
        """A transaction that makes something of stored bytes, never beside gc."""

        def name() -> T:
            self._db.hold(Hold.STORING, alone=False)
            done = work()
            faults.point("upload.before-commit")
            return done

        done = repeated(self._db, name)
        faults.point("upload.committed")
        return done

    @contextmanager
    def _new_pack(self) -> Iterator["NewPack"]:
        pack = self.shelf.new()
        try:
            yield pack
        except Lost:
            raise  # whether it was committed nobody knows yet: what was not, gc finds
        except BaseException:
            with suppress(SvcctlError):  # an interrupt may have come after the commit
                if not self._db.one("SELECT 1 FROM blobs WHERE pack = ? LIMIT 1", (pack.name,)):
                    pack.discard()
            raise
        finally:
            pack.close()

    # ---- reading

    def has(self, artifact: Digest) -> bool:
        return self._db.one("SELECT 1 FROM artifacts WHERE digest = ?", (artifact,)) is not None

    def manifest(self, artifact: Digest) -> Manifest:
        return wire.decode(self.manifest_bytes(artifact), Manifest)

    def manifest_bytes(self, artifact: Digest) -> bytes:
        with closing(self.open(self._manifest_blob(artifact))) as stream:
            content = stream.read()
        if digest.of("artifact", content) != artifact:
            raise Damage(f"artifact {digest.short(artifact)}: its manifest is another's", next="svcctl verify")
        return content

    def open(self, blob: Digest) -> Stream:
        """The whole blob is hashed before any of it is handed on."""
        place, wrong = self._found(blob)
        if place is None:
            raise NotFound(f"no blob {digest.short(blob)} in the store")
        if wrong:
            raise Damage(f"blob {digest.short(blob)} {wrong}", next="svcctl verify")
        pack, position, size = place
        return self.shelf.open(blob, pack, position, size)

    def size(self, blob: Digest) -> int:
        place = self._place(blob)
        if place is None:
            raise NotFound(f"no blob {digest.short(blob)} in the store")
        return int(place[2])

    def _found(self, blob: Digest) -> tuple[Row | None, str | None]:
        """Where it lies, and what is wrong with it. gc may move it between the two: then it is looked for again."""
        place = self._place(blob)
        while place:
            pack, position, size = place
            wrong = self._wrong(pack, position, size, blob)
            if wrong is None or (now := self._place(blob)) == place:
                return place, wrong
            place = now
        return None, "is missing"

    def _place(self, blob: Digest) -> Row | None:
        return self._db.one("SELECT pack, position, size FROM blobs WHERE digest = ?", (blob,))

    def check(self, pack: str, rows: Iterable[Row]) -> Iterator[tuple[Digest, str]]:
        """The blobs of one pack whose bytes do not match their names, and how."""
        for blob, position, size in rows:
            if wrong := self._wrong(pack, position, size, blob):
                yield blob, wrong

    def _wrong(self, pack: str, position: int, size: int, blob: Digest) -> str | None:
        try:
            hasher, left = hashlib.sha256(), size
            for part in self.shelf.read(pack, position, size):
                hasher.update(part)
                left -= len(part)
        except FileNotFoundError:
            return f"is gone: {pack} is missing"
        except OSError as error:
            return f"is unreadable: {error.strerror}"
        if left:
            return f"is cut short in {pack}"
        return None if hasher.hexdigest() == blob else f"does not match its name in {pack}"

    def names(self, artifact: Digest) -> set[Digest]:
        """Every blob that an artifact needs, its manifest's among them."""
        return {file.blob for file in self.manifest(artifact).files} | {self._manifest_blob(artifact)}

    def _manifest_blob(self, artifact: Digest) -> Digest:
        row = self._db.one("SELECT manifest FROM artifacts WHERE digest = ?", (artifact,))
        if row is None:
            raise NotFound(f"no artifact {digest.short(artifact)} in the store")
        return Digest(row[0])

    def repack(self, old: str, progress: Progress) -> None:
        """What is alive in a pack, written anew; the old file is left for whoever still reads it, then for gc."""
        rows = self._db.all("SELECT digest, size FROM blobs WHERE pack = ? ORDER BY position", (old,))
        progress.start("writing packs anew", sum(size for _, size in rows))
        with self._new_pack() as pack:
            for blob, size in rows:
                with closing(self.open(Digest(blob))) as source:
                    pack.copy(source, Digest(blob), size, progress)
            pack.finish()
            progress.done()

            def move() -> None:
                self._db.hold(Hold.STORING)
                self._db.execute(
                    "INSERT INTO packs VALUES (?,?,?,?,?)", (pack.name, *msgspec.structs.astuple(pack.known()))
                )
                self._db.many(
                    "UPDATE blobs SET pack = ?, position = ? WHERE digest = ? AND pack = ?",
                    [(pack.name, position, blob, old) for blob, (position, _) in pack.places.items()],
                )
                self._db.execute(
                    "INSERT INTO artifact_packs SELECT artifact, ? FROM artifact_packs WHERE pack = ? "
                    "ON CONFLICT DO NOTHING",
                    (pack.name, old),
                )
                self._db.execute("DELETE FROM artifact_packs WHERE pack = ?", (old,))
                self.forget_packs((old,))

            repeated(self._db, move)

    # ---- trust

    def suspects(self, artifacts: Collection[Digest]) -> list[Digest]:
        """Those with a pack that does not look as it did when it was known to be good. Raises Refused where one is not
        in the store."""
        if not artifacts:
            return []
        self.shelf.keep(artifacts)
        rows = self._db.all(
            "SELECT a.artifact, p.name, p.size, p.mtime_ns, p.ctime_ns, p.inode FROM artifact_packs a "  # noqa: S608
            f"JOIN packs p ON p.name = a.pack WHERE a.artifact IN ({marks(artifacts)})",
            tuple(artifacts),
        )
        if gone := set(artifacts) - {row[0] for row in rows}:
            raise Refused(
                f"artifact {digest.short(min(gone))} is not in the store",
                hint="it was never uploaded, or gc removed it",
                next="svcctl deploy",
            )
        packs = {name: Pack(*known) for _, name, *known in rows}
        changed = {name for name, known in packs.items() if self.shelf.look(name) != known}
        return sorted({artifact for artifact, name, *_ in rows if name in changed})

    def prove(self, artifact: Digest) -> None:
        """Hashes every blob of it. Raises Damage, or takes the packs' present looks for good."""
        blobs = {file.blob: file.path for file in self.manifest(artifact).files}
        blobs[self._manifest_blob(artifact)] = "its manifest"
        for blob, path in blobs.items():
            _, wrong = self._found(blob)
            if wrong:
                raise Damage(
                    f"artifact {digest.short(artifact)}: {path}: blob {digest.short(blob)} {wrong}",
                    hint="nothing was changed; what is live stays live",
                    next="svcctl verify",
                )
        self._trust(artifact)

    def _trust(self, artifact: Digest) -> None:
        packs = [name for (name,) in self._db.all("SELECT pack FROM artifact_packs WHERE artifact = ?", (artifact,))]
        for pack in packs:
            # Another artifact may share the pack: it is good only if all of it is.
            look = self.shelf.look(pack)
            if look and not any(self.check(pack, self._rows(pack))):
                known = (*msgspec.structs.astuple(look), pack)
                repeated(self._db, partial(self._db.execute, _TRUST, known))


def _drain(source: Stream, blob: Digest, size: int) -> None:
    """What is stored already is held to its name all the same."""
    hasher, read = hashlib.sha256(), 0
    while part := source.read(CHUNK):
        hasher.update(part)
        read += len(part)
    check_arrival(source, blob, size, hasher.hexdigest(), read)


def _check_sizes(files: Iterable[File], known: Mapping[Digest, tuple[str, int]]) -> None:
    for file in files:
        _, size = known[file.blob]
        if size != file.size:
            raise UsageError(f"the manifest can't be: {clean(file.path)!r} has {size} bytes, not {file.size}")
