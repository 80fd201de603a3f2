"""Killed, or refused by the disk, at every system call that changes a file (T4), and at a sample of all others."""

import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from processes import Acme, Ended
from programs import FAULTS, needs

CHANGING = (
    "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "mkdir", "chmod", "fchmod", "flock",
)  # fmt: skip
OTHERS = ("openat", "read", "pread64", "newfstatat", "fcntl", "close", "mmap")
ERRORS = ("EIO", "ENOSPC")
COMMANDS = (
    "deploy",
    "promote staging production --yes",
    "rollback production --yes",
    "env clone staging preview",
    "env rename canary beta",
    "vars set LOG=debug --env staging",
    "secrets import values.env --env staging",
    "gc --yes",
)
FIRST = "deploy # the first"
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(", re.MULTILINE)


class Fault(NamedTuple):
    call: str
    when: int
    how: str
    """An error's name, or SIGKILL."""

    @property
    def injection(self) -> str:
        kind = "signal" if self.how == "SIGKILL" else "error"
        return f"inject={self.call}:{kind}={self.how}:when={self.when}"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    needs("strace")
    acme = Acme.released(tmp_path_factory.mktemp("released"))
    (acme.folder / "values.env").write_text("KEY=hunter2\n")
    acme.killed("deploy", "-s", "shop", at="upload.pack-named")  # for gc: a leftover
    for path in acme.store.glob("pending/*"):
        path.unlink()
    return acme


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    needs("strace")
    return Acme.new(tmp_path_factory.mktemp("fresh"))


@pytest.mark.parametrize("words", [*COMMANDS, FIRST])
def test_t4_a_fault_at_any_system_call(words: str, released: Acme, fresh: Acme, tmp_path: Path, done: list[str]):
    start = fresh if words == FIRST else released
    arguments = words.partition(" #")[0].split()
    before, changes = start.state(), start.changes()
    whole = start.copied(tmp_path / "whole")
    calls = counted(whole, arguments, tmp_path / "calls")
    after = whole.state()

    outcomes: Counter[str] = Counter()
    for number, fault in enumerate(chosen(calls, FAULTS // (len(COMMANDS) + 1))):
        acme = start.copied(tmp_path / str(number))
        ended = under(acme, arguments, "-e", f"trace={fault.call}", "-e", fault.injection)
        outcomes[outcome(ended, fault)] += 1
        assert acme.found().problems == (), (fault, ended)
        assert acme.state() in (before, after), (fault, ended)
        if ended.status != 0:
            again = acme(*arguments)
            assert again.status == 0, (fault, ended, again)
        assert acme.state() == after, (fault, ended)
        assert acme.changes() == changes + (words != "gc --yes"), (fault, ended)
        acme.swept()
        assert acme.found().leftovers == (), (fault, ended)
    done.append(f"{words}: {sum(outcomes.values())} faults of {sum(calls.values())} system calls: {dict(outcomes)}")


def under(acme: Acme, arguments: list[str], *options: str, log: Path | None = None) -> Ended:
    """Only svcctl's own calls: what git's do is git's."""
    strace = ("strace", "-qq", "-o", str(log or "/dev/null"), *options)
    return acme.start(*arguments, under=strace, PYTHONDONTWRITEBYTECODE="1").ended()


def counted(acme: Acme, arguments: list[str], log: Path) -> Counter[str]:
    ended = under(acme, arguments, "-e", f"trace={','.join((*CHANGING, *OTHERS))}", log=log)
    assert ended.status == 0, ended
    return Counter(_CALL.findall(log.read_text(errors="replace")))


def chosen(calls: Counter[str], wanted: int) -> Iterator[Fault]:
    """All that change files if they are few enough, and of the others as many again."""
    changing = [
        Fault(call, when, how)
        for call in CHANGING
        for when in range(1, calls[call] + 1)
        for how in ("SIGKILL", *ERRORS)
    ]
    others = [Fault(call, when, "SIGKILL") for call in OTHERS for when in range(1, calls[call] + 1)]
    dice = random.Random(7)
    most = min(len(changing), wanted * 3 // 4)
    yield from dice.sample(changing, most)
    yield from dice.sample(others, min(len(others), wanted - most))


def outcome(ended: Ended, fault: Fault) -> str:
    if ended.status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return "killed"
    assert ended.status in (0, 1, 7), (fault, ended)
    assert "Traceback" not in ended.err, (fault, ended)
    if ended.status:
        assert ended.err.startswith("error: "), (fault, ended)
    return "survived" if ended.status == 0 else "refused"
