"""What a store stands on: a folder of this machine, or a database on a server."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from svcctl import faults
from svcctl.backend.store import lock, migrations
from svcctl.backend.store.connection import SQLite
from svcctl.backend.store.database import Database
from svcctl.backend.store.lock import WriteLock
from svcctl.backend.store.shelf import Folder, Shelf
from svcctl.errors import NotFound, Unreachable

if TYPE_CHECKING:
    from svcctl.backend.store.kv import KeyValueStore

IS_IT_YOURS = "is the folder yours and writable, and its disk not full?"
SCHEMES = ("postgresql://", "postgres://")
KEY_FILE = "secret.key"


class Ground(Protocol):
    @property
    def database(self) -> Database: ...

    @property
    def shelf(self) -> Shelf: ...

    @property
    def key_file(self) -> Path | None:
        """None where the key to secrets can only be in the environment."""

    def migrate(self) -> None:
        """Brings the schema up."""

    def has_entries(self) -> bool:
        """Whether anything was ever put into KV."""

    def keyvalues(self, clock: Callable[[], float]) -> "KeyValueStore": ...

    def close(self) -> None: ...


class FolderGround:
    """`ledger.db`, `packs/`, and once there is need `secret.key` and `kv.db`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self._patience = lock.patience(environ)
        self.database = SQLite(folder / "ledger.db", WriteLock(folder / "lock", self._patience))
        self.shelf = Folder(folder / "packs", self.database)
        self.key_file: Path | None = folder / KEY_FILE

    def migrate(self) -> None:
        migrations.migrate(self.database)

    def has_entries(self) -> bool:
        from svcctl.backend.store import kv

        return (self.folder / kv.FILE).exists()

    def keyvalues(self, clock: Callable[[], float]) -> "KeyValueStore":
        from svcctl.backend.store.kv import KeyValueStore

        return KeyValueStore(self.folder, patience=self._patience, clock=clock)

    def close(self) -> None:
        self.database.close()


class ServerGround:
    """Everything in tables of one PostgreSQL database."""

    key_file: Path | None = None

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        from svcctl.backend.store.chunks import Chunks
        from svcctl.backend.store.postgres import Postgres

        self.database = Postgres(url, patience=lock.patience(environ))
        self.shelf = Chunks(self.database)

    def migrate(self) -> None:
        """All of it: who uses the store later may not be allowed to make tables."""
        from svcctl.backend.store import kv

        migrations.migrate(self.database)
        migrations.migrate(self.database, "kv", kv.MIGRATIONS)

    def has_entries(self) -> bool:
        return self.database.one("SELECT 1 FROM namespaces LIMIT 1") is not None

    def keyvalues(self, clock: Callable[[], float]) -> "KeyValueStore":
        from svcctl.backend.store.kv import KeyValueStore

        return KeyValueStore(self.database, clock=clock)

    def close(self) -> None:
        self.database.close()


def in_folder(folder: Path, environ: Mapping[str, str], *, create: bool) -> tuple[FolderGround, bool]:
    """And whether it was made now."""
    try:
        made = not (folder / "ledger.db").exists()
        if made:
            if not create:
                raise NotFound(
                    f"nothing has been deployed here yet: there is no store in {folder}", next="svcctl deploy"
                )
            _make(folder)
            faults.point("store.created")
        return FolderGround(folder, environ), made
    except OSError as error:
        raise Unreachable(f"{error.filename or folder}: {error.strerror}", hint=IS_IT_YOURS) from error


def on_server(url: str, environ: Mapping[str, str], *, create: bool) -> tuple[ServerGround, bool]:
    ground = ServerGround(url, environ)
    try:
        made = ground.database.schema("ledger") == 0
    except BaseException:
        ground.close()
        raise
    if made and not create:
        ground.close()
        raise NotFound(
            f"nothing has been deployed here yet: there is no store in {ground.database.name}", next="svcctl deploy"
        )
    return ground, made


def _make(folder: Path) -> None:
    """0700 under any umask, with a `.gitignore` that keeps it out of every repository. An empty ledger comes last: from
    then on, whoever opens the store goes on with its first migration."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    for name in ("lock", "ledger.db"):
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
