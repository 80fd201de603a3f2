"""Secrets of the store: sealed for their environment, under a master key that is not in the ledger.

What `seal` returns can travel; inside `apply` it is opened and sealed again for the environment's own id, so a row
moved to another environment does not open there. Old values stay until they are purged: a roll back may ask for them.
"""

from collections.abc import Mapping
from pathlib import Path

from svcctl import sealing
from svcctl.backend.store.database import Database, Hold, repeated
from svcctl.errors import Refused
from svcctl.model import EnvironmentId, Sealed, Version
from svcctl.rules.state import Keep, Plan
from svcctl.sealing import KeyFile, MasterKey, Sealer, SecretValue

NEXT_KEY = "SVCCTL_SECRET_KEY_NEXT"
"""The key to change to, where the present one is in SVCCTL_SECRET_KEY."""


class Vault:
    def __init__(self, key_file: Path | None, database: Database, environ: Mapping[str, str]) -> None:
        """Without a file the key can only be in `environ`."""
        self._key_file = KeyFile(key_file) if key_file else None
        self._db = database
        self._environ = environ
        self._known: Sealer | None = None
        self._known_by: str | None = None

    def seal(self, service: str, environment: str, name: str, value: bytes) -> Sealed:
        return self.sealer().seal_for_transport(service, environment, name, SecretValue(value))

    def keep(self, plan: Plan) -> None:
        """Stores the values that a plan brings; inside its transaction."""
        self._refuse_purged(plan)
        if plan.secrets:
            self._db.hold(Hold.SEALING, alone=False)
            sealer = self.sealer()
            rows = [
                (keep.environment, keep.name, keep.fingerprint, self._ciphertext(sealer, keep)) for keep in plan.secrets
            ]
            self._db.many(
                "INSERT INTO secrets (environment, name, fingerprint, ciphertext) VALUES (?,?,?,?) "
                "ON CONFLICT (environment, name, fingerprint) DO UPDATE SET ciphertext = excluded.ciphertext",
                rows,
            )

    def reveal(self, environment: EnvironmentId, name: str, fingerprint: str) -> SecretValue:
        """For the process that runs the environment's code."""
        return self.sealer().open(environment, name, self._stored(environment, name, fingerprint))

    def rewrap(self) -> int:
        """Seals every value again with a new master key; returns how many. Killed anywhere, either key fits."""
        self.sealer()
        old, new = self._master(), self._next()

        def reseal() -> int:
            self._db.hold(Hold.SEALING)
            store = self._store_id()
            sealed = self._fingerprint_key() or ""
            fresh = sealing.rewrap_fingerprint_key(old, new, store, sealed)
            before, after = Sealer(old, store, sealed), Sealer(new, store, fresh)
            rows = self._db.all("SELECT environment, name, fingerprint, ciphertext FROM secrets")
            self._db.many(
                "UPDATE secrets SET ciphertext = ? WHERE environment = ? AND name = ? AND fingerprint = ?",
                [(before.rewrap(after, id, name, text), id, name, print_) for id, name, print_, text in rows],
            )
            self._db.execute("UPDATE store SET value = ? WHERE name = 'fingerprint_key'", (fresh,))
            return len(rows)

        count = repeated(self._db, reseal)
        self._known = None
        if sealing.VARIABLE not in self._environ:
            self._file.adopt()
        return count

    # ---- values

    def _ciphertext(self, sealer: Sealer, keep: Keep) -> bytes:
        if keep.sealed is not None:
            value = sealer.open_transport(keep.sealed)
            if sealer.fingerprint(keep.name, value) != keep.fingerprint or keep.name != keep.sealed.name:
                raise Refused(f"{keep.name} was not sealed by this store")
        else:
            source = keep.copy_from or keep.environment
            value = sealer.open(source, keep.name, self._stored(source, keep.name, keep.fingerprint))
        return sealer.seal(keep.environment, keep.name, value)

    def _stored(self, environment: EnvironmentId, name: str, fingerprint: str) -> bytes:
        row = self._db.one(
            "SELECT ciphertext FROM secrets WHERE environment = ? AND name = ? AND fingerprint = ?",
            (environment, name, fingerprint),
        )
        if row is None:
            raise Refused(
                f"the value of secret {name} was destroyed, or left behind when the store was moved",
                next=f"svcctl secrets set {name}",
            )
        return bytes(row[0])

    def _refuse_purged(self, plan: Plan) -> None:
        if plan.kind != "rollback":
            return
        for step in plan.steps:
            if isinstance(step.entry, Version) and step.settings and step.environment:
                for name, fingerprint in step.settings.secrets.items():
                    self._stored(step.environment, name, fingerprint)

    # ---- keys

    def sealer(self) -> Sealer:
        """Made with the first secret of the store; anew when another process rotated the key, or moved another store
        into this one."""
        sealed = self._fingerprint_key()
        if self._known is None or sealed != self._known_by:
            if sealed is not None and self._key_file:
                self._key_file.settle(sealing.sealed_with(sealed))
            elif sealed is None and not self._db.in_transaction:
                sealed = self._found()
            self._known, self._known_by = Sealer(self._master(), self._store_id(), sealed or ""), sealed
        return self._known

    @property
    def _file(self) -> KeyFile:
        if self._key_file is None:
            raise Refused(
                f"the store has secrets, and the key to them is not here: {sealing.VARIABLE} is not set",
                hint="the key is never kept in the database; all that reads or writes secrets there is given the same",
                next=f"export {sealing.VARIABLE}=…  (a new one: head -c 32 /dev/urandom | base64)",
            )
        return self._key_file

    def _found(self) -> str:
        master = sealing.obtain_master_key(self._path, self._environ)

        def keep_first() -> str:
            self._db.execute(
                "INSERT INTO store VALUES ('fingerprint_key', ?) ON CONFLICT DO NOTHING",
                (sealing.new_fingerprint_key(master, self._store_id()),),
            )
            return self._fingerprint_key() or ""

        return repeated(self._db, keep_first)

    @property
    def _path(self) -> Path:
        return Path() if sealing.VARIABLE in self._environ else self._file.path

    def _master(self) -> MasterKey:
        key = sealing.present_master_key(self._path, self._environ)
        if key is None:
            raise Refused(
                f"the key to this store's secrets is gone: {self._file.path}",
                hint=f"restore that file from a backup, or set {sealing.VARIABLE}",
            )
        return key

    def _next(self) -> MasterKey:
        if sealing.VARIABLE not in self._environ:
            return self._file.stage()
        key = sealing.parse_master_key(SecretValue(self._environ.get(NEXT_KEY, "")), NEXT_KEY)
        if key is None:
            raise Refused(
                f"the present key is in {sealing.VARIABLE}, so the next one must be in {NEXT_KEY}: 32 bytes in base64",
                next=f"export {NEXT_KEY}=$(head -c 32 /dev/urandom | base64)",
            )
        return key

    def _fingerprint_key(self) -> str | None:
        row = self._db.one("SELECT value FROM store WHERE name = 'fingerprint_key'")
        return row[0] if row else None

    def _store_id(self) -> str:
        row = self._db.one("SELECT value FROM store WHERE name = 'id'")
        return str(row[0]) if row else ""
