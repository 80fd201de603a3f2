"""Stretches of history given and taken (`backend.segment`).

`take` believes nothing: each change and record must match its digest by the chain that it continues, each version its
number, its settings and an artifact that is here, and what all of it leads to must be the head that was announced. Then
the rows are worked out as `writing` would have made them, in the same transaction. A store that has a history of its
own is left alone.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from svcctl import digest, faults, names, wire
from svcctl.backend.segment import Claim, Head, Segment, SentChange, SentRecord, Standing
from svcctl.backend.store import writing
from svcctl.backend.store.blobs import Blobs
from svcctl.backend.store.database import Database, Hold, repeated
from svcctl.backend.store.ledger import STORE_CHAIN, Ledger, Link, decode_record, is_sound, marks
from svcctl.backend.store.verify import Verifier
from svcctl.digest import Digest
from svcctl.errors import Conflict, Damage, NotFound, SvcctlError
from svcctl.model import (
    Change,
    Code,
    Created,
    Deleted,
    Domain,
    Entry,
    EnvironmentId,
    Half,
    Owned,
    Record,
    Renamed,
    Settings,
    Tagged,
    TokenCreated,
    TokenRevoked,
    Version,
)
from svcctl.progress import SILENT
from svcctl.rules import closure, replay
from svcctl.rules.halves import same_but_secrets
from svcctl.rules.replay import Laid, Top
from svcctl.rules.state import Bound, Identity, Place, Step

T = TypeVar("T")
_SIZE = 4_000_000
"""Bytes that a segment of more than one change may have."""
_CHANGES = 1000
_OF_THE_STORE = Owned | Domain | TokenCreated | TokenRevoked
_INSERT_CHANGE = "INSERT INTO changes (number, id, project, at, actor, digest, body) VALUES (?,?,?,?,?,?,?)"


def standing(database: Database, blobs: Blobs, at: int | None = None) -> Standing:
    """Raises NotFound for a change that is yet to come."""
    newest = _newest(database)
    if at is not None and at > newest:
        raise NotFound(f"there is no change c{at}; the newest is c{newest}")
    return Standing(store=_store(database), head=Head(Verifier(database, blobs, SILENT).head(at)))


def _store(database: Database) -> str:
    row = database.one("SELECT value FROM store WHERE name = 'id'")
    return str(row[0]) if row else ""


def _newest(database: Database) -> int:
    row = database.one("SELECT max(number) FROM changes")
    return int(row[0] or 0) if row else 0


# ---- giving


def give(database: Database, blobs: Blobs, after: int, until: int) -> Segment:
    """The changes from `after` + 1 on, at most to `until`: some megabytes of them, and one at least."""
    end = _end(database, after, min(until, _newest(database)))
    changes, records = _changes(database, after, end), _records(database, after, end)
    if len(changes) != end - after:
        raise Damage(f"changes are missing between c{after + 1} and c{end}", next="svcctl verify")
    verifier = Verifier(database, blobs, SILENT)
    return Segment(
        store=_store(database),
        after=Head(verifier.head(after)),
        head=Head(verifier.head(end)),
        changes=tuple(changes),
        records=tuple(records),
        settings=tuple(_documents(database, after, end)),
        claims=_claims(database, {each.environment for each in records}),
        artifacts=tuple(_artifacts(database, after, end)),
    )


def _end(database: Database, after: int, until: int) -> int:
    sizes = database.all(
        "SELECT r.change, sum(length(r.body) + coalesce(length(s.body), 0)) FROM records r "
        "LEFT JOIN settings s ON s.digest = r.settings WHERE r.change > ? AND r.change <= ? "
        "GROUP BY r.change ORDER BY r.change",
        (after, min(until, after + _CHANGES)),
    )
    end, total = after, 0
    for change, size in sizes:
        total += int(size)
        if end > after and total > _SIZE:
            break
        end = int(change)
    return end


def _changes(database: Database, after: int, until: int) -> list[SentChange]:
    found = []
    for number, project, name, body in database.all(
        "SELECT number, project, digest, body FROM changes WHERE number > ? AND number <= ? ORDER BY number",
        (after, until),
    ):
        _check_sound("change", body, name, f"change c{number}")
        found.append(SentChange(project=project, body=body))
    return found


def _records(database: Database, after: int, until: int) -> list[SentRecord]:
    found = []
    for change, id, seq, name, body in database.all(
        "SELECT change, environment, seq, digest, body FROM records WHERE change > ? AND change <= ? "
        "ORDER BY change, environment, seq",
        (after, until),
    ):
        _check_sound("record", body, name, f"record {seq} of {id or 'the store'}, of change c{change},")
        found.append(SentRecord(environment=id, change=change, body=body))
    return found


def _documents(database: Database, after: int, until: int) -> Iterator[bytes]:
    for name, body in database.all(
        "SELECT digest, body FROM settings WHERE digest IN "
        "(SELECT settings FROM records WHERE change > ? AND change <= ?) ORDER BY digest",
        (after, until),
    ):
        _check_sound("settings", body, name, f"settings {digest.short(name)}")
        yield body


def _check_sound(tag: str, body: object, name: str, what: str) -> None:
    if not is_sound(tag, body, name):
        raise Damage(f"{what} was altered: its bytes do not match its digest", next="svcctl verify")


def _artifacts(database: Database, after: int, until: int) -> Iterator[Digest]:
    rows = database.all(
        "SELECT code FROM records WHERE change > ? AND change <= ? AND code_since = number "
        "ORDER BY change, environment, seq",
        (after, until),
    )
    yield from dict.fromkeys(Digest(code) for (code,) in rows)


def _claims(database: Database, environments: Iterable[EnvironmentId]) -> dict[EnvironmentId, Claim]:
    ledger = Ledger(database)
    found = {}
    for id in sorted(environments):
        identity = ledger.identity(id)
        if identity and identity.head is not None and not identity.deleted:
            found[id] = Claim(last=identity.last, bound=identity.bound)
    return found


# ---- taking


def take(database: Database, blobs: Blobs, segment: Segment) -> Standing:
    """Returns how far the store goes now. What it has of the segment already is compared and left."""

    def arrive() -> Standing:
        database.hold(Hold.NUMBERING)
        faults.point("move.locked")
        arrival = _Arrival(database, blobs, segment)
        arrival.take()
        faults.point("move.before-commit")
        return arrival.standing

    reached = repeated(database, arrive)
    faults.point("move.committed")
    return reached


class _Chained:
    """One environment while its records arrive."""

    def __init__(self, id: EnvironmentId, link: Link, place: Place | None) -> None:
        self.id = id
        self.seq, self.tip = link
        self.place = place
        self.identity = place.identity if place else None
        self.number = self.identity.last if self.identity else 0
        """The newest number ever given."""
        head = place.head if place else None
        self.code, self.settings, self.document = (
            _top_of_code(head),
            _top_of_settings(head),
            place.settings if place else None,
        )
        self.runs = head.code if head else None
        self.versions: dict[int, Version] = {}
        self.before = self.document
        """The settings of the head that it had before the segment."""
        self.changed = 0


def _top_of_code(head: Version | None) -> Top | None:
    code = head.code if head else None
    return Top(number=head.number, half=Laid(since=code.since, under=code.under)) if head and code else None


def _top_of_settings(head: Version | None) -> Top | None:
    if head is None:
        return None
    return Top(number=head.number, half=Laid(since=head.settings.since, under=head.settings.under))


class _Arrival:
    def __init__(self, database: Database, blobs: Blobs, segment: Segment) -> None:
        self._db = database
        self._blobs = blobs
        self._segment = segment
        self._ledger = Ledger(database)
        self._own = _newest(database)
        self._chains: dict[EnvironmentId, _Chained] = {}
        self._former: dict[tuple[str, str], EnvironmentId] = {}
        self._documents: dict[Digest, tuple[Settings, bytes]] = {}
        self._wanted: dict[Digest, bytes] = {}
        self._names: dict[int, Digest] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._steps: list[tuple[Step, int]] = []
        self._artifacts: dict[Digest, str] = {}

    def take(self) -> None:
        start, end = self._bounds()
        self._check_lineage(start, end)
        if end <= self._own:
            self.standing = Standing(store=_store(self._db), head=Head(self._verifier.head(self._own)))
            return
        for body in self._segment.settings:
            self._read_settings(body)
        changes = [self._change(number, sent) for number, sent in self._numbered(start)]
        for sent in self._segment.records:
            if sent.change > self._own:
                self._record(sent)
        self._check_whole()
        self._check_artifacts()
        self._write(changes)
        self.standing = Standing(store=self._segment.store, head=self._tips(end))
        if self.standing.head != self._segment.head:
            raise _lie(f"c{end}", f"leads to the head {self.standing.head}, not to {self._segment.head} as announced")

    @property
    def _verifier(self) -> Verifier:
        return Verifier(self._db, self._blobs, SILENT)

    # ---- where it goes

    def _bounds(self) -> tuple[int, int]:
        try:
            start, end = (int(head.partition(":")[0]) for head in (self._segment.after, self._segment.head))
        except ValueError:
            raise _lie("a head", "is not a number, a colon and a digest") from None
        if end - start != len(self._segment.changes) or start < 0:
            raise _lie(f"c{end}", "does not hold as many changes as it says")
        return start, end

    def _numbered(self, start: int) -> Iterator[tuple[int, SentChange]]:
        for number, sent in enumerate(self._segment.changes, start + 1):
            if number > self._own:
                yield number, sent

    def _check_lineage(self, start: int, end: int) -> None:
        mine = _store(self._db)
        if self._own == 0:
            self._adopt(mine)
        elif mine != self._segment.store:
            raise _other_history(f"it is another store ({mine[:8]}; what came is of {self._segment.store[:8]})")
        if start > self._own:
            raise Conflict(f"it ends at c{self._own}, and what came begins after c{start}", hint="nothing was changed")
        if self._verifier.head(start) != self._segment.after:
            raise _other_history(f"it is not the same at or before c{start}")
        known: dict[int, Digest] = dict(
            self._db.all("SELECT number, digest FROM changes WHERE number > ? AND number <= ?", (start, self._own))
        )
        for number, sent in enumerate(self._segment.changes, start + 1):
            if number <= self._own and digest.of("change", sent.body) != known.get(number):
                raise _other_history(f"its change c{number} is another one")
        if end <= self._own and self._verifier.head(end) != self._segment.head:
            raise _other_history(f"it is not the same at c{end}")
        self._names.update(known)

    def _adopt(self, mine: str) -> None:
        """The id comes along: sealed values and data planes know the store by it. A key that was made for the former
        one has sealed nothing that is kept."""
        wanted = self._segment.store
        if wanted == mine:
            return
        if len(wanted) != 32 or set(wanted) - set("0123456789abcdef"):
            raise _lie("the store", "has no id that could be")
        self._db.execute("UPDATE store SET value = ? WHERE name = 'id'", (wanted,))
        self._db.execute("DELETE FROM store WHERE name = 'fingerprint_key'")

    # ---- what came

    def _read_settings(self, body: bytes) -> None:
        document = _decoded(body, Settings, "a settings document")
        self._documents[digest.of("settings", body)] = document, body

    def _change(self, number: int, sent: SentChange) -> tuple[Any, ...]:
        change = _decoded(sent.body, Change, f"c{number}")
        if not change.changed or not change.id or not change.at:
            raise _lie(f"c{number}", "is not a change that was made")
        if sent.project and names.check_name(sent.project):
            raise _lie(f"c{number}", "names a project that can't be")
        if self._db.one("SELECT 1 FROM changes WHERE id = ?", (change.id,)):
            raise _lie(f"c{number}", "has the id of an earlier change")
        name = self._names[number] = digest.of("change", sent.body)
        return (number, change.id, sent.project, change.at, change.actor, name, sent.body)

    def _record(self, sent: SentRecord) -> None:
        where = f"c{sent.change}"
        chain = self._chain(sent.environment)
        record = _decoded(sent.body, Record, f"a record of {where}")
        if record.change != self._names.get(sent.change) or sent.change < chain.changed:
            raise _lie(where, "has a record of another change")
        if record.parent != chain.tip:
            raise _lie(where, f"has a record that does not follow the one before it ({sent.environment or 'store'})")
        entry = record.entry
        if isinstance(entry, _OF_THE_STORE) != (sent.environment == STORE_CHAIN):
            raise _lie(where, "has a record on a chain that is not its own")
        _check_names(where, entry)
        if isinstance(entry, Version):
            entry = self._version(where, chain, entry)
        elif sent.environment != STORE_CHAIN:
            self._event(where, chain, entry)
        name = digest.of("record", sent.body)
        chain.seq, chain.tip, chain.changed = chain.seq + 1, name, sent.change
        self._rows.append((sent.environment, chain.seq, sent.change, *writing.columns(entry, name), sent.body))
        step = Step(sentence="", entry=entry, environment=sent.environment or None)
        self._steps.append((step, sent.change))

    def _chain(self, id: EnvironmentId) -> _Chained:
        if id not in self._chains:
            place = self._ledger.place(id) if id != STORE_CHAIN else None
            self._chains[id] = _Chained(id, self._ledger.chain(id), place)
        return self._chains[id]

    def _event(self, where: str, chain: _Chained, entry: Entry) -> None:
        if isinstance(entry, Created):
            alive = chain.identity is not None and not chain.identity.deleted
            if alive or entry.last != chain.number or (chain.identity and chain.identity.service != entry.service):
                raise _lie(where, f"creates {entry.service}/{entry.name} again, which is there")
            chain.code = chain.settings = chain.document = chain.runs = None
        elif chain.identity is None or chain.identity.deleted:
            raise _lie(where, "changes an environment that is not there")
        if isinstance(entry, Renamed) and chain.identity:
            self._former[chain.identity.service, entry.old] = chain.id
        if isinstance(entry, Tagged) and not 0 < entry.number <= chain.number:
            raise _lie(where, f"tags a version {entry.number} that is not there")
        chain.identity = replay.after(chain.identity, entry, chain.id)
        if isinstance(entry, Created | Deleted) and chain.identity:
            chain.identity = replace(chain.identity, bound={})

    # ---- versions

    def _version(self, where: str, chain: _Chained, entry: Version) -> Version:
        """With the halves that follow from what came before it."""
        identity, number = chain.identity, entry.number
        if identity is None or identity.deleted or number != chain.number + 1:
            raise _lie(where, f"has a version {number} that does not follow {chain.number}")
        document = self._document(where, entry.settings.digest)
        settings = self._settings_half(where, chain, entry, document)
        code = entry.code
        if code is not None:
            half = self._code_half(where, chain, entry)
            code = replace(code, since=half.since, under=half.under)
            if half.since == number:
                self._artifacts.setdefault(code.digest, f"{identity.ref}@{number}")
        elif chain.runs is not None:
            raise _lie(where, f"takes the code away from {identity.ref}")
        whole = replace(
            entry, settings=Half(digest=entry.settings.digest, since=settings.since, under=settings.under), code=code
        )
        chain.versions[number] = whole
        chain.number, chain.runs, chain.document = number, code, document
        chain.code, chain.settings = _top_of_code(whole), _top_of_settings(whole)
        chain.identity = replay.after(identity, entry, chain.id)
        return whole

    def _settings_half(self, where: str, chain: _Chained, entry: Version, document: Settings) -> Laid:
        restored = entry.restores.settings if entry.restores else None
        if restored is not None:
            old = self._older(where, chain, restored).settings
            if not same_but_secrets(self._document(where, old.digest), document):
                raise _lie(where, f"brings back other settings than version {restored} had")
            return replay.brought_back(
                Laid(since=old.since, under=old.under),
                chain.settings,
                lambda number: _half(self._older(where, chain, number).settings),
            )
        same = chain.document is not None and same_but_secrets(document, chain.document)
        return replay.laid(entry.number, chain.settings, same=same)

    def _code_half(self, where: str, chain: _Chained, entry: Version) -> Laid:
        restored = entry.restores.code if entry.restores else None
        if restored is not None:
            old = self._older(where, chain, restored).code
            if old is None or not old.same(entry.code):
                raise _lie(where, f"brings back other code than version {restored} had")
            return replay.brought_back(
                Laid(since=old.since, under=old.under),
                chain.code,
                lambda number: _half(self._older(where, chain, number).code),
            )
        same = entry.code is not None and entry.code.same(chain.runs)
        return replay.laid(entry.number, chain.code, same=same)

    def _older(self, where: str, chain: _Chained, number: int) -> Version:
        if number in chain.versions:
            return chain.versions[number]
        found = self._ledger.version(chain.id, number)
        if found is None:
            raise _lie(where, f"names a version {number} that is not there")
        return found[0]

    def _document(self, where: str, name: Digest) -> Settings:
        if name in self._documents:
            document, body = self._documents[name]
            self._wanted[name] = body
            return document
        try:
            return self._ledger.settings(name)
        except SvcctlError as error:
            raise _lie(where, f"comes without the settings {digest.short(name)}") from error

    # ---- the whole

    def _check_whole(self) -> None:
        numbers = {number for number in self._names if number > self._own}
        numbers -= {change for _, change in self._steps}
        if numbers:
            raise _lie(f"c{min(numbers)}", "comes without its records")

    def _check_artifacts(self) -> None:
        wanted = list(self._artifacts)
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            rows = self._db.all(f"SELECT digest FROM artifacts WHERE digest IN ({marks(part)})", part)  # noqa: S608
            if gone := set(part) - {name for (name,) in rows}:
                first = next(name for name in part if name in gone)
                raise Conflict(
                    f"artifact {digest.short(first)} of {self._artifacts[first]} is not in the store",
                    hint="artifacts come before the versions that run them; gc may have removed it. Type it again",
                )

    def _write(self, changes: list[tuple[Any, ...]]) -> None:
        self._db.many(_INSERT_CHANGE, changes)
        self._db.many(
            "INSERT INTO settings (digest, body) VALUES (?,?) ON CONFLICT DO NOTHING", sorted(self._wanted.items())
        )
        ids: dict[int, str] = {number: id for number, id, *_ in changes}
        batch = writing.Batch()
        batch.add(writing.INSERT_RECORD, *((id, seq, ids[change], *rest) for id, seq, change, *rest in self._rows))
        touched = [chain for chain in self._chains.values() if chain.id != STORE_CHAIN and chain.changed]
        after = {chain.id: self._bound(chain) for chain in touched}
        writing.environments(
            batch,
            self._ledger,
            list(after.values()),
            {chain.id: ids[chain.changed] for chain in touched},
            {chain.id: (chain.seq, chain.tip) for chain in touched},
        )
        for step, number in self._steps:
            if not isinstance(step.entry, Version):
                writing.settle(batch, step, after, ids[number])
        for sql, group in groupby((*batch.early, *batch.ordered), key=itemgetter(0)):
            self._db.many(sql, [row for _, row in group])

    def _tips(self, end: int) -> Head:
        """As `Verifier.head`, which would read every record; of what was just written, the tips are enough."""
        tips = self._db.all("SELECT id, seq, tip FROM environments")
        own = self._chains.get(STORE_CHAIN)
        seq, tip = (own.seq, own.tip) if own else self._ledger.chain(STORE_CHAIN)
        if seq:
            tips.append((STORE_CHAIN, seq, tip))
        hasher = hashlib.sha256()
        for environment, number, name in sorted(tips):
            hasher.update(f"{environment}:{number}:{name}\n".encode())
        return Head(f"{end}:{digest.of('head', hasher.digest())}")

    # ---- what heads are bound to

    def _bound(self, chain: _Chained) -> Identity:
        identity = chain.identity
        if identity is None:
            raise _lie(f"c{chain.changed}", "begins an environment without creating it")
        if identity.deleted or identity.head is None or not chain.versions:
            return identity
        settings = chain.document or Settings()
        claim = self._segment.claims.get(chain.id)
        if claim is None or claim.last != identity.last:
            # A version that has a successor at the source: what it was bound to, nobody knows any more.
            bound, _ = closure.bind(identity, settings, chain.before, _Overlay(self))
            return replace(identity, bound=bound)
        for name, bound_to in claim.bound.items():
            if not self._is_plausible(identity, settings, name, bound_to):
                raise _lie(f"c{chain.changed}", f"says that {identity.ref} is bound as {name} to what it can't be")
        return replace(identity, bound=claim.bound)

    def _is_plausible(self, identity: Identity, settings: Settings, name: str, bound: Bound) -> bool:
        binding = settings.bindings.get(name)
        if binding is None or bound.service != (binding.service or identity.service):
            return False
        if binding.environment is None:
            return bound.environment is None
        if bound.environment is None:
            return False
        target = self.identity(bound.environment)
        if target is None or target.service != bound.service:
            return False
        return binding.environment in self._names_of(target)

    def _names_of(self, identity: Identity) -> set[str]:
        """All that it was ever called."""
        found = {identity.name} | {old for (_, old), id in self._former.items() if id == identity.id}
        for body, name in self._db.all(
            "SELECT body, digest FROM records WHERE environment = ? AND number IS NULL", (identity.id,)
        ):
            entry = decode_record(body, name, identity.ref).entry
            if isinstance(entry, Renamed):
                found |= {entry.old, entry.new}
        return found

    # ---- environments as they are with what came

    def identity(self, id: EnvironmentId) -> Identity | None:
        chain = self._chains.get(id)
        return chain.identity if chain else self._ledger.identity(id)

    def living(self, service: str, name: str) -> Identity | None:
        for chain in self._chains.values():
            identity = chain.identity
            if identity and not identity.deleted and (identity.service, identity.name) == (service, name):
                return identity
        for place in self._ledger.places((service,), (name,)):
            if place.identity.id not in self._chains:
                return place.identity
        return None

    def former(self, service: str, name: str) -> EnvironmentId | None:
        return self._former.get((service, name)) or self._ledger.former(service, name)


class _Overlay:
    """A Lookup (rules.closure) over what is there and what came."""

    def __init__(self, arrival: _Arrival) -> None:
        self._arrival = arrival

    def place(self, service: str, name: str) -> Place | None:
        identity = self._arrival.living(service, name)
        return Place(identity=identity) if identity else None

    def by_id(self, id: EnvironmentId) -> Place | None:
        identity = self._arrival.identity(id)
        return Place(identity=identity) if identity else None

    def former(self, service: str, name: str) -> EnvironmentId | None:
        return self._arrival.former(service, name)


def _half(half: Code | Half | None) -> Laid | None:
    return Laid(since=half.since, under=half.under) if half else None


def _decoded(body: bytes, kind: type[T], what: str) -> T:
    try:
        return wire.decode(body, kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _lie(what, f"is unreadable: {error}") from error


def _check_names(where: str, entry: Entry) -> None:
    """Names that no store would have taken: they stand in hostnames, paths and on terminals."""
    match entry:
        case Created(service=service, name=name, block=block):
            wrong = names.check_name(service) or names.check_name(name) or names.check_name(block)
        case Renamed(old=old, new=new):
            wrong = names.check_name(old) or names.check_name(new)
        case Owned(service=service, project=project):
            wrong = names.check_name(service) or (names.check_name(project) if project else None)
        case Domain(project=project):
            wrong = names.check_name(project)
        case Tagged(name=name):
            wrong = names.check_tag(name)
        case _:
            wrong = None
    if wrong:
        raise _lie(where, f"has a name that {wrong}")


def _other_history(why: str) -> Conflict:
    return Conflict(
        f"the target has a history of its own: {why}",
        hint="nothing was changed; move into a new store, or into an older copy of the source",
    )


def _lie(what: str, how: str) -> Damage:
    return Damage(f"what came is not what a store holds: {what} {how}", hint="nothing of this part was kept")
