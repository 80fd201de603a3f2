"""A plan written: change, records, and the tables that hold what the chains led to. Runs inside one write transaction.

Each record's bytes hold the digest of the change and of the record before it in its environment's chain, so that none
can be altered, dropped or moved without its successors showing it. The change's number is in none of them: it is found
last, by the statements themselves.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from svcctl import digest, faults, wire
from svcctl.backend.store.database import Database, Statement
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

_NUMBER = "(SELECT number FROM changes WHERE id = ?)"
_INSERT_CHANGE = (
    "INSERT INTO changes (number, id, project, at, actor, digest, body) "
    "VALUES ((SELECT (coalesce(max(number), 0) + 1){guard} FROM changes),?,?,?,?,?,?) RETURNING number"
)
INSERT_RECORD = (
    "INSERT INTO records (environment, seq, change, number, digest, settings, settings_since, settings_under, "  # noqa: S608
    f"code, code_since, code_under, deployed, restored_settings, body) VALUES (?,?,{_NUMBER},?,?,?,?,?,?,?,?,?,?,?)"
)
_INSERT_ENVIRONMENT = (
    "INSERT INTO environments (service, name, living, hostname, expires, head, seq, tip, changed, identity, id) "  # noqa: S608
    f"VALUES (?,?,?,?,?,?,?,?,{_NUMBER},?,?)"
)
_UPDATE_ENVIRONMENT = (
    "UPDATE environments SET service = ?, name = ?, living = ?, hostname = ?, expires = ?, head = ?, seq = ?, tip = ?, "  # noqa: S608
    f"changed = {_NUMBER}, identity = ? WHERE id = ?"
)


class Batch:
    """Statements of one change, to be sent together."""

    def __init__(self) -> None:
        self.early: list[Statement] = []
        self.ordered: list[Statement] = []
        """Those that need the number, and those that must not wait for what another change gives up."""

    def add(self, sql: str, *rows: Sequence[Any]) -> None:
        self.early += [(sql, row) for row in rows]

    def add_ordered(self, sql: str, *rows: Sequence[Any]) -> None:
        self.ordered += [(sql, row) for row in rows]


def write(
    database: Database,
    ledger: Ledger,
    plan: Plan,
    id: str,
    project: str,
    message: str | None,
    guard: Statement | None = None,
) -> Change:
    """Returns the change as `Backend.change` would read it. `guard` is a divisor of its number: 0, and so an error, if
    another writer was faster."""
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
    batch = Batch()
    divisor, parameters = guard or ("", ())
    insert = _INSERT_CHANGE.format(guard=divisor and f" / {divisor}")
    batch.add_ordered(insert, (*parameters, id, project, plan.at, plan.actor, name, body))
    chains = {id: ledger.chain(id) for id in {step.environment or STORE_CHAIN for step in plan.steps}}
    versions = _records(batch, ledger, plan, id, name, chains)
    environments(batch, ledger, plan.after, dict.fromkeys((each.id for each in plan.after), id), chains)
    names = {identity.id: identity for identity in plan.after}
    for step in plan.steps:
        settle(batch, step, names, id)
    row, *_ = database.conclude(batch.early, batch.ordered)
    number = int(row[0]) if row else 0
    faults.point("apply.written")
    found = (replace(version, change=number) for version in versions)
    touched = tuple(sorted({names[step.environment].ref for step in plan.steps if step.environment}))
    made = tuple(sorted(found, key=lambda version: version.ref))
    return replace(change, number=number, touched=touched, versions=made)


def _records(
    batch: Batch, ledger: Ledger, plan: Plan, command: str, change: Digest, chains: dict[EnvironmentId, Link]
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
        rows.append((id, seq + 1, command, *columns(step.entry, name), body))
        if isinstance(step.entry, Version):
            if step.settings is not None:
                documents.append((step.entry.settings.digest, wire.canonical(step.settings)))
            version = _as_read(ledger, step.entry, names[id], tags)
            versions.append(replace(version, digest=name, parent=parent))
    # In one order for all writers: each waits for those who add the same.
    batch.add("INSERT INTO settings (digest, body) VALUES (?,?) ON CONFLICT DO NOTHING", *sorted(documents))
    batch.add_ordered(INSERT_RECORD, *rows)
    return versions


def _stored(entry: Entry) -> Entry:
    """Without what must stay outside a version's digest."""
    if not isinstance(entry, Version):
        return entry
    code = entry.code and replace(entry.code, since=0, under=None)
    return replace(entry, settings=Half(digest=entry.settings.digest), code=code)


def columns(entry: Entry, name: Digest) -> tuple[Any, ...]:
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


def environments(
    batch: Batch,
    ledger: Ledger,
    after: Iterable[Identity],
    commands: Mapping[EnvironmentId, str],
    chains: Mapping[EnvironmentId, Link],
) -> None:
    """`commands`: the id of the change that touched each last."""
    identities = [(ledger.identity(identity.id), identity) for identity in after]
    # Hostnames and routes may change hands within one change: all are given up before any is taken.
    for before, identity in identities:
        _give_up(batch, before, identity)
    for before, identity in identities:
        _bindings(batch, before, identity)
        routes = sorted(set(identity.routes) - set(before.routes if before else ()))
        batch.add("INSERT INTO routes (pattern, environment) VALUES (?,?)", *((each, identity.id) for each in routes))
    for before, identity in identities:
        text = _UPDATE_ENVIRONMENT if before else _INSERT_ENVIRONMENT
        batch.add_ordered(text, _row(identity, commands[identity.id], chains[identity.id]))


def _row(identity: Identity, command: str, chain: Link) -> tuple[Any, ...]:
    return (
        identity.service,
        identity.name,
        None if identity.deleted else 1,
        identity.hostname,
        identity.expires,
        None if identity.deleted else identity.head,
        *chain,
        command,
        wire.canonical(identity),
        identity.id,
    )


def _give_up(batch: Batch, before: Identity | None, after: Identity) -> None:
    if before is None:
        return
    if before.hostname not in {None, after.hostname}:
        batch.add_ordered("UPDATE environments SET hostname = NULL WHERE id = ?", (after.id,))
    gone = sorted(set(before.routes) - set(after.routes))
    batch.add("DELETE FROM routes WHERE pattern = ?", *((each,) for each in gone))


def _bindings(batch: Batch, before: Identity | None, after: Identity) -> None:
    if (before.bound if before else {}) == after.bound:
        return
    batch.add("DELETE FROM bindings WHERE environment = ?", (after.id,))
    batch.add(
        "INSERT INTO bindings (environment, name, service, target) VALUES (?,?,?,?)",
        *((after.id, name, bound.service, bound.environment) for name, bound in after.bound.items()),
    )


def settle(batch: Batch, step: Step, names: Mapping[EnvironmentId, Identity], command: str) -> None:
    """What a record other than a version leads to, beside its environment's row."""
    id = step.environment
    match step.entry:
        case Tagged(name=name, removed=True):
            batch.add("DELETE FROM tags WHERE environment = ? AND name = ?", (id, name))
        case Tagged(name=name, number=number):
            batch.add("INSERT INTO tags (environment, name, number) VALUES (?,?,?)", (id, name, number))
        case Owned(service=service, project=project):
            batch.add(
                "INSERT INTO services (name, project) VALUES (?,?) "
                "ON CONFLICT (name) DO UPDATE SET project = excluded.project",
                (service, project),
            )
        case Domain(project=project, domain=domain):
            batch.add(
                "INSERT INTO projects (name, domain) VALUES (?,?) "
                "ON CONFLICT (name) DO UPDATE SET domain = excluded.domain",
                (project, domain),
            )
        case Renamed(old=old):
            batch.add(
                "INSERT INTO former_names (service, name, environment) VALUES (?,?,?) "
                "ON CONFLICT (service, name) DO UPDATE SET environment = excluded.environment",
                (names[id].service if id else "", old, id),
            )
        case Purged(names=purged):
            rows = [(id, name) for name in purged]
            batch.add("DELETE FROM secrets WHERE environment = ? AND name = ?", *rows)
        case Deleted():
            batch.add("DELETE FROM tags WHERE environment = ?", (id,))
            batch.add("DELETE FROM secrets WHERE environment = ?", (id,))
        case TokenCreated(id=token, hash=hash, grant=grant):
            batch.add_ordered(
                f"INSERT INTO tokens (id, name, hash, made, grant_body) VALUES (?,?,?,{_NUMBER},?)",  # noqa: S608
                (token, grant.name, hash, command, wire.canonical(grant)),
            )
        case TokenRevoked(id=token):
            batch.add_ordered(f"UPDATE tokens SET revoked = {_NUMBER} WHERE id = ?", (command, token))  # noqa: S608
        case _:
            pass
