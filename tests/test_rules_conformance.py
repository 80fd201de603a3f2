"""What every backend promises (svcctl/backend/base.py). A test here never knows which it got."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from scene import SHOP_AND_AUTH, Bundle, Scene

from svcctl import commands, reference
from svcctl.backend.base import Filter
from svcctl.errors import Damage
from svcctl.model import Change, Code, Version

ALL = Filter()


@pytest.fixture
def released(scene: Scene) -> Scene:
    scene.deploy(shop="a1", auth="b1")
    scene.promote("staging", "production")
    return scene


def events_of(scene: Scene, ref: str) -> list[str]:
    found = scene.backend.history(scene.project.name, reference.parse(ref), filter=ALL, limit=50)
    return [event.text for event in found.events]


# ---- what apply returns, change reads


def test_a_change_reads_as_apply_returned_it(scene: Scene) -> None:
    made = [
        scene.deploy(shop="a1", auth="b1", tag="v1", message="first", meta={"run": "7"}),
        scene.promote("staging", "production"),
        scene.secret("shop/production", "KEY", "x"),
        scene.vars("production", shop={"LOG": "debug"}),
        scene.clone("production", "preview"),
        scene.rollback("production"),
        scene.delete("preview"),
    ]
    assert [change.number for change in made] == [1, 2, 3, 4, 5, 6, 7]
    assert [read_back(scene, change) for change in made] == [change.versions for change in made[:-3]] + [
        tuple(replace(version, tags=()) for version in made[4].versions),
        made[5].versions,
        (),
    ]


def read_back(scene: Scene, change: Change) -> tuple[Version, ...]:
    found = scene.backend.change(change.id or "")
    assert found is not None
    assert replace(found, versions=()) == replace(change, versions=())
    return found.versions


# ---- history


def test_events_of_a_name_are_those_of_the_environment_that_has_it(released: Scene) -> None:
    released.clone("staging", "pre")
    released.delete("pre")
    released.clone("staging", "tmp")
    released.rename("tmp", "pre")
    assert events_of(released, "pre") == [
        "renamed from tmp to pre, now at pre--auth.localhost",
        "renamed from tmp to pre, now at pre--shop.localhost",
        "created as tmp at tmp--auth.localhost",
        "created as tmp at tmp--shop.localhost",
    ]


def test_history_goes_with_a_service_to_another_project(scene: Scene) -> None:
    scene.deploy(auth="b1", shop="a1")
    scene.write_file(SHOP_AND_AUTH.replace('"acme"', '"beta"'))
    scene.deploy(auth="b2", adopt=True)
    for ref in (None, reference.parse("staging"), reference.parse("auth/staging")):
        found = scene.backend.history("beta", ref, filter=ALL, limit=50)
        assert [version.ref for version in found.versions if version.service == "auth"] == [
            "auth/staging@2",
            "auth/staging@1",
        ]


def test_changes_of_a_commit_are_those_that_made_versions_of_it(scene: Scene) -> None:
    scene.deploy(auth="b1", shop="a1", commit="a" * 40)
    scene.deploy(auth="b2", commit="b" * 40)
    scene.promote("staging", "production")
    found = scene.backend.changes("acme", filter=Filter(commit="bbbb"), limit=10)
    assert [change.number for change in found.changes] == [3, 2]


def test_running_names_living_environments_alone(released: Scene) -> None:
    released.clone("staging", "gone")
    released.delete("gone")
    code = released.version("shop/staging").code.digest
    assert [version.ref for version in released.backend.running(code=code[:8])] == [
        "shop/production@1",
        "shop/staging@1",
    ]


# ---- damage


def test_damage_beside_an_artifact_does_not_stop_it(released: Scene, tmp_path: Path) -> None:
    """Blobs that arrived together share a file: one that is hurt must not take its neighbours along."""
    hurt, sound = Bundle({"worker.py": "w", "large.txt": "x" * 100}), Bundle({"worker.py": "w"})
    released.backend.upload(hurt)
    released.backend.upload(sound)
    requires = released.project.services["shop"].requires
    code = {"shop": Code(digest=sound.digest, requires=requires)}
    released.do(commands.Deploy, environment="staging", services=("shop",), code=code)
    alter(tmp_path / ".svcctl" / "packs", b"x" * 100, b"x" * 99 + b"y")
    assert released.promote("staging", "production").changed
    code = {"shop": Code(digest=hurt.digest, requires=requires)}
    with pytest.raises(Damage, match=r"large\.txt"):
        released.do(commands.Deploy, environment="staging", services=("shop",), code=code)


def alter(packs: Path, old: bytes, new: bytes) -> None:
    for pack in packs.iterdir():
        content = pack.read_bytes()
        if old in content:
            pack.chmod(0o600)
            pack.write_bytes(content.replace(old, new))
