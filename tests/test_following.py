"""What a data plane is told of the ledger, and what it makes of it. Over every backend."""

import pytest
from scene import Scene

from svcctl.dataplane.landscape import Landscape
from svcctl.errors import Refused
from svcctl.rules.state import Place


def landscape_of(scene: Scene) -> Landscape:
    landscape = Landscape()
    landscape.take(scene.backend.follow(0))
    return landscape


def place_in(landscape: Landscape, ref: str) -> Place:
    found = landscape.place(*ref.split("/"))
    assert found is not None
    return found


def test_follow_tells_what_changed_since_and_nothing_else(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    before = scene.backend.follow(0)
    scene.vars("staging", shop={"LOG": "debug"})
    news = scene.backend.follow(before.number)
    assert [place.ref for place in news.places] == ["shop/staging"]
    assert (news.number, news.store) == (scene.newest_change(), before.store)
    assert scene.backend.follow(news.number).places == ()


def test_a_deleted_environment_is_news_once_and_absent_from_the_whole(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    scene.clone("staging", "preview")
    landscape = landscape_of(scene)
    scene.delete("preview")
    landscape.take(scene.backend.follow(landscape.number))
    assert landscape.place("shop", "preview") is None
    assert "preview--shop.localhost" not in dict(landscape.addresses())
    assert not [place for place in scene.backend.follow(0).places if place.identity.deleted]


def test_a_rename_moves_the_name_and_keeps_the_environment(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    scene.clone("staging", "preview")
    landscape = landscape_of(scene)
    id = place_in(landscape, "shop/preview").identity.id
    scene.rename("preview", "beta")
    landscape.take(scene.backend.follow(landscape.number))
    assert landscape.place("shop", "preview") is None
    assert place_in(landscape, "shop/beta").identity.id == id
    assert dict(landscape.addresses())["beta--shop.localhost"] == id


def test_heads_come_with_their_tags(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    scene.tag("shop/staging", "v1")
    head = place_in(landscape_of(scene), "shop/staging").head
    assert head is not None
    assert head.tags == ("v1",)


def test_news_of_another_store_replace_everything(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    landscape = landscape_of(scene)
    landscape.take(type(scene.backend.follow(0))(store="another", number=1, places=()))
    assert list(landscape.living()) == []


def test_a_chosen_version_stands_wherever_its_service_is_reached(scene: Scene):
    scene.deploy(shop="a1", auth="b1")
    scene.deploy(auth="b2")
    landscape = landscape_of(scene)
    head = place_in(landscape, "auth/staging")
    older = Place(identity=head.identity, head=scene.version("auth/staging@1"), settings=head.settings)
    view = landscape.choosing([], [older])
    nodes = view.deployment(place_in(view, "shop/staging")).nodes
    assert [(node.ref, node.version) for node in nodes] == [("shop/staging", 1), ("auth/staging", 1)]
    assert place_in(landscape, "auth/staging").head == head.head, "the landscape itself is as it was"


def test_secrets_are_revealed_by_fingerprint_to_what_runs_them(scene: Scene):
    scene.edit_file('vars = { LOG = "info" }', 'vars = { LOG = "info" }\nsecrets = ["KEY"]\noptional = ["KEY"]')
    scene.deploy(shop="a1", auth="b1")
    scene.secret("shop/staging", "KEY", "one")
    old = scene.settings("shop/staging").secrets
    scene.secret("shop/staging", "KEY", "two")
    id = scene.backend.environment("shop", "staging").id
    assert scene.backend.reveal(id, scene.settings("shop/staging").secrets)["KEY"].reveal() == b"two"
    assert scene.backend.reveal(id, old)["KEY"].reveal() == b"one"
    with pytest.raises(Refused, match="destroyed"):
        scene.backend.reveal(id, {"KEY": "0" * 32})
