"""Who may do what, as rules: over every command, and over plans that reach further than they look."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scene import Clock, People, Scene

from svcctl import commands
from svcctl.backend.store import Store
from svcctl.backend.store.ledger import Ledger
from svcctl.commands import Command
from svcctl.digest import Digest
from svcctl.model import Grant, Project, Role
from svcctl.rules import access, reach

ROLES: tuple[Role, ...] = get_args(Role)
PEOPLE: tuple[Role, ...] = ("viewer", "deployer", "promoter", "admin")
GRANT = Grant(name="new", role="viewer")
FIELDS = {
    commands.Deploy: {"environment": "staging"},
    commands.Configure: {"environment": "staging"},
    commands.Promote: {"source": "staging", "target": "production"},
    commands.RollBack: {"environment": "production"},
    commands.Clone: {"source": "staging", "target": "preview"},
    commands.CreateEnvironment: {"environment": "preview"},
    commands.Rename: {"old": "staging", "new": "preview"},
    commands.DeleteEnvironment: {"environment": "staging"},
    commands.Prune: {},
    commands.Protect: {"environment": "staging", "on": True},
    commands.Route: {"environment": "staging"},
    commands.TagVersion: {"reference": "staging", "name": "v1"},
    commands.DeleteService: {"service": "shop"},
    commands.CreateToken: {"grant": GRANT, "hash": Digest("0" * 64)},
    commands.RevokeToken: {"token": "ci"},
}
NAMES = st.from_regex("[a-z][a-z0-9-]{0,8}", fullmatch=True)


def a(kind: type, **more: object) -> Command:
    return kind(**{"id": commands.new_id(), "project": Project(name="acme")} | FIELDS[kind] | more)


def test_every_command_has_its_roles() -> None:
    assert set(FIELDS) == set(get_args(Command)) == set(access._COMMANDS)


@pytest.mark.parametrize("kind", FIELDS)
def test_what_a_role_may_send_every_stronger_one_may(kind: type) -> None:
    allowed = [access.may_send(Grant(name="x", role=role), a(kind)) is None for role in PEOPLE]
    assert allowed == sorted(allowed)
    assert allowed[0] is False
    assert allowed[-1] is True
    assert access.may_send(Grant(name="x", role="runtime"), a(kind)) is not None


def test_code_arrives_by_promote_for_promoters_and_tokens_are_for_admins() -> None:
    least = {
        kind: next(role for role in PEOPLE if access.may_send(Grant(name="x", role=role), a(kind)) is None)
        for kind in FIELDS
    }
    assert {kind.__name__ for kind, role in least.items() if role == "promoter"} == {"Promote", "RollBack"}
    assert {kind.__name__ for kind, role in least.items() if role == "admin"} == {
        "Protect", "DeleteService", "CreateToken", "RevokeToken",
    }  # fmt: skip
    taking_over = a(commands.Deploy, adopt=True)
    assert [access.may_send(Grant(name="x", role=role), taking_over) is None for role in PEOPLE] == [False] * 3 + [True]


@pytest.mark.parametrize("power", access.POWERS)
def test_every_power_has_its_roles(power: access.Power) -> None:
    assert access.POWERS[power]
    for role in ROLES:
        refusal = access.lacks_power(Grant(name="x", role=role), power)
        assert (refusal is None) == (role in access.POWERS[power])
        assert refusal is None or role in refusal


@given(NAMES, NAMES, NAMES)
def test_a_pattern_is_the_name_itself_or_stands_for_what_begins_so(service: str, environment: str, other: str) -> None:
    exact = Grant(name="x", role="viewer", services=(service,), environments=(environment,))
    assert access.covers(exact, service, environment)
    assert access.covers(exact, other, environment) == (other == service)
    assert access.covers(exact, service, other) == (other == environment)
    begins = Grant(name="x", role="viewer", services=(service + "*",))
    assert access.covers(begins, service + other, environment)
    assert access.covers(begins, other, environment) == other.startswith(service)
    assert access.is_everywhere(begins) is False


def test_a_plan_is_refused_for_one_environment_out_of_scope(tmp_path: Path) -> None:
    """Whatever the command: a first deploy makes production too, a domain moves every hostname."""
    store = Store.open(tmp_path / ".svcctl", actor=People(), clock=Clock())
    scene = Scene(store, store._clock, People())
    staging = Grant(name="ci", role="deployer", environments=("staging",))

    def refusal(kind: type[commands.Base], **fields: object) -> str | None:
        command = scene.ask(kind, **fields)
        plan = store.plan(command)
        with store.database.reading():
            return reach.may_touch(staging, command, plan, Ledger(store.database))

    code = {name: scene.code(name, "a1") for name in ("shop", "auth")}
    first = refusal(commands.Deploy, environment="staging", code=code)
    assert first is not None
    assert "auth/production is out of reach" in first
    scene.deploy(shop="a1", auth="b1")
    assert refusal(commands.Deploy, environment="staging", code=code) is None
    scene.edit_file('project = "acme"\n', 'project = "acme"\ndomain = "example.net"\n')
    moved = refusal(commands.Deploy, environment="staging", code=code, move_domain=True)
    assert moved is not None
    assert "/production is out of reach" in moved
    store.close()
