"""What every test stands on: a home of its own, and a backend that no test knows the kind of."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from scene import Clock, People, Scene

from svcctl.backend.base import Backend
from svcctl.backend.store import Store

settings.register_profile("svcctl", derandomize=True, database=None, deadline=None)
settings.load_profile("svcctl")


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


@pytest.fixture(params=["sqlite"])  # PostgreSQL and the API join here
def connect(tmp_path: Path, clock: Clock, people: People) -> Iterator[Callable[[], Backend]]:
    """Opens the test's one backend, each time as another process would."""
    opened: list[Store] = []

    def open_again() -> Backend:
        opened.append(Store.open(tmp_path / ".svcctl", actor=people, clock=clock))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def backend(connect: Callable[[], Backend]) -> Backend:
    return connect()


@pytest.fixture
def scene(backend: Backend, clock: Clock, people: People) -> Scene:
    return Scene(backend, clock, people)
