"""The tables against the chains they came from: what each environment's records lead to is what its rows must say."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from svcctl import wire
from svcctl.backend.store.database import Database, Row
from svcctl.model import Domain, Entry, EnvironmentId, Owned, TokenCreated, TokenRevoked
from svcctl.rules import replay
from svcctl.rules.state import Identity

_COLUMNS = "id, service, name, living, hostname, expires, head, identity"


class Replayed:
    """What the records of one chain lead to."""

    def __init__(self, environment: str) -> None:
        self.id = EnvironmentId(environment)
        self.identity: Identity | None = None
        self.tags: dict[str, int] = {}
        self.owners: dict[str, str | None] = {}
        self.domains: dict[str, str] = {}
        self.tokens: dict[str, Row] = {}

    def add(self, entry: Entry, change: int) -> None:
        self.identity = replay.after(self.identity, entry, self.id)
        self.tags = replay.tags_after(self.tags, entry)
        match entry:
            case Owned(service=service, project=project):
                self.owners[service] = project
            case Domain(project=project, domain=domain):
                self.domains[project] = domain
            case TokenCreated(id=token, hash=hash, grant=grant):
                self.tokens[token] = (grant.name, hash, change, None, wire.canonical(grant))
            case TokenRevoked(id=token) if token in self.tokens:
                name, hash, made, _, grant_body = self.tokens[token]
                self.tokens[token] = (name, hash, made, change, grant_body)
            case _:
                pass


class _Facts(NamedTuple):
    """All that rows hold of one environment."""

    columns: Row
    routes: set[str]
    tags: dict[str, int]
    bindings: set[Row]


def altered(database: Database, chains: dict[str, Replayed]) -> Iterator[str]:
    """`chains` are those whose records are sound; rows of others are only held against one another."""
    for *columns, body in database.all(f"SELECT {_COLUMNS} FROM environments ORDER BY service, name"):  # noqa: S608
        id, service, name, *_ = columns
        what = f"{service}/{name}"
        try:
            identity = wire.decode(body, Identity)
        except msgspec.DecodeError:
            yield f"{what}: its row was altered: its identity is unreadable"
            continue
        chain = chains.get(id)
        if chain and chain.identity and chain.identity != replace(identity, bound={}):
            fields = [each for each in chain.identity.__struct_fields__ if each != "bound"]
            wrong = [each for each in fields if getattr(identity, each) != getattr(chain.identity, each)]
            yield f"{what}: its row was altered: its records say otherwise of {', '.join(wrong)}"
        found = _Facts(tuple(columns), _routes(database, id), _tags(database, id), _bindings(database, id))
        expected = _expected(identity, chain.tags if chain else found.tags)
        for part, has, should in zip(_Facts._fields, found, expected, strict=True):
            if has != should:
                yield f"{what}: its row was altered: its {part} are not those of its records"


def altered_store(database: Database, chain: Replayed) -> Iterator[str]:
    if dict(database.all("SELECT name, project FROM services")) != chain.owners:
        yield "the table of services was altered: the records say otherwise of their projects"
    if dict(database.all("SELECT name, domain FROM projects")) != chain.domains:
        yield "the table of projects was altered: the records say otherwise of their domains"
    found = {
        id: tuple(row) for id, *row in database.all("SELECT id, name, hash, made, revoked, grant_body FROM tokens")
    }
    for id in sorted(found.keys() | chain.tokens.keys()):
        if found.get(id) != chain.tokens.get(id):
            yield f"token {id}: its row was altered, inserted or removed: the records say otherwise"


def _expected(identity: Identity, tags: dict[str, int]) -> _Facts:
    living = None if identity.deleted else 1
    head = None if identity.deleted else identity.head
    return _Facts(
        (identity.id, identity.service, identity.name, living, identity.hostname, identity.expires, head),
        set(identity.routes),
        tags,
        {(name, bound.service, bound.environment) for name, bound in identity.bound.items()},
    )


def _routes(database: Database, id: str) -> set[str]:
    return {pattern for (pattern,) in database.all("SELECT pattern FROM routes WHERE environment = ?", (id,))}


def _tags(database: Database, id: str) -> dict[str, int]:
    return dict(database.all("SELECT name, number FROM tags WHERE environment = ?", (id,)))


def _bindings(database: Database, id: str) -> set[Row]:
    return set(database.all("SELECT name, service, target FROM bindings WHERE environment = ?", (id,)))
