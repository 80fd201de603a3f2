"""What runs where and what waits; one version; every change."""

import csv
import io
import subprocess
from pathlib import Path

import pytest
from transcript import Shell

from svcctl import provenance
from svcctl.provenance import Compared

FILE = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"

[services.shop]
main = "shop/worker.py"
vars.LOG_LEVEL = "info"
"""


class Repository(Shell):
    def commit(self, subject: str, **contents: str) -> str:
        for service, text in contents.items():
            (self.folder / service / "worker.py").write_text(f"async def fetch(request, env, ctx):\n    {text!r}\n")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", self.folder, *identity, *arguments], check=True, capture_output=True)
        return done.stdout.decode()

    def standing(self, ref: str) -> dict[str, object]:
        found: list[dict[str, object]] = self("status", "--json").json["environments"]
        return next(each for each in found if each["ref"] == ref)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Repository:
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
    (folder / "services.toml").write_text(FILE)
    shell = Repository(folder, capsys)
    shell.git("init", "-q", "-b", "main")
    shell.commit("Open", shop="v1", auth="v1")
    return shell


@pytest.fixture
def released(shell: Repository) -> Repository:
    """The first commit in staging and production."""
    shell.done("deploy")
    shell.done("promote", "staging", "production", "--yes")
    return shell


# ---- status


def test_before_the_first_deploy_it_shows_what_the_file_names(shell: Repository) -> None:
    assert shell.done("status") == (
        "SERVICE  ENVIRONMENT  VERSION  AGE  COMMIT  COMPARED  WAITING  STATE\n"
        "auth     staging            -  -    -       -         -        not deployed\n"
        "auth     production         -  -    -       -         -        not deployed\n"
        "shop     staging            -  -    -       -         -        not deployed\n"
        "shop     production         -  -    -       -         -        not deployed\n"
    )


def test_commits_count_for_the_service_whose_folder_they_touch(released: Repository) -> None:
    released.commit("Sell", shop="v2")
    released.commit("Sell more", shop="v3")
    released.commit("Talk", auth="v2")
    released.done("deploy")

    assert released.standing("auth/staging")["ahead"] == 1
    assert released.standing("shop/staging")["ahead"] == 2
    assert "2 ahead of production" in released.done("status", "-s", "shop")
    assert (released.standing("shop/production")["ahead"], released.standing("shop/production")["behind"]) == (0, 2)
    assert released.standing("shop/production")["compared_with"] == "shop/staging"


def test_branches_that_parted_are_ahead_and_behind(released: Repository) -> None:
    released.git("checkout", "-q", "-b", "side")
    released.commit("Try", shop="try")
    released.done("deploy", "-s", "shop")
    released.done("env", "clone", "staging", "preview", "-s", "shop")
    released.git("checkout", "-q", "main")
    released.commit("Fix", shop="fix")
    released.done("deploy", "-s", "shop")
    released.done("promote", "staging", "production", "-s", "shop", "--yes")

    assert (released.standing("shop/preview")["ahead"], released.standing("shop/preview")["behind"]) == (1, 1)
    assert "1 ahead of, 1 behind production" in released.done("status", "-s", "shop")


def test_a_repository_that_lacks_the_commits_can_not_tell(released: Repository) -> None:
    released.commit("Sell", shop="v2")
    released.done("deploy")
    (released.folder / ".git").rename(released.folder / "gone")

    assert released.standing("shop/staging")["ahead"] is None
    assert "? production" in released.done("status", "-s", "shop")


def test_what_the_file_says_and_an_environment_has_not(released: Repository) -> None:
    released.done("vars", "set", "LOG_LEVEL=debug", "-s", "shop", "--env", "staging")
    table = "[services.shop.environments.production]\n" + 'routes = ["shop.example.com/*"]\nprotected = true\n'
    released.file.write_text(FILE.replace('LOG_LEVEL = "info"', 'REGION = "eu"\nsecrets = ["KEY"]\n\n' + table))

    waiting = released.standing("shop/production")["waiting"]

    assert waiting == [
        {"kind": "var", "name": "LOG_LEVEL", "change": "removed"},
        {"kind": "var", "name": "REGION", "change": "added"},
        {"kind": "secret", "name": "KEY", "change": "missing"},
        {"kind": "route", "name": "shop.example.com/*", "change": "added"},
        {"kind": "protected", "name": "protected", "change": "added"},
    ]
    said = released.done("status", "-s", "shop")
    assert "LOG_LEVEL removed, REGION added, secret KEY missing" in said
    assert said.endswith(
        "note: to bring staging what services.toml says: svcctl deploy --settings-only -s shop --env staging\n"
        "note: svcctl secrets set KEY -s shop --env staging\n"
    )
    released.done("deploy", "--settings-only", "-s", "shop", "--env", "production")
    assert [each["name"] for each in _list(released.standing("shop/production")["waiting"])] == ["KEY"]


def test_an_environment_that_lacks_a_secret_is_not_live(shell: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.file.write_text(FILE + 'secrets = ["KEY"]\n')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"k")))
    shell.done("secrets", "set", "KEY")
    shell.done("deploy")
    shell("env", "clone", "staging", "preview", "--no-secrets")

    assert "not live: lacks secret KEY" in shell.done("status", "-s", "shop")
    assert not shell.standing("shop/preview")["live"]


def test_a_service_that_nobody_has_is_not_found(released: Repository) -> None:
    said = released("status", "-s", "shpo")

    assert (said.status, said.err) == (3, "error: no service 'shpo'\nhint: did you mean shop?\n")


def test_many_comparisons_count_as_one_at_a_time_does(shell: Repository) -> None:
    first = shell.git("rev-parse", "HEAD").strip()
    second = shell.commit("Sell", shop="v2")
    shell.git("checkout", "-q", "-b", "side", first)
    side = shell.commit("Talk", auth="v2")
    (shell.folder / "shop" / "na\nme \x01").write_text("a name that would end a line")
    odd = shell.commit("Odd")
    shell.git("checkout", "-q", "main")
    shell.git("checkout", "-q", "--orphan", "alone")
    alone = shell.commit("Alone", shop="alone")

    shas = (first, second, side, odd)
    wanted = [Compared(old, new, (path,)) for old in shas for new in shas for path in ("shop", "auth", ".")]
    told = provenance.ahead_behind_all(shell.folder, wanted)

    for each in wanted:
        paths = [Path(path) for path in each.paths]
        assert told[each] == provenance.ahead_behind(shell.folder, each.old, each.new, paths)
    unknown = Compared(first, "0" * 40, ("shop",))
    unrelated = Compared(first, alone, ("shop",))
    assert provenance.ahead_behind_all(shell.folder, [unknown, unrelated]) == {unrelated: (1, 1)}


# ---- show


def test_one_version_with_its_settings_and_files(released: Repository) -> None:
    released.done("vars", "set", "LOG_LEVEL=debug", "-s", "shop", "--env", "production")

    said = released.done("show", "shop/production", "--files")

    assert said.startswith("version:   shop/production@2\nwhat:      LOG_LEVEL changed\n")
    assert "files:  1 (" in said
    assert "var   LOG_LEVEL  debug  override  info (services.toml)\n" in said
    assert "worker.py" in said.splitlines()[-1]
    answer = released("show", "shop/production@1", "--json").json
    assert (answer["ref"], answer["source"]) == ("shop/production@1", "shop/staging@1")
    assert [(each["name"], each["value"]) for each in answer["effective"]] == [("LOG_LEVEL", "info")]
    assert (answer["artifact"]["main"], answer["artifact"]["files"]) == ("worker.py", 1)


def test_a_version_that_is_not_there_says_which_are(released: Repository) -> None:
    said = released("show", "shop/production@7")

    assert said == (
        3,
        "",
        "error: shop/production has no version 7\nhint: it has 1 to 1\nnext: svcctl history shop/production\n",
    )


# ---- pages and filters


def test_the_next_page_keeps_the_question(released: Repository) -> None:
    released.done("vars", "set", "A=1", "-s", "shop")
    released.done("vars", "set", "A=2", "-s", "shop")

    first = released.done("history", "shop/staging", "--actor", "ada", "-n", "1")
    told = first.splitlines()[-1]
    assert told.startswith("note: there is more: svcctl history shop/staging --actor ada -n 1 --cursor ")

    words = told.partition("svcctl ")[2].split()
    assert released.done(*words).splitlines()[-1].count("--cursor") == 1


def test_history_of_a_commit_by_its_name(released: Repository) -> None:
    released.commit("Second", shop="second")
    released.done("deploy")

    assert (
        released("history", "--commit", "HEAD", "--json").json
        == released("history", "--commit", released.git("rev-parse", "HEAD").strip(), "--json").json
    )
    assert [line.split()[1] for line in released.done("history", "--commit", "HEAD").splitlines()[1:]] == [
        "shop/staging@2"
    ]
    assert released("history", "--commit", "nowhere") == (
        3,
        "",
        "error: the repository here has no commit 'nowhere'\nhint: give the first digits of its hash\n",
    )


# ---- audit


def test_every_change_with_who_and_why(released: Repository) -> None:
    released("vars", "set", "A=1", "-s", "shop", "-m", "for the sale", actor="Bob <bob@example.com>")
    released.done("tag", "shop/staging", "v1")

    assert released.done("audit", "-n", "2") == (
        "CHANGE  AGE                   WHO  KIND       WHAT\n"
        "c4      TIME  Ada  tag        shop/staging@2: tagged v1\n"
        "c3      TIME  Bob  configure  shop/staging@2: A added — for the sale\n"
        "note: there is more: svcctl audit -n 2 --cursor MToz\n"
    )
    assert [each["number"] for each in released("audit", "--cursor", "MToz", "--json").json["changes"]] == [2, 1]
    assert [each["number"] for each in released("audit", "--actor", "bob", "--json").json["changes"]] == [3]
    assert released("audit", "--since", "1h", "--json").json["next"] is None


@pytest.mark.parametrize("message", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\n=1\x1b[2J"])
def test_no_cell_of_the_csv_is_a_formula(released: Repository, message: str) -> None:
    released.done("vars", "set", "A=1", "-s", "shop", "-m", message)

    said = released("audit", "--format", "csv", "-n", "1")

    rows = list(csv.reader(io.StringIO(said.out)))
    assert rows[0] == ["change", "id", "at", "actor", "kind", "summary", "message"]
    assert rows[1][0] == "c3"
    assert not rows[1][6].lstrip().startswith(("=", "+", "-", "@", "\t"))
    assert "\x1b" not in said.out
    assert said.err.startswith("note: there is more")


def _list(value: object) -> list[dict[str, object]]:
    assert isinstance(value, list)
    return value
