"""Which namespaces an environment reaches, over its lives, names and clones: of every backend."""

from collections.abc import Callable

import pytest
from scene import SHOP_AND_AUTH, Scene

from svcctl import commands
from svcctl.backend.base import Backend
from svcctl.backend.store import Store
from svcctl.errors import NotFound, Refused
from svcctl.keyvalues import Entry
from svcctl.model import Binding

FILE = SHOP_AND_AUTH.replace(
    'bindings.AUTH = { service = "auth" }\n',
    """\
bindings.AUTH = { service = "auth" }
bindings.CARTS = { kv = "carts" }
bindings.RATES = { kv = "rates", environment = "production" }
bindings.VERSION = { version_metadata = true }
""",
)


@pytest.fixture
def shop(scene: Scene) -> Scene:
    """Deployed to production and staging."""
    scene.write_file(FILE)
    scene.deploy("production", shop="a1", auth="b1")
    scene.deploy("staging", shop="a1", auth="b1")
    return scene


def put(scene: Scene, environment: str, name: str, text: str) -> None:
    namespace = scene.backend.namespaces("shop", environment)[name]
    scene.backend.keyvalues.put(namespace, "k", text.encode(), None, None)


def got(scene: Scene, environment: str, name: str) -> str | None:
    namespace = scene.backend.namespaces("shop", environment)[name]
    entry = scene.backend.keyvalues.get(namespace, "k", scene.clock.now.timestamp())
    return entry.value.decode() if entry else None


def test_every_environment_has_its_own_unless_a_binding_says_whose(shop: Scene):
    staging, production = (shop.backend.namespaces("shop", name) for name in ("staging", "production"))
    assert staging.keys() == {"CARTS", "RATES"}
    assert staging["CARTS"] != production["CARTS"]
    assert staging["RATES"] == production["RATES"]
    assert shop.backend.namespaces("auth", "staging") == {}


def test_entries_are_seen_by_who_opens_the_backend_next(shop: Scene, connect: Callable[[], Backend]):
    put(shop, "staging", "CARTS", "apples")
    namespace = shop.backend.namespaces("shop", "staging")["CARTS"]
    now = shop.clock.now.timestamp()
    assert connect().keyvalues.get(namespace, "k", now) == Entry(b"apples")


def test_a_rename_takes_entries_along(shop: Scene):
    put(shop, "staging", "CARTS", "apples")
    shop.rename("staging", "beta")
    assert got(shop, "beta", "CARTS") == "apples"


def test_an_explicit_binding_follows_its_environment_through_a_rename(shop: Scene):
    shop.clone("staging", "fair")
    rates = Binding(kv="rates", environment="fair")
    where = {"services": ("shop",), "environment": "staging"}
    shop.do(commands.Configure, **where, bindings={"RATES": rates, "FAIR": Binding(kv="carts", environment="fair")})
    put(shop, "fair", "CARTS", "pears")
    shop.rename("fair", "market")
    assert got(shop, "staging", "FAIR") == "pears"
    with pytest.raises(Refused, match="shop/staging is bound to shop/market as FAIR"):
        shop.delete("market")


def test_i1_a_name_made_again_has_nothing_of_old(shop: Scene):
    shop.clone("staging", "preview")
    put(shop, "preview", "CARTS", "old")
    shop.delete("preview")
    shop.clone("staging", "preview")
    assert got(shop, "preview", "CARTS") is None
    put(shop, "preview", "CARTS", "new")
    assert got(shop, "preview", "CARTS") == "new"


def test_roll_back_and_promote_leave_entries_alone(shop: Scene):
    put(shop, "production", "CARTS", "apples")
    shop.deploy("staging", shop="a2")
    shop.promote("staging", "production")
    shop.rollback()
    assert got(shop, "production", "CARTS") == "apples"


# ---- clones


def test_a_clone_begins_empty(shop: Scene):
    put(shop, "staging", "CARTS", "apples")
    shop.clone("staging", "preview")
    assert got(shop, "preview", "CARTS") is None


@pytest.mark.parametrize("name", ["CARTS", "carts"])
def test_a_clone_may_share_its_sources_namespace(name: str, shop: Scene):
    put(shop, "staging", "CARTS", "apples")
    asked = shop.ask(commands.Clone, source="staging", target="preview", share=(name,))
    assert shop.backend.plan(asked).notes == (
        "shop/preview: shares CARTS with shop/staging: what either writes, both read",
    )
    assert len(shop.backend.apply(asked).versions) == 2
    assert got(shop, "preview", "CARTS") == "apples"
    shared = shop.settings("shop/preview").cli.bindings
    assert shared == {"CARTS": Binding(kv="carts", environment="staging")}
    shop.deploy("preview", shop="a3")
    assert got(shop, "preview", "CARTS") == "apples"


def test_sharing_keeps_what_a_binding_said_already(shop: Scene):
    shop.clone("staging", "preview", share=("rates",))
    assert shop.settings("shop/preview").cli.bindings == {}


def test_what_is_shared_must_be_there(shop: Scene):
    with pytest.raises(NotFound, match="staging has no KV binding 'cart'") as caught:
        shop.clone("staging", "preview", share=("cart",))
    assert caught.value.hint == "did you mean carts?"


# ---- what gc does, which works on a store itself

on_a_store = pytest.mark.parametrize("connect", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def store(backend: Backend) -> Store:
    assert isinstance(backend, Store)
    return backend


@on_a_store
def test_gc_drops_the_namespaces_of_lives_that_are_over(shop: Scene, store: Store):
    shop.clone("staging", "preview")
    put(shop, "preview", "CARTS", "old")
    put(shop, "staging", "CARTS", "kept")
    store.keyvalues.put("dev:carts", "k", b"nobody's", None, None)
    shop.rename("preview", "fair")
    shop.delete("fair")
    shop.clone("staging", "preview")
    assert store.gc(dry_run=True).namespaces == ()

    would = store.gc(dry_run=True, grace=0).namespaces
    assert [each.partition(", deleted ")[0] for each in would] == ["carts of shop/fair"]
    assert len(store.keyvalues.namespaces()) == 3
    assert store.gc(dry_run=False, grace=0).namespaces == would
    assert len(store.keyvalues.namespaces()) == 2
    assert got(shop, "staging", "CARTS") == "kept"
    assert store.gc(dry_run=False, grace=0).namespaces == ()


@on_a_store
def test_gc_tells_the_lives_of_one_name_apart(shop: Scene, store: Store):
    for text in ("first", "second"):
        shop.clone("staging", "preview")
        put(shop, "preview", "CARTS", text)
        shop.delete("preview")
    shop.clone("staging", "preview")
    put(shop, "preview", "CARTS", "third")
    assert len(store.gc(dry_run=False, grace=0).namespaces) == 2
    assert got(shop, "preview", "CARTS") == "third"


@on_a_store
def test_verify_has_nothing_to_say_about_entries(shop: Scene, store: Store):
    put(shop, "staging", "CARTS", "apples")
    found = store.verify()
    assert (found.problems, found.leftovers) == ((), ())


@on_a_store
def test_a_store_without_entries_gets_no_database_for_them(
    shop: Scene, store: Store, stored: Callable[[], dict[str, bytes]]
):
    shop.clone("staging", "preview")
    shop.delete("preview")
    store.gc(dry_run=False, grace=0)
    assert [name for name in stored() if name.startswith(("kv.db", "namespaces/", "entries/"))] == []
