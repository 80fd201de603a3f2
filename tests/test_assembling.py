"""What can be run is assembled; what can't says why, in the words of its 503. Over every backend."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace
from scene import Scene

from svcctl.bundle.target import platform_name
from svcctl.dataplane.assembling import NotLive, assemble
from svcctl.dataplane.cache import Files
from svcctl.dataplane.landscape import Landscape
from svcctl.digest import Digest
from svcctl.errors import Refused
from svcctl.model import File, Manifest
from svcctl.runtime.assembly import Assembly, ToNothing, ToService


def assembled(scene: Scene, ref: str, changes: Mapping[str, Manifest] | None = None) -> Assembly:
    """`changes`: other manifests, by the text of the code."""
    landscape = Landscape()
    landscape.take(scene.backend.follow(0))
    place = landscape.place(*ref.split("/"))
    assert place is not None
    texts = {scene.code("shop", text).digest: manifest for text, manifest in (changes or {}).items()}

    def unpack(code: Digest) -> Files:
        manifest = texts.get(code) or scene.backend.manifest(code)
        return Files(
            folder=Path("/files") / code, manifest_file=Path("/files") / code / "manifest.json", manifest=manifest
        )

    return assemble(landscape, place, unpack, scene.backend.reveal)


def vendoring(name: str, version: str) -> Manifest:
    file = File(path=f"python_modules/{name}-{version}.dist-info/METADATA", blob=Digest("0" * 64), size=0)
    return Manifest(main="worker.py", files=(file,))


def test_the_front_comes_first_and_bindings_lead_to_parts(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    found = assembled(scene, "shop/staging")
    assert [(part.place, part.version) for part in found.parts] == [("shop/staging", 1), ("auth/staging", 1)]
    assert found.front.reaches == {"AUTH": ToService(place="auth/staging")}
    assert found.front.vars == {"LOG": "info"}


def test_a_bound_service_without_code_keeps_nobody_from_starting(scene: Scene):
    scene.vars("staging", auth={"A": "1"})
    scene.deploy(shop="a1")
    reach = assembled(scene, "shop/staging").front.reaches["AUTH"]
    assert isinstance(reach, ToNothing)
    assert "auth/staging has no code yet" in reach.why


def test_what_has_no_version_or_no_code_says_so(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    with pytest.raises(NotLive, match="shop/production has no version yet"):
        assembled(scene, "shop/production")
    scene.vars("production", shop={"A": "1"})
    with pytest.raises(NotLive, match="shop/production has settings and no code yet"):
        assembled(scene, "shop/production")


def test_what_lacks_a_secret_names_it(scene: Scene):
    scene.edit_file('vars = { LOG = "info" }', 'vars = { LOG = "info" }\nsecrets = ["KEY"]')
    scene.secret("shop/staging", "KEY", "value")
    scene.deploy(shop="a1", auth="b1")
    assert assembled(scene, "shop/staging").front.secrets.values == {"KEY": "value"}
    assert "value" not in repr(assembled(scene, "shop/staging"))
    scene.clone("staging", "preview", no_secrets=True)
    with pytest.raises(NotLive, match="shop/preview is not live: it lacks secret KEY"):
        assembled(scene, "shop/preview")


def test_requirements_that_cannot_share_a_process_are_named(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    both = {"a1": vendoring("attrs", "25.1"), "b1": vendoring("attrs", "24.2")}
    with pytest.raises(Refused, match=r"shop/staging has attrs 25\.1, and auth/staging has 24\.2"):
        assembled(scene, "shop/staging", both)
    assert len(assembled(scene, "auth/staging", both).parts) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"python": "3.99"}, "for Python 3.99"),
        ({"python": "3.2", "platform": platform_name()}, "for Python 3.2"),
        ({"platform": "plan9-pdp11"}, "has compiled parts for plan9-pdp11"),
    ],
)
def test_code_for_another_machine_does_not_start_here(scene: Scene, change: dict[str, str], why: str):
    scene.deploy(shop="a1", auth="b1")
    plain = scene.backend.manifest(scene.code("shop", "a1").digest)
    with pytest.raises(Refused, match=why):
        assembled(scene, "shop/staging", {"a1": replace(plain, **change)})


def test_pure_python_of_an_earlier_version_runs(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    plain = scene.backend.manifest(scene.code("shop", "a1").digest)
    assert assembled(scene, "shop/staging", {"a1": replace(plain, python="3.2")})
