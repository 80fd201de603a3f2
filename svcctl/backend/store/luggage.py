"""Secrets on their way from one store to another: sealed under a key that a passphrase gives, opened and sealed anew
where they arrive. No value is ever in a file or an answer in clear.

The fingerprint key comes along, so that what settings say of old values stays comparable. A store that has secrets
under a fingerprint key of its own takes none: its history is another one.
"""

from collections.abc import Iterator

from svcctl import sealing
from svcctl.backend.segment import SealedSecrets, SentSecret, Valueless
from svcctl.backend.store.database import Database, Hold, repeated
from svcctl.backend.store.ledger import Ledger
from svcctl.backend.store.reads import missing
from svcctl.backend.store.vault import Vault
from svcctl.errors import Conflict, Damage, Refused
from svcctl.sealing import MasterKey, Sealer


def give(database: Database, vault: Vault, key: MasterKey, salt: bytes) -> SealedSecrets:
    """Every value that is stored, under `key`."""
    with database.reading():
        store = _value(database, "id") or ""
        sealed = _value(database, "fingerprint_key")
        rows = database.all(
            "SELECT environment, name, fingerprint, ciphertext FROM secrets ORDER BY environment, name, fingerprint"
        )
    if sealed is None:
        return SealedSecrets(store=store, salt=salt, key=key.id, fingerprint_key="", secrets=())
    own = vault.sealer()
    fresh = sealing.rewrap_fingerprint_key(own.master, key, store, sealed)
    travelling = Sealer(key, store, fresh)
    secrets = tuple(
        SentSecret(
            environment=id, name=name, fingerprint=print_, ciphertext=own.rewrap(travelling, id, name, bytes(value))
        )
        for id, name, print_, value in rows
    )
    return SealedSecrets(store=store, salt=salt, key=key.id, fingerprint_key=fresh, secrets=secrets)


def take(database: Database, vault: Vault, key: MasterKey, sent: SealedSecrets) -> int:
    """How many it had not. Each must open, and give the fingerprint that it travelled under."""
    if not sent.secrets:
        return 0
    if key.id != sent.key:
        raise Refused("that is not the passphrase that the secrets were sealed with", hint="no secret was taken")
    own = vault.sealer()
    travelling = Sealer(key, sent.store, sent.fingerprint_key)

    def reseal() -> int:
        database.hold(Hold.SEALING)
        if _value(database, "id") != sent.store:
            raise Conflict("the secrets are of another store", hint="no secret was taken")
        sealed = sealing.rewrap_fingerprint_key(key, own.master, sent.store, sent.fingerprint_key)
        anew = Sealer(own.master, sent.store, sealed)
        _agree(database, own, anew, sealed, sent.secrets[0].name)
        known = {id for (id,) in database.all("SELECT id FROM environments WHERE living = 1")}
        there = set(database.all("SELECT environment, name, fingerprint FROM secrets"))
        rows = [
            (each.environment, each.name, each.fingerprint, _sealed_anew(travelling, anew, each))
            for each in sent.secrets
            if each.environment in known and (each.environment, each.name, each.fingerprint) not in there
        ]
        database.many("INSERT INTO secrets (environment, name, fingerprint, ciphertext) VALUES (?,?,?,?)", rows)
        return len(rows)

    return repeated(database, reseal)


def _agree(database: Database, own: Sealer, anew: Sealer, sealed: str, name: str) -> None:
    """On the fingerprint key: the one that came takes the place of one that nothing was ever kept under."""
    probe = sealing.SecretValue(b"")
    if own.fingerprint(name, probe) == anew.fingerprint(name, probe):
        return
    if database.one("SELECT 1 FROM secrets LIMIT 1"):
        raise Conflict("the target has secrets of its own", hint="no secret was taken")
    database.execute("UPDATE store SET value = ? WHERE name = 'fingerprint_key'", (sealed,))


def _sealed_anew(travelling: Sealer, anew: Sealer, sent: SentSecret) -> bytes:
    value = travelling.open(sent.environment, sent.name, sent.ciphertext)
    if travelling.fingerprint(sent.name, value) != sent.fingerprint:
        raise Damage(f"the sealed value of {sent.name} is not the one that it says", hint="no secret was taken")
    return anew.seal(sent.environment, sent.name, value)


def valueless(database: Database) -> Iterator[Valueless]:
    """By place and name."""
    ledger = Ledger(database)
    for (id,) in database.all("SELECT id FROM environments WHERE living = 1 ORDER BY service, name"):
        if place := ledger.place(id):
            yield from (Valueless(ref=place.ref, name=name) for name in missing(database, place))


def _value(database: Database, name: str) -> str | None:
    row = database.one("SELECT value FROM store WHERE name = ?", (name,))
    return row[0] if row else None
