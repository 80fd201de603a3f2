"""Tokens, when they were used, and whom the API turned away.

What tokens allow is in the ledger, on the store's own chain; `tokens` holds what it led to. Their use and refusals are
not: neither changes anything. Of refusals the newest are kept, and of each token's so few that nobody can talk long
enough to make those of another forgotten.
"""

import hmac
from collections.abc import Iterator

import msgspec

from svcctl import wire
from svcctl.backend.base import Refusals
from svcctl.backend.store.cursors import read_cursor, write_cursor
from svcctl.backend.store.database import Database, Hold, Row, repeated
from svcctl.digest import Digest
from svcctl.errors import Damage
from svcctl.model import Grant, Refusal, Token

KEPT = 10_000
"""Refusals; the oldest go first."""
SHARE = 1_000
"""Those of one token, or of all tokens that are not known."""
_UNKNOWN = "-"

_TOKENS = (
    "SELECT t.id, t.grant_body, made.at, made.actor, gone.at, used.at, t.hash FROM tokens t "
    "JOIN changes made ON made.number = t.made LEFT JOIN changes gone ON gone.number = t.revoked "
    "LEFT JOIN token_uses used ON used.token = t.id "
)
_USED = "INSERT INTO token_uses (token, at) VALUES (?,?) ON CONFLICT (token) DO UPDATE SET at = excluded.at"
_REFUSED = "INSERT INTO refusals (number, token, body) SELECT coalesce(max(number), 0) + 1, ?, ? FROM refusals"
_FORGET_SHARE = (
    "DELETE FROM refusals WHERE token = ? AND number <= "
    "(SELECT number FROM refusals WHERE token = ? ORDER BY number DESC LIMIT 1 OFFSET ?)"
)
_FORGET = "DELETE FROM refusals WHERE number <= (SELECT number FROM refusals ORDER BY number DESC LIMIT 1 OFFSET ?)"


def tokens(database: Database) -> Iterator[Token]:
    """Oldest first."""
    for row in database.all(_TOKENS + "ORDER BY t.made, t.id"):
        yield _token(row)


def by_hash(database: Database, hash: Digest) -> Token | None:
    row = database.one(_TOKENS + "WHERE t.hash = ?", (hash,))
    return _token(row) if row and hmac.compare_digest(row[-1], hash) else None


def _token(row: Row) -> Token:
    id, grant, created, actor, revoked, used, _ = row
    try:
        known = msgspec.structs.asdict(wire.decode(grant, Grant))
    except msgspec.DecodeError as error:
        raise Damage(f"the row of token {id} is unreadable: {error}", next="svcctl verify") from error
    return Token(**known, id=id, created=created, actor=actor, revoked=revoked, used=used)


def record_use(database: Database, token: str, at: str) -> None:
    repeated(database, lambda: database.execute(_USED, (token, at)))


def record_refusal(database: Database, refusal: Refusal) -> None:
    token = refusal.token or _UNKNOWN

    def record() -> None:
        database.hold(Hold.REFUSING)
        database.together(
            (
                (_REFUSED, (token, wire.canonical(refusal))),
                (_FORGET_SHARE, (token, token, SHARE)),
                (_FORGET, (KEPT,)),
            )
        )

    repeated(database, record)


def refusals(database: Database, limit: int, cursor: str | None) -> Refusals:
    rows = database.all(
        "SELECT number, body FROM refusals WHERE number < ? ORDER BY number DESC LIMIT ?",
        (read_cursor(cursor) if cursor else 1 << 62, limit + 1),
    )
    found = tuple(wire.decode(body, Refusal) for _, body in rows[:limit])
    return Refusals(refusals=found, next=write_cursor(rows[limit - 1][0]) if len(rows) > limit else None)
