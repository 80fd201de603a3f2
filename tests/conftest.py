"""What every test stands on: a home of its own, and a backend that no test knows the kind of."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import postgres
import pytest
import remotely
from cutting import Trick
from hypothesis import settings
from postgres import KEY, Server
from scene import Clock, People, Scene

from svcctl.backend.base import Backend
from svcctl.backend.remote import Remote
from svcctl.backend.store import Store

settings.register_profile("svcctl", derandomize=True, database=None, deadline=None)
settings.load_profile("svcctl")


MEMORY = Path("/dev/shm")
ROOM = 2 << 30
LONG = ("api-postgres", "api-troubled")
SLOW = (Trick(delay=0.002), Trick(double=True))
CUT = (Trick(up=3000), Trick(down=6000), Trick(down=100), Trick(up=80_000, double=True), Trick(up=9000, delay=0.002))
"""Of four in a row, one lets the largest request of the suite and its answer pass."""


def pytest_configure() -> None:
    """Temporary folders lie in memory where there is room: every command waits for the disk, and a quarter of the
    suite's time would be that."""
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
    # A shell that starts the suite behind itself has it ignore Ctrl-C, and so would every program that it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def a_home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the home, the keyring, the git configuration or a store of who runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith(("SVCCTL_", "GIT_", "XDG_")):
                patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CEILING_DIRECTORIES", str(home.parent))
        patch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL of the session's own, started by the first test that asks."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def database(server: Server) -> str:
    """The URL of an empty store on PostgreSQL."""
    server.clear()
    return server.cleared


@pytest.fixture(
    params=["sqlite", "postgres", "api", *(pytest.param(each, marks=pytest.mark.soak) for each in LONG)],
)
def connect(
    tmp_path: Path, clock: Clock, people: People, request: pytest.FixtureRequest
) -> Iterator[Callable[[], Backend]]:
    """Opens the test's one backend, each time as another process would."""
    if request.param.endswith("postgres"):
        place, environ = request.getfixturevalue("database"), {"SVCCTL_SECRET_KEY": KEY}
    else:
        place, environ = tmp_path / ".svcctl", {}

    def open_store() -> Store:
        return Store.open(place, actor=people, clock=clock, environ=environ)

    opened: list[Store | Remote] = []
    with ExitStack() as stack:
        open_one: Callable[[], Store | Remote] = open_store
        if request.param == "api-troubled":
            # A write to KV is sent once: who is cut off there is told so.
            troubles = SLOW if "kv" in request.path.name else CUT
            open_one = stack.enter_context(remotely.troubled(open_store, people, troubles))
        elif request.param.startswith("api"):
            transport = stack.enter_context(remotely.api(open_store, people))
            open_one = partial(remotely.remote, transport)

        def open_again() -> Backend:
            opened.append(open_one())
            return opened[-1]

        yield open_again
        for each in opened:
            each.close()


@pytest.fixture
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """All that the store keeps, by file or by row."""
    kind: str = request.node.callspec.params["connect"]
    if kind.endswith("postgres"):
        return partial(postgres.stored, request.getfixturevalue("database"))
    folder = tmp_path / ".svcctl"
    return lambda: {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture
def alter(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[bytes, bytes], None]:
    """Puts other bytes of the same length into stored blobs, with hands that should not be there."""
    kind: str = request.node.callspec.params["connect"]
    if kind.endswith("postgres"):
        return partial(postgres.alter, request.getfixturevalue("database"))

    def alter(old: bytes, new: bytes) -> None:
        for pack in (tmp_path / ".svcctl/packs").iterdir():
            content = pack.read_bytes()
            if old in content:
                pack.chmod(0o600)
                pack.write_bytes(content.replace(old, new))

    return alter


@pytest.fixture
def backend(connect: Callable[[], Backend]) -> Backend:
    return connect()


@pytest.fixture
def scene(backend: Backend, clock: Clock, people: People) -> Scene:
    return Scene(backend, clock, people)
