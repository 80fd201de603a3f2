"""The schema, as numbered migrations: an older store is brought up on open, a newer one refused untouched.

Chains (`changes`, `records`) are only ever appended to. The other tables hold what the chains led to, for rules and
reads: rows with constraints, so that what must be unique is so for every writer.
"""

from collections.abc import Sequence
from functools import partial

from svcctl import faults
from svcctl.backend.store.database import Database, Definition, Dialects, Hold, NotGranted, repeated
from svcctl.errors import Refused

MIGRATIONS: tuple[tuple[Definition, ...], ...] = (
    (
        "CREATE TABLE store (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        Dialects(
            sqlite="INSERT INTO store VALUES ('id', lower(hex(randomblob(16))))",
            postgres="INSERT INTO store VALUES ('id', replace(CAST(gen_random_uuid() AS text), '-', ''))",
        ),
        "CREATE TABLE projects (name TEXT PRIMARY KEY, domain TEXT NOT NULL)",
        "CREATE TABLE services (name TEXT PRIMARY KEY, project TEXT)",
        """CREATE TABLE environments (
            id TEXT PRIMARY KEY,
            service TEXT NOT NULL,
            name TEXT NOT NULL,
            living INTEGER,
            hostname TEXT UNIQUE,
            expires TEXT,
            head INTEGER,
            seq INTEGER NOT NULL,
            tip TEXT NOT NULL,
            changed INTEGER NOT NULL,
            identity BLOB NOT NULL,
            UNIQUE (service, name, living)
        )""",
        "CREATE INDEX expiring ON environments (expires) WHERE expires IS NOT NULL",
        """CREATE TABLE changes (
            number INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            project TEXT NOT NULL,
            at TEXT NOT NULL,
            actor TEXT NOT NULL,
            digest TEXT NOT NULL,
            body BLOB NOT NULL
        )""",
        """CREATE TABLE records (
            environment TEXT NOT NULL,
            seq INTEGER NOT NULL,
            change INTEGER NOT NULL,
            number INTEGER,
            digest TEXT NOT NULL,
            settings TEXT,
            settings_since INTEGER,
            settings_under INTEGER,
            code TEXT,
            code_since INTEGER,
            code_under INTEGER,
            deployed TEXT,
            restored_settings INTEGER,
            body BLOB NOT NULL,
            UNIQUE (environment, seq),
            UNIQUE (environment, number)
        )""",
        "CREATE INDEX records_of_change ON records (change)",
        "CREATE INDEX records_of_code ON records (code) WHERE code_since = number",
        "CREATE INDEX records_of_commit ON records (deployed) WHERE deployed IS NOT NULL",
        "CREATE INDEX settings_rolled_back ON records (environment, number) WHERE restored_settings IS NOT NULL",
        "CREATE TABLE settings (digest TEXT PRIMARY KEY, body BLOB NOT NULL)",
        """CREATE TABLE tags (
            environment TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (environment, name)
        )""",
        "CREATE TABLE routes (pattern TEXT PRIMARY KEY, environment TEXT NOT NULL)",
        """CREATE TABLE bindings (
            environment TEXT NOT NULL, name TEXT NOT NULL, service TEXT NOT NULL, target TEXT,
            PRIMARY KEY (environment, name)
        )""",
        "CREATE INDEX bindings_to ON bindings (service)",
        """CREATE TABLE former_names (
            service TEXT NOT NULL, name TEXT NOT NULL, environment TEXT NOT NULL, PRIMARY KEY (service, name)
        )""",
        """CREATE TABLE secrets (
            environment TEXT NOT NULL, name TEXT NOT NULL, fingerprint TEXT NOT NULL, ciphertext BLOB NOT NULL,
            PRIMARY KEY (environment, name, fingerprint)
        )""",
        """CREATE TABLE packs (
            name TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
            inode INTEGER NOT NULL
        )""",
        """CREATE TABLE blobs (
            digest TEXT PRIMARY KEY, pack TEXT NOT NULL, position INTEGER NOT NULL, size INTEGER NOT NULL
        )""",
        "CREATE INDEX blobs_of_pack ON blobs (pack)",
        """CREATE TABLE artifacts (
            digest TEXT PRIMARY KEY, manifest TEXT NOT NULL, files INTEGER NOT NULL, size INTEGER NOT NULL,
            uploaded REAL NOT NULL
        )""",
        """CREATE TABLE artifact_packs (
            artifact TEXT NOT NULL, pack TEXT NOT NULL, PRIMARY KEY (artifact, pack)
        )""",
        # Packs in the place of files (`shelf`). Uncompressed, so that a stretch of one can be read alone.
        Dialects(
            sqlite=None,
            postgres="""CREATE TABLE chunks (
                pack text NOT NULL, part bigint NOT NULL, stored bigint NOT NULL, data bytea STORAGE EXTERNAL NOT NULL,
                PRIMARY KEY (pack, part)
            )""",
        ),
    ),
    (
        # `made` and `revoked` are changes.
        """CREATE TABLE tokens (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, made INTEGER NOT NULL, revoked INTEGER,
            grant_body BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX tokens_in_force ON tokens (name) WHERE revoked IS NULL",
        "CREATE TABLE token_uses (token TEXT PRIMARY KEY, at TEXT NOT NULL)",
        "CREATE TABLE refusals (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    ),
    (
        # Every follower asks after each change what is newer: not by a look at all there are.
        "CREATE INDEX environments_changed ON environments (changed)",
    ),
    (
        # `records_of_change` serves followers as well. A row that alters no index and has room on its page is replaced
        # on PostgreSQL without a word to any of its indexes; with this one, each change wrote to all five.
        "DROP INDEX environments_changed",
        Dialects(sqlite=None, postgres="ALTER TABLE environments SET (fillfactor = 50)"),
    ),
    (
        # Each token has its share of what is kept. Those from before this have none.
        "ALTER TABLE refusals ADD COLUMN token TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX refusals_of_token ON refusals (token, number)",
    ),
)


def migrate(database: Database, part: str = "ledger", migrations: Sequence[Sequence[Definition]] = MIGRATIONS) -> None:
    """Each migration is a transaction of its own: killed in between, the next open goes on."""
    newest = len(migrations)
    found = database.schema(part)
    refuse_newer(found, newest)
    if found == 0:
        database.begin_schema()
    while found < newest:
        try:
            found = repeated(database, partial(_bring_up, database, part, migrations))
        except NotGranted as error:
            raise NotGranted(
                f"this store is of schema {found}, this svcctl needs {newest} and may not bring it up: {error.message}",
                hint="the role that owns its tables can, by any command of this svcctl: see docs/operations.md",
            ) from error
        faults.point("migrate.committed")
    refuse_newer(found, newest)


def check(database: Database) -> None:
    """Raises Refused where a newer svcctl has brought the schema up since this one opened the store."""
    refuse_newer(database.schema("ledger"))


def refuse_newer(found: int, newest: int = len(MIGRATIONS)) -> None:
    if found > newest:
        raise Refused(
            f"this store is of schema {found}; this svcctl knows {newest}",
            hint="it was written by a newer svcctl: upgrade this one. The store was not touched",
        )


def _bring_up(database: Database, part: str, migrations: Sequence[Sequence[Definition]]) -> int:
    """By one, unless another process just did; returns where it is then."""
    database.hold(Hold.MIGRATING)
    found = database.schema(part)
    if found < len(migrations):
        for statement in migrations[found]:
            database.define(statement)
        found += 1
        database.set_schema(part, found)
        faults.point("migrate.before-commit")
    return found
