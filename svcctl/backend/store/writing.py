"""A plan written: change, records, and the tables that hold what the chains led to. Runs inside one write transaction.

Each record's bytes hold the digest of the change and of the record before it in its environment's chain, so that none
can be altered, dropped or moved without its successors showing it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from svcctl import digest, faults, wire
from svcctl.backend.store.connection import Database
from svcctl.backend.store.ledger import STORE_CHAIN, Ledger, Link
from svcctl.digest import Digest
from svcctl.model import (
    Change,
    Deleted,
    Domain,
    Entry,
    EnvironmentId,
    Half,
    Owned,
    Purged,
    Record,
    Renamed,
    Tagged,
    TokenCreated,
    TokenRevoked,
    Version,
)
from svcctl.rules.state import Identity, Plan, Step

_INSERT_RECORD = (
    "INSERT INTO records (environment, seq, change, number, digest, settings, settings_since, settings_under, "
    "code, code_since, code_under, deployed, restored_settings, body) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_UPSERT_ENVIRONMENT = (
    "INSERT INTO environments (id, service, name, living, hostname, expires, head, seq, tip, changed, identity) "
    "VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, living = excluded.living, "
    "hostname = excluded.hostname, expires = excluded.expires, head = excluded.head, seq = excluded.seq, "
    "tip = excluded.tip, changed = excluded.changed, identity = excluded.identity"
)


def write(database: Database, ledger: Ledger, plan: Plan, id: str, project: str, message: str | None) -> Change:
    """Returns the change as `Backend.change` would read it."""
    change = Change(
        kind=plan.kind,
        actor=plan.actor,
        id=id,
        at=plan.at,
        message=message,
        changed=True,
        summary=tuple(step.sentence for step in plan.steps),
        notes=plan.notes,
    )
    body = wire.canonical(change)
    name = digest.of("change", body)
    row = database.one("SELECT max(number) FROM changes")
    number = (row[0] or 0) + 1 if row else 1
    database.execute(
        "INSERT INTO changes (number, id, project, at, actor, digest, body) VALUES (?,?,?,?,?,?,?)",
        (number, id, project, plan.at, plan.actor, name, body),
    )
    chains = {id: ledger.chain(id) for id in {step.environment or STORE_CHAIN for step in plan.steps}}
    versions = _records(database, ledger, plan, number, name, chains)
    _environments(database, ledger, plan.after, number, chains)
    for step in plan.steps:
        _settle(database, step, number)
    faults.point("apply.written")
    return replace(change, number=number, versions=tuple(sorted(versions, key=lambda version: version.ref)))


def _records(
    database: Database, ledger: Ledger, plan: Plan, number: int, change: Digest, chains: dict[EnvironmentId, Link]
) -> list[Version]:
    rows, documents, versions = [], [], []
    names = {identity.id: identity for identity in plan.after}
    tags = _new_tags(plan)
    for step in plan.steps:
        id = step.environment or STORE_CHAIN
        seq, parent = chains[id]
        body = wire.canonical(Record(change=change, parent=parent, entry=_stored(step.entry)))
        name = digest.of("record", body)
        chains[id] = (seq + 1, name)
        rows.append((id, seq + 1, number, *_columns(step.entry, name), body))
        if isinstance(step.entry, Version):
            if step.settings is not None:
                documents.append((step.entry.settings.digest, wire.canonical(step.settings)))
            version = _as_read(ledger, step.entry, names[id], tags)
            versions.append(replace(version, digest=name, parent=parent, change=number))
    database.many("INSERT INTO settings (digest, body) VALUES (?,?) ON CONFLICT DO NOTHING", documents)
    database.many(_INSERT_RECORD, rows)
    return versions


def _stored(entry: Entry) -> Entry:
    """Without what must stay outside a version's digest."""
    if not isinstance(entry, Version):
        return entry
    code = entry.code and replace(entry.code, since=0, under=None)
    return replace(entry, settings=Half(digest=entry.settings.digest), code=code)


def _columns(entry: Entry, name: Digest) -> tuple[Any, ...]:
    if not isinstance(entry, Version):
        return (None, name, None, None, None, None, None, None, None, None)
    code, settings = entry.code, entry.settings
    laid = code is not None and code.since == entry.number
    commit = code.commit.sha if code and code.commit and laid and entry.kind == "deploy" else None
    return (
        entry.number,
        name,
        settings.digest,
        settings.since,
        settings.under,
        code.digest if code else None,
        code.since if code else None,
        code.under if code else None,
        commit,
        entry.restores.settings if entry.restores else None,
    )


def _new_tags(plan: Plan) -> dict[tuple[EnvironmentId | None, int], list[str]]:
    tags: dict[tuple[EnvironmentId | None, int], list[str]] = {}
    for step in plan.steps:
        if isinstance(step.entry, Tagged):
            tags.setdefault((step.environment, step.entry.number), []).append(step.entry.name)
    return tags


def _as_read(
    ledger: Ledger,
    version: Version,
    identity: Identity,
    tags: Mapping[tuple[EnvironmentId | None, int], Sequence[str]],
) -> Version:
    source = None
    if version.origin:
        origin = ledger.identity(version.origin.environment)
        source = f"{origin.ref}@{version.origin.number}" if origin else None
    return replace(
        version,
        ref=f"{identity.ref}@{version.number}",
        service=identity.service,
        environment=identity.name,
        source=source,
        tags=tuple(sorted(tags.get((identity.id, version.number), ()))),
    )


def _environments(
    database: Database, ledger: Ledger, after: Iterable[Identity], number: int, chains: dict[EnvironmentId, Link]
) -> None:
    identities = [(ledger.identity(identity.id), identity) for identity in after]
    # Hostnames and routes may change hands within one change: all are given up before any is taken.
    for before, identity in identities:
        _give_up(database, before, identity)
    for before, identity in identities:
        _bindings(database, before, identity)
        routes = set(identity.routes) - set(before.routes if before else ())
        database.many(
            "INSERT INTO routes (pattern, environment) VALUES (?,?)", [(each, identity.id) for each in routes]
        )
    database.many(_UPSERT_ENVIRONMENT, [_row(identity, number, chains[identity.id]) for _, identity in identities])


def _row(identity: Identity, number: int, chain: Link) -> tuple[Any, ...]:
    return (
        identity.id,
        identity.service,
        identity.name,
        None if identity.deleted else 1,
        identity.hostname,
        identity.expires,
        None if identity.deleted else identity.head,
        *chain,
        number,
        wire.canonical(identity),
    )


def _give_up(database: Database, before: Identity | None, after: Identity) -> None:
    if before is None:
        return
    if before.hostname not in {None, after.hostname}:
        database.execute("UPDATE environments SET hostname = NULL WHERE id = ?", (after.id,))
    if gone := set(before.routes) - set(after.routes):
        database.many("DELETE FROM routes WHERE pattern = ?", [(each,) for each in gone])


def _bindings(database: Database, before: Identity | None, after: Identity) -> None:
    if (before.bound if before else {}) == after.bound:
        return
    database.execute("DELETE FROM bindings WHERE environment = ?", (after.id,))
    database.many(
        "INSERT INTO bindings (environment, name, service, target) VALUES (?,?,?,?)",
        [(after.id, name, bound.service, bound.environment) for name, bound in after.bound.items()],
    )


def _settle(database: Database, step: Step, change: int) -> None:
    """What a record other than a version leads to, beside its environment's row."""
    id = step.environment
    match step.entry:
        case Tagged(name=name, removed=True):
            database.execute("DELETE FROM tags WHERE environment = ? AND name = ?", (id, name))
        case Tagged(name=name, number=number):
            database.execute("INSERT INTO tags (environment, name, number) VALUES (?,?,?)", (id, name, number))
        case Owned(service=service, project=project):
            database.execute(
                "INSERT INTO services (name, project) VALUES (?,?) "
                "ON CONFLICT (name) DO UPDATE SET project = excluded.project",
                (service, project),
            )
        case Domain(project=project, domain=domain):
            database.execute(
                "INSERT INTO projects (name, domain) VALUES (?,?) "
                "ON CONFLICT (name) DO UPDATE SET domain = excluded.domain",
                (project, domain),
            )
        case Renamed(old=old):
            row = database.one("SELECT service FROM environments WHERE id = ?", (id,))
            database.execute(
                "INSERT INTO former_names (service, name, environment) VALUES (?,?,?) "
                "ON CONFLICT (service, name) DO UPDATE SET environment = excluded.environment",
                (row[0] if row else "", old, id),
            )
        case Purged(names=names):
            rows = [(id, name) for name in names]
            database.many("DELETE FROM secrets WHERE environment = ? AND name = ?", rows)
        case Deleted():
            database.execute("DELETE FROM tags WHERE environment = ?", (id,))
            database.execute("DELETE FROM secrets WHERE environment = ?", (id,))
        case TokenCreated(id=token, hash=hash, grant=grant):
            database.execute(
                "INSERT INTO tokens (id, name, hash, made, grant_body) VALUES (?,?,?,?,?)",
                (token, grant.name, hash, change, wire.canonical(grant)),
            )
        case TokenRevoked(id=token):
            database.execute("UPDATE tokens SET revoked = ? WHERE id = ?", (change, token))
        case _:
            pass
