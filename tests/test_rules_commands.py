"""What commands mean where it is easy to get wrong: each test is a case that once went wrong or well might."""

import pytest
from scene import SHOP_AND_AUTH, Scene

from svcctl import commands
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Restores


@pytest.fixture
def released(scene: Scene) -> Scene:
    """Both services in staging, promoted to production."""
    scene.deploy(shop="a1", auth="b1")
    scene.promote("staging", "production")
    return scene


# ---- settings


@pytest.mark.parametrize(("one", "other"), [(True, 1), (1, 1.0), ([1], [True]), ({"a": 0}, {"a": False})])
def test_a_value_of_another_type_is_another_value(released: Scene, one: object, other: object) -> None:
    released.vars("staging", shop={"FLAG": one})
    (version,) = released.vars("staging", shop={"FLAG": other}).versions
    assert version.note == "FLAG changed"
    assert (version.settings.since, version.settings.under) == (3, 2)
    (undone,) = released.rollback("staging").versions
    assert undone.restores == Restores(settings=2)
    assert type(released.settings("shop/staging").vars["FLAG"]) is type(one)


def test_purging_what_never_had_a_value_is_nothing_done(released: Scene) -> None:
    done = released.do(
        commands.Configure, environment="staging", services=("shop",), unset_secrets=("TYPO",), purge=True
    )
    assert not done.changed


def test_purging_destroys_the_values_of_a_secret_that_is_unset_already(released: Scene) -> None:
    released.secret("shop/staging", "KEY", "old")
    purge = {"environment": "staging", "services": ("shop",), "unset_secrets": ("KEY",)}
    released.do(commands.Configure, **purge)
    assert released.do(commands.Configure, **purge, purge=True).summary == (
        "shop/staging: older values of KEY destroyed",
    )
    with pytest.raises(Refused, match="the value of secret KEY was destroyed"):
        released.rollback("staging", services=("shop",), to="2", restore_secrets=True)
    assert not released.do(commands.Configure, **purge, purge=True).changed


# ---- environments


def test_a_delete_says_who_reaches_another_environment_from_now_on(released: Scene) -> None:
    released.clone("staging", "look")
    released.clone("look", "closer", services=("shop",))
    plan = released.backend.plan(released.ask(commands.DeleteEnvironment, environment="look", services=("auth",)))
    assert plan.notes == (
        "shop/closer: AUTH leads to auth/staging from now on; auth/look is gone",
        "shop/look: AUTH leads to auth/staging from now on; auth/look is gone",
    )
    whole = released.backend.plan(released.ask(commands.DeleteEnvironment, environment="look"))
    assert whole.notes == ("shop/closer: AUTH leads to auth/staging from now on; auth/look is gone",)


# ---- services


def test_a_service_named_twice_is_acted_on_once(scene: Scene) -> None:
    scene.do(
        commands.Deploy,
        environment="staging",
        code={"auth": scene.code("auth", "b1")},
        services=("auth", "auth"),
    )
    scene.do(commands.Configure, environment="staging", services=("auth", "auth"), vars={"A": "1"})
    scene.promote("staging", "production", services=("auth", "auth"))
    assert scene.numbers("auth/staging") == [2, 1]
    assert scene.numbers("auth/production") == [1]


def test_promoting_again_what_was_forced_is_nothing_to_do(scene: Scene) -> None:
    scene.deploy(shop="a1", auth="b1")
    with pytest.raises(Refused, match="binding AUTH leads to auth/production, which has no code"):
        scene.promote("staging", "production", services=("shop",))
    scene.promote("staging", "production", services=("shop",), force=True)
    again = scene.promote("staging", "production", services=("shop",))
    assert not again.changed
    assert again.notes == ("shop/production: runs that code already",)


# ---- tags and numbers


@pytest.mark.parametrize("name", ["12", "c12", "", "a b"])
def test_a_deploy_with_a_tag_that_is_none_is_a_usage_error(scene: Scene, name: str) -> None:
    if not name:
        assert not scene.deploy(auth="b1", tag=None).versions[0].tags
        return
    with pytest.raises(UsageError, match="tag"):
        scene.deploy(auth="b1", tag=name)
    assert scene.newest_change() == 0


def test_a_number_of_an_earlier_life_says_where_to_read_it(released: Scene) -> None:
    released.clone("staging", "pre")
    released.delete("pre")
    released.clone("staging", "pre")
    with pytest.raises(NotFound) as caught:
        released.version("shop/pre@1")
    assert caught.value.hint == "it belongs to an earlier environment of the name, deleted since"
    assert caught.value.next == "svcctl history shop/pre"
    assert released.numbers("shop/pre") == [2, 1]


# ---- hostnames and routes


def test_a_service_new_in_the_deploy_that_moves_the_domain_moves_too(scene: Scene) -> None:
    scene.deploy(auth="b1")
    scene.edit_file('project = "acme"', 'project = "acme"\ndomain = "example.test"')
    scene.deploy(shop="a1", auth="b1", move_domain=True)
    assert [each.hostname for each in scene.backend.environments("acme")] == [
        "auth.example.test",
        "staging--auth.example.test",
        "shop.example.test",
        "staging--shop.example.test",
    ]


def test_a_service_that_another_project_takes_over_moves_to_that_domain(scene: Scene) -> None:
    scene.deploy(auth="b1", shop="a1")
    scene.write_file(SHOP_AND_AUTH.replace('"acme"', '"beta"\ndomain = "beta.test"'))
    with pytest.raises(Refused, match="service 'auth' belongs to project 'acme'"):
        scene.deploy(auth="b1")
    scene.deploy(auth="b1", adopt=True)
    assert [each.hostname for each in scene.backend.environments("beta")] == [
        "auth.beta.test",
        "staging--auth.beta.test",
    ]


def test_a_route_never_takes_a_generated_hostname_of_another_project(released: Scene) -> None:
    other = Scene(released.backend, released.clock, released.people, OTHER)
    other.deploy("production", web="c1")
    with pytest.raises(Refused, match=r"shop.localhost/\* is taken by shop/production"):
        other.routes("web/production", "shop.localhost/*")


def test_a_route_never_reaches_into_the_domain_of_another_project(released: Scene) -> None:
    other = Scene(released.backend, released.clock, released.people, OTHER)
    other.deploy("production", web="c1")
    for route in ("*.localhost/*", "tomorrow.localhost/*", "*.a.localhost/x", "localhost/*"):
        with pytest.raises(Refused, match=r"localhost holds the generated hostnames of project 'acme'"):
            other.routes("web/production", route)
    other.write_file(OTHER + 'environments.production.routes = ["*.localhost/*"]\n')
    with pytest.raises(Refused, match=r"localhost holds the generated hostnames of project 'acme'"):
        other.deploy("production", web="c2")


def test_a_domain_is_not_laid_over_the_routes_of_another_project(released: Scene) -> None:
    released.routes("shop/production", "web.other.test/*")
    other = Scene(released.backend, released.clock, released.people, OTHER)
    with pytest.raises(Refused, match=r"domain 'other.test': shop/production has the route web.other.test/\*"):
        other.deploy("production", web="c1")


def test_a_domain_may_come_where_a_route_goes_in_the_same_change(scene: Scene) -> None:
    routed = SHOP_AND_AUTH + 'environments.production.routes = ["shop.example.test/*"]\n'
    scene.write_file(routed)
    scene.deploy("production", auth="b1", shop="a1")
    scene.write_file(routed.replace('"acme"', '"acme"\ndomain = "example.test"').replace("shop.example.test", "a.test"))
    scene.deploy("production", auth="b1", shop="a1", move_domain=True)
    assert "shop.example.test" in [each.hostname for each in scene.backend.environments("acme")]


OTHER = """
project = "other"
domain = "other.test"
[services.web]
main = "web/worker.py"
"""


# ---- references


def test_a_reference_and_s_that_name_different_services_are_a_usage_error(released: Scene) -> None:
    released.deploy(shop="a2", auth="b2")
    for kind, fields in (
        (commands.Promote, {"source": "auth/staging", "target": "production"}),
        (commands.Clone, {"source": "auth/staging", "target": "preview"}),
        (commands.TagVersion, {"reference": "auth/staging", "name": "v1"}),
    ):
        with pytest.raises(UsageError, match="auth/staging names service auth; -s names shop"):
            released.do(kind, services=("shop",), **fields)
        assert released.do(kind, services=("auth",), **fields).changed


def test_a_change_that_was_not_made_yet_is_no_place_to_go_back_to(scene: Scene) -> None:
    scene.deploy("staging", auth="b1", shop="a1")
    scene.deploy("staging", shop="a2")

    with pytest.raises(NotFound, match="c99"):
        scene.rollback("staging", to="c99")
