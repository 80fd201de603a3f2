"""`svcctl diff` as transcripts: two versions, the working tree, several services, commits."""

import subprocess
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
vars = { LOG = "info" }
bindings.CARTS = { kv = "carts" }

[services.shop.environments.production]
vars.LOG = "warn"
routes = ["shop.example.com/*"]
"""
WORKER = "async def fetch(request, env, ctx):\n    return 1\n"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
        (folder / service / "worker.py").write_text(WORKER)
    (folder / "services.toml").write_text(FILE)
    return Shell(folder, capsys)


@pytest.fixture
def deployed(shell: Shell) -> Shell:
    shell.done("deploy")
    shell.done("promote", "staging", "production", "--yes")
    return shell


def edit(shell: Shell, path: str, old: str, new: str) -> None:
    file = shell.folder / path
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def git(shell: Shell, *arguments: str) -> str:
    words = ["git", "-c", "user.name=Mia", "-c", "user.email=mia@example.com", *arguments]
    return subprocess.run(words, cwd=shell.folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(shell: Shell, subject: str) -> str:
    git(shell, "add", "-A")
    git(shell, "commit", "-q", "-m", subject)
    return git(shell, "rev-parse", "HEAD")


# ---- what is compared


def test_the_working_tree_is_compared_with_what_runs_and_not_stored(deployed: Shell) -> None:
    assert deployed.done("diff") == "no differences\n"
    edit(deployed, "shop/worker.py", "return 1", "return 2")
    edit(deployed, "services.toml", '"info"', '"debug"')
    packs = sorted((deployed.folder / ".svcctl/packs").iterdir())
    assert deployed.done("diff") == (
        "auth/staging@1 → auth of the working tree no differences\n"
        "\n"
        "shop/staging@1 → shop of the working tree\n"
        "SETTING  KIND  CHANGE   FROM    TO\n"
        'LOG      var   changed  "info"  "debug"\n'
        "--- a/worker.py\n"
        "+++ b/worker.py\n"
        "@@ -1,2 +1,2 @@\n"
        " async def fetch(request, env, ctx):\n"
        "-    return 1\n"
        "+    return 2\n"
    )
    assert sorted((deployed.folder / ".svcctl/packs").iterdir()) == packs


def test_what_diff_says_of_the_working_tree_is_what_deploy_then_does(deployed: Shell) -> None:
    deployed.done("vars", "set", "LOG=trace", "-s", "shop", "--env", "staging")
    edit(deployed, "services.toml", '"carts"', '"baskets"')
    edit(deployed, "services.toml", "vars = { LOG", "vars = { NEW = 1, LOG")
    foreseen = deployed("diff", "-s", "shop", "--json").json
    deployed.done("deploy")
    assert foreseen["settings"] == deployed("diff", "shop/staging@-1", "shop/staging", "--json").json["settings"]
    assert [each["name"] for each in foreseen["settings"]] == ["NEW", "CARTS"]
    assert deployed.done("diff", "--exit-code") == "no differences\n"


def test_two_environments_differ_in_settings_and_routes(deployed: Shell) -> None:
    assert deployed.done("diff", "staging", "production", "-s", "shop") == (
        "shop/staging@1 → shop/production@1\n"
        "SETTING  KIND  CHANGE   FROM    TO\n"
        'LOG      var   changed  "info"  "warn"\n'
        "added route shop.example.com/*\n"
    )


def test_two_versions_of_one_service(deployed: Shell) -> None:
    edit(deployed, "shop/worker.py", "return 1", "return 2")
    deployed.done("deploy")
    said = deployed("diff", "shop/staging@1", "shop/staging", "--stat")
    assert said.out == (
        "shop/staging@1 → shop/staging@2\n"
        "FILE       CHANGE   LINES ADDED  REMOVED  INSTEAD\n"
        "worker.py  changed           +1       -1  -\n"
    )
    assert deployed.done("diff", "shop/staging@2", "staging") == "no differences\n"


def test_one_service_is_one_document_and_several_are_a_list(deployed: Shell) -> None:
    one = deployed("diff", "shop/staging", "shop/production", "--json").json
    assert (one["a"], one["b"]) == ("shop/staging@1", "shop/production@1")
    assert one["settings"] == [{"name": "LOG", "kind": "var", "change": "changed", "old": "info", "new": "warn"}]
    assert one["routes"] == [{"route": "shop.example.com/*", "change": "added"}]
    assert (one["files"], one["commits"]) == ([], [])
    several = deployed("diff", "staging", "production", "--json").json
    assert [(each["a"], each["b"]) for each in several["diffs"]] == [
        ("auth/staging@1", "auth/production@1"),
        ("shop/staging@1", "shop/production@1"),
    ]


def test_settings_and_code_can_be_compared_alone(deployed: Shell) -> None:
    edit(deployed, "shop/worker.py", "return 1", "return 2")
    edit(deployed, "services.toml", '"info"', '"debug"')
    settings = deployed("diff", "-s", "shop", "--settings-only", "--json").json
    code = deployed("diff", "-s", "shop", "--code-only", "--json").json
    assert (len(settings["settings"]), settings["files"]) == (1, [])
    assert (code["settings"], [each["path"] for each in code["files"]]) == ([], ["worker.py"])
    assert deployed("diff", "--code-only", "--settings-only").status == 2


def test_an_environment_that_one_service_lacks_is_compared_with_nothing(deployed: Shell) -> None:
    deployed.done("env", "clone", "shop/staging", "preview")
    said = deployed.done("diff", "staging", "preview", "--stat", "-s", "auth", "-s", "shop")
    assert said == (
        "auth/staging@1 → auth/preview\n"
        "note: auth has no environment 'preview': all that auth/staging@1 has is listed\n"
        "FILE       CHANGE   LINES ADDED  REMOVED  INSTEAD\n"
        "worker.py  removed           +0       -2  -\n"
        "shop/staging@1 → shop/preview@1 no differences\n"
    )


def test_a_secret_is_told_as_changed_and_nothing_of_it(deployed: Shell) -> None:
    (deployed.folder / "one.env").write_text("KEY=hunter2\n")
    (deployed.folder / "two.env").write_text("KEY=hunter3\n")
    deployed.done("secrets", "import", "one.env", "-s", "shop", "--env", "staging")
    deployed.done("secrets", "import", "two.env", "-s", "shop", "--env", "staging")
    said = deployed("diff", "shop/staging@2", "shop/staging@3")
    assert said.out == (
        "shop/staging@2 → shop/staging@3\nSETTING  KIND    CHANGE   FROM  TO\nKEY      secret  changed  -     -\n"
    )
    whole = deployed("diff", "shop/staging@2", "shop/staging@3", "--json")
    assert whole.json["settings"] == [{"name": "KEY", "kind": "secret", "change": "changed", "old": None, "new": None}]
    assert "hunter" not in whole.out


# ---- files that are no text, and hostile ones


def test_what_can_t_be_shown_is_named(deployed: Shell) -> None:
    shop = deployed.folder / "shop"
    (shop / "logo.png").write_bytes(b"\x89PNG\0\1")
    (shop / "empty").touch()
    (shop / "large.txt").write_text("line\n" * 200_000)
    (shop / "worker.py").chmod(0o755)
    assert deployed.done("diff", "-s", "shop").splitlines()[1:] == [
        "added empty (empty)",
        "added large.txt (too large to compare line by line (more than 512 KiB))",
        "added logo.png (binary files differ)",
        "changed worker.py (now executable)",
    ]


def test_a_file_can_t_drive_the_terminal(deployed: Shell) -> None:
    (deployed.folder / "shop/evil.txt").write_text("\x1b]0;owned\x07\x1b[2Jgone\r\n")
    said = deployed.done("diff", "-s", "shop")
    assert "+\\x1b]0;owned\\x07\\x1b[2Jgone\\r\n" in said
    assert "\x1b" not in said


# ---- exit status and refusals


def test_exit_code_tells_a_script_whether_anything_differs(deployed: Shell) -> None:
    assert deployed("diff", "--exit-code") == (0, "no differences\n", "")
    assert deployed("diff", "staging", "production", "--exit-code").status == 8
    assert deployed("diff", "staging", "production", "--exit-code").err == ""
    assert deployed("diff", "staging", "production", "--exit-code", "--json").json["diffs"]
    assert deployed("diff", "staging", "production", "--code-only", "--exit-code").status == 0
    assert deployed("diff", "staging", "production").status == 0


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["stagin"], 3, "error: auth has no environment 'stagin'\nhint: did you mean staging?\n"),
        (
            ["staging", "shop/producton"],
            3,
            "error: shop has no environment 'producton'\nhint: did you mean production?\n",
        ),
        (["staging@7", "production", "-s", "shop"], 3, "error: shop/staging has no version 7\n"),
        (["staging@1", "production"], 2, "error: @1 needs one service; this acts on auth, shop\n"),
        (["-s", "shp"], 3, "error: services.toml has no service 'shp'\nhint: did you mean shop?\n"),
        (["Staging"], 2, "error: 'Staging' is no reference: 'Staging' must start with a letter a-z"),
    ],
)
def test_a_wrong_reference_says_what_there_is(deployed: Shell, arguments: list[str], status: int, error: str) -> None:
    said = deployed("diff", *arguments)
    assert (said.status, said.out) == (status, "")
    assert said.err.startswith(error)


def test_before_the_first_deploy_there_is_nothing_to_compare_with(shell: Shell) -> None:
    said = shell("diff")
    assert said.status == 3
    assert said.err.startswith("error: nothing has been deployed here yet")
    assert said.err.endswith("next: svcctl deploy\n")


def test_without_a_default_environment_the_question_is_asked_back(deployed: Shell) -> None:
    edit(deployed, "services.toml", 'default_environment = "staging"\n', "")
    said = deployed("diff")
    assert said.status == 2
    assert said.err == (
        "error: compare the working tree with what? services.toml names no default_environment\n"
        "next: svcctl diff production\n"
    )


# ---- commits


def test_the_commits_between_come_from_the_repository_and_touch_the_service(shell: Shell) -> None:
    git(shell, "init", "-q", "-b", "main")
    (shell.folder / ".gitignore").write_text(".svcctl/\n")
    first = commit(shell, "Start")
    shell.done("deploy")
    (shell.folder / "README").write_text("elsewhere")
    commit(shell, "Not of the shop")
    edit(shell, "shop/worker.py", "return 1", "return 2")
    second = commit(shell, "Answer 2")
    edit(shell, "shop/worker.py", "return 2", "return 3")
    third = commit(shell, "Answer \x1b[31m3")
    shell.done("deploy")
    found = shell("diff", "shop/staging@1", "shop/staging", "--json").json
    assert found["logged"]
    assert [(each["sha"], each["subject"], each["side"]) for each in found["commits"]] == [
        (third, "Answer \x1b[31m3", "b"),
        (second, "Answer 2", "b"),
    ]
    assert "\x1b" not in shell.done("diff", "shop/staging@1", "shop/staging")
    back = shell.done("diff", "shop/staging", "shop/staging@1").splitlines()
    assert back[1].split() == ["ONLY", "IN", "COMMIT", "SUBJECT", "AUTHOR"]
    assert back[3] == f"shop/staging@2  {second[:7]}  Answer 2          Mia"
    assert first


def test_without_the_repository_the_kept_subjects_and_a_link_are_told(shell: Shell) -> None:
    git(shell, "init", "-q", "-b", "main")
    (shell.folder / ".gitignore").write_text(".svcctl/\n")
    git(shell, "remote", "add", "origin", "https://mia:token@github.com/acme/shop.git")
    first = commit(shell, "Start")
    shell.done("deploy", "-s", "auth", "-s", "shop")
    edit(shell, "shop/worker.py", "return 1", "return 2")
    second = commit(shell, "Answer 2")
    shell.done("deploy")
    (shell.folder / ".git").rename(shell.folder.parent / "elsewhere")
    said = shell.done("diff", "shop/staging@1", "shop/staging", "--stat")
    assert said.splitlines()[1:6] == [
        "ONLY IN         COMMIT   SUBJECT   AUTHOR",
        f"shop/staging@1  {first[:7]}  Start     Mia",
        f"shop/staging@2  {second[:7]}  Answer 2  Mia",
        "note: there is no repository here that has both commits; these are the two that were deployed from",
        f"note: the commits between them: https://github.com/acme/shop/compare/{first}...{second}",
    ]
