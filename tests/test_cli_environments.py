"""Environments and services from the command line: they come, change their name, are protected, go."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scene import Scene
from transcript import Said, Shell

from svcctl import commands, config
from svcctl.backend.base import Filter
from svcctl.backend.store import Store

FILE = """\
# the shop of acme
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"
secrets = ["SIGNING_KEY"]
optional = ["SIGNING_KEY"]   # until the key arrives

[services.shop]
main = "shop/worker.py"
bindings.AUTH = { service = "auth" }
bindings.CARTS = { kv = "carts" }

[services.shop.environments.staging]
vars.STRIPE_MODE = "test"
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
        (folder / service / "worker.py").write_text("async def fetch(request, env, ctx):\n    ...\n")
    (folder / "services.toml").write_text(FILE)
    return Shell(folder, capsys)


@pytest.fixture
def deployed(shell: Shell) -> Shell:
    """Both services in staging and production."""
    shell.done("deploy")
    shell.done("promote", "staging", "production", "--yes")
    return shell


# ---- create


def test_an_environment_is_created_and_named_in_the_file(deployed: Shell) -> None:
    assert deployed.done("env", "create", "qa") == (
        "created in change c3\n"
        "  auth/qa: created at qa--auth.localhost\n"
        "  shop/qa: created at qa--shop.localhost\n"
        "note: services.toml names qa now\n"
    )
    text = deployed.file.read_text()
    assert "[services.auth.environments.qa]\n" in text
    assert "[services.shop.environments.qa]\n" in text
    assert "# until the key arrives" in text


def test_a_name_the_file_has_leaves_the_file_alone(shell: Shell) -> None:
    assert "created in change c1\n" in shell.done("env", "create", "staging")
    assert shell.file.read_text() == FILE


@pytest.mark.parametrize("option", [("--no-write",), ("--ttl", "7d")])
def test_the_file_is_left_alone_on_request_and_for_what_will_not_last(deployed: Shell, option: tuple[str, ...]) -> None:
    deployed.done("env", "create", "qa", *option)

    assert deployed.file.read_text() == FILE


def test_only_the_services_asked_for_get_it(deployed: Shell) -> None:
    deployed.done("env", "create", "qa", "-s", "auth")

    assert "services.shop.environments.qa" not in deployed.file.read_text()
    assert [each["ref"] for each in deployed("env", "show", "qa", "--json").json["environments"]] == ["auth/qa"]


def test_a_dry_run_changes_neither_store_nor_file(deployed: Shell) -> None:
    said = deployed("env", "create", "qa", "--dry-run")

    assert said == Said(
        0,
        "create would:\n  auth/qa: created at qa--auth.localhost\n  shop/qa: created at qa--shop.localhost\n",
        "note: services.toml would name qa then\n",
    )
    assert deployed.file.read_text() == FILE
    assert deployed("env", "show", "qa").status == 3


def test_one_that_exists_is_refused_or_left_as_it_is(deployed: Shell) -> None:
    assert deployed("env", "create", "staging") == Said(
        1,
        "",
        "error: auth/staging exists already\nhint: --exist-ok leaves it as it is\nnext: svcctl env show auth/staging\n",
    )
    assert deployed.done("env", "create", "staging", "--exist-ok") == (
        "nothing to do\n"
        "note: auth/staging: exists already; left as it is\n"
        "note: shop/staging: exists already; left as it is\n"
    )


def test_a_bad_name_is_refused_before_the_file_is_touched(deployed: Shell) -> None:
    assert deployed("env", "create", "QA") == Said(
        1,
        "",
        "error: 'QA' can't name an environment: it must start with a letter a-z and hold only a-z, 0-9 and -\n",
    )
    assert deployed.file.read_text() == FILE


def test_production_can_be_the_first_thing_that_is_created(shell: Shell) -> None:
    assert "shop/production: created at shop.localhost" in shell.done("env", "create", "production")


# ---- rename


def test_a_rename_moves_the_hostname_and_leaves_a_note_about_the_file(deployed: Shell) -> None:
    assert deployed.done("env", "rename", "staging", "stage") == (
        "renamed in change c3\n"
        "  auth/staging: renamed to stage, now at stage--auth.localhost\n"
        "  shop/staging: renamed to stage, now at stage--shop.localhost\n"
        "note: services.toml still says staging: write stage there, or the next deploy to staging makes it anew\n"
    )
    assert deployed.file.read_text() == FILE
    assert deployed("env", "show", "shop/stage", "--json").json["environments"][0]["head"] == 1


def test_a_rename_can_write_the_file_too(deployed: Shell) -> None:
    assert deployed.done("env", "rename", "staging", "stage", "--write").endswith(
        "note: services.toml says stage now\n"
    )
    assert deployed.file.read_text() == FILE.replace("staging", "stage")


def test_a_rename_in_the_file_is_one_of_all_services(deployed: Shell) -> None:
    assert deployed("env", "rename", "staging", "stage", "--write", "-s", "shop") == Said(
        2,
        "",
        "error: --write renames in all services of the file\nhint: leave out -s, or --write\n",
    )


def test_production_keeps_its_name(deployed: Shell) -> None:
    said = deployed("env", "rename", "production", "live", "--write")

    assert said == Said(1, "", "error: production can't be renamed, and nothing can take its name\n")
    assert deployed.file.read_text() == FILE


@pytest.mark.parametrize("fault", ["pending.kept", "apply.before-commit", "apply.committed"])
def test_i8_a_rename_killed_at_any_point_is_finished_by_typing_it_again(deployed: Shell, fault: str) -> None:
    killed = _process(deployed, "env", "rename", "staging", "stage", "--write", SVCCTL_FAULT=fault)
    assert killed.returncode == -signal.SIGKILL

    again = _process(deployed, "env", "rename", "staging", "stage", "--write")
    assert again.stdout.endswith("note: services.toml says stage now\n")
    assert deployed.file.read_text() == FILE.replace("staging", "stage")
    with closing(Store.open(deployed.folder / ".svcctl")) as store:
        changes = store.changes("acme", filter=Filter(), limit=10).changes
    assert [change.kind for change in changes] == ["rename", "promote", "deploy"]


def _process(shell: Shell, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "svcctl", *arguments],
        cwd=shell.folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "SVCCTL_ACTOR": "Ada <ada@example.com>",
            **environ,
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


# ---- delete, prune


def test_deleting_needs_the_name_typed(deployed: Shell) -> None:
    assert deployed("env", "delete", "staging") == Said(
        5,
        "",
        "delete would:\n"
        "  auth/staging: deleted\n"
        "  shop/staging: deleted\n"
        "error: delete staging: this needs its name typed\n"
        "hint: add --confirm staging\n"
        "next: svcctl env delete staging --confirm staging\n",
    )
    assert deployed("env", "delete", "staging", "--confirm", "stagnig").status == 5
    assert deployed.done("env", "delete", "staging", "--confirm", "staging") == (
        "deleted in change c3\n"
        "  auth/staging: deleted\n"
        "  shop/staging: deleted\n"
        "note: services.toml still names staging: the next deploy or promote to it makes it anew\n"
    )
    assert "staging deleted" in deployed.done("history", "shop/staging", "--deleted")


def test_an_unknown_name_is_answered_with_what_there_is(deployed: Shell) -> None:
    assert deployed("env", "delete", "stagin") == Said(
        3, "", "error: no environment 'stagin'\nhint: did you mean staging?\nnext: svcctl env list\n"
    )


def test_prune_deletes_what_outlived_its_time_and_asks_nothing(deployed: Shell) -> None:
    project = config.load(deployed.file).as_sent()
    with closing(Store.open(deployed.folder / ".svcctl", clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))) as store:
        for name, ttl in (("old", 60), ("lasting", None)):
            store.apply(commands.CreateEnvironment(id=commands.new_id(), project=project, environment=name, ttl=ttl))

    assert deployed.done("env", "prune", "--dry-run") == ("prune would:\n  auth/old: deleted\n  shop/old: deleted\n")
    assert deployed.done("env", "prune") == "pruned in change c5\n  auth/old: deleted\n  shop/old: deleted\n"
    assert deployed.done("env", "prune") == "nothing to do\n"


# ---- protect


def test_protection_is_set_and_lifted(deployed: Shell) -> None:
    assert deployed.done("env", "protect", "production") == (
        "done in change c3\n  auth/production: protected\n  shop/production: protected\n"
    )
    assert deployed("deploy", "--env", "production").status == 1
    assert deployed.done("env", "protect", "production", "--off") == (
        "done in change c4\n  auth/production: no longer protected\n  shop/production: no longer protected\n"
    )


# ---- list, show


def test_the_list_shows_where_each_one_is_and_how_it_does(deployed: Shell) -> None:
    deployed.done("env", "clone", "shop/staging", "preview", "--ttl", "7d")
    deployed.done("env", "protect", "production", "-s", "shop")
    deployed.done("env", "create", "qa", "-s", "auth", "--no-write")
    deployed.done("routes", "add", "shop.example.com/*", "-s", "shop", "--cli")

    rows = [line.split("  ") for line in deployed.done("env", "list").splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["SERVICE", "ENVIRONMENT", "VERSION", "AGE", "ADDRESS", "PROTECTED", "EXPIRES", "STATE"],
        ["auth", "production", "1", "TIME", "auth.localhost", "-", "-", "live"],
        ["auth", "qa", "-", "-", "qa--auth.localhost", "-", "-", "no code"],
        ["auth", "staging", "1", "TIME", "staging--auth.localhost", "-", "-", "live"],
        ["shop", "preview", "1", "TIME", "preview--shop.localhost", "-", "TIME", "live"],
        ["shop", "production", "1", "TIME", "shop.localhost shop.example.com/*", "yes", "-", "live"],
        ["shop", "staging", "1", "TIME", "staging--shop.localhost", "-", "-", "live"],
    ]


def test_the_list_as_json_keeps_its_shape(deployed: Shell) -> None:
    (first, *_) = deployed("env", "list", "-s", "shop", "--json").json["environments"]

    assert {key: first[key] for key in ("ref", "service", "name", "hostname", "head", "protected", "routes")} == {
        "ref": "shop/production",
        "service": "shop",
        "name": "production",
        "hostname": "shop.localhost",
        "head": 1,
        "protected": False,
        "routes": [],
    }
    assert deployed("env", "list", "-s", "shpo") == Said(
        3, "", "error: no service 'shpo' in the store\nhint: did you mean shop?\n"
    )


def test_show_says_all_of_one_environment(deployed: Shell) -> None:
    deployed.done("env", "clone", "shop/staging", "preview", "--ttl", "7d")

    lines = deployed.done("env", "show", "shop/preview").splitlines()
    assert [line for line in lines if not line.startswith("code:")] == [
        "environment:  shop/preview",
        "hostname:     preview--shop.localhost",
        "version:      1: cloned from staging@1",
        "since:        TIME",
        "protected:    no",
        "cloned from:  shop/staging",
        "expires:      TIME",
        "follows:      [services.shop.environments.staging]",
        "vars:         STRIPE_MODE",
        "env.AUTH:     service auth → auth/staging",
        "env.CARTS:    kv carts (its own)",
    ]


def test_show_names_what_keeps_one_from_being_live(deployed: Shell) -> None:
    deployed.file.write_text(FILE.replace('optional = ["SIGNING_KEY"]   # until the key arrives\n', ""))
    deployed.done("deploy", "-s", "shop")
    (deployed.folder / "keys.json").write_text('{"SIGNING_KEY": "k"}')
    deployed.done("deploy", "-s", "auth", "--secrets-file", "keys.json")
    deployed.done("env", "clone", "auth/staging", "preview", "--no-secrets")

    assert "not live:     lacks secret SIGNING_KEY\n" in deployed.done("env", "show", "preview")
    assert "not live: lacks secret SIGNING_KEY\n" in deployed.done("env", "list")


def test_show_of_a_version_points_to_the_command_for_versions(deployed: Shell) -> None:
    assert deployed("env", "show", "shop/staging@1") == Said(
        2, "", "error: 'shop/staging@1' is one version\nnext: svcctl show shop/staging@1\n"
    )


# ---- services


def test_services_are_listed_with_what_was_never_deployed(shell: Shell) -> None:
    shell.done("deploy", "-s", "auth")

    assert shell.done("service", "list") == (
        "SERVICE  PRODUCTION      ENVIRONMENTS\n"
        "auth     auth.localhost  production, staging\n"
        "note: shop stands in services.toml and was never deployed: svcctl deploy -s shop\n"
    )


def test_a_service_that_others_call_stays(deployed: Shell) -> None:
    assert deployed("service", "delete", "auth") == Said(
        1,
        "",
        "error: shop/production is bound to auth as AUTH\n"
        "shop/staging is bound to auth as AUTH\n"
        "hint: take those bindings away first\n",
    )
    assert deployed.done("service", "delete", "shop", "--confirm", "shop") == (
        "deleted in change c3\n"
        "  shop/production: deleted\n"
        "  shop/staging: deleted\n"
        "  shop: deleted\n"
        "note: services.toml still has shop: the next deploy makes it anew; take [services.shop] out\n"
    )
    assert [each["name"] for each in deployed("service", "list", "--json").json["services"]] == ["auth"]


def test_heads_name_the_versions_their_code_came_from(scene: Scene) -> None:
    scene.deploy(shop="a1", auth="b1")
    scene.promote("staging", "production")

    heads = {head.environment: head for head in scene.backend.heads("acme", ("shop",))}
    assert heads["production"].source == "shop/staging@1"


# ---- without a store, without a file


@pytest.mark.parametrize("words", ["env list", "env show staging", "service list", "routes list", "graph"])
def test_nothing_was_deployed_yet(shell: Shell, words: str) -> None:
    said = shell(*words.split())

    assert said.status == 3
    assert said.err.endswith("next: svcctl deploy\n")
