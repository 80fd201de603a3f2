"""Whether the store is what it says: every record against its digest and its predecessor, every number, every settings
document, every blob, and the tables against the chains they came from.

A head `N:DIGEST` covers all chains as of change N. Kept elsewhere, it shows later that nothing up to N was rewritten,
not even with every digest made to match.
"""

import hashlib
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from svcctl import digest, wire
from svcctl.backend.store import tables
from svcctl.backend.store.blobs import Blobs
from svcctl.backend.store.database import Database, Row
from svcctl.backend.store.ledger import STORE_CHAIN, is_sound
from svcctl.backend.store.tables import Replayed
from svcctl.digest import Digest
from svcctl.errors import SvcctlError, UsageError
from svcctl.model import Change, Manifest, Model, Record, Settings, Version
from svcctl.progress import Progress
from svcctl.rules.halves import without_secrets

_MANY = 20  # places named for one damaged blob


class Verified(Model):
    head: str
    """`N:DIGEST`; keep it elsewhere, and hand it to `verify --head` later."""
    changes: int
    records: int
    blobs: int
    problems: tuple[str, ...] = ()
    """In order: the first is the first bad record of its chain."""
    leftovers: tuple[str, ...] = ()
    since_head: str | None = None
    """`unchanged`, `grown by M`, or how it was rewritten."""


class Verifier:
    def __init__(self, database: Database, blobs: Blobs, progress: Progress) -> None:
        self._db = database
        self._blobs = blobs
        self._progress = progress
        self._names: dict[str, str] = {}
        self._changes: dict[int, Digest] = {}
        self._settings: dict[str, Settings | None] = {}
        self._sound: dict[str, Replayed] = {}
        self._records = 0

    def run(self, head: str | None) -> Verified:
        with self._db.reading():
            expected = _parse_head(head) if head is not None else None
            self._names = {
                id: f"{service}/{name}"
                for id, service, name in self._db.all("SELECT id, service, name FROM environments")
            }
            problems = [
                *self._bad_changes(),
                *self._bad_settings(),
                *self._bad_chains(),
                *self._empty_changes(),
                *self._bad_tables(),
            ]
            blobs, bad_blobs = self._bad_blobs()
            problems += bad_blobs
            since = self._since(expected) if expected else None
            if since and since.startswith("rewritten"):
                problems.append(f"history is not what {head} was: {since}")
            found = Verified(
                head=self.head(),
                changes=len(self._changes),
                records=self._records,
                blobs=blobs,
                problems=tuple(problems),
                since_head=since,
            )
        return replace(found, leftovers=self._blobs.shelf.leftovers(remove=False))

    # ---- heads

    def head(self, change: int | None = None) -> str:
        row = self._db.one("SELECT max(number) FROM changes")
        number = change if change is not None else (row[0] or 0) if row else 0
        hasher = hashlib.sha256()
        for environment, seq, name in self._db.all(
            "SELECT r.environment, r.seq, r.digest FROM records r "
            "JOIN (SELECT environment, max(seq) AS seq FROM records WHERE change <= ? GROUP BY environment) t "
            "ON t.environment = r.environment AND t.seq = r.seq "
            "ORDER BY r.environment",
            (number,),
        ):
            hasher.update(f"{environment}:{seq}:{name}\n".encode())
        return f"{number}:{digest.of('head', hasher.digest())}"

    def _since(self, expected: tuple[int, str]) -> str:
        number, name = expected
        newest = max(self._changes, default=0)
        if newest < number:
            return f"rewritten: changes c{newest + 1} to c{number} are gone"
        if self.head(number) != f"{number}:{name}":
            return f"rewritten: at or before change c{number}"
        return "unchanged" if newest == number else f"grown by {newest - number}"

    # ---- chains

    def _bad_changes(self) -> Iterator[str]:
        expected = 1
        for number, id, at, actor, name, body in self._db.all(
            "SELECT number, id, at, actor, digest, body FROM changes ORDER BY number"
        ):
            self._changes[number] = name
            while expected < number:
                yield f"change c{expected} is missing"
                expected += 1
            expected = number + 1
            if not is_sound("change", body, name):
                yield f"change c{number} was altered: its bytes do not match its digest"
                continue
            change = wire.decode(body, Change)
            if (change.id, change.at, change.actor) != (id, at, actor):
                yield f"change c{number} was altered: its columns do not match its bytes"

    def _bad_settings(self) -> Iterator[str]:
        for name, body in self._db.all("SELECT digest, body FROM settings ORDER BY digest"):
            sound = is_sound("settings", body, name)
            self._settings[name] = wire.decode(body, Settings) if sound else None
            if not sound:
                used = self._db.all(
                    "SELECT environment, number FROM records WHERE settings = ? ORDER BY change LIMIT ?", (name, _MANY)
                )
                where = ", ".join(f"{self._name(id)}@{number}" for id, number in used) or "nothing"
                yield f"settings {digest.short(name)} do not match their digest: used by {where}"

    def _bad_chains(self) -> Iterator[str]:
        total = self._db.one("SELECT count(*) FROM records")
        self._progress.start("verifying records", total[0] if total else None)
        chain = _Chain("", self)
        for row in self._db.stream(
            "SELECT environment, seq, change, number, digest, settings, settings_since, settings_under, code, "
            "code_since, code_under, deployed, restored_settings, body FROM records ORDER BY environment, seq"
        ):
            self._progress.advance(1)
            self._records += 1
            if row[0] != chain.environment:
                yield from self._ended(chain)
                chain = _Chain(row[0], self)
            yield from chain.next(row)
        yield from self._ended(chain)
        self._progress.done()
        for id, seq in self._db.all(
            "SELECT id, seq FROM environments e WHERE NOT EXISTS (SELECT 1 FROM records r WHERE r.environment = e.id)"
        ):
            yield f"{self._name(id)}: all {seq} records are missing"

    def _empty_changes(self) -> Iterator[str]:
        for (number,) in self._db.all(
            "SELECT number FROM changes c "
            "WHERE NOT EXISTS (SELECT 1 FROM records r WHERE r.change = c.number) ORDER BY number"
        ):
            yield f"change c{number} has no records: it was inserted, or they are missing"

    def _ended(self, chain: "_Chain") -> Iterator[str]:
        for problem in chain.end():
            chain.sound = False
            yield problem
        if chain.sound:
            self._sound[chain.environment] = chain.replayed

    def _name(self, id: str) -> str:
        return "the store's own chain" if id == STORE_CHAIN else self._names.get(id, f"an unknown environment ({id})")

    def _bad_tables(self) -> Iterator[str]:
        yield from tables.altered(self._db, self._sound)
        if STORE_CHAIN in self._sound:
            yield from tables.altered_store(self._db, self._sound[STORE_CHAIN])
        elif not self._db.one("SELECT 1 FROM records WHERE environment = ?", (STORE_CHAIN,)):
            yield from tables.altered_store(self._db, tables.Replayed(STORE_CHAIN))

    # ---- blobs

    def _bad_blobs(self) -> tuple[int, list[str]]:
        row = self._db.one("SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM blobs")
        count, total = row or (0, 0)
        self._progress.start("verifying blobs", total)
        bad: dict[str, str] = {}
        for (pack,) in self._db.all("SELECT DISTINCT pack FROM blobs ORDER BY pack"):
            rows = self._db.all("SELECT digest, position, size FROM blobs WHERE pack = ? ORDER BY position", (pack,))
            bad |= dict(self._blobs.check(pack, rows))
            self._progress.advance(sum(size for _, _, size in rows))
        self._progress.done()
        return count, [*self._unnamed_artifacts(), *self._users(bad)]

    def _unnamed_artifacts(self) -> Iterator[str]:
        for id, number, code in self._db.all(
            "SELECT r.environment, r.number, r.code FROM records r "
            "WHERE r.code IS NOT NULL AND r.code_since = r.number "
            "AND NOT EXISTS (SELECT 1 FROM artifacts a WHERE a.digest = r.code) ORDER BY r.change"
        ):
            yield f"{self._name(id)}@{number}: artifact {digest.short(code)} is missing"

    def _users(self, bad: dict[str, str]) -> Iterator[str]:
        """Which versions run a damaged or missing blob."""
        told: set[str] = set()
        for artifact, manifest_blob in self._db.all("SELECT digest, manifest FROM artifacts ORDER BY digest"):
            paths = self._paths(Digest(artifact), manifest_blob, bad)
            for blob, path in paths.items():
                told.add(blob)
                how = bad.get(blob, "is missing")
                yield f"blob {digest.short(blob)} {how} ({path}): used by {self._versions(artifact)}"
        for blob in sorted(set(bad) - told):
            yield f"blob {digest.short(blob)} {bad[blob]}: used by no artifact"

    def _paths(self, artifact: Digest, manifest_blob: str, bad: dict[str, str]) -> dict[str, str]:
        if manifest_blob in bad:
            return {manifest_blob: "the manifest"}
        try:
            manifest: Manifest = self._blobs.manifest(artifact)
        except SvcctlError:
            return {manifest_blob: "the manifest"}
        gone = self._blobs.missing([file.blob for file in manifest.files])
        return {file.blob: file.path for file in manifest.files if file.blob in bad or file.blob in gone}

    def _versions(self, artifact: str) -> str:
        rows = self._db.all(
            "SELECT environment, number FROM records WHERE code = ? ORDER BY change DESC LIMIT ?", (artifact, _MANY + 1)
        )
        shown = [f"{self._name(id)}@{number}" for id, number in rows[:_MANY]]
        return ", ".join(shown) + (", …" if len(rows) > _MANY else "") if shown else "no version"


class _Chain:
    """One environment's records in their order; the first bad one is named, and what hangs on it is not blamed too."""

    def __init__(self, environment: str, verifier: Verifier) -> None:
        self.environment = environment
        self.replayed = Replayed(environment)
        self.sound = True
        self._verifier = verifier
        self._seq = 0
        self._number = 0
        self._tip: str | None = None
        self._halves: dict[int, tuple[str | None, Settings | None]] = {}

    def next(self, row: Row) -> Iterator[str]:
        for problem in self._problems(row):
            self.sound = False
            yield problem

    def _problems(self, row: Row) -> Iterator[str]:
        _, seq, change, number, name, *_, body = row
        where = self._where(seq, number)
        if seq != self._seq + 1:
            yield f"{where}: {seq - self._seq - 1} records before it are missing"
        self._seq = seq
        record = self._decoded(body, name)
        if record is None:
            yield f"{where}: was altered: its bytes do not match its digest"
        else:
            self.replayed.add(record.entry, change)
            yield from self._bad_record(where, record, change)
            if isinstance(record.entry, Version):
                yield from self._bad_version(where, record.entry, row)
            elif number is not None:
                yield f"{where}: was altered: it is no version"
        self._tip = name

    def end(self) -> Iterator[str]:
        if self.environment == STORE_CHAIN:
            return
        row = self._verifier._db.one("SELECT seq, tip FROM environments WHERE id = ?", (self.environment,))  # noqa: SLF001
        if row is None:
            yield f"{self._name}: {self._seq} records of an environment that is missing"
        elif row[0] > self._seq:
            yield f"{self._name}: its newest {row[0] - self._seq} records are missing"
        elif tuple(row) != (self._seq, self._tip):
            yield f"{self._name}: its newest record is not the one its environment names"

    @property
    def _name(self) -> str:
        return self._verifier._name(self.environment)  # noqa: SLF001

    def _where(self, seq: int, number: int | None) -> str:
        return f"{self._name}@{number}" if number is not None else f"{self._name}, record {seq}"

    @staticmethod
    def _decoded(body: bytes, name: str) -> Record | None:
        if not is_sound("record", body, name):
            return None
        try:
            return wire.decode(body, Record)
        except msgspec.DecodeError:
            return None

    def _bad_record(self, where: str, record: Record, change: int) -> Iterator[str]:
        if record.parent != self._tip:
            yield f"{where}: does not follow the record before it: one was altered, inserted, removed or moved"
        if self._verifier._changes.get(change) != record.change:  # noqa: SLF001
            yield f"{where}: its change c{change} is missing or is not the one it was written with"

    def _bad_version(self, where: str, version: Version, row: Row) -> Iterator[str]:
        number, _, settings, settings_since, settings_under, code, code_since, code_under, deployed, restored, _ = row[
            3:
        ]
        found = (version.number, version.settings.digest, version.code.digest if version.code else None)
        if found != (number, settings, code) or _derived(version, code_since) != (deployed, restored):
            yield f"{where}: was altered: its columns do not match its bytes"
        if version.number != self._number + 1:
            yield f"{where}: follows version {self._number}"
        self._number = version.number
        if settings not in self._verifier._settings:  # noqa: SLF001
            yield f"{where}: its settings {digest.short(settings)} are missing"
        document = self._verifier._settings.get(settings)  # noqa: SLF001
        self._halves[version.number] = (code, document and without_secrets(document))
        yield from self._bad_half(where, "code", version.number, code_since, code_under)
        yield from self._bad_half(where, "settings", version.number, settings_since, settings_under)

    def _bad_half(self, where: str, side: str, number: int, since: int | None, under: int | None) -> Iterator[str]:
        """`since` and `under` stay outside digests, so they are held against what those versions held."""
        index = 0 if side == "code" else 1
        if since is None:
            return
        laid = self._halves.get(since)
        if laid is None or laid[index] != self._halves[number][index] or (under is not None and not 0 < under < number):
            yield f"{where}: its {side} was altered: it is not the half that version {since} laid"


def _derived(version: Version, code_since: int | None) -> tuple[str | None, int | None]:
    """The columns by which commits and roll backs are found."""
    commit = version.code.commit if version.code else None
    laid = version.kind == "deploy" and code_since == version.number
    return commit.sha if commit and laid else None, version.restores.settings if version.restores else None


def _parse_head(text: str) -> tuple[int, str]:
    number, colon, name = text.partition(":")
    if not colon or not number.isdecimal() or len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise UsageError(f"{text!r} is no head", hint="a head is N:DIGEST, as `svcctl verify` prints it")
    return int(number), name
