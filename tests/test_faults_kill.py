"""Killed with SIGKILL at every named point (I8): the store is in the state before or after, the next command works, and
the same command typed again is done once."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace
from processes import Acme

from svcctl import faults
from svcctl.errors import INTERRUPTED

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
GC = ("gc.marked", "gc.committed", "upload.pack-written", "upload.pack-named", "gc.rewritten", "gc.unlinked")
KV = ("kv.before-commit", "kv.committed", "kv.copying", "kv.dropped")  # test_kv_store.py, test_cli_kv.py
MOVES = (
    "move.locked", "move.before-commit", "move.committed", "move.secrets", "export.written", "export.named",
)  # fmt: skip  # test_moves.py
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


@pytest.mark.parametrize("point", GC)
def test_a_gc_killed_anywhere_takes_nothing_that_is_needed(point: str, released: Acme, tmp_path: Path):
    acme = released.copied(tmp_path / "acme")
    unreached_bytes_and_a_leftover(acme)
    state = acme.state()
    assert len(acme.found().leftovers) == 1

    acme.killed("gc", "--yes", at=point)
    found = acme.found()
    assert (found.problems, acme.state()) == ((), state)
    acme.done("rollback", "--yes")
    acme.done("artifact", "get", "auth/staging", "restored")
    assert (acme.folder / "restored/worker.py").read_text() == (acme.folder / "auth/worker.py").read_text()
    assert nothing_is_left(acme)
    assert unneeded(acme) == 0


def unreached_bytes_and_a_leftover(acme: Acme) -> None:
    """In one pack: a large blob that no version reaches, and a small one that the live version of auth needs."""
    large = acme.folder / "auth/large.bin"
    large.write_bytes(bytes(100_000))
    acme.killed("deploy", "-s", "auth", at="upload.committed")
    large.unlink()
    acme.done("deploy", "-s", "auth")
    acme.killed("deploy", "-s", "shop", at="upload.pack-named")
    with closing(sqlite3.connect(acme.store / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE artifacts SET uploaded = 0")
    for path in acme.store.glob("pending/*"):
        path.unlink()  # nobody types them again


def unneeded(acme: Acme) -> int:
    """Bytes of packs that belong to no blob."""
    with closing(sqlite3.connect(acme.store / "ledger.db")) as ledger:
        ((needed,),) = ledger.execute("SELECT sum(size) FROM blobs")
    return sum(path.stat().st_size for path in acme.store.glob("packs/*")) - int(needed)


def test_every_named_point_is_tested():
    points = {point.partition(":")[0] for typed in COMMANDS for point in typed.points}
    assert points | {*CREATION, *GC, *KV, *MOVES} == set(faults.POINTS)


@pytest.mark.parametrize("point", CREATION)
def test_i8_a_first_deploy_killed_anywhere_is_done_once(point: str, tmp_path: Path):
    acme = Acme.new(tmp_path)
    acme.killed("deploy", at=point)
    assert acme.found().problems == ()
    again = acme.done("deploy", "--json").json
    assert (again["number"], acme.changes()) == (1, 1)
    assert set(acme.state()) == {"auth/staging", "shop/staging"}
    assert nothing_is_left(acme)


@pytest.mark.parametrize("point", ["upload.pack-named", "upload.before-commit", "upload.committed"])
def test_an_upload_that_is_interrupted_keeps_what_its_rows_name(point: str, tmp_path: Path):
    """Ctrl-C between the commit and the answer took the bytes away whose rows had just been written."""
    acme = Acme.new(tmp_path)
    ended = acme("deploy", SVCCTL_FAULT=f"{point}:1:INT")
    assert ended.status == INTERRUPTED
    found = acme.found()
    assert (found.problems, found.leftovers) == ((), ())
    acme.done("deploy")
    assert acme.changes() == 1
