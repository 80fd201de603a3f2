"""What every backend promises (svcctl/backend/base.py). A test here never knows which it got."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import product

import pytest
from msgspec.structs import replace
from scene import ADA, SHOP_AND_AUTH, Bundle, Scene

from svcctl import commands, reference
from svcctl.backend.base import Backend, Filter, History
from svcctl.errors import Damage, NotFound, Refused, UsageError
from svcctl.model import Change, Code, EnvironmentId, Requires, Settings, Version

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


# ---- pages


@pytest.fixture
def long(scene: Scene) -> Scene:
    """Forty changes by two people, with two commits, in a store that another project uses too."""
    scene.deploy(shop="a0", auth="b0", commit="a" * 40)
    scene.promote("staging", "production")
    other = Scene(scene.backend, scene.clock, scene.people, SHOP_AND_AUTH.replace("shop", "web").replace("auth", "id"))
    other.project = replace(other.project, name="other")
    for number in range(1, 20):
        scene.people.typing = "Bob <bob@example.com>" if number % 3 else ADA
        other.deploy(web=f"a{number}", id="b1")
        scene.deploy(shop=f"a{number}", auth=f"b{number // 4}", commit=("a" if number % 2 else "b") * 40)
        if number % 5 == 0:
            scene.promote("staging", "production")
            scene.tag("staging", f"v{number}")
    return scene


FILTERS = [
    Filter(),
    Filter(actor="bob"),
    Filter(commit="aaaa"),
    Filter(since="2026-11-23T09:00:20.000Z"),
    Filter(actor="ADA", commit="b", since="2026-11-23T09:00:05.000Z"),
    Filter(actor="nobody"),
]
REFERENCES = [None, "staging", "shop/staging"]


def test_pages_hold_every_version_once(long: Scene) -> None:
    for ref, filter in product(REFERENCES, FILTERS):
        wanted = [version.ref for version in expected(long, ref, filter)]
        for limit in (1, 3, 7, 1000):
            found = [version.ref for page in history(long, ref, filter, limit) for version in page.versions]
            assert found == wanted, (ref, filter, limit)


def history(scene: Scene, ref: str | None, filter: Filter, limit: int) -> Iterator[History]:
    where, cursor = reference.parse(ref) if ref else None, None
    while True:
        page = scene.backend.history("acme", where, filter=filter, limit=limit, cursor=cursor)
        yield page
        cursor = page.next
        if cursor is None:
            return


def expected(scene: Scene, ref: str | None, filter: Filter) -> list[Version]:
    """Asked of each environment by number, not by page."""
    found = []
    for environment in scene.backend.environments("acme"):
        if ref in (None, environment.name, environment.ref):
            found += [scene.version(f"{environment.ref}@{number + 1}") for number in range(environment.head or 0)]
    wanted = [version for version in found if passes(version, filter)]
    return sorted(sorted(wanted, key=lambda version: version.ref), key=lambda version: -(version.change or 0))


def passes(version: Version, filter: Filter) -> bool:
    commit = version.code.commit.sha if version.code and version.code.commit else ""
    return (
        version.at >= (filter.since or "")
        and (filter.actor or "").casefold() in version.actor.casefold()
        and commit.startswith(filter.commit or "")
    )


def test_pages_hold_every_event_once(long: Scene) -> None:
    for ref, limit in product(REFERENCES, (1, 4, 1000)):
        pages = history(long, ref, ALL, limit)
        events = [(event.ref, event.change, event.text) for page in pages for event in page.events]
        assert len(events) == len(set(events))
        shown = {ref for ref, _, _ in events}
        assert shown == {each.ref for each in long.backend.environments("acme") if ref in (None, each.name, each.ref)}
        assert [change for _, change, _ in events] == sorted((change for _, change, _ in events), reverse=True)
        tagged = [text for place, _, text in events if place == "shop/staging" and "tagged" in text]
        assert tagged == [f"version {number + 1} tagged v{number}" for number in (15, 10, 5)], (ref, limit)


def test_pages_hold_every_change_once(long: Scene) -> None:
    every = long.backend.changes("acme", filter=ALL, limit=1000).changes
    assert len(every) == 27
    for filter, limit in product(FILTERS, (1, 6, 1000)):
        found, cursor = [], None
        while True:
            page = long.backend.changes("acme", filter=filter, limit=limit, cursor=cursor)
            found += page.changes
            cursor = page.next
            if cursor is None:
                break
        numbers = [
            change.number
            for change in every
            if (change.at or "") >= (filter.since or "")
            and (filter.actor or "").casefold() in change.actor.casefold()
            and (filter.commit is None or any(passes(each, Filter(commit=filter.commit)) for each in change.versions))
        ]
        assert [change.number for change in found] == numbers, (filter, limit)


def test_a_cursor_that_is_none_is_a_usage_error(long: Scene) -> None:
    for cursor in ("x", "", "MTo=", "1:5", "é"):
        with pytest.raises(UsageError, match="no cursor") if cursor else nullcontext():
            long.backend.history("acme", None, filter=ALL, limit=5, cursor=cursor)


def test_history_of_a_deleted_environment_stays(released: Scene) -> None:
    released.clone("staging", "pre")
    released.delete("pre")
    found = released.backend.history("acme", reference.parse("shop/pre"), filter=Filter(deleted=True), limit=5)
    assert [version.ref for version in found.versions] == ["shop/pre@1"]
    assert [event.text for event in found.events] == ["pre deleted", "created as pre at pre--shop.localhost"]
    with pytest.raises(NotFound, match="shop has no environment 'pre'"):
        released.backend.history("acme", reference.parse("shop/pre"), filter=ALL, limit=5)


# ---- what there is


def test_what_there_is_is_sorted(released: Scene) -> None:
    backend = released.backend
    assert backend.projects() == ("acme",)
    assert [service.name for service in backend.services("acme")] == ["auth", "shop"]
    assert backend.services("other") == ()
    refs = ["auth/production", "auth/staging", "shop/production", "shop/staging"]
    assert [each.ref for each in backend.environments("acme")] == refs
    assert [each.ref for each in backend.environments("acme", ("shop",), ("staging",))] == ["shop/staging"]
    assert [version.ref for version in backend.heads("acme")] == [f"{ref}@1" for ref in refs]
    assert [version.ref for version in backend.heads("acme", ("auth",))] == ["auth/production@1", "auth/staging@1"]


def test_an_unknown_name_gets_a_near_one(released: Scene) -> None:
    with pytest.raises(NotFound) as caught:
        released.backend.environment("shop", "stagging")
    assert (caught.value.message, caught.value.hint) == ("shop has no environment 'stagging'", "did you mean staging?")
    with pytest.raises(NotFound, match="no service 'shp' in the store") as caught:
        released.backend.environment("shp", "staging")
    assert caught.value.hint == "did you mean shop?"


def test_an_environment_is_known_by_its_id_through_renames_and_after(released: Scene) -> None:
    released.clone("staging", "pre")
    id = released.backend.environment("shop", "pre").id
    released.rename("pre", "review")
    assert released.backend.by_origin(id).ref == "shop/review"
    released.delete("review")
    assert released.backend.by_origin(id).deleted
    assert released.backend.by_origin(EnvironmentId("0" * 16)) is None


def test_a_deployment_is_a_head_and_what_it_reaches(released: Scene) -> None:
    found = released.backend.deployment("shop", "production")
    assert [(node.ref, node.version, node.bindings) for node in found.nodes] == [
        ("shop/production", 1, {"AUTH": "auth/production"}),
        ("auth/production", 1, {}),
    ]


def test_settings_of_an_environment_without_a_version_are_empty(released: Scene) -> None:
    released.create("qa")
    assert released.backend.settings_of(released.backend.environment("shop", "qa")) == Settings()
    assert released.backend.settings_of(released.backend.environment("shop", "staging")).vars == {"LOG": "info"}


# ---- bytes


def test_only_what_is_missing_is_stored(scene: Scene) -> None:
    one, other = Bundle({"worker.py": "w", "x.py": "x"}), Bundle({"worker.py": "w", "y.py": "y"})
    blobs = [file.blob for file in (*one.manifest.files, *other.manifest.files)]
    assert scene.backend.missing(blobs) == frozenset(blobs)
    assert scene.backend.upload(one).blobs == 3
    assert len(scene.backend.missing(blobs)) == 1
    assert scene.backend.upload(other).blobs == 2
    assert scene.backend.upload(other).blobs == 0
    assert scene.backend.manifest(other.digest) == other.manifest


def test_a_file_that_changed_while_it_was_read_is_refused(scene: Scene) -> None:
    lying = Bundle({"worker.py": "what was hashed"})
    (file,) = lying.manifest.files
    lying._blobs[file.blob] = b"what is there"
    with pytest.raises(Refused, match="changed while it was being read"):
        scene.backend.upload(lying)
    assert scene.backend.missing([file.blob]) == {file.blob}


def test_a_version_of_an_artifact_that_was_never_uploaded_is_refused(scene: Scene) -> None:
    code = {"auth": Code(digest=Bundle({"worker.py": "elsewhere"}).digest, requires=Requires())}
    with pytest.raises(Refused, match="is not in the store"):
        scene.do(commands.Deploy, environment="staging", services=("auth",), code=code)
    assert scene.newest_change() == 0


# ---- plan, apply, wait


def test_a_plan_writes_nothing(released: Scene) -> None:
    before = released.newest_change()
    plan = released.backend.plan(released.ask(commands.Clone, source="staging", target="preview"))
    assert [step.sentence for step in plan.steps][-1] == "shop/preview@1: cloned from shop/staging@1"
    assert released.newest_change() == before
    assert len(released.backend.environments("acme")) == 4


@pytest.mark.parametrize(
    ("kind", "fields", "asked"),
    [
        (commands.Promote, {"source": "staging", "target": "production"}, "yes"),
        (commands.Promote, {"source": "staging", "target": "qa"}, None),
        (commands.RollBack, {"environment": "staging"}, None),
        (commands.RollBack, {"environment": "staging", "to": "c1", "force": True}, "yes"),
        (commands.DeleteEnvironment, {"environment": "staging"}, "name"),
        (commands.DeleteService, {"service": "shop"}, "name"),
        (commands.Rename, {"old": "staging", "new": "stage"}, None),
        (commands.Clone, {"source": "staging", "target": "new"}, None),
    ],
)
def test_a_plan_says_which_yes_it_needs(
    released: Scene, kind: type[commands.Base], fields: dict[str, object], asked: str | None
) -> None:
    released.create("qa")
    released.deploy(shop="a2")
    consent = released.backend.plan(released.ask(kind, **fields)).consent
    assert (consent and consent.kind) == asked


def test_wait_returns_with_the_next_change(released: Scene, connect: Callable[[], Backend]) -> None:
    before = released.newest_change()
    assert released.backend.wait(after=before - 1, timeout=60) == before
    assert released.backend.wait(after=before, timeout=0) == before
    ready = threading.Barrier(2)

    def deploy_elsewhere() -> None:
        elsewhere = Scene(connect(), released.clock, released.people)
        ready.wait()
        elsewhere.deploy(shop="a2")

    other = threading.Thread(target=deploy_elsewhere)
    other.start()
    ready.wait()
    assert released.backend.wait(after=before, timeout=60) == before + 1
    other.join()


# ---- damage


def test_damage_beside_an_artifact_does_not_stop_it(released: Scene, alter: Callable[[bytes, bytes], None]) -> None:
    """Blobs that arrived together share a file: one that is hurt must not take its neighbours along."""
    hurt, sound = Bundle({"worker.py": "w", "large.txt": "x" * 100}), Bundle({"worker.py": "w"})
    released.backend.upload(hurt)
    released.backend.upload(sound)
    requires = released.project.services["shop"].requires
    code = {"shop": Code(digest=sound.digest, requires=requires)}
    released.do(commands.Deploy, environment="staging", services=("shop",), code=code)
    alter(b"x" * 100, b"x" * 99 + b"y")
    assert released.promote("staging", "production").changed
    code = {"shop": Code(digest=hurt.digest, requires=requires)}
    with pytest.raises(Damage, match=r"large\.txt"):
        released.do(commands.Deploy, environment="staging", services=("shop",), code=code)
