"""Vars and secrets from the command line; what is in effect, and where each value is from."""

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transcript import Shell

FILE = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"
vars.ISSUER = "https://id.example.com"
secrets = ["SIGNING_KEY"]

[services.shop]
main = "shop/worker.py"
vars = { LOG_LEVEL = "info", LIMIT = 10 }   # both are tuned in production
bindings.AUTH = { service = "auth" }
bindings.CARTS = { kv = "carts" }

[services.shop.environments.production]
vars.LOG_LEVEL = "warn"
routes = ["shop.example.com/*"]
"""

Type = Callable[[str | bytes], None]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
        (folder / service / "worker.py").write_text("async def fetch(request, env, ctx):\n    ...\n")
    (folder / "services.toml").write_text(FILE)
    return Shell(folder, capsys)


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Type:
    """What the next command finds on standard input."""

    def typed(text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return typed


@pytest.fixture
def deployed(shell: Shell, type_in: Type) -> Shell:
    """Both services in staging, change c2."""
    type_in("s3cret")
    shell.done("secrets", "set", "SIGNING_KEY")
    shell.done("deploy")
    return shell


# ---- vars


def test_a_var_covers_the_files_value_until_it_is_unset(deployed: Shell) -> None:
    assert deployed.done("vars", "set", "LOG_LEVEL=debug", "-s", "shop") == (
        "configured in change c3\n  shop/staging@2: LOG_LEVEL changed\n"
    )
    assert deployed.done("vars", "list", "-s", "shop") == (
        "SERVICE  NAME       VALUE  FROM           COVERS\n"
        "shop     LIMIT      10     services.toml  -\n"
        "shop     LOG_LEVEL  debug  override       info\n"
    )
    assert deployed.done("vars", "unset", "LOG_LEVEL") == (
        "configured in change c4\n  shop/staging@3: LOG_LEVEL changed\n"
    )
    assert "override" not in deployed.done("vars", "list")


def test_without_a_service_all_of_them_get_the_var(deployed: Shell) -> None:
    assert deployed.done("vars", "set", "REGION=eu") == (
        "configured in change c3\n  auth/staging@3: REGION added\n  shop/staging@2: REGION added\n"
    )


def test_a_service_without_the_environment_is_left_out_and_named(deployed: Shell) -> None:
    deployed.done("env", "clone", "staging", "preview", "-s", "shop")

    assert deployed.done("vars", "set", "REGION=eu", "--env", "preview") == (
        "configured in change c4\n  shop/preview@2: REGION added\nnote: auth: has no environment preview; left out\n"
    )


def test_an_environment_that_nobody_has_is_not_found(deployed: Shell) -> None:
    said = deployed("vars", "set", "REGION=eu", "--env", "stagin")

    assert (said.status, said.out) == (3, "")
    assert "no environment 'stagin'\nhint: did you mean staging?\n" in said.err


def test_numbers_tables_and_texts_keep_their_type(deployed: Shell) -> None:
    deployed.done("vars", "set", "N:=10", "T=10", 'L:=["a", {"b": false}]', "E=", "W=a=b", "-s", "auth")

    vars = {each["name"]: each["value"] for each in deployed("vars", "list", "-s", "auth", "--json").json["vars"]}
    assert vars == {
        "ISSUER": "https://id.example.com", "N": 10, "T": "10", "L": ["a", {"b": False}], "E": "", "W": "a=b",
    }  # fmt: skip
    shown = deployed.done("vars", "list", "-s", "auth")
    assert "N       10 " in shown
    assert 'T       "10"' in shown
    assert 'E       ""' in shown


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("REGION", "'REGION' sets nothing"),
        ("9X=1", "'9X' must start with a letter or _"),
        ("N:=null", "N: null is no value of a var"),
        ("N:=nope", "is not JSON"),
        ("N:=NaN", "N: nan has no JSON form"),
        ("N:=[1, 9007199254740993]", "N.1: the number 9007199254740993 is beyond 2^53"),
        ("N=\udcff", "is not valid UTF-8"),
        ("N=" + "x" * 70_000, "N: holds 70,002 bytes as JSON; 65,536 is the limit (limits.var_size)"),
    ],
)
def test_a_value_that_no_var_may_have_is_a_usage_error(deployed: Shell, argument: str, message: str) -> None:
    said = deployed("vars", "set", argument)

    assert (said.status, said.out) == (2, "")
    assert message in said.err


def test_what_only_the_file_sets_is_refused_with_its_line(deployed: Shell) -> None:
    said = deployed("vars", "unset", "LIMIT")

    assert (said.status, said.out) == (1, "")
    assert said.err == (
        "error: LIMIT is set by services.toml:11, not from the command line\n"
        "hint: take it out of the file (or list it under `unset`) and deploy\n"
    )


def test_a_declared_secret_is_never_set_as_a_var(deployed: Shell) -> None:
    said = deployed("vars", "set", "SIGNING_KEY=s3cret")

    assert said.status == 1
    assert said.err == (
        "error: SIGNING_KEY is a secret of auth in services.toml\n"
        "next: svcctl secrets set SIGNING_KEY -s auth --env staging\n"
    )


def test_vars_are_imported_from_a_file_as_overrides(deployed: Shell) -> None:
    (deployed.folder / "local.env").write_text("# local\nexport A=1\nB=\"two\\nlines\"\nC='it # is'   # a remark\n")

    assert deployed.done("vars", "import", "local.env", "-s", "shop") == (
        "configured in change c3\n  shop/staging@2: A added, B added, C added\n"
    )
    vars = {each["name"]: each["value"] for each in deployed("vars", "list", "-s", "shop", "--json").json["vars"]}
    assert (vars["A"], vars["B"], vars["C"]) == ("1", "two\nlines", "it # is")


def test_vars_are_imported_into_the_file_for_the_next_deploy(deployed: Shell, type_in: Type) -> None:
    type_in('{"LIMIT": 20, "COLORS": ["red"]}')

    assert deployed.done("vars", "import", "-", "-s", "shop", "--write") == (
        "written to services.toml\n  [services.shop] LIMIT, COLORS\nnote: in effect with the next svcctl deploy\n"
    )
    assert 'vars = { LOG_LEVEL = "info", LIMIT = 20, COLORS = ["red"] }   # both are' in deployed.file.read_text()
    assert deployed("vars", "list", "-s", "shop", "--json").json["vars"][0]["value"] == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nB\n", "local.env:2: must be NAME=VALUE"),
        ('A=1\nB="open\n', "local.env:2: must be NAME=VALUE; a quote must be closed"),
        ("A=1\n\nhunter2/x=\n", "local.env:3: the name must start with"),
        ('{"A": 1,}', "local.env:1: is not JSON"),
        ("", "local.env holds no"),
    ],
)
@pytest.mark.parametrize("kind", ["vars", "secrets"])
def test_a_broken_file_is_named_with_its_line_and_never_quoted(
    deployed: Shell, kind: str, text: str, message: str
) -> None:
    (deployed.folder / "local.env").write_text(text)
    said = deployed(kind, "import", "local.env", "-s", "shop")

    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert "hunter2" not in said.err


# ---- secrets


def test_a_secret_goes_to_the_services_that_list_it(shell: Shell, type_in: Type) -> None:
    assert shell.done("secrets", "list") == (
        "SERVICE  ENVIRONMENT  NAME         VALUE\n"
        "auth     production   SIGNING_KEY  missing\n"
        "auth     staging      SIGNING_KEY  missing\n"
        "note: svcctl secrets set SIGNING_KEY -s auth --env production\n"
    )
    type_in("s3cret\n")
    assert shell.done("secrets", "set", "SIGNING_KEY").endswith("  auth/staging@1: ISSUER added, SIGNING_KEY added\n")
    type_in("s3cret")
    assert shell.done("secrets", "set", "SIGNING_KEY").startswith("nothing to do\n")
    type_in("s3cret\n")
    assert "auth/staging@2: SIGNING_KEY changed\n" in shell.done("secrets", "set", "SIGNING_KEY", "--raw")

    assert shell("secrets", "list", "--env", "staging", "--json").json == {
        "secrets": [
            {
                "name": "SIGNING_KEY", "ref": "auth/staging", "service": "auth", "environment": "staging",
                "set": True, "required": True,
            }
        ]
    }  # fmt: skip


def test_a_secret_that_no_service_lists_needs_one_named(deployed: Shell, type_in: Type) -> None:
    type_in("x")
    assert deployed("secrets", "set", "SIGNIN_KEY").err == (
        "error: no service lists SIGNIN_KEY under `secrets` for staging\n"
        "hint: did you mean SIGNING_KEY?\n"
        "next: svcctl secrets set SIGNING_KEY --env staging\n"
    )
    said = deployed("secrets", "set", "TOTP")
    assert (said.status, said.err.splitlines()[-1]) == (1, "next: svcctl secrets set TOTP --env staging -s auth")
    assert "shop/staging@2: TOTP added\n" in deployed.done("secrets", "set", "TOTP", "-s", "shop")


def test_two_services_that_call_each_other_can_both_be_given_their_secret_first(shell: Shell, type_in: Type) -> None:
    """Neither could be deployed without its secret."""
    circle = FILE.replace('main = "shop', 'secrets = ["CARD_KEY"]\nmain = "shop')
    shell.file.write_text(
        circle.replace('secrets = ["SIGNING_KEY"]', 'secrets = ["SIGNING_KEY"]\nbindings.SHOP = { service = "shop" }')
    )
    for name in ("SIGNING_KEY", "CARD_KEY"):
        type_in("s3cret")
        shell.done("secrets", "set", name)

    assert "auth/staging@2: code" in shell.done("deploy")


def test_an_empty_value_is_no_secret(deployed: Shell, type_in: Type) -> None:
    type_in("\n")
    said = deployed("secrets", "set", "SIGNING_KEY")

    assert (said.status, said.err) == (
        2,
        "error: SIGNING_KEY: its value is empty\nnext: svcctl secrets set SIGNING_KEY < FILE\n",
    )


def test_secrets_are_imported_in_one_change(deployed: Shell, type_in: Type) -> None:
    type_in('SIGNING_KEY="-----BEGIN KEY-----\nabc=\n-----END KEY-----"\n')

    assert deployed.done("secrets", "import", "-", "--env", "production") == (
        "configured in change c3\n  auth/production@1: ISSUER added, SIGNING_KEY added\n"
    )


def test_a_purge_needs_the_name_typed_and_destroys_the_values(deployed: Shell) -> None:
    said = deployed("secrets", "unset", "SIGNING_KEY", "--purge")
    assert (said.status, said.out) == (5, "")
    assert "error: destroy every stored value of SIGNING_KEY: this needs its name typed\n" in said.err
    assert said.err.endswith("next: svcctl secrets unset SIGNING_KEY --purge --confirm SIGNING_KEY\n")

    assert deployed.done("secrets", "unset", "SIGNING_KEY", "--purge", "--confirm", "SIGNING_KEY") == (
        "configured in change c3\n"
        "  auth/staging: older values of SIGNING_KEY destroyed\n"
        "  auth/staging@3: SIGNING_KEY removed\n"
    )
    said = deployed("rollback", "staging", "-s", "auth", "--to", "2", "--restore-secrets", "--yes")
    assert said.status == 1
    assert "SIGNING_KEY" in said.err


def test_how_to_undo_a_restored_secret_undoes_it(deployed: Shell, type_in: Type) -> None:
    type_in("rotated")
    deployed.done("secrets", "set", "SIGNING_KEY")
    before = deployed("show", "auth/staging", "--json").json["settings"]["digest"]

    said = deployed("rollback", "staging", "-s", "auth", "--to", "2", "--restore-secrets")
    assert "note: to undo this: svcctl rollback staging -s auth --to c3 --restore-secrets\n" in said.out

    assert deployed("rollback", "staging", "-s", "auth", "--to", "c3", "--restore-secrets").status == 0
    assert deployed("show", "auth/staging", "--json").json["settings"]["digest"] == before


def test_a_roll_back_advises_only_what_can_be_done(deployed: Shell) -> None:
    """The code that stays is the first there was: `--code-only` would be refused."""
    deployed.done("vars", "set", "A=1", "-s", "shop")

    said = deployed("rollback", "staging", "--dry-run")
    assert "code stays at" in said.out
    assert "--code-only" not in said.out
    assert deployed("rollback", "staging", "--code-only").status == 1


def test_an_empty_secret_says_the_whole_command_again(deployed: Shell, type_in: Type) -> None:
    type_in("")
    said = deployed("secrets", "set", "K", "-s", "shop", "--env", "production")
    assert said.err.endswith("next: svcctl secrets set K -s shop --env production < FILE\n")

    (deployed.folder / "s.env").write_text("K=\n")
    said = deployed("secrets", "import", str(deployed.folder / "s.env"), "-s", "shop")
    assert (said.status, "next:" in said.err) == (2, False)


def test_a_new_domain_can_be_looked_at_first(deployed: Shell) -> None:
    deployed.file.write_text('domain = "example.org"\n' + deployed.file.read_text())

    said = deployed.done("deploy", "--dry-run")
    assert "  shop/staging: moves from staging--shop.localhost to staging--shop.example.org\n" in said
    assert deployed("deploy").status == 5


def test_rewrap_makes_a_new_key_and_values_stay_the_same(deployed: Shell, type_in: Type) -> None:
    key = deployed.folder / ".svcctl" / "secret.key"
    before = key.read_bytes()

    assert deployed.done("secrets", "rewrap") == "1 stored value sealed again\n"
    assert key.read_bytes() != before
    type_in("s3cret")
    assert deployed.done("secrets", "set", "SIGNING_KEY").startswith("nothing to do\n")


def test_a_terminal_is_asked_without_echo(deployed: Shell) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "svcctl", "-C", str(deployed.folder), "secrets", "set", "SIGNING_KEY"]
    environ = os.environ | {"SVCCTL_ACTOR": "ada", "TERM": "dumb"}
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
    ) as asked:
        os.close(slave)
        seen = b""
        while b"SIGNING_KEY: " not in seen:
            seen += os.read(master, 1000)
        os.write(master, b"hunter2\n")
        while part := _read(master):
            seen += part
    os.close(master)

    assert asked.returncode == 0
    assert b"auth/staging@3: SIGNING_KEY changed" in seen
    assert b"hunter2" not in seen


def _read(terminal: int) -> bytes:
    """Linux reports the other end's close as an error."""
    try:
        return os.read(terminal, 1000)
    except OSError:
        return b""


# ---- config


def test_config_show_names_each_values_origin_before_the_first_deploy(shell: Shell) -> None:
    assert (
        shell.done("config", "show", "--env", "production")
        == """\
auth/production
KIND    NAME         VALUE                   FROM                         COVERS
var     ISSUER       https://id.example.com  services.toml:6 (inherited)  -
secret  SIGNING_KEY  missing                 services.toml:7 (inherited)  -
shop/production
KIND     NAME                VALUE                       FROM                          COVERS
var      LIMIT               10                          services.toml:11 (inherited)  -
var      LOG_LEVEL           warn                        services.toml:16              info (services.toml:11)
binding  AUTH                service auth                services.toml:12 (inherited)  -
binding  CARTS               kv carts → shop/production  services.toml:13 (inherited)  -
route    shop.example.com/*  -                           services.toml:17              -
"""
    )


def test_config_show_lays_overrides_over_the_file_as_it_is_now(deployed: Shell) -> None:
    deployed.done("vars", "set", "LOG_LEVEL=debug", "-s", "shop")
    deployed.file.write_text(FILE.replace('"info"', '"error"'))

    found = {each["name"]: each for each in _settings(deployed, "shop", "staging")}

    assert found["LOG_LEVEL"]["value"] == "debug"
    assert found["LOG_LEVEL"]["origin"] == "override"
    assert found["LOG_LEVEL"]["shadows"] == {"value": "error", "origin": "services.toml:11"}
    assert found["LIMIT"]["origin"] == "services.toml:11"
    assert found["LIMIT"]["inherited"]
    assert found["AUTH"]["leads_to"] == "auth/staging"
    assert found["CARTS"]["leads_to"] == "shop/staging"
    assert _settings(deployed, "auth", "staging")[1]["set"]


def test_a_clone_follows_the_table_it_began_with_but_has_no_routes_of_it(deployed: Shell, type_in: Type) -> None:
    type_in("k")
    deployed.done("secrets", "set", "SIGNING_KEY", "--env", "production")
    deployed.done("promote", "staging", "production", "--yes")
    deployed.done("env", "clone", "production", "canary")

    found = {each["name"]: each for each in _settings(deployed, "shop", "canary")}

    assert found["LOG_LEVEL"]["value"] == "warn"
    assert "shop.example.com/*" not in found
    assert found["AUTH"]["leads_to"] == "auth/canary"


def test_a_new_binding_shows_where_it_will_lead(deployed: Shell) -> None:
    deployed.file.write_text(FILE + 'bindings.OTHER = { service = "auth", environment = "staging" }\n')

    found = {each["name"]: each for each in _settings(deployed, "shop", "production")}

    assert found["OTHER"]["leads_to"] == "auth/staging"
    assert found["AUTH"]["leads_to"] == "auth/production"


def test_config_check_finds_what_is_named_and_not_there(shell: Shell) -> None:
    assert shell.done("config", "check") == "services.toml is right: project acme, auth, shop\n"
    (shell.folder / "auth" / "worker.py").unlink()
    shell.file.write_text(FILE.replace('main = "shop/worker.py"', 'main = "shop/worker.py"\nwith = ["common/"]'))

    said = shell("config", "check")

    assert (said.status, said.out) == (2, "")
    assert said.err == (
        "error: services.toml:5: services.auth.main: there is no file auth/worker.py\n"
        "services.toml:11: services.shop.with[0]: there is no folder common\n"
    )


def _settings(shell: Shell, service: str, environment: str) -> list[dict[str, object]]:
    said = shell("config", "show", "--env", environment, "-s", service, "--json")
    found: list[dict[str, object]] = json.loads(said.out)["services"][0]["settings"]
    return found
