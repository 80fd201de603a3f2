"""Many writers at once, each a process: numbers are consecutive, nothing is lost, and who is refused is told who was
faster (I1, I9)."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from processes import Acme, Running

from svcctl import reference
from svcctl.backend.store import Store

BEA = "Bea <bea@example.com>"

WRITER = """
import json, sys
from pathlib import Path
from svcctl import commands, config
from svcctl.backend.store import Store
from scene import bundle
from svcctl.model import Code

folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
project = config.load(folder / "services.toml").as_sent()
store = Store.open(folder / ".svcctl", actor=lambda: name)

def change(number):
    ask = {"id": commands.new_id(), "project": project, "environment": "staging", "services": ("shop",)}
    if number % 5 == 0:
        made = bundle(f"{name} {number}")
        store.upload(made)
        code = Code(digest=made.digest, requires=project.services["shop"].requires)
        return commands.Deploy(**ask, code={"shop": code})
    return commands.Configure(**ask, vars={f"{name}_{number}": "set"})

made = []
for number in range(count):
    answer = store.apply(change(number))
    made += [version.number for version in answer.versions if version.ref.startswith("shop/staging@")]
print(json.dumps(made))
"""


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    acme = Acme.new(tmp_path)
    acme.done("deploy")
    return acme


@pytest.mark.xdist_group("both cores")
def test_i1_i9_sixteen_processes_make_four_hundred_changes(acme: Acme):
    environ = acme.environ(PYTHONPATH=os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path))))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, acme.folder, f"W{number}", "25"],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        for number in range(16)
    ]
    printed = [json.loads(writer.communicate(timeout=120)[0]) for writer in writers]

    assert all(a < b for numbers in printed for a, b in pairwise(numbers)), "each writer's own numbers grow"
    assert sorted(number for numbers in printed for number in numbers) == list(range(2, 402))
    assert acme.changes() == 401
    settings = cli_vars(acme)
    assert all(f"W{writer}_{number}" in settings for writer in range(16) for number in range(25) if number % 5)
    assert acme.found().problems == ()


@pytest.mark.xdist_group("both cores")
def test_i1_i9_eight_shells_type_eight_changes_each(acme: Acme):
    """What each command prints is its own."""
    numbers: dict[str, int] = {}
    for turn in range(8):
        typed = {f"S{shell}_{turn}": acme.start("vars", "set", f"S{shell}_{turn}=1", "--json") for shell in range(8)}
        for name, running in typed.items():
            ended = running.ended()
            assert ended.status == 0, ended
            assert f"{name} added" in " ".join(ended.json["summary"])
            (numbers[name],) = (each["number"] for each in ended.json["versions"] if each["service"] == "shop")
    assert sorted(numbers.values()) == list(range(2, 66))
    assert numbers.keys() <= cli_vars(acme).keys()
    assert acme.found().problems == ()


def cli_vars(acme: Acme) -> dict[str, object]:
    store = Store.open(acme.store)
    try:
        version = store.version(reference.parse("shop/staging"))
        return dict(store.settings(version.settings.digest).cli.vars)
    finally:
        store.close()


def agreed(acme: Acme, *arguments: str, actor: str) -> Running:
    """A command that was planned and agreed to, and is about to be sent."""
    return acme.stopped(*arguments, at="plan.agreed", SVCCTL_ACTOR=actor)


@pytest.fixture(scope="module")
def released_once(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    return Acme.released(tmp_path_factory.mktemp("released"))


@pytest.fixture
def released(released_once: Acme, tmp_path: Path) -> Acme:
    return released_once.copied(tmp_path / "copy")


def test_i9_two_who_roll_back_at_once_undo_one_release(released: Acme):
    ada = agreed(released, "rollback", "--yes", "--json", actor="Ada <ada@example.com>")
    bea = agreed(released, "rollback", "--yes", "--json", actor=BEA)
    assert bea.goes_on().json["changed"] is True
    refused = ada.goes_on()
    assert (refused.status, refused.json["error"]["code"]) == (4, "conflict")
    assert "production moved" in refused.json["error"]["message"]
    assert f"rollback by {BEA} at " in refused.err
    assert released.state()["shop/production"][0] == 3


@pytest.mark.parametrize(
    "words",
    [
        "promote staging production --yes",
        "rollback --yes",
        "env rename production-like other",
        "env delete production-like --confirm production-like",
        "vars set A=1 --env production --expect shop/production@2",
    ],
)
def test_t2_what_was_planned_on_a_head_that_moved_is_refused(words: str, released: Acme):
    released.done("env", "clone", "production", "production-like")
    place = "production-like" if "production-like" in words else "production"
    planned = agreed(released, *words.split(), "--json", actor="Ada <ada@example.com>")
    released.done("vars", "set", "FASTER=1", "--env", place, SVCCTL_ACTOR=BEA)
    state, changes = released.state(), released.changes()

    refused = planned.goes_on()
    assert (refused.status, refused.json["error"]["code"]) == (4, "conflict")
    assert f"/{place}" in refused.err
    assert BEA in refused.err
    assert (released.state(), released.changes()) == (state, changes)
    assert list(released.store.glob("pending/*")) == []


def test_i9_deltas_planned_together_are_all_done(released: Acme):
    typed = ("vars set A=1", "vars set B=2", "deploy", "tag shop/staging now", "routes add a.test/* -s shop --cli")
    planned = [agreed(released, *words.split(), actor=BEA) for words in typed]
    changes = released.changes()
    for running in reversed(planned):
        ended = running.goes_on()
        assert ended.status == 0, ended
    assert released.changes() == changes + len(typed)
    assert {"A", "B"} <= cli_vars(released).keys()


# ---- the write lock


def test_t13_a_holder_that_is_killed_lets_others_go_on(released: Acme):
    holder = released.stopped("vars", "set", "A=1", at="apply.written")
    waiting = released.start("vars", "set", "B=2")
    holder.is_killed()
    assert waiting.ended().status == 0
    assert cli_vars(released).keys() == {"B"}


def test_t13_a_holder_that_hangs_is_named_to_those_who_waited_too_long(released: Acme):
    holder = released.stopped("vars", "set", "A=1", at="apply.written")
    refused = released("vars", "set", "B=2", "--json", SVCCTL_LOCK_TIMEOUT="0.05")
    assert (refused.status, refused.json["error"]["code"]) == (7, "unreachable")
    said = rf"the store is locked by pid {holder.pid} on {re.escape(os.uname().nodename)} since \d{{4}}-\d\d-\d\dT"
    assert re.match(said, refused.json["error"]["message"])
    assert "waited 0.05 s" in refused.json["error"]["hint"]
    assert released("history", SVCCTL_LOCK_TIMEOUT="0.05").status == 0, "readers never wait"

    assert holder.goes_on().status == 0
    assert released("vars", "set", "B=2").status == 0
    assert cli_vars(released).keys() == {"A", "B"}


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "1e99"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(said: str, released: Acme):
    refused = released("history", SVCCTL_LOCK_TIMEOUT=said)
    assert (refused.status, refused.err.splitlines()) == (
        2,
        [f"error: SVCCTL_LOCK_TIMEOUT={said}: must be a number of seconds", "next: unset SVCCTL_LOCK_TIMEOUT"],
    )
