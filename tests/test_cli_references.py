"""Every JSON object has a `ref` that every command accepts: what one prints can be handed to the next."""

from pathlib import Path

import pytest
from transcript import Shell

FILE = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"

[services.shop]
main = "shop/worker.py"
"""


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Both services in staging and production."""
    for service in ("auth", "shop"):
        (tmp_path / service).mkdir()
        (tmp_path / service / "worker.py").write_text("async def fetch(request, env, ctx):\n    ...\n")
    (tmp_path / "services.toml").write_text(FILE)
    shell = Shell(tmp_path, capsys)
    shell.done("deploy")
    shell.done("promote", "staging", "production", "--yes")
    return shell


@pytest.mark.parametrize(
    "words",
    [
        ("env", "show"),
        ("history",),
        ("show",),
        ("graph",),
        ("diff", "auth/staging"),
        ("env", "clone", "REF", "copy"),
        ("env", "protect", "REF", "--off"),
        ("rollback", "REF", "--to", "c2", "--dry-run"),
        ("promote", "shop/staging", "REF", "--yes"),
        ("vars", "set", "A=1", "--env", "REF"),
        ("vars", "list", "--env", "REF"),
        ("secrets", "list", "--env", "REF"),
        ("config", "show", "--env", "REF"),
        ("deploy", "--env", "REF"),
        ("tag", "REF", "v1"),
    ],
    ids=" ".join,
)
def test_a_ref_from_json_is_taken_by_every_command(shell: Shell, words: tuple[str, ...]) -> None:
    environments = shell("env", "list", "--json").json["environments"]
    ref = next(each["ref"] for each in environments if each["service"] == "shop" and each["name"] == "production")

    said = shell(*[ref if word == "REF" else word for word in words], *([] if "REF" in words else [ref]))

    assert said.status == 0, said.err
    changed = {version.split("/")[0] for version in said.out.split() if "@" in version}
    assert "auth" not in changed or words[0] == "diff"


def test_a_ref_and_another_service_contradict_each_other(shell: Shell) -> None:
    said = shell("vars", "set", "A=1", "--env", "shop/staging", "-s", "auth")

    assert (said.status, said.err) == (2, "error: shop/staging names service shop; -s names auth\n")


def test_a_version_is_no_environment(shell: Shell) -> None:
    said = shell("vars", "set", "A=1", "--env", "shop/staging@1")

    assert (said.status, said.err) == (
        2,
        "error: 'shop/staging@1' is a version, not an environment\nhint: leave out @1\n",
    )


def test_expect_needs_a_service_where_several_are_meant(shell: Shell) -> None:
    said = shell("deploy", "--expect", "staging@1")

    assert said.status == 2
    assert "next: svcctl deploy --expect auth/staging@1\n" in said.err
    assert shell("deploy", "-s", "shop", "--expect", "staging@1").status == 0
