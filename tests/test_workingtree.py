"""The working tree as deployments: values in, values out."""

from typing import Any

import pytest
from msgspec.structs import replace
from scene import Scene

from svcctl.cli import developing
from svcctl.cli.developing import Asked
from svcctl.dataplane import workingtree
from svcctl.dataplane.landscape import Landscape
from svcctl.dataplane.workingtree import Tree, Work
from svcctl.errors import UsageError
from svcctl.model import Binding, Layer, Source
from svcctl.reference import Reference, Tag
from svcctl.runtime.assembly import Part, ToNamespace, ToNothing, ToService, ToVersion

NOW = "2026-11-24T09:00:00.000Z"
AUTH = Work(service="auth", source=Source(main="auth/worker.py", root="auth"), layer=Layer())


def shop(*, source: Source | None = None, environment: str = "dev", **bindings: Binding) -> Work:
    return Work(
        service="shop",
        source=source or Source(main="shop/worker.py", root="shop"),
        layer=Layer(vars={"LOG": "info"}, bindings=bindings),
        environment=environment,
    )


def parts(*works: Work, stored: Landscape | None = None) -> dict[str, Part]:
    """Of shop's deployment, by service."""
    tree = Tree("/acme", works, stored or Landscape(), NOW)
    return {part.service: part for part in tree.assemble("shop", nothing, nothing).parts}


def nothing(*_: Any) -> Any:
    raise AssertionError("no stored version was asked for")


def test_bindings_to_services_of_the_tree_lead_into_the_tree():
    found = parts(shop(AUTH=Binding(service="auth", entrypoint="Admin")), AUTH)

    assert list(found) == ["shop", "auth"]
    assert found["shop"].reaches["AUTH"] == ToService(place="auth/dev", entrypoint="Admin")
    assert (found["shop"].ref, found["shop"].folder, found["shop"].main) == ("shop/dev", "/acme/shop", "worker.py")
    assert found["shop"].vars == {"LOG": "info"}


def test_an_explicit_environment_of_a_service_of_the_tree_is_the_tree_too():
    found = parts(shop(CANARY=Binding(service="shop", environment="canary")))

    assert found["shop"].reaches["CANARY"] == ToService(place="shop/dev")


def test_a_service_that_is_nowhere_says_so_when_it_is_used():
    reach = parts(shop(MAIL=Binding(service="mail")))["shop"].reaches["MAIL"]

    assert reach == ToNothing(why="service mail is neither in services.toml nor anywhere else: there is no store")


def test_version_metadata_names_the_place():
    reach = parts(shop(VERSION=Binding(version_metadata=True)))["shop"].reaches["VERSION"]

    assert reach == ToVersion(id="shop/dev", tag="", timestamp=NOW)


@pytest.mark.parametrize("environment", ["dev", "staging"])
def test_kv_is_developments_own_whatever_the_settings(environment: str):
    bindings = {"CARTS": Binding(kv="carts"), "RATES": Binding(kv="rates", environment="production")}
    reaches = parts(shop(environment=environment, **bindings))["shop"].reaches

    assert reaches["CARTS"] == ToNamespace(namespace="dev.shop.carts")
    assert reaches["RATES"] == ToNamespace(namespace="dev.shop.rates.production")


@pytest.mark.parametrize(
    ("source", "folder", "main", "beside"),
    [
        (Source(main="shop/web/app.py:app", root="shop"), "/acme/shop", "web/app.py:app", {}),
        (Source(main="worker.py", root="."), "/acme", "worker.py", {}),
        (Source(main="shop/worker.py", root="shop", with_=("lib/common",)), "/acme/shop", "worker.py",
         {"common": "/acme/lib/common"}),
        (Source(main="worker.py", root=".", with_=("common",)), "/acme", "worker.py", {}),
    ],
)  # fmt: skip
def test_a_part_points_at_the_real_files(source: Source, folder: str, main: str, beside: dict[str, str]):
    part = parts(shop(source=source))["shop"]

    assert (part.folder, part.main, part.beside, part.manifest, part.version) == (folder, main, beside, None, 0)
    assert workingtree.folders("/acme", source) == (folder, *beside.values())


def test_an_edit_is_another_edition_of_every_deployment_that_holds_the_service():
    tree = Tree("/acme", [shop(AUTH=Binding(service="auth")), AUTH], Landscape(), NOW)
    of_shop, of_auth = (tree.assemble(service, nothing, nothing) for service in ("shop", "auth"))

    assert workingtree.editions(of_shop, {"auth": 1}) != workingtree.editions(of_shop, {})
    assert workingtree.editions(of_auth, {"shop": 1}) == workingtree.editions(of_auth, {})


# ---- beside what is stored


@pytest.fixture
def stored(scene: Scene) -> Landscape:
    scene.deploy("staging", shop="s1", auth="a1")
    scene.deploy("production", shop="s0", auth="a0")
    landscape = Landscape()
    landscape.take(scene.backend.follow(0))
    return landscape


def of_store(scene: Scene, tmp_path: Any, stored: Landscape, *works: Work) -> dict[str, Part]:
    from svcctl.dataplane.cache import Cache

    cache = Cache(tmp_path / "cache")
    tree = Tree("/acme", works, stored, NOW)
    assembly = tree.assemble("shop", lambda code: cache.files(code, scene.backend), nothing)
    return {part.service: part for part in assembly.parts}


def test_what_is_not_in_the_tree_is_the_stored_version_of_the_same_environment(
    scene: Scene, tmp_path: Any, stored: Landscape
):
    found = of_store(scene, tmp_path, stored, shop(environment="staging", AUTH=Binding(service="auth")))

    assert found["shop"].reaches["AUTH"] == ToService(place="auth/staging")
    assert (found["auth"].ref, found["auth"].code) == ("auth/staging@1", scene.version("auth/staging").code.digest)


def test_without_an_environment_it_is_productions(scene: Scene, tmp_path: Any, stored: Landscape):
    found = of_store(scene, tmp_path, stored, shop(AUTH=Binding(service="auth")))

    assert found["auth"].ref == "auth/production@1"


def test_a_stored_service_that_calls_back_reaches_the_tree(scene: Scene, tmp_path: Any):
    scene.edit_file("vars = { ISSUER", "bindings.SHOP = { service = 'shop' }\nvars = { ISSUER")
    scene.deploy("staging", shop="s1", auth="a1")
    landscape = Landscape()
    landscape.take(scene.backend.follow(0))

    found = of_store(scene, tmp_path, landscape, shop(environment="staging", AUTH=Binding(service="auth")))

    assert found["auth"].reaches["SHOP"] == ToService(place="shop/staging")
    assert found["shop"].folder == "/acme/shop"


def test_stored_services_have_developments_kv_too(scene: Scene, tmp_path: Any):
    scene.edit_file("vars = { ISSUER", "bindings.KEYS = { kv = 'keys' }\nvars = { ISSUER")
    scene.deploy("staging", shop="s1", auth="a1")
    landscape = Landscape()
    landscape.take(scene.backend.follow(0))

    found = of_store(scene, tmp_path, landscape, shop(environment="staging", AUTH=Binding(service="auth")))

    assert found["auth"].reaches["KEYS"] == ToNamespace(namespace="dev.auth.keys")


def test_where_the_store_lacks_it_too_both_are_named(scene: Scene, tmp_path: Any, stored: Landscape):
    reach = of_store(scene, tmp_path, stored, shop(MAIL=Binding(service="mail")))["shop"].reaches["MAIL"]

    assert reach == ToNothing(why="service mail is neither in services.toml nor in the store")


# ---- what is asked for


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, Asked()),
        ({"services": ["shop", "shop"]}, Asked(services=("shop",))),
        ({"env": "staging"}, Asked(settings="staging")),
        ({"from_": "staging"}, Asked(settings="staging", rest="staging")),
        ({"from_": "staging", "env": "staging"}, Asked(settings="staging", rest="staging")),
        ({"at": "production@v1"}, Asked(at=Reference("production", None, Tag("v1")))),
        ({"at": "shop/production"}, Asked(services=("shop",), at=Reference("production", "shop"))),
    ],
)
def test_options(options: dict[str, Any], found: Asked):
    assert developing.asked(**dict.fromkeys(("services", "env", "from_", "at")) | options) == found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at": "production", "env": "staging"}, "--env has no meaning there"),
        ({"at": "production", "from_": "staging"}, "--from has no meaning there"),
        ({"env": "canary", "from_": "staging"}, "--from staging has the settings of staging"),
        ({"env": "shop/staging"}, "must be an environment's name"),
        ({"from_": "staging@3"}, "must be an environment's name"),
        ({"at": "shop/production@3", "services": ["auth"]}, "names service shop; -s names auth"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=words):
        developing.asked(**dict.fromkeys(("services", "env", "from_", "at")) | options)


def test_secrets_are_not_shown():
    work = replace(AUTH, secrets=replace(AUTH.secrets, values={"KEY": "hunter2"}))

    assert "hunter2" not in repr(work)
