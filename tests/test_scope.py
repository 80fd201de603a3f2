"""What a token's scope hides: nothing beyond it is told, whatever is asked and however it is refused."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from scene import Clock, People, Scene

from svcctl import commands, digest, reference
from svcctl.api.guarded import Guarded
from svcctl.backend.base import Filter
from svcctl.backend.store import Store
from svcctl.commands import Command
from svcctl.errors import Forbidden, NotFound, Refused, SvcctlError
from svcctl.model import Binding, Grant, Project, Role, Token

SECRETS = ("merger", "hunter2", "KEY", "LEVEL", "Ada", "version 3", "1 to ", "auth/")
"""Words of what is out of reach in these tests: no refusal may hold one that was not in the question."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(tmp_path / ".svcctl", actor=People(), clock=Clock())) as opened:
        yield opened


@pytest.fixture
def scene(store: Store) -> Scene:
    """Production at shop@3 with a secret and a var, and an environment whose very name is one."""
    found = Scene(store, store._clock, People())  # type: ignore[arg-type]  # the clock that it was opened with
    found.deploy(shop="a1", auth="b1")
    found.promote("staging", "production")
    found.secret("shop/production", "KEY", "hunter2")
    found.vars("production", shop={"LEVEL": "secret"})
    found.create("secret-merger")
    return found


def token(role: Role = "deployer", name: str = "ci", **scope: tuple[str, ...]) -> Token:
    return Token(name=name, role=role, **scope, id="0" * 12, created="", actor="")


STAGING = token(environments=("staging",))


def refused(store: Store, grant: Grant, command: Command) -> str:
    """All that is said, which is the same for planning it and for doing it."""
    said = []
    for ask in (store.plan_for, store.apply_for):
        with pytest.raises(SvcctlError) as caught:
            ask(grant, command)
        said.append((type(caught.value), caught.value.message, caught.value.hint, caught.value.next))
    assert said[0] == said[1]
    assert said[0][0] is Forbidden
    return " ".join(str(each) for each in said[0] if isinstance(each, str))


# ---- commands


def test_a_guess_of_a_secret_out_of_scope_is_answered_like_any_other(store: Store, scene: Scene) -> None:
    def guess(value: bytes, **more: Any) -> str:
        sealed = store.seal("shop", "staging", "KEY", value)
        return refused(store, STAGING, configure(services=("shop",), secrets=(sealed,), **more))

    def configure(**fields: Any) -> Command:
        return scene.ask(commands.Configure, environment="production", **fields)

    assert guess(b"hunter2") == guess(b"wrong") == guess(b"wrong", force=True)
    vars_ = [refused(store, STAGING, configure(services=("shop",), vars={"LEVEL": each})) for each in ("secret", "no")]
    assert vars_[0] == vars_[1]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (commands.Configure, {"environment": "production", "unset_secrets": ("KE",)}),
        (commands.Configure, {"environment": "production", "unset_vars": ("LEVE",)}),
        (commands.Configure, {"environment": "secret-merge", "vars": {"A": "1"}}),
        (commands.Configure, {"environment": "staging", "vars": {"A": "1"}, "expect": {"shop/production": 99}}),
        (commands.Configure, {"environment": "staging", "vars": {"A": "1"}, "expect": {"shop/secret-merge": 1}}),
        (commands.Deploy, {"environment": "production", "settings_only": True}),
        (commands.TagVersion, {"reference": "shop/production@9", "name": "v1"}),
        (commands.TagVersion, {"reference": "production@9", "name": "v1"}),
        (commands.TagVersion, {"reference": "shop/secret-merge@9", "name": "v1"}),
        (commands.Clone, {"source": "production@9", "target": "staging"}),
        (commands.Clone, {"source": "staging", "target": "production"}),
        (commands.Clone, {"source": "staging", "target": "production", "exist_ok": True}),
        (commands.CreateEnvironment, {"environment": "production", "exist_ok": True}),
        (commands.CreateEnvironment, {"environment": "secret-merger"}),
        (commands.Rename, {"old": "secret-merge", "new": "staging"}),
        (commands.Rename, {"old": "staging", "new": "secret-merger"}),
        (commands.DeleteEnvironment, {"environment": "secret-merge"}),
        (commands.Route, {"environment": "production", "add": ("a.example.com/*",)}),
        (commands.Route, {"environment": "production", "remove": ("a.example.com/*",)}),
    ],
)
def test_what_a_command_names_must_be_in_scope_before_anything_is_looked_at(
    kind: type[commands.Base], fields: dict[str, Any], store: Store, scene: Scene
) -> None:
    asked = f"{kind} {fields}"
    said = refused(store, STAGING, scene.ask(kind, services=("shop",), **fields))
    assert [word for word in SECRETS if word in said and word not in asked] == []


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (commands.Promote, {"source": "secret-merge", "target": "staging"}),
        (commands.Promote, {"source": "staging", "target": "production"}),
        (commands.RollBack, {"environment": "production", "to": "9"}),
        (commands.Protect, {"environment": "secret-merge", "on": True}),
        (commands.DeleteService, {"service": "shop"}),
        (commands.Deploy, {"environment": "staging", "adopt": True, "services": ("other",)}),
    ],
)
def test_so_it_is_for_an_admin_with_a_scope(
    kind: type[commands.Base], fields: dict[str, Any], store: Store, scene: Scene
) -> None:
    scene.write_file('project = "else"\n[services.other]\nmain = "w.py"\n')
    scene.deploy("production", other="c1")
    scene.write_file('project = "acme"\n[services.other]\nmain = "w.py"\n[services.shop]\nmain = "w.py"\n')
    said = refused(store, token("admin", environments=("staging",)), scene.ask(kind, **fields))
    assert [word for word in SECRETS if word in said and word not in str(fields)] == []


def test_a_command_for_every_service_is_refused_to_who_has_some_of_them(store: Store, scene: Scene) -> None:
    some = token(services=("shop",))
    said = refused(store, some, scene.ask(commands.Configure, environment="staging", vars={"A": "1"}))
    assert "auth" not in said
    assert said == refused(store, some, scene.ask(commands.Configure, environment="nowhere", unset_vars=("A",)))
    assert "-s" in said
    acme, scene.project = scene.project, Project(name="another")
    assert refused(store, some, scene.ask(commands.Prune)) == said.replace("acme", "another")
    scene.project = acme
    store.apply_for(some, scene.ask(commands.Configure, environment="staging", services=("shop",), vars={"A": "1"}))


def test_near_names_are_those_that_are_seen(store: Store, scene: Scene) -> None:
    wide = token(environments=("staging", "secret-m*rg"))
    for kind, fields in (
        (commands.Configure, {"environment": "secret-merg", "unset_vars": ("A",)}),
        (commands.Configure, {"environment": "secret-merg", "vars": {"A": "1"}}),
        (commands.DeleteEnvironment, {"environment": "secret-merg"}),
        (commands.TagVersion, {"reference": "secret-merg", "name": "v1"}),
        (commands.Route, {"environment": "secret-merg", "services": ("shop",)}),
        (commands.Clone, {"source": "secret-merg", "target": "staging"}),
    ):
        with pytest.raises(NotFound) as caught:
            store.plan_for(wide, scene.ask(kind, **fields))
        assert caught.value.hint is None or "merger" not in caught.value.hint
    with pytest.raises(NotFound) as caught:
        store.plan_for(
            token(services=("shop", "aut")),
            scene.ask(commands.DeleteEnvironment, environment="staging", services=("aut",)),
        )
    assert caught.value.hint == "there is shop"


def test_who_is_bound_or_holds_an_address_is_told_by_name_to_who_sees_it(store: Store, scene: Scene) -> None:
    scene.create("preview")
    scene.do(
        commands.Configure,
        environment="production",
        services=("shop",),
        bindings={"OTHER": Binding(service="auth", environment="preview")},
    )  # fmt: skip
    scene.routes("shop/production", "a.example.com/*")
    preview = token(environments=("preview",))
    for fields in ({}, {"services": ("auth",)}):
        with pytest.raises(Refused, match=r"^an environment out of reach is bound to auth/preview$"):
            store.plan_for(preview, scene.ask(commands.DeleteEnvironment, environment="preview", **fields))
    with pytest.raises(Refused, match=r"^a.example.com/\* is taken by an environment out of reach$") as caught:
        store.plan_for(
            preview,
            scene.ask(commands.Route, environment="preview", services=("shop",), add=("a.example.com/*",)),
        )
    assert "production" not in str(caught.value.hint)


def test_what_expired_out_of_scope_is_not_named(store: Store, scene: Scene) -> None:
    scene.create("merger-2", ttl=1, services=("shop",))
    scene.clock.now = scene.clock.now.replace(year=2027)
    for more in ({}, {"expect": {}, "planned": True}):
        said = refused(store, STAGING, scene.ask(commands.Prune, **more))
        assert "merger" not in said


def test_a_domain_that_moves_is_for_who_has_every_environment(store: Store, scene: Scene) -> None:
    scene.edit_file('project = "acme"\n', 'project = "acme"\ndomain = "example.net"\n')
    said = refused(store, STAGING, scene.ask(commands.Deploy, environment="staging", settings_only=True))
    assert "merger" not in said
    assert "environments would move" not in said


def test_a_secret_is_put_where_it_was_sealed_for(scene: Scene, store: Store) -> None:
    """Whoever may seal for one environment could else try guesses in another."""
    sealed = store.seal("shop", "staging", "KEY", b"hunter2")
    fields = {"environment": "production", "services": ("shop",), "secrets": (sealed,)}
    with pytest.raises(Refused, match="KEY was sealed for shop/staging"):
        store.plan(scene.ask(commands.Configure, **fields))
    with pytest.raises(Refused, match="KEY was sealed for shop/staging"):
        store.plan(scene.ask(commands.Deploy, settings_only=True, **fields))


# ---- reads


def test_near_names_of_reads_are_those_that_are_seen(store: Store, scene: Scene) -> None:
    assert scene.head("shop/secret-merger") is None
    wide = Guarded(store, token("viewer", environments=("staging", "stagin", "secret-m*rg")))
    secret = reference.parse("secret-merg")
    with pytest.raises(NotFound, match="no environment 'secret-merg'") as caught:
        wide.history("acme", secret, Filter(), 10, None)
    assert caught.value.hint == "there is staging"
    with pytest.raises(NotFound) as unseen:
        Guarded(store, STAGING).history("acme", reference.parse("secret-merger"), Filter(), 10, None)
    assert unseen.value.hint == "there is staging"
    for read in (wide.environment, wide.tags, wide.deployment, wide.namespaces, wide.settings_of):
        with pytest.raises(NotFound) as caught:
            read("shop", "secret-merg")
        assert caught.value.hint == "there is staging"
    with pytest.raises(NotFound) as caught:
        Guarded(store, token("viewer", services=("shop", "aut"))).environment("aut", "staging")
    assert caught.value.hint == "there is shop"
    with pytest.raises(NotFound) as caught:
        wide.version(reference.parse("shop/stagin@9"))
    assert caught.value.hint == "did you mean staging?"
    with pytest.raises(NotFound) as caught:
        wide.version(reference.parse("shop/staging@9"))
    assert caught.value.hint == "it has 1 to 1"
    with pytest.raises(NotFound, match="no deleted environment"):
        wide.history("acme", reference.parse("shop/secret-merg"), Filter(deleted=True), 10, None)


def test_settings_are_not_found_by_guessing_their_digest(store: Store, scene: Scene) -> None:
    """A seal for staging gives the fingerprint of a guess, services.toml most of the rest."""
    theirs, mine = scene.version("shop/production").settings.digest, scene.version("shop/staging").settings.digest
    guarded = Guarded(store, STAGING)
    scene.vars("staging", shop={"LOG": "debug"})
    assert guarded.settings(mine) == store.settings(mine)  # of an older version
    said = []
    for each in (theirs, digest.of("settings", b"{}")):
        with pytest.raises(NotFound) as caught:
            guarded.settings(each)
        said.append(caught.value.message.replace(digest.short(each), "DIGEST"))
    assert said == ["no settings DIGEST in the store"] * 2
    assert Guarded(store, token(services=("sho?",))).settings(theirs) == store.settings(theirs)


def audit(store: Store, seen_by: Token) -> list[tuple[str, ...]]:
    changes = Guarded(store, seen_by).changes("acme", Filter(), 50, None).changes
    assert [Guarded(store, seen_by).change(each.id or "") for each in changes] == list(changes)
    return [(*each.summary, *each.notes) for each in changes]


def test_the_audit_has_what_was_done_in_scope_and_no_sentence_of_anything_else(store: Store, scene: Scene) -> None:
    scene.tag("staging", "v1")
    scene.routes("shop/staging", "shop.example.com/*")
    scene.vars("staging", auth={"A": "1"})
    scene.secret("shop/production", "KEY", "other")
    scene.do(commands.Rename, old="staging", new="stage", services=("shop",))
    scene.protect("stage")
    eve = token("viewer", "eve", services=("shop",), environments=("stag*",))
    *newer, first = audit(store, eve)
    assert newer == [
        ("shop/stage: protected",),
        ("shop/staging: renamed to stage, now at stage--shop.localhost",),
        ("shop/staging: route shop.example.com/* added",),
        ("shop/staging@1: tagged v1",),
    ]
    assert [text.partition(":")[0] for text in first] == ["shop", "shop/staging", "shop/staging@1"]
    (deploy,) = (each for each in store.changes("acme", filter=Filter(), limit=50).changes if each.kind == "deploy")
    assert deploy.touched == ("auth/production", "auth/staging", "shop/production", "shop/stage")
    assert len(audit(store, token("viewer"))) == len(store.changes("acme", filter=Filter(), limit=50).changes)


def test_sentences_of_a_service_that_is_seen_whole_are_told_under_any_name(store: Store, scene: Scene) -> None:
    scene.rename("secret-merger", "merged")
    renamed, created, *_ = audit(store, token("viewer", services=("auth",)))
    assert renamed == ("auth/secret-merger: renamed to merged, now at merged--auth.localhost",)
    assert created == ("auth/secret-merger: created at secret-merger--auth.localhost",)


def test_what_somebody_does_is_told_to_them_whole(store: Store, scene: Scene) -> None:
    mine = Guarded(store, STAGING)
    command = scene.ask(commands.Configure, environment="staging", vars={"A": "1"})
    assert mine.apply(command) == mine.apply(command) == mine.change(command.id) == store.change(command.id)
    scene.rename("staging", "beyond")
    told = mine.change(command.id)
    assert told is not None
    assert (told.actor, told.touched, told.summary, told.versions) == ("ci", (), (), ())
    assert Guarded(store, replace(STAGING, name="eve")).change(command.id) is None


# ---- routes


def taking(store: Store, scene: Scene, grant: Grant, *routes: str) -> None:
    command = scene.ask(commands.Route, environment="staging", services=("shop",), add=routes)
    store.plan_for(grant, command)


@pytest.mark.parametrize(
    ("held", "taken"),
    [
        ("shop.example.com/*", "shop.example.com/login/*"),
        ("shop.example.com/cart", "shop.example.com/*"),
        ("*.example.com/*", "shop.example.com/login"),
        ("shop.example.com/*", "*.example.com/login"),
        ("*.example.com/*", "*.eu.example.com/*"),
        ("*.eu.example.com/*", "*.example.com/*"),
    ],
)
def test_a_route_is_not_laid_over_a_host_that_is_out_of_reach(
    held: str, taken: str, store: Store, scene: Scene
) -> None:
    """Requests for the one carry the cookies of the other."""
    scene.routes("shop/production", held)
    with pytest.raises(Forbidden, match="out of reach of token 'ci'") as caught:
        taking(store, scene, STAGING, "free.example.org/*", taken)
    assert "production" not in caught.value.message
    taking(store, scene, token(environments=("staging", "production")), taken)
    taking(store, scene, STAGING, "free.example.org/*", "example.com/*", "notshop.example.net/*")
    scene.routes("shop/staging", taken)  # who has a folder has all of it


def test_a_route_of_the_file_is_not_either(store: Store, scene: Scene) -> None:
    scene.routes("shop/production", "shop.example.com/*")
    scene.edit_file("environments.staging = {}", 'environments.staging.routes = ["shop.example.com/login/*"]')
    with pytest.raises(Forbidden, match="answers on that host already"):
        store.apply_for(STAGING, scene.ask(commands.Deploy, environment="staging", settings_only=True, force=True))
    assert store.environment("shop", "staging").routes == ()


def test_routes_that_stand_already_do_not_hinder(store: Store, scene: Scene) -> None:
    scene.routes("shop/production", "shop.example.com/*")
    scene.routes("shop/staging", "shop.example.com/login/*")
    taking(store, scene, STAGING, "shop.example.com/login/*", "free.example.org/*")
