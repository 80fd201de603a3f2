"""What nobody reaches any more is removed: artifacts that no version names and no recent upload brought, their blobs,
packs that hold nothing else, temporaries of writers that died, KV namespaces of environments that were deleted.

Rows go first, in one transaction under the write lock; files after it. A kill in between leaves files without rows,
which the next gc removes. `apply` looks for an artifact's row inside its own transaction, so a deploy that raced with
gc is told to upload again and never names what is gone.
"""

from datetime import datetime

from svcctl import ages, faults, keyvalues
from svcctl.backend.store.blobs import Blobs
from svcctl.backend.store.database import Database, Hold, repeated
from svcctl.backend.store.kv import KeyValueStore
from svcctl.backend.store.ledger import decode_record
from svcctl.digest import Digest
from svcctl.model import Created, Deleted, Model, Renamed
from svcctl.progress import SILENT, Progress

GRACE = 24 * 3600.0
"""Seconds for which an upload is kept though no version names it yet."""
_WORTH = 0.5  # a pack is written anew once less than this part of it is alive


_AHEAD = (
    "FROM packs p JOIN blobs b ON b.pack = p.name "
    "WHERE NOT EXISTS (SELECT 1 FROM artifact_packs a WHERE a.pack = p.name)"
)
"""Blobs that came ahead of any artifact: an upload that goes on, or never came to its end."""


class Swept(Model):
    """What gc removed, or would remove."""

    artifacts: int
    blobs: int
    bytes: int
    leftovers: tuple[str, ...]
    namespaces: tuple[str, ...] = ()
    """`carts of shop/preview, deleted 2026-11-23T11:12:39.123Z`"""
    dry_run: bool = False


class _Doomed(Model):
    artifacts: tuple[str, ...]
    blobs: tuple[tuple[str, str, int], ...]
    """(digest, pack, size)"""


def sweep(
    database: Database, blobs: Blobs, *, dry_run: bool, grace: float = GRACE, progress: Progress = SILENT
) -> Swept:
    if dry_run:
        with database.reading():
            doomed = _unreached(database, blobs, database.now().timestamp() - grace, progress)
        return _swept(doomed, blobs.shelf.leftovers(remove=False), dry_run=True)

    def mark_and_forget() -> _Doomed:
        database.hold(Hold.STORING)
        since = database.now().timestamp() - grace  # once: what is older a moment later was not claimed
        blobs.shelf.claim(_candidates(database, since))
        doomed = _unreached(database, blobs, since, progress)
        faults.point("gc.marked")
        _forget(database, blobs, doomed)
        return doomed

    doomed = repeated(database, mark_and_forget)
    faults.point("gc.committed")
    _rewrite_thin_packs(database, blobs, progress)
    faults.point("gc.rewritten")
    removed = blobs.shelf.leftovers(remove=True)
    faults.point("gc.unlinked")
    return _swept(doomed, removed, dry_run=False)


def sweep_namespaces(database: Database, store: KeyValueStore, before: datetime, *, dry_run: bool) -> tuple[str, ...]:
    """Those of lives that were over `before`. One of an environment that the ledger does not know is not touched: a
    ledger that came from an older backup may meet it again."""
    with database.reading():
        dead = {name: said for name in store.namespaces() if (said := _buried(database, name, ages.timestamp(before)))}
    if not dry_run:
        store.drop(tuple(dead))
    return tuple(dead.values())


def _buried(database: Database, namespace: str, before: str) -> str | None:
    """What it was, if its environment's life is over."""
    parts = keyvalues.life_of(namespace)
    if parts is None:
        return None
    id, born, label = parts
    service = environment = ""
    meant, ended = False, None
    for body, digest, at in database.all(
        "SELECT r.body, r.digest, c.at FROM records r JOIN changes c ON c.number = r.change "
        "WHERE r.environment = ? AND r.number IS NULL ORDER BY r.seq",
        (id,),
    ):
        entry = decode_record(body, digest, f"environment {id}").entry
        if isinstance(entry, Created):
            meant = entry.last == born
        if not meant:
            continue
        match entry:
            case Created():
                service, environment, ended = entry.service, entry.name, None
            case Renamed():
                environment = entry.new
            case Deleted():
                meant, ended = False, at
    return f"{label} of {service}/{environment}, deleted {ended}" if ended is not None and ended <= before else None


def _candidates(database: Database, since: float) -> list[str]:
    rows = database.all(
        "SELECT a.digest FROM artifacts a WHERE a.uploaded < ? AND NOT EXISTS "
        "(SELECT 1 FROM records r WHERE r.code = a.digest AND r.code_since = r.number)",
        (since,),
    )
    return [name for (name,) in rows]


def _unreached(database: Database, blobs: Blobs, since: float, progress: Progress) -> _Doomed:
    artifacts = _candidates(database, since)
    if not artifacts and not database.one(f"SELECT 1 {_AHEAD} AND p.mtime_ns < ? LIMIT 1", (since * 1e9,)):
        return _Doomed(artifacts=(), blobs=())
    going = set(artifacts)
    ahead = database.all(f"SELECT b.digest {_AHEAD} AND p.mtime_ns >= ?", (since * 1e9,))
    alive = {name for (name,) in ahead}
    known = database.all("SELECT digest FROM artifacts")
    progress.start("reading manifests", len(known))
    for (name,) in known:
        if name not in going:
            alive |= blobs.names(Digest(name))
        progress.advance(1)
    progress.done()
    rows = database.all("SELECT digest, pack, size FROM blobs")
    return _Doomed(
        artifacts=tuple(artifacts), blobs=tuple((name, pack, size) for name, pack, size in rows if name not in alive)
    )


def _forget(database: Database, blobs: Blobs, doomed: _Doomed) -> None:
    database.many("DELETE FROM artifacts WHERE digest = ?", [(name,) for name in doomed.artifacts])
    database.many("DELETE FROM artifact_packs WHERE artifact = ?", [(name,) for name in doomed.artifacts])
    database.many("DELETE FROM blobs WHERE digest = ?", [(name,) for name, _, _ in doomed.blobs])
    emptied = database.all("SELECT name FROM packs WHERE name NOT IN (SELECT pack FROM blobs)")
    blobs.forget_packs([name for (name,) in emptied])


def _swept(doomed: _Doomed, leftovers: tuple[str, ...], *, dry_run: bool) -> Swept:
    return Swept(
        artifacts=len(doomed.artifacts),
        blobs=len(doomed.blobs),
        bytes=sum(size for _, _, size in doomed.blobs),
        leftovers=leftovers,
        dry_run=dry_run,
    )


def _rewrite_thin_packs(database: Database, blobs: Blobs, progress: Progress) -> None:
    """All that are thin: also those that a gc which was killed had left so."""
    thin = database.all(
        "SELECT p.name FROM packs p JOIN blobs b ON b.pack = p.name GROUP BY p.name, p.size "
        "HAVING sum(b.size) < p.size * ?",
        (_WORTH,),
    )
    for (pack,) in thin:
        blobs.repack(pack, progress)
