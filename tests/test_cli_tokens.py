"""Tokens as they are typed: transcripts."""

import re
from pathlib import Path

import pytest
from transcript import Shell

from svcctl import tokens

FILE = """\
project = "acme"
default_environment = "staging"

[services.shop]
main = "shop/worker.py"
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    (tmp_path / "services.toml").write_text(FILE)
    return Shell(tmp_path, capsys)


def hidden(text: str) -> str:
    """With the id and the secret of a new token as words."""
    return re.sub(r"\b[0-9a-f]{12}\b", "ID", re.sub(r"svc_\w{49}", "SECRET", text))


def test_a_token_is_made_listed_and_taken_back(shell: Shell) -> None:
    made = shell("token", "create", "--name", "ci", "--role", "deployer", "--service", "shop*", "--env", "staging")
    assert (made.status, made.err) == (0, "")
    assert hidden(made.out) == (
        "token 'ci' (ID): deployer for services shop* in environments staging\n"
        "note: this is its secret; it is not stored, and never shown again\n"
        "SECRET\n"
    )
    assert tokens.is_token(made.out.split()[-1])
    assert hidden(shell.done("token", "list")) == (
        "NAME  ID            ROLE      SCOPE                                   USED   STATE\n"
        "ci    ID  deployer  services shop* in environments staging  never  in force\n"
    )
    assert hidden(shell.done("token", "revoke", "ci")) == (
        "revoked in change c2\n  token 'ci' (ID): revoked; nothing can be done with it from now on\n"
    )
    assert (
        shell.done("token", "list") == "no tokens are in force\nnote: 1 revoked or expired: svcctl token list --all\n"
    )


def test_the_secret_is_in_one_answer_alone(shell: Shell) -> None:
    made = shell("token", "create", "--name", "ci", "--role", "viewer", "--expires", "90d", "--json").json
    assert tokens.is_token(made["secret"])
    assert made["change"]["kind"] == "create-token"
    (token,) = shell("token", "list", "--json").json["tokens"]
    assert (token["name"], token["role"], token["services"]) == ("ci", "viewer", ["*"])
    said = "".join(shell(*words.split()).out for words in ("token list --json", "audit --json", "verify --json"))
    assert made["secret"] not in said
    assert all(made["secret"].encode() not in path.read_bytes() for path in shell.folder.rglob("*") if path.is_file())


def test_what_can_not_be_made(shell: Shell) -> None:
    wrong = shell("token", "create", "--name", "ci", "--role", "boss")
    assert wrong.status == 2
    assert "must be one of viewer, deployer, promoter, admin, runtime" in wrong.err
    shell("token", "create", "--name", "ci", "--role", "viewer")
    again = shell("token", "create", "--name", "ci", "--role", "viewer")
    assert again.status == 1
    assert "if it is lost, revoke the token" in again.err
    assert shell("token", "revoke", "nobody").status == 3


def test_a_dry_run_makes_none(shell: Shell) -> None:
    said = shell("token", "create", "--name", "ci", "--role", "viewer", "--dry-run")
    assert hidden(said.out) == "create would:\n  token 'ci' (ID): viewer for all services in all environments\n"
    assert shell.done("token", "list") == "no tokens are in force\n"


def test_nobody_was_turned_away_yet(shell: Shell) -> None:
    shell("token", "create", "--name", "ci", "--role", "viewer")
    assert shell.done("audit", "--refusals") == "nobody was turned away yet\n"
