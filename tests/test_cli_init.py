"""A project begins."""

import ast
import subprocess
from pathlib import Path

import pytest
from transcript import Shell

from svcctl import config


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """In an empty folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Shell(folder, capsys)


def test_a_new_project_says_what_to_type_next_and_that_works(shell: Shell) -> None:
    assert shell.done("init", "hello-world") == (
        "project hello-world: hello\n"
        "  wrote services.toml\n"
        "  wrote hello/worker.py\n"
        "  wrote .gitignore\n"
        "next: cd hello-world && svcctl deploy\n"
    )
    folder = shell.folder / "hello-world"
    assert (folder / ".gitignore").read_text() == ".svcctl/\n.svcctl.vars\n"

    deployed = Shell(folder, shell._capsys).done("deploy")
    assert deployed.startswith("deployed in change c1\n")
    assert deployed.endswith("staging--hello.localhost\n")


@pytest.mark.parametrize(
    ("template", "services"), [("hello", ["hello"]), ("services", ["shop", "auth"]), ("asgi", ["app"])]
)
def test_every_template_checks_and_compiles(shell: Shell, template: str, services: list[str]) -> None:
    answer = shell("init", "--name", "acme", "--template", template, "--json").json
    assert (answer["project"], answer["services"], answer["next"]) == ("acme", services, ["svcctl deploy"])

    assert shell.done("config", "check").startswith("services.toml is right: project acme, ")
    for path in answer["written"]:
        if path.endswith(".py"):
            ast.parse((shell.folder / path).read_text())


def test_the_first_service_may_have_another_name(shell: Shell) -> None:
    shell.done("init", "--name", "acme", "--template", "services", "--service", "web")

    project = config.load(shell.file)
    assert sorted(project.services) == ["auth", "web"]
    assert str(project.services["web"].base.layer.bindings["AUTH"]) == "service auth"


def test_no_file_is_overwritten(shell: Shell) -> None:
    (shell.folder / "hello").mkdir()
    (shell.folder / "hello" / "worker.py").write_text("mine\n")
    (shell.folder / ".gitignore").write_text("node_modules/\n.svcctl/")

    assert shell.done("init", "--name", "acme") == (
        "project acme: hello\n"
        "  wrote services.toml\n"
        "  wrote .gitignore\n"
        "note: hello/worker.py was there already and was left alone\n"
        "next: svcctl deploy\n"
    )
    assert (shell.folder / "hello" / "worker.py").read_text() == "mine\n"
    assert (shell.folder / ".gitignore").read_text() == "node_modules/\n.svcctl/\n.svcctl.vars\n"


def test_a_project_is_not_begun_twice(shell: Shell) -> None:
    shell.done("init", "--name", "acme")
    before = shell.file.read_text()

    said = shell("init", "--name", "other")

    assert said.status == 1
    assert said.err.startswith(f"error: {shell.folder} is a project already: it has a services.toml\n")
    assert shell.file.read_text() == before


def test_inside_another_project_it_says_so(shell: Shell) -> None:
    shell.done("init", "--name", "outer")

    assert "note: this folder lies inside another project" in shell.done("init", "inner")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--template", "helo"], "error: there is no template 'helo'\nhint: did you mean hello?\n"),
        (["--name", "Acme"], "error: --name 'Acme': it must start with a letter a-z"),
        (["--name", "acme", "--service", "a--b"], "error: --service 'a--b': it must not hold --"),
        (["___"], "error: the folder's name, '___', gives no project name\n"),
        (["--name", "acme", "--template", "services", "--service", "auth"], "another service of that name"),
    ],
)
def test_what_can_not_be_begun_writes_nothing(shell: Shell, arguments: list[str], message: str) -> None:
    said = shell("init", *arguments)

    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert list(shell.folder.iterdir()) == []


def test_what_git_would_keep_holds_no_store(shell: Shell) -> None:
    shell.done("init", "--name", "acme")
    shell.done("deploy")
    subprocess.run(["git", "init", "-q", shell.folder], check=True)

    listed = subprocess.run(
        ["git", "-C", shell.folder, "ls-files", "--others", "--exclude-standard"], check=True, capture_output=True
    )
    assert listed.stdout.decode().split() == [".gitignore", "hello/worker.py", "services.toml"]
