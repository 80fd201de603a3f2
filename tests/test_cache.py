"""What a data plane keeps on its disk: whole or not there, no more secrets than it needs, nothing under a worker's
feet."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scene import Scene

from svcctl.backend.base import Backend
from svcctl.dataplane import confinement
from svcctl.dataplane.cache import Cache
from svcctl.dataplane.landscape import Landscape
from svcctl.errors import Damage
from svcctl.model import EnvironmentId, Version
from svcctl.runtime.assembly import Part


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def head(scene: Scene) -> Version:
    (version,) = scene.deploy(auth="print('hello')").versions
    return version


def code(version: Version) -> str:
    assert version.code is not None
    return version.code.digest


def test_an_artifact_is_fetched_once_and_found_without_the_backend(cache: Cache, head: Version, backend: Backend):
    files = cache.files(code(head), backend)
    assert [path.name for path in files.folder.iterdir()] == [file.path for file in files.manifest.files]
    assert Cache(cache.folder).files(code(head), None) == files


def test_an_artifact_that_was_never_fetched_is_missed(cache: Cache, head: Version):
    with pytest.raises(Damage, match="not in the cache, and the store can't be reached"):
        cache.files(code(head), None)


def alter(path: Path) -> None:
    path.chmod(0o600)
    path.write_text("altered")


@pytest.mark.parametrize("harm", [alter, Path.unlink])
@pytest.mark.parametrize("name", ["manifest.json", "files/worker.py"])
def test_t1_what_is_damaged_is_fetched_again(
    harm: Callable[[Path], None], name: str, cache: Cache, head: Version, backend: Backend
):
    place = cache.files(code(head), backend).manifest_file.parent
    before = (place / name).read_bytes()
    harm(place / name)
    with pytest.raises(Damage):
        Cache(cache.folder).files(code(head), None)
    Cache(cache.folder).files(code(head), backend)
    assert (place / name).read_bytes() == before


@pytest.mark.usefixtures("head")
def test_state_that_is_damaged_is_none(cache: Cache, backend: Backend):
    landscape = Landscape()
    landscape.take(backend.follow(0))
    cache.keep(landscape.everything())
    kept = cache.kept()
    assert kept is not None
    assert [place.ref for place in kept.places] == [place.ref for place in landscape.everything().places]
    (cache.folder / "state.json").write_text("{")
    assert cache.kept() is None


def test_a_sweep_spares_what_is_needed_and_what_runs(cache: Cache, scene: Scene, backend: Backend):
    versions = [scene.deploy(auth=f"print({number})").versions[0] for number in range(4)]
    places = [cache.files(code(version), backend).manifest_file.parent for version in versions]
    leftover = cache.folder / "artifacts/.making-of-a-killed-process"
    leftover.mkdir()
    old = time.time() - 100_000
    for place in (*places[:3], leftover):
        os.utime(place, (old, old))
    held = len(confinement._held)
    part = Part(place="shop/staging", version=2, folder="", main="", manifest=str(places[1] / "manifest.json"))
    confinement.hold([part])
    assert cache.sweep({code(versions[0])}) == 2
    assert [place.exists() for place in places] == [True, True, False, True]
    assert not leftover.exists()
    os.close(confinement._held.pop())
    assert len(confinement._held) == held
    assert cache.sweep({code(versions[0])}) == 1
    assert [place.exists() for place in places] == [True, False, False, True]


# ---- secrets


def test_secrets_are_kept_sealed_and_forgotten_when_no_head_has_them(cache: Cache, scene: Scene, backend: Backend):
    scene.deploy(auth="print()")
    landscape = Landscape()

    def secrets() -> tuple[EnvironmentId, dict[str, str]]:
        landscape.take(backend.follow(0))
        (place,) = (place for place in landscape.living() if place.ref == "auth/staging")
        return place.identity.id, dict(place.settings.secrets) if place.settings else {}

    scene.secret("auth/staging", "KEY", "hunter2-the-first")
    id, first = secrets()
    assert cache.reveal(id, first, backend)["KEY"].reveal() == b"hunter2-the-first"
    assert Cache(cache.folder).reveal(id, first, None)["KEY"].reveal() == b"hunter2-the-first"
    assert b"hunter2" not in b"".join(path.read_bytes() for path in cache.folder.rglob("*") if path.is_file())

    scene.secret("auth/staging", "KEY", "hunter2-the-second")
    (cache.folder / "cache.key").unlink()
    with pytest.raises(Damage, match="its secrets are not in the cache"):
        Cache(cache.folder).reveal(id, first, None)
    assert Cache(cache.folder).reveal(id, first, backend)["KEY"].reveal() == b"hunter2-the-first"
    cache = Cache(cache.folder)
    id, second = secrets()
    assert cache.reveal(id, second, backend)["KEY"].reveal() == b"hunter2-the-second"
    with pytest.raises(Damage, match="its secrets are not in the cache"):
        cache.reveal(id, first, None)
    cache.forget([])
    with pytest.raises(Damage):
        cache.reveal(id, second, None)
