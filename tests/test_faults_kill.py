"""Killed with SIGKILL at every named point (I8): the store is in the state before or after, the next command works, and
the same command typed again is done once."""

from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace
from processes import Acme

UPLOAD = ("upload.pack-written", "upload.pack-named", "upload.before-commit", "upload.committed")
COMMIT = ("apply.locked", "apply.planned", "apply.written", "apply.before-commit", "apply.committed", "answer.printed")
CHANGE = ("pending.kept", "plan.agreed", *COMMIT)


class Typed(NamedTuple):
    words: str
    points: tuple[str, ...] = CHANGE
    input: str | None = None

    @property
    def arguments(self) -> list[str]:
        return self.words.split()


COMMANDS = (
    Typed("deploy", (*CHANGE[:2], *UPLOAD, *(f"{point}:2" for point in UPLOAD), *COMMIT)),
    Typed("promote staging production --yes"),
    Typed("rollback production --yes"),
    Typed("env clone staging preview"),
    Typed("env rename canary beta"),
    Typed("env delete canary --confirm canary", ("apply.written", "apply.committed")),
    Typed("vars set LOG=debug --env staging"),
    Typed("secrets set KEY --env staging", input="hunter2"),
    Typed("tag shop/staging v3", ("apply.written", "apply.committed")),
)
CASES = [pytest.param(typed, point, id=f"{typed.words}-{point}") for typed in COMMANDS for point in typed.points]
CREATION = ("store.created", "migrate.before-commit", "migrate.committed", *CHANGE)
GC = ("gc.marked", "gc.committed", "gc.unlinked")
DONE = ("apply.committed", "answer.printed")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    return Acme.released(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def after(released: Acme, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tuple[int, str | None]]]:
    """The state that each command leads to when nothing goes wrong."""
    states = {}
    for number, typed in enumerate(COMMANDS):
        acme = released.copied(tmp_path_factory.mktemp("after") / str(number))
        acme.done(*typed.arguments, typed=typed.input)
        states[typed.words] = acme.state()
    return states


@pytest.mark.parametrize(("typed", "point"), CASES)
def test_i8_a_command_killed_anywhere_is_done_once(
    typed: Typed, point: str, released: Acme, after: dict[str, dict[str, tuple[int, str | None]]], tmp_path: Path
):
    acme = released.copied(tmp_path / "acme")
    before, changes = acme.state(), acme.changes()

    acme.killed(*typed.arguments, at=point, typed=typed.input)
    was_done = point.partition(":")[0] in DONE
    assert acme.found().problems == ()
    assert acme.state() == (after[typed.words] if was_done else before)
    acme.done("tag", "auth/staging", "next")

    again = acme.done(*typed.arguments, "--json", typed=typed.input)
    assert ("by a command that ended before it could say so" in again.err) == was_done
    assert again.json["changed"] is True
    assert acme.changes() == changes + 2
    assert acme.state() == after[typed.words]
    assert nothing_is_left(acme)


def nothing_is_left(acme: Acme) -> bool:
    acme.swept()
    assert acme.found() == replace(acme.found(), problems=(), leftovers=())
    assert list(acme.store.glob("pending/*")) == []
    assert list(acme.store.glob("**/*.tmp")) == []
    return True


@pytest.mark.parametrize("point", CREATION)
def test_i8_a_first_deploy_killed_anywhere_is_done_once(point: str, tmp_path: Path):
    acme = Acme.new(tmp_path)
    acme.killed("deploy", at=point)
    assert acme.found().problems == ()
    again = acme.done("deploy", "--json").json
    assert (again["number"], acme.changes()) == (1, 1)
    assert set(acme.state()) == {"auth/staging", "shop/staging"}
    assert nothing_is_left(acme)
