"""The invariants, a test or more for each, by number. I11 and I12 come with the data plane."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from msgspec.structs import replace
from scene import ADA, Bundle, Scene, bundle

from svcctl import commands, digest, wire
from svcctl.backend.base import Backend, Filter
from svcctl.errors import Conflict, NotFound, Refused, SvcctlError
from svcctl.model import Overrides, Restores

CANARY = "canary-0f-5ecrets"


@pytest.fixture
def released(scene: Scene) -> Scene:
    """Two releases of both services, in staging and in production."""
    scene.deploy(shop="a1", auth="b1")
    scene.promote("staging", "production")
    scene.deploy(shop="a2", auth="b2")
    scene.promote("staging", "production")
    return scene


# ---- I1  A version never changes; numbers run without gap or reuse


def test_i1_a_version_stays_as_it_was_whatever_happens_after(released: Scene) -> None:
    before = [released.version(f"shop/production@{number}") for number in (1, 2)]
    released.vars("production", shop={"LOG": "debug"})
    released.rollback()
    released.rollback()
    released.clone("production", "preview")
    assert [released.version(f"shop/production@{number}") for number in (1, 2)] == before
    assert [released.text(f"shop/production@{number}") for number in (1, 2)] == ["a1", "a2"]


def test_i1_numbers_go_on_through_renames_and_new_lives(released: Scene) -> None:
    released.clone("staging", "preview")
    released.rename("preview", "review")
    released.deploy("review", shop="a3")
    released.delete("review")
    released.clone("staging", "review")
    assert released.numbers("shop/review") == [3, 2, 1]
    with pytest.raises(NotFound, match="shop/review has no version 2"):
        released.version("shop/review@2")
    with pytest.raises(Refused, match="nothing before"):
        released.rollback("review")


def test_i1_a_new_life_has_no_settings_secrets_tags_or_routes_of_old(released: Scene) -> None:
    released.clone("staging", "preview")
    released.vars("preview", shop={"OLD": "1"})
    released.secret("shop/preview", "KEY", "x")
    released.tag("shop/preview", "v1")
    released.routes("shop/preview", "preview.example.com/*")
    released.protect("preview")
    old = released.backend.environment("shop", "preview")
    released.delete("preview")
    released.create("preview")
    new = released.backend.environment("shop", "preview")
    assert (new.id, new.head, new.routes, new.protected) == (old.id, None, (), False)
    released.promote("staging", "preview")
    assert released.settings("shop/preview").cli == Overrides()
    assert released.backend.tags("shop", "preview") == ()


def test_i1_numbers_order_history_whatever_the_clock_says(scene: Scene) -> None:
    for days in (0, 3650, -7300, 1):
        scene.clock.now += timedelta(days=days)
        scene.deploy(shop=f"a{days}", auth="b1")
    page = scene.backend.history("acme", None, filter=Filter(), limit=50)
    found = [version.number for version in page.versions if version.service == "shop"]
    assert found == [4, 3, 2, 1]
    scene.rollback("staging")
    assert scene.text("shop/staging") == "a-7300"


# ---- I2  one version per touched environment, none where nothing alters


def test_i2_a_change_makes_one_version_in_each_environment_it_touches(released: Scene) -> None:
    released.edit_file("vars = { LOG", "vars = { MORE = 1, LOG")
    change = released.deploy(shop="a3", auth="b2")
    assert [version.ref for version in change.versions] == ["shop/staging@3"]
    assert (change.versions[0].settings.since, change.versions[0].code.since) == (3, 3)


@pytest.mark.parametrize(
    "again",
    [
        lambda scene: scene.deploy(shop="a2", auth="b2"),
        lambda scene: scene.deploy(shop="a2", commit="f" * 40),
        lambda scene: scene.promote("staging", "production"),
        lambda scene: scene.vars("staging", shop={"LOG": "debug"}),
        lambda scene: scene.secret("shop/staging", "KEY", "x"),
        lambda scene: scene.clone("staging", "production", exist_ok=True),
        lambda scene: scene.create("staging", exist_ok=True),
        lambda scene: scene.rollback("staging", services=("shop",), to="4"),
        lambda scene: scene.tag("shop/staging@1", "v1"),
        lambda scene: scene.protect("production", on=False),
        lambda scene: scene.routes("shop/staging", "shop.example.com/*"),
        lambda scene: scene.do(commands.Prune),
    ],
)
def test_i2_what_alters_nothing_writes_nothing_and_says_so(released: Scene, again: Callable[[Scene], object]) -> None:
    released.vars("staging", shop={"LOG": "debug"})
    released.secret("shop/staging", "KEY", "x")
    released.tag("shop/staging@1", "v1")
    released.routes("shop/staging", "shop.example.com/*")
    before = released.newest_change()
    change = again(released)
    assert (change.changed, change.id, change.number, change.at, change.versions) == (False, None, None, None, ())
    assert released.newest_change() == before


# ---- I3, I4  promote copies code alone; nothing is built or moved


def test_i3_promote_leaves_the_settings_of_its_target(released: Scene) -> None:
    released.vars("production", shop={"LOG": "error"})
    released.edit_file('LOG = "info"', 'LOG = "debug"')
    released.deploy(shop="a3")
    before = released.version("shop/production").settings
    released.promote("staging", "production")
    assert released.version("shop/production").settings == before


def test_i4_promote_clone_and_roll_back_move_no_bytes(released: Scene, stored: Callable[[], dict[str, bytes]]) -> None:
    def packs() -> dict[str, bytes]:
        return {name: content for name, content in stored().items() if name.startswith(("packs/", "chunks/"))}

    released.backend.upload(Bundle({f"{number}.txt": str(number) for number in range(500)} | {"worker.py": "w"}))
    released.deploy(shop="a1")
    before = packs()
    assert before
    released.promote("staging", "production")
    released.clone("production", "preview")
    released.rollback("production")
    assert packs() == before


# ---- I5, I6, I7


def test_i5_the_same_files_give_the_same_digest(scene: Scene) -> None:
    one = Bundle({"worker.py": "x", "b/c.py": "y"})
    other = Bundle({"b/c.py": "y", "worker.py": "x"})
    assert one.digest == other.digest == digest.of("artifact", wire.canonical(one.manifest))
    assert Bundle({"worker.py": "x", "b/c.py": "z"}).digest != one.digest
    scene.backend.upload(one)
    assert scene.backend.upload(other).blobs == 0


def test_i6_every_change_says_who_when_what_from_which_commit_and_why(scene: Scene) -> None:
    scene.people.typing = "Bob <bob@example.com>"
    made = scene.deploy(shop="a1", auth="b1", commit="c" * 40, message="the sale begins")
    found = scene.backend.change(made.id)
    assert (found.actor, found.message, found.number) == ("Bob <bob@example.com>", "the sale begins", 1)
    assert found.at == made.at == "2026-11-23T09:00:01.000Z"
    assert "shop/staging@1: code" in "\n".join(found.summary)
    assert {version.code.commit.sha for version in found.versions} == {"c" * 40}


def test_i7_records_are_chained(released: Scene) -> None:
    chain = [released.version(f"shop/production@{number}") for number in (1, 2)]
    released.rollback()
    assert released.version("shop/production@3").parent == chain[1].digest
    assert chain[1].parent == chain[0].digest


# ---- I8  all or nothing; the same command twice is done once


def test_i8_a_refusal_in_one_service_leaves_all_as_they_were(released: Scene) -> None:
    released.edit_file("vars = { LOG", "vars = { MORE = 1, LOG")
    released.deploy(shop="a3", auth="b3")
    before = released.newest_change()
    with pytest.raises(Refused, match="shop/production lacks var MORE"):
        released.promote("staging", "production")
    assert (released.head("auth/production"), released.newest_change()) == (2, before)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (commands.RollBack, {"environment": "production"}),
        (commands.Clone, {"source": "staging", "target": "preview"}),
        (commands.Promote, {"source": "staging@c1", "target": "production"}),
        (commands.Configure, {"environment": "staging", "services": ("shop",), "vars": {"A": "1"}}),
        (commands.DeleteEnvironment, {"environment": "staging"}),
    ],
)
def test_i8_the_same_command_twice_is_one_change(
    released: Scene, connect: Callable[[], Backend], kind: type[commands.Base], fields: dict[str, object]
) -> None:
    command = released.planned(kind, **fields)
    first = released.backend.apply(command)
    again = connect().apply(command)
    assert (again.id, again.number, again.summary) == (first.id, first.number, first.summary)
    assert [version.ref for version in again.versions] == [version.ref for version in first.versions]
    assert released.newest_change() == first.number


# ---- I9  no update is lost


def test_i9_deltas_of_many_writers_are_all_there(released: Scene, connect: Callable[[], Backend]) -> None:
    failed: list[BaseException] = []

    def write(name: str) -> None:
        own = Scene(connect(), released.clock, released.people)
        try:
            for number in range(6):
                own.vars("staging", shop={f"{name}_{number}": "1"})
        except SvcctlError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(f"W{writer}",)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed == []
    assert released.numbers("shop/staging") == list(range(26, 0, -1))
    assert len([name for name in released.settings("shop/staging").vars if name.startswith("W")]) == 24


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (commands.RollBack, {"environment": "production"}),
        (commands.RollBack, {"environment": "production", "to": "c2"}),
        (commands.Promote, {"source": "staging@c1", "target": "production"}),
    ],
)
def test_i9_of_two_who_type_the_same_one_is_done(
    released: Scene, kind: type[commands.Base], fields: dict[str, object]
) -> None:
    ours = released.planned(kind, **fields)
    theirs = released.planned(kind, **fields)
    released.people.typing = "Bob"
    released.backend.apply(theirs)
    released.people.typing = ADA
    with pytest.raises(Conflict) as caught:
        released.backend.apply(ours)
    assert "moved from version 2 to version 3" in caught.value.message
    assert "by Bob" in caught.value.message
    assert released.numbers("shop/production") == [3, 2, 1]


def test_i9_a_rename_and_a_delete_are_refused_once_a_head_moved(released: Scene) -> None:
    rename = released.planned(commands.Rename, old="staging", new="stage")
    delete = released.planned(commands.DeleteEnvironment, environment="staging")
    released.deploy(shop="a3")
    for command in (rename, delete):
        with pytest.raises(Conflict, match="shop/staging moved from version 2 to version 3: deploy"):
            released.backend.apply(command)


def test_i9_an_environment_that_was_to_be_new_and_is_there_is_a_conflict(scene: Scene) -> None:
    scene.deploy(shop="a1", auth="b1")
    ours = scene.planned(commands.Promote, source="staging", target="production")
    scene.vars("production", shop={"LOG": "x"})
    with pytest.raises(Conflict, match="shop/production moved from no version to version 1"):
        scene.backend.apply(ours)


def test_i9_what_would_touch_more_than_was_planned_is_a_conflict(released: Scene) -> None:
    released.vars("production", shop={"LOG": "x"})
    ours = released.planned(commands.RollBack, environment="production")
    released.vars("production", auth={"ISSUER": "y"})
    with pytest.raises(Conflict, match="auth/production would change too"):
        released.backend.apply(ours)


def test_i9_promote_brings_what_was_planned_though_its_source_moved(released: Scene) -> None:
    released.deploy(shop="a3")
    ours = released.planned(commands.Promote, source="staging", target="production")
    released.deploy(shop="a4-not-looked-at")
    released.backend.apply(ours)
    assert released.text("shop/production") == "a3"
    assert released.version("shop/production").source == "shop/staging@3"


# ---- I10  secrets


def test_i10_a_secret_is_in_no_file_and_no_answer(released: Scene, stored: Callable[[], dict[str, bytes]]) -> None:
    made = released.secret("shop/staging", "KEY", CANARY)
    released.clone("staging", "preview")
    released.rollback("staging", services=("shop",), to="2", restore_secrets=True)
    kept = list(stored().values())
    answers = [
        wire.document(answer)
        for answer in (
            made,
            released.backend.history("acme", None, filter=Filter(), limit=50),
            released.backend.changes("acme", filter=Filter(), limit=50),
            released.settings("shop/preview"),
        )
    ]
    assert kept
    assert not any(CANARY.encode() in content for content in [*kept, *(answer.encode() for answer in answers)])


def test_i10_a_value_sealed_for_one_place_is_refused_in_another(released: Scene) -> None:
    sealed = released.backend.seal("shop", "staging", "KEY", CANARY.encode())
    moved = replace(sealed, environment="production")
    with pytest.raises(SvcctlError) as caught:
        released.do(commands.Configure, environment="production", services=("shop",), secrets=(moved,))
    assert CANARY not in str(caught.value)
    assert released.settings("shop/production").secrets == {}


def test_a_roll_back_says_which_halves_came_back(released: Scene) -> None:
    released.vars("production", shop={"LOG": "x"})
    assert released.rollback().versions[0].restores == Restores(settings=2)
    assert {version.restores for version in released.rollback().versions} == {Restores(code=1)}
    assert bundle("a1").digest == released.version("shop/production").code.digest
