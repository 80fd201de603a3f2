"""Every command with standard input closed, in an empty folder and in a project: it ends, its status is one of the
contract's, and with --json standard output is one JSON document."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from processes import Acme, Ended

from svcctl.cli import catalogue

CONTRACT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
ARGUMENTS = {
    "init": "",
    "promote": "staging production",
    "tag": "shop/staging now",
    "env create": "fresh",
    "env clone": "staging preview",
    "env rename": "canary beta",
    "env delete": "canary",
    "env show": "staging",
    "env protect": "canary",
    "service delete": "shop",
    "vars set": "A=1",
    "vars unset": "A",
    "vars import": "vars.env",
    "secrets set": "KEY",
    "secrets unset": "KEY",
    "secrets import": "values.env",
    "bind": "AGAIN --service auth -s shop",
    "unbind": "AUTH -s shop",
    "routes add": "shop.example.com/* -s shop --env canary",
    "routes remove": "shop.example.com/* -s shop --env canary",
    "show": "shop/staging",
    "where": "0123456",
    "artifact get": "shop/staging taken",
    "completion": "bash",
    "call": "shop/staging /",
    "kv key get": "CARTS key -s shop",
    "kv key put": "CARTS key value -s shop",
    "kv key list": "CARTS -s shop",
    "kv key delete": "CARTS key -s shop",
    "kv import": "CARTS vars.env -s shop",
    "kv export": "CARTS -s shop",
    "serve": "--port 0",
    "api": "--port 0",
    "export": "out.svcctl",
    "import": "nothing.svcctl",
    "backend copy": "nowhere there",
    "backend add": "team http://127.0.0.1:1",
    "backend use": "nobody",
    "login": "http://127.0.0.1:1",
    "logout": "http://127.0.0.1:1",
    "token create": "--name ci --role viewer",
    "token revoke": "nobody",
    "dev": "--port 0",
}
"""What each needs to be understood. All others need nothing."""

IN_A_PROJECT = dict.fromkeys(catalogue.COMMANDS, 0) | {
    "init": 1,
    "promote": 5,
    "rollback": 5,
    "env delete": 5,
    "service delete": 5,
    "vars unset": 3,
    "secrets set": 2,
    "where": 3,
    "routes remove": 3,
    "secrets unset": 3,
    "call": 1,
    "import": 3,
    "backend copy": 3,
    "backend use": 3,
    "login": 2,
    "token revoke": 3,
    "whoami": 0,
    **dict.fromkeys((name for name in catalogue.COMMANDS if name.startswith("kv ")), 3),
}
"""How each ends, when nobody can be asked."""

ANYWHERE = {"init", "completion", "version", "backend list", "backend add", "logout"}
"""Those that need no project."""

STAYING = ("serve", "dev", "api")
"""Those that go on until they are told to end."""


def typed(command: str) -> list[str]:
    return [*command.split(), *ARGUMENTS.get(command, "").split()]


def with_closed_input(acme: Acme, *arguments: str, folder: Path | None = None) -> Ended:
    where = ("-C", str(folder)) if folder else ()
    return acme.start(*where, *arguments, before=lambda: os.close(0)).ended()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    return Acme.released(tmp_path_factory.mktemp("released"))


@pytest.fixture
def acme(released: Acme, tmp_path: Path) -> Acme:
    acme = released.copied(tmp_path / "copy")
    (acme.folder / "values.env").write_text("KEY=hunter2\n")
    (acme.folder / "vars.env").write_text("LOG=debug\n")
    return acme


@pytest.mark.parametrize("command", [name for name in catalogue.COMMANDS if name not in STAYING])
def test_a_command_in_a_project_asks_nobody_and_answers(command: str, acme: Acme):
    state, changes = acme.state(), acme.changes()
    ended = with_closed_input(acme, *typed(command), "--json")
    assert ended.status == IN_A_PROJECT[command], ended
    assert isinstance(json.loads(ended.out), dict)
    assert "Traceback" not in ended.err
    if ended.status:
        assert (acme.state(), acme.changes()) == (state, changes)
    if ended.status == 5:
        assert "next: svcctl " in ended.err


def announced(lines: Iterable[str]) -> Any:
    """The first document; others may follow."""
    said = ""
    for line in lines:
        said += line
        with suppress(json.JSONDecodeError):
            return json.loads(said)
    pytest.fail(f"it ended after {said!r}")


@pytest.mark.parametrize("command", STAYING)
def test_a_command_that_stays_answers_and_ends_when_it_is_told(command: str, acme: Acme):
    process = acme.start(*typed(command), "--json", before=lambda: os.close(0)).process
    assert process.stdout
    assert announced(process.stdout)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (0, False), err


@pytest.mark.parametrize("command", catalogue.COMMANDS)
def test_a_command_in_an_empty_folder_says_what_is_missing(command: str, acme: Acme, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = with_closed_input(acme, *typed(command), "--json", folder=empty)
    document = json.loads(ended.out)
    if command in ANYWHERE:
        assert ended.status == 0, ended
        return
    assert ended.status in CONTRACT - {0}, ended
    assert document["error"]["message"]
    assert list(empty.iterdir()) == [], "nothing is made by a command that failed"


@pytest.mark.parametrize("command", catalogue.COMMANDS)
def test_a_command_with_an_option_it_has_not_is_a_usage_error(command: str, acme: Acme):
    ended = with_closed_input(acme, *typed(command), "--no-such-option", "--json")
    assert (ended.status, json.loads(ended.out)["error"]["code"]) == (2, "usage")
