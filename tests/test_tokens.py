"""Tokens: their secrets, how they come and go, and what verify says of them. Of every backend where it can be."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene import Clock, People, Scene

from svcctl import ages, commands, tokens
from svcctl.backend.base import Filter
from svcctl.backend.store import Store
from svcctl.errors import NotFound, Refused, UsageError
from svcctl.model import Change, Grant, Refusal, Token


def make(scene: Scene, name: str = "ci", role: str = "deployer", **fields) -> Change:
    grant = Grant(name=name, role=role, **fields)
    return scene.do(commands.CreateToken, grant=grant, hash=tokens.hash_of(tokens.new()))


def revoke(scene: Scene, token: str) -> Change:
    return scene.do(commands.RevokeToken, token=token)


def known(scene: Scene) -> dict[str, Token]:
    return {token.id: token for token in scene.backend.tokens()}


# ---- secrets


def test_a_secret_has_a_prefix_and_its_check_and_is_shown_to_nobody() -> None:
    secret = tokens.new()
    text = secret.reveal().decode()
    assert text.startswith("svc_")
    assert len(text) == 53
    assert tokens.is_token(text)
    assert str(secret) == repr(secret) == f"{secret}" == "***"
    assert tokens.hash_of(secret) != tokens.hash_of(tokens.new())


@given(st.integers(4, 52), st.sampled_from("0aZ_é "))
def test_a_secret_mistyped_by_one_character_is_none(place: int, other: str) -> None:
    text = tokens.new().reveal().decode()
    wrong = text[:place] + other + text[place + 1 :]
    assert tokens.is_token(wrong) is (wrong == text)


@given(st.text())
def test_other_text_is_none(text: str) -> None:
    assert not tokens.is_token(text)


# ---- their life


def test_a_token_is_made_listed_and_revoked(scene: Scene) -> None:
    made = make(scene, services=("shop*",), environments=("staging", "preview-*"))
    (token,) = scene.backend.tokens()
    assert made.kind == "create-token"
    assert made.summary == (f"token 'ci' ({token.id}): deployer for services shop* in environments staging, preview-*",)
    assert (token.name, token.role, token.revoked, token.created) == ("ci", "deployer", None, made.at)
    assert token.actor == scene.people.typing
    gone = revoke(scene, "ci")
    (token,) = scene.backend.tokens()
    assert token.revoked == gone.at
    again = revoke(scene, token.id)
    assert not again.changed
    assert again.notes == (f"token 'ci' was revoked at {gone.at}",)


def test_changes_of_tokens_are_in_the_audit_of_every_project(scene: Scene) -> None:
    scene.deploy(shop="a1", auth="b1")
    make(scene)
    found = scene.backend.changes("acme", filter=Filter(), limit=10)
    assert [change.kind for change in found.changes] == ["create-token", "deploy"]


def test_a_name_in_force_is_not_given_twice(scene: Scene) -> None:
    make(scene)
    with pytest.raises(Refused, match="there is a token 'ci' already"):
        make(scene, role="admin")
    revoke(scene, "ci")
    make(scene)
    assert [token.revoked is None for token in scene.backend.tokens()] == [False, True]


def test_a_name_whose_token_expired_is_free(scene: Scene) -> None:
    soon = ages.timestamp(scene.clock.now + timedelta(minutes=1))
    make(scene, expires=soon)
    scene.clock.now += timedelta(hours=1)
    change = make(scene)
    assert "revoked; it had expired" in change.summary[0]
    assert [token.revoked is None for token in scene.backend.tokens()] == [False, True]


def test_the_same_command_makes_one_token(scene: Scene) -> None:
    grant = Grant(name="ci", role="viewer")
    command = scene.ask(commands.CreateToken, grant=grant, hash=tokens.hash_of(tokens.new()))
    assert scene.backend.apply(command) == scene.backend.apply(command)
    assert len(known(scene)) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "must be text on one line"),
        ({"name": " ci"}, "without spaces around it"),
        ({"name": "a\x1b[31m"}, "must be text on one line"),
        ({"name": "x" * 101}, "101 characters long"),
        ({"services": ()}, "for no service is for nothing"),
        ({"environments": ("a[bc]",)}, "no pattern of environments"),
        ({"expires": "tomorrow"}, "is no time"),
        ({"expires": "2001-01-01T00:00:00.000Z"}, "would never be good"),
    ],
)
def test_what_no_token_can_be(scene: Scene, fields: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make(scene, **fields)
    assert known(scene) == {}


def test_revoking_what_is_not_there_says_what_is(scene: Scene) -> None:
    make(scene, "deploys")
    with pytest.raises(NotFound) as error:
        revoke(scene, "deploy")
    assert error.value.hint == "did you mean deploys?"


# ---- as the API asks


@pytest.fixture
def store(tmp_path: Path):
    with closing(Store.open(tmp_path / ".svcctl", actor=People(), clock=Clock())) as opened:
        yield opened


@pytest.fixture
def local(store: Store) -> Scene:
    return Scene(store, store._clock, People())


def test_a_token_is_found_by_the_hash_of_its_secret_alone(local: Scene, store: Store) -> None:
    secret = tokens.new()
    grant = Grant(name="ci", role="viewer")
    local.do(commands.CreateToken, grant=grant, hash=tokens.hash_of(secret))
    found = store.token(tokens.hash_of(secret))
    assert found is not None
    assert found.name == "ci"
    assert store.token(tokens.hash_of(tokens.new())) is None
    content = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert secret.reveal() not in content


def test_when_it_was_used_is_no_change(local: Scene, store: Store) -> None:
    make(local)
    (token,) = store.tokens()
    head = store.verify().head
    store.used(token.id)
    (token,) = store.tokens()
    assert token.used == ages.timestamp(local.clock.now)
    assert store.verify().head == head


def test_refusals_are_kept_newest_first_and_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcctl.backend.store.access.KEPT", 5)
    for number in range(8):
        store.refused(Refusal(at="", actor="ci", peer="127.0.0.1", what=f"promote {number}", why="may not"))
    page = store.refusals(limit=3)
    assert [each.what for each in page.refusals] == ["promote 7", "promote 6", "promote 5"]
    rest = store.refusals(limit=3, cursor=page.next)
    assert [each.what for each in rest.refusals] == ["promote 4", "promote 3"]
    assert rest.next is None


def test_no_token_makes_the_refusals_of_another_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcctl.backend.store.access.KEPT", 9)
    monkeypatch.setattr("svcctl.backend.store.access.SHARE", 3)

    def refuse(token: str | None, times: int) -> None:
        for number in range(times):
            store.refused(Refusal(at="", actor="x", peer="", what=str(number), why="may not", token=token))

    refuse("attack", 2)
    refuse(None, 2)
    refuse("noise", 50)
    kept = store.refusals(limit=100).refusals
    assert [(each.token, each.what) for each in kept] == [
        ("noise", "49"), ("noise", "48"), ("noise", "47"), (None, "1"), (None, "0"), ("attack", "1"), ("attack", "0"),
    ]  # fmt: skip
    refuse(None, 50)
    assert [each.token for each in store.refusals(limit=100).refusals] == [None] * 3 + ["noise"] * 3 + ["attack"] * 2


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE tokens SET grant_body = CAST(replace(CAST(grant_body AS TEXT), 'viewer', 'admin') AS BLOB)",
        "UPDATE tokens SET hash = 'a'",
        "UPDATE tokens SET revoked = NULL",
        "DELETE FROM tokens",
        "INSERT INTO tokens SELECT 'x', 'x', 'x', made, NULL, grant_body FROM tokens",
    ],
)
def test_t16_an_edited_token_is_named_by_verify(edit: str, local: Scene, store: Store) -> None:
    make(local, role="viewer")
    revoke(local, "ci")
    assert store.verify().problems == ()
    with closing(sqlite3.connect(store.folder / "ledger.db")) as ledger:
        ledger.execute(edit)
        ledger.commit()
    (problem,) = store.verify().problems
    assert "its row was altered, inserted or removed" in problem


def test_an_inserted_token_in_a_store_without_history_is_named(store: Store) -> None:
    store.database.execute("INSERT INTO tokens VALUES ('x', 'x', 'x', 1, NULL, '{}')")
    assert store.verify().problems == ("token x: its row was altered, inserted or removed: the records say otherwise",)
