"""Real repositories, made by real git."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcctl import names
from svcctl.errors import Refused, UsageError
from svcctl.provenance import (
    MAX_FILES,
    actor,
    ahead_behind,
    branch,
    commit_of,
    commits_of,
    compare_link,
    environment_name,
    is_ancestor,
    log_between,
    public_remote,
    resolve_commit,
)
from svcctl.provenance.git import Repository

ADA = "Ada Lovelace <ada@example.com>"
NO_CI: Mapping[str, str] = {}


@pytest.fixture(autouse=True)
def _own_git_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        "[user]\n\tname = Ada Lovelace\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[advice]\n\tdetachedHead = false\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(folder: Path, subject: str, **files: str) -> str:
    """Names in `files` are for `NAME/worker.py`."""
    for name, text in files.items():
        write(folder / name / "worker.py", text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", subject)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    """A repository with two services and one commit."""
    folder = tmp_path / "acme"
    folder.mkdir()
    git(folder, "init", "--quiet")
    write(folder / ".gitignore", "*.log\n/scratch/\n")
    commit(folder, "Open the shop", shop="v1", auth="v1")
    return folder


# ---- the commit


def test_a_clean_tree_is_its_commit(acme: Path) -> None:
    git(acme, "remote", "add", "origin", "https://joe:ghp_secret@github.com/acme/shop.git?token=1")
    found = commit_of(acme, NO_CI)
    assert found is not None
    assert found.sha == git(acme, "rev-parse", "HEAD")
    assert (found.branch, found.subject, found.author) == ("main", "Open the shop", ADA)
    assert (found.dirty, found.files, found.patch) == (False, (), None)
    assert found.remote == "https://github.com/acme/shop.git"


def test_staged_changed_and_new_files_make_it_dirty(acme: Path) -> None:
    write(acme / "shop/staged.py", "")
    git(acme, "add", "shop/staged.py")
    write(acme / "shop/worker.py", "v2")
    write(acme / "shop/deep/new file.py", "")
    write(acme / "shop/debug.log", "ignored")
    write(acme / ".svcctl/ledger.db", "the store is no code")
    (acme / "auth/worker.py").unlink()
    found = commit_of(acme, NO_CI)
    assert found is not None
    assert found.dirty
    assert found.files == ("auth/worker.py", "shop/deep/new file.py", "shop/staged.py", "shop/worker.py")


def test_each_service_is_dirty_by_its_own_files(acme: Path) -> None:
    write(acme / "shop/worker.py", "v2")
    write(acme / "shop2/worker.py", "new")
    write(acme / "scratch/worker.py", "ignored")
    found = commits_of(
        acme,
        NO_CI,
        {name: [Path(name)] for name in ("shop", "auth", "shop2", "scratch")} | {"both": [Path("auth"), Path("shop")]},
    )
    assert {name: told.files for name, told in found.items() if told} == {
        "shop": ("shop/worker.py",),
        "auth": (),
        "shop2": ("shop2/worker.py",),
        "both": ("shop/worker.py",),
    }
    assert found["scratch"] is None, "no commit holds what git ignores"
    assert found["shop"] == commit_of(acme, NO_CI, [Path("shop")]) == commit_of(acme / "shop", NO_CI)
    assert found["both"] == commit_of(acme / "auth", NO_CI, [Path(), Path("../shop")])


def test_the_patch_names_the_difference_and_nothing_else(acme: Path) -> None:
    def patch() -> str | None:
        found = commit_of(acme, NO_CI)
        return found.patch if found else None

    write(acme / "shop/worker.py", "v2")
    changed = patch()
    assert changed is not None
    git(acme, "add", "--all")
    assert patch() == changed, "staging alone is no difference"
    os.utime(acme / "shop/worker.py", (1, 1))
    assert patch() == changed
    (acme / "shop/worker.py").chmod(0o755)
    assert patch() not in (changed, None)
    (acme / "shop/worker.py").chmod(0o644)
    write(acme / "shop/more.py", "x")
    with_more = patch()
    write(acme / "shop/more.py", "y")
    assert len({changed, with_more, patch()}) == 3
    (acme / "shop/more.py").unlink()
    (acme / "shop/more.py").symlink_to("worker.py")
    linked = patch()
    (acme / "shop/more.py").unlink()
    (acme / "shop/more.py").symlink_to("gone.py")
    assert patch() != linked
    (acme / "shop/more.py").unlink()
    write(acme / "shop/worker.py", "v1")
    git(acme, "add", "--all")
    assert patch() is None


def test_a_touched_file_is_no_change_and_the_index_is_not_written(acme: Path) -> None:
    os.utime(acme / "shop/worker.py", (1, 1))
    before = (acme / ".git/index").read_bytes()
    found = commit_of(acme, NO_CI)
    assert found is not None
    assert not found.dirty
    assert (acme / ".git/index").read_bytes() == before


def test_many_changed_files_are_not_all_listed(acme: Path) -> None:
    for number in range(MAX_FILES + 10):
        write(acme / f"shop/{number:03}.py", "")
    found = commit_of(acme, NO_CI)
    assert found is not None
    assert len(found.files) == MAX_FILES
    last, patch = found.files[-1], found.patch
    write(acme / f"shop/{MAX_FILES + 5:03}.py", "beyond what is listed")
    again = commit_of(acme, NO_CI)
    assert again is not None
    assert again.files[-1] == last
    assert again.patch != patch


def test_odd_names_are_told_as_they_are(acme: Path) -> None:
    odd = ["-rf", ":(top)x", "*.py", "a\nb", "ü", 'q"uote']
    for name in odd:
        write(acme / "shop" / name, "")
    Path(os.fsdecode(os.fsencode(acme / "shop") + b"/\xff")).touch()
    found = commit_of(acme, NO_CI, [Path("shop")])
    assert found is not None
    assert set(found.files) == {f"shop/{name}" for name in odd} | {"shop/\ufffd"}
    alone = commit_of(acme, NO_CI, [Path("shop/*.py")])
    assert alone is not None
    assert alone.files == ("shop/*.py",), "a path is no pattern"
    magic = commit_of(acme, NO_CI, [Path("shop/:(top)x"), Path(":(nonsense)")])
    assert magic is not None
    assert magic.files == ("shop/:(top)x",)


def test_a_file_in_conflict_is_dirty(acme: Path) -> None:
    git(acme, "checkout", "--quiet", "-b", "other")
    commit(acme, "Theirs", shop="theirs")
    git(acme, "checkout", "--quiet", "main")
    commit(acme, "Ours", shop="ours")
    merged = subprocess.run(["git", "-C", str(acme), "merge", "other"], capture_output=True, check=False)
    assert merged.returncode == 1
    found = commit_of(acme, NO_CI)
    assert found is not None
    assert found.files == ("shop/worker.py",)


# ---- repositories of every kind


def test_no_repository_is_fine(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    assert commit_of(folder, NO_CI) is None
    assert commit_of(tmp_path / "missing", NO_CI) is None
    assert branch(folder, {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "main"}) is None
    assert resolve_commit(folder, "HEAD") is None
    assert log_between(folder, "a" * 40, "b" * 40) is None
    assert ahead_behind(folder, "a" * 40, "b" * 40) is None
    assert is_ancestor(folder, "a" * 40, "b" * 40) is None


def test_no_git_is_fine_and_git_that_does_not_start_too(acme: Path, tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from svcctl.provenance import actor, commit_of, log_between
here = Path(sys.argv[1])
print(commit_of(here, {}), log_between(here, "a" * 40, "b" * 40), actor(os.environ, here))
"""
    (tmp_path / "empty").mkdir()
    write(tmp_path / "stub/git", "#!/bin/sh\necho 'no developer tools were found' >&2\nexit 1\n")
    (tmp_path / "stub/git").chmod(0o755)
    for folder in ("empty", "stub"):
        environ = {"PATH": str(tmp_path / folder)}
        told = subprocess.run(
            [sys.executable, "-c", script, acme], env=environ, capture_output=True, text=True, check=False
        )
        assert (told.stderr, told.stdout) == ("", f"None None {login()}\n")


def test_a_repository_without_commits_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "new")
    write(tmp_path / "new/shop/worker.py", "")
    assert commit_of(tmp_path / "new", NO_CI) is None
    assert branch(tmp_path / "new", NO_CI) == "main"
    assert resolve_commit(tmp_path / "new", "HEAD") is None


def test_a_linked_worktree_has_its_own_branch_and_files(acme: Path, tmp_path: Path) -> None:
    git(acme, "worktree", "add", "--quiet", "-b", "fix", str(tmp_path / "fix"))
    write(tmp_path / "fix/shop/worker.py", "fixed")
    found = commit_of(tmp_path / "fix/shop", NO_CI)
    assert found is not None
    assert (found.branch, found.files) == ("fix", ("shop/worker.py",))
    main = commit_of(acme, NO_CI)
    assert main is not None
    assert (main.branch, main.dirty) == ("main", False)


def test_a_folder_reached_through_a_link_is_the_same(acme: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(acme)
    write(acme / "shop/worker.py", "v2")
    assert commit_of(tmp_path / "link", NO_CI, [Path("shop")]) == commit_of(acme, NO_CI, [Path("shop")])


def test_a_submodule_counts_by_its_commit(acme: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(acme), "library")
    git(acme, "submodule", "--quiet", "add", str(tmp_path / "library"), "lib")
    commit(acme, "Use the library")
    inside = commit_of(acme / "lib", NO_CI)
    assert inside is not None
    assert inside.subject == "Open the shop"
    commit(acme / "lib", "Newer library", shop="v9")
    newer = commit_of(acme, NO_CI)
    commit(acme / "lib", "Newest library", shop="v10")
    newest = commit_of(acme, NO_CI)
    assert newer is not None
    assert newest is not None
    assert newer.files == newest.files == ("lib",)
    assert newer.patch != newest.patch


def test_a_service_inside_a_submodule_has_no_commit_of_the_repository_around_it(acme: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(acme), "library")
    git(acme, "submodule", "--quiet", "add", str(tmp_path / "library"), "lib")
    commit(acme, "Use the library")
    assert commit_of(acme, NO_CI, [Path("lib/shop")]) is None
    assert commit_of(acme / "lib/shop", NO_CI) is not None


def test_a_bare_repository_holds_no_code_to_deploy(acme: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(acme), "bare.git")
    assert commit_of(tmp_path / "bare.git", NO_CI) is None


def test_a_sha256_repository_has_longer_hashes(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "long")
    first = commit(tmp_path / "long", "First", shop="v1")
    second = commit(tmp_path / "long", "Second", shop="v2")
    found = commit_of(tmp_path / "long", NO_CI)
    assert found is not None
    assert found.sha == second
    assert len(second) == 64
    assert ahead_behind(tmp_path / "long", first, second) == (1, 0)


def test_a_folder_that_the_repository_around_it_ignores_is_not_from_there(tmp_path: Path) -> None:
    """Such as dotfiles kept in a repository at home, which ignores everything else."""
    git(tmp_path, "init", "--quiet", "home")
    write(tmp_path / "home/.gitignore", "/work/\n")
    commit(tmp_path / "home", "My dotfiles")
    write(tmp_path / "home/work/shop/worker.py", "")
    assert commit_of(tmp_path / "home/work", NO_CI) is None


def test_a_users_own_ignore_file_hides_nothing(acme: Path, tmp_path: Path) -> None:
    write(tmp_path / "ignore", "worker2.py\n")
    git(acme, "config", "core.excludesFile", str(tmp_path / "ignore"))
    write(acme / "shop/worker2.py", "is bundled")
    found = commit_of(acme, NO_CI)
    assert found is not None
    assert found.files == ("shop/worker2.py",)


def test_a_hook_of_another_repository_does_not_change_the_answer(
    acme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet", "other")
    commit(tmp_path / "other", "Other")
    expected = commit_of(acme, NO_CI)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other/.git/index"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Mallory")
    assert commit_of(acme, NO_CI) == expected
    assert expected is not None


def test_a_damaged_index_is_told_in_gits_words(acme: Path) -> None:
    (acme / ".git/index").write_bytes(b"DIRC nonsense")
    with pytest.raises(Refused, match="index file") as refused:
        commit_of(acme, NO_CI)
    assert refused.value.next == f"git -C {acme.resolve()} status"


def test_a_git_that_does_not_end_is_given_up(acme: Path) -> None:
    (acme / ".git/info/exclude").unlink()
    os.mkfifo(acme / ".git/info/exclude")
    with pytest.raises(Refused, match=r"git status in .* did not end within 0.2 seconds"):
        Repository(acme, patience=0.2).git_on_files("status", "--porcelain")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_repository_of_another_user_is_refused_with_the_command_that_allows_it(acme: Path) -> None:
    for path in (acme, acme / ".git"):
        os.chown(path, 65534, 65534)
    with pytest.raises(Refused, match="belongs to another user") as refused:
        commit_of(acme / "shop", NO_CI)
    assert refused.value.next == f"git config --global --add safe.directory {acme}"
    assert branch(acme, NO_CI) is None
    assert resolve_commit(acme, "HEAD") is None
    subprocess.run(refused.value.next.split(), check=True)
    assert commit_of(acme / "shop", NO_CI) is not None


# ---- a hostile repository


HOOKS = ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout", "pre-commit")


def lay_traps(folder: Path, canary: Path) -> None:
    """Names the canary wherever a configuration can name a program."""
    evil = str(canary)
    programs = [
        "core.fsmonitor", "core.sshCommand", "core.editor", "core.pager", "core.askPass", "core.gitProxy",
        "core.alternateRefsCommand", "sequence.editor", "diff.external", "interactive.diffFilter", "gpg.program",
        "gpg.ssh.program", "credential.helper", "pager.status", "pager.config", "pager.rev-list", "web.browser",
        "diff.evil.command", "diff.evil.textconv", "merge.evil.driver", "trailer.evil.command",
        "remote.origin.uploadpack",
        "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "filter.a=b.clean", "filter.we ird.x.clean",
        "uploadpack.packObjectsHook",
    ]  # fmt: skip
    for key in programs:
        git(folder, "config", key, evil)
    for command in ("status", "config", "rev-parse", "rev-list", "symbolic-ref", "ls-tree", "cat-file", "merge-base"):
        git(folder, "config", f"alias.{command}", f"!{evil}")
    for key, value in {
        "filter.evil.required": "true", "log.showSignature": "true", "status.submoduleSummary": "true",
        "core.untrackedCache": "true", "core.hooksPath": str(folder / ".git/hooks"), "remote.origin.promisor": "true",
        "remote.origin.partialCloneFilter": "blob:none", "protocol.allow": "always",
        "remote.origin.url": f"ext::{evil}",
    }.items():  # fmt: skip
        git(folder, "config", key, value)
    for name in HOOKS:
        write(folder / ".git/hooks" / name, canary.read_text())
        (folder / ".git/hooks" / name).chmod(0o755)


def test_t31_a_hostile_repository_runs_nothing(acme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary, sung = tmp_path / "canary", tmp_path / "sung"
    write(canary, f'#!/bin/sh\necho "$0 $@" >> {sung}\ncat\n')
    canary.chmod(0o755)
    git(tmp_path, "clone", "--quiet", str(acme), "library")
    git(acme, "submodule", "--quiet", "add", str(tmp_path / "library"), "lib")
    for name in ("x", "y", "z"):
        write(acme / f"shop/{name}.evil", "v1")
    old = commit(acme, "Attributes", auth="v2")
    write(acme / ".gitattributes", "*.py diff=evil\nx.evil filter=evil\ny.evil filter=a=b\n")
    new = commit(acme, "Attributes", auth="v3")
    for folder in (acme, acme / "lib"):
        if folder.name == "lib":
            write(folder / ".gitattributes", "* filter=evil\n")
        else:
            lay_traps(folder, canary)
    git(acme / "lib", "config", "filter.evil.clean", str(canary))
    git(acme / "lib", "config", "core.fsmonitor", str(canary))
    write(acme / "lib/shop/worker.py", "changed in the submodule")
    for name in ("x", "y", "z"):
        write(acme / f"shop/{name}.evil", "v2")
    write(acme / "shop/worker.py", "v2")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(canary))
    monkeypatch.setenv("GIT_SSH_COMMAND", str(canary))
    monkeypatch.setenv("GIT_PAGER", str(canary))

    found = commit_of(acme, os.environ)
    assert found is not None
    assert found.files == ("shop/worker.py", "shop/x.evil", "shop/y.evil", "shop/z.evil")
    assert found.remote is None
    assert branch(acme, os.environ) == "main"
    assert actor(os.environ, acme) == ADA
    assert len(log_between(acme, old, new, [Path("auth")]) or ()) == 1
    assert ahead_behind(acme, old, new) == (1, 0)
    assert is_ancestor(acme, old, new)
    assert resolve_commit(acme, "main") == new
    assert resolve_commit(acme, "a" * 40) is None, "a commit to be fetched"
    assert is_ancestor(acme, "a" * 40, new) is None
    assert not sung.exists(), sung.read_text()

    subprocess.run(["git", "-C", str(acme), "status"], capture_output=True, check=False)
    assert sung.exists(), "the traps work: git alone springs them"


def test_text_from_a_client_never_becomes_an_option(acme: Path) -> None:
    target = acme / "written"
    for text in (f"--output={target}", "-h", "--all", "", "main\0x", "HEAD --"):
        assert resolve_commit(acme, text) is None
        assert log_between(acme, text, "a" * 40) is None
        assert ahead_behind(acme, "a" * 40, text) is None
        assert is_ancestor(acme, text, text) is None
    assert not target.exists()


# ---- commits between two


@pytest.fixture
def forked(acme: Path) -> tuple[Path, str, str]:
    """main and hotfix, with a commit in common; main went on by two, of which one in the shop, hotfix by one."""
    git(acme, "checkout", "--quiet", "-b", "hotfix")
    hotfix = commit(acme, "Stop the leak", shop="fixed")
    git(acme, "checkout", "--quiet", "main")
    commit(acme, "Sell more", shop="v2")
    main = commit(acme, "Ask twice", auth="v2")
    return acme, hotfix, main


def test_the_log_tells_which_side_has_what(forked: tuple[Path, str, str]) -> None:
    acme, hotfix, main = forked
    log = log_between(acme, hotfix, main)
    assert log is not None
    assert [(one.side, one.subject) for one in log if one.side == "b"] == [("b", "Ask twice"), ("b", "Sell more")]
    assert [(one.sha, one.side, one.subject, one.author) for one in log if one.side == "a"] == [
        (hotfix, "a", "Stop the leak", ADA)
    ]
    in_shop = log_between(acme, hotfix, main, [Path("shop")])
    assert in_shop is not None
    assert {one.subject for one in in_shop} == {"Stop the leak", "Sell more"}
    assert log_between(acme, main, main) == ()


def test_ahead_and_behind(forked: tuple[Path, str, str]) -> None:
    acme, hotfix, main = forked
    assert ahead_behind(acme, hotfix, main) == (2, 1)
    assert ahead_behind(acme, main, hotfix) == (1, 2)
    assert ahead_behind(acme, hotfix, main, [Path("auth")]) == (1, 0)
    assert ahead_behind(acme / "auth", hotfix, main, [Path(), Path("../shop")]) == (2, 1)
    assert ahead_behind(acme, main, main) == (0, 0)


def test_ancestry(forked: tuple[Path, str, str]) -> None:
    acme, hotfix, main = forked
    first = resolve_commit(acme, "main~2")
    assert first is not None
    assert is_ancestor(acme, first, main) is True
    assert is_ancestor(acme, main, first) is False
    assert is_ancestor(acme, hotfix, main) is False
    assert is_ancestor(acme, main, main) is True


def test_a_commit_is_found_by_hash_branch_and_tag(forked: tuple[Path, str, str]) -> None:
    acme, hotfix, main = forked
    git(acme, "tag", "--annotate", "--message", "out", "v1.0", hotfix)
    assert resolve_commit(acme, main[:7]) == resolve_commit(acme, "main") == resolve_commit(acme, main) == main
    assert resolve_commit(acme, "v1.0") == hotfix
    assert resolve_commit(acme, "nothing") is None
    assert resolve_commit(acme, f"{main}:shop/worker.py") is None


def test_another_clone_that_lacks_a_commit_knows_nothing(forked: tuple[Path, str, str], tmp_path: Path) -> None:
    acme, hotfix, main = forked
    git(tmp_path, "clone", "--quiet", "--single-branch", "--branch", "main", f"file://{acme}", "other")
    assert log_between(tmp_path / "other", hotfix, main) is None
    assert ahead_behind(tmp_path / "other", hotfix, main) is None
    assert is_ancestor(tmp_path / "other", hotfix, main) is None


def test_a_shallow_clone_says_nothing_that_its_missing_history_could_deny(
    forked: tuple[Path, str, str], tmp_path: Path
) -> None:
    acme, hotfix, main = forked
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{acme}", "shallow")
    found = commit_of(shallow, NO_CI)
    assert found is not None
    assert (found.sha, found.dirty) == (main, False)
    assert resolve_commit(shallow, hotfix) == hotfix
    assert log_between(shallow, hotfix, main) is None
    assert ahead_behind(shallow, hotfix, main) is None
    assert is_ancestor(shallow, hotfix, main) is None
    assert is_ancestor(shallow, main, main) is True


# ---- branches


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "main"}, "main"),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "12/merge", "GITHUB_HEAD_REF": "fix/cart"}, "fix/cart"),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "12/merge", "GITHUB_HEAD_REF": ""}, None),
        ({"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "v1", "GITHUB_REF_TYPE": "tag"}, None),
        ({"GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "main"}, "main"),
        ({"GITLAB_CI": "true", "CI_COMMIT_REF_NAME": "v1", "CI_COMMIT_TAG": "v1"}, None),
        ({"BUILDKITE": "true", "BUILDKITE_BRANCH": "main"}, "main"),
        ({"CIRCLECI": "true", "CIRCLE_BRANCH": "main"}, "main"),
        ({"BITBUCKET_BUILD_NUMBER": "7", "BITBUCKET_BRANCH": "main"}, "main"),
        ({"TRAVIS": "true", "TRAVIS_BRANCH": "main"}, "main"),
        ({"TF_BUILD": "True", "BUILD_SOURCEBRANCH": "refs/heads/fix/a"}, "fix/a"),
        ({"TF_BUILD": "True", "BUILD_SOURCEBRANCH": "refs/tags/v1"}, None),
        ({"JENKINS_URL": "http://j", "BRANCH_NAME": "PR-3", "CHANGE_BRANCH": "fix/a"}, "fix/a"),
        ({"BRANCH_NAME": "left over from elsewhere"}, None),
    ],
)
def test_a_detached_head_is_named_by_the_ci_system(acme: Path, environ: dict[str, str], expected: str | None) -> None:
    git(acme, "checkout", "--quiet", "--detach")
    assert branch(acme, environ) == expected
    found = commit_of(acme, environ)
    assert found is not None
    assert found.branch == expected


def test_a_branch_that_is_checked_out_wins_over_the_ci_system(acme: Path) -> None:
    git(acme, "checkout", "--quiet", "-b", "feature/heads")
    git(acme, "tag", "feature/heads")
    assert branch(acme / "shop", {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": "main"}) == "feature/heads"


@pytest.mark.parametrize(
    ("of", "name"),
    [
        ("main", "main"),
        ("feature/Add-Cart_v2", "feature-add-cart-v2"),
        ("dependabot/npm_and_yarn/x-1.2", "dependabot-npm-and-yarn-x-1-2"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 33 + "-#"),
        ("2024-fixes", "b-2024-fixes-#"),
        ("a--b", "a-b-#"),
        ("функция", "b-#"),
    ],
)
def test_an_environment_is_named_after_its_branch(of: str, name: str) -> None:
    digits = hashlib.sha256(of.encode()).hexdigest()[:6]
    assert environment_name(of) == name.replace("#", digits)


@given(st.text(max_size=80))
def test_any_branch_gives_a_valid_name(branch_name: str) -> None:
    assert names.check_name(environment_name(branch_name)) is None


@given(st.text("aA1-/é", min_size=1, max_size=50), st.text("aA1-/é", min_size=1, max_size=50))
def test_branches_share_a_name_by_case_and_separators_alone(one: str, other: str) -> None:
    if environment_name(one) == environment_name(other):
        assert one.lower().replace("/", "-") == other.lower().replace("/", "-")


# ---- remotes


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://github.com/acme/shop.git", "https://github.com/acme/shop.git"),
        ("https://joe:pass@github.com/acme/shop", "https://github.com/acme/shop"),
        ("https://ghp_t0ken@github.com/acme/shop", "https://github.com/acme/shop"),
        ("https://joe:p@ss@host:8443/a?private_token=t#f", "https://host:8443/a"),
        ("https://joe:p/a@ss@host/a", None),
        ("ssh://git@host:2222/acme/shop.git", "ssh://git@host:2222/acme/shop.git"),
        ("ssh://joe:pass@host/x", "ssh://host/x"),
        ("git@github.com:acme/shop.git", "git@github.com:acme/shop.git"),
        ("t0ken@host:acme/shop.git", "host:acme/shop.git"),
        ("joe:pass@host:acme/shop.git", None),
        ("host:acme/shop.git?token=t", "host:acme/shop.git"),
        ("/srv/git/shop.git", "/srv/git/shop.git"),
        ("../shop", "../shop"),
        ("ext::sh -c 'cat token'", None),
        ("https://host/\x1b[2J", None),
    ],
)
def test_t14_a_remote_is_told_without_credentials(url: str, public: str | None) -> None:
    assert public_remote(url) == public


def test_the_only_remote_is_told_and_among_several_origin(acme: Path) -> None:
    def remote() -> str | None:
        found = commit_of(acme, NO_CI)
        return found.remote if found else None

    assert remote() is None
    git(acme, "remote", "add", "upstream", "https://host/up")
    assert remote() == "https://host/up"
    git(acme, "remote", "add", "Fork", "https://host/fork")
    assert remote() is None
    git(acme, "remote", "add", "origin", "https://host/origin")
    assert remote() == "https://host/origin"


@pytest.mark.parametrize(
    ("remote", "link"),
    [
        ("https://github.com/acme/shop.git", "https://github.com/acme/shop/compare/OLD...NEW"),
        ("git@github.com:acme/shop.git", "https://github.com/acme/shop/compare/OLD...NEW"),
        ("ssh://git@github.example.com:22/acme/shop", "https://github.example.com/acme/shop/compare/OLD...NEW"),
        ("https://gitlab.com/a/b/c.git", "https://gitlab.com/a/b/c/-/compare/OLD...NEW"),
        ("git@bitbucket.org:acme/shop.git", "https://bitbucket.org/acme/shop/branches/compare/NEW%0DOLD"),
        ("https://codeberg.org/acme/shop", "https://codeberg.org/acme/shop/compare/OLD...NEW"),
        ("https://forgejo.example.com/acme/shop", "https://forgejo.example.com/acme/shop/compare/OLD...NEW"),
        ("https://git.example.com/acme/shop", None),
        ("/srv/git/github.com/shop", None),
        (None, None),
    ],
)
def test_a_link_shows_the_commits_between_two(remote: str | None, link: str | None) -> None:
    assert compare_link(remote, "OLD", "NEW") == link


# ---- who


def login() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def test_the_actor_is_the_variable_else_gits_user_else_the_login(acme: Path, tmp_path: Path) -> None:
    bare = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    assert actor({**os.environ, "SVCCTL_ACTOR": " deploy  bot "}, acme) == "deploy bot"
    assert actor(os.environ, acme) == ADA
    assert actor(os.environ, tmp_path) == ADA
    assert actor(bare, acme) == login()
    git(acme, "config", "user.name", "Grace\tHopper")
    assert actor(os.environ, acme / "shop") == "Grace Hopper <ada@example.com>"
    assert actor(bare, acme) == "Grace Hopper"
    git(acme, "config", "user.email", "grace@example.com")
    assert actor(bare, acme) == "Grace Hopper <grace@example.com>"


@pytest.mark.parametrize("value", ["", "  ", "x" * 201])
def test_an_actor_that_says_nothing_is_an_error(acme: Path, value: str) -> None:
    with pytest.raises(UsageError, match="SVCCTL_ACTOR must be a name"):
        actor({"SVCCTL_ACTOR": value}, acme)


def test_an_actor_in_no_known_encoding_can_still_be_recorded(acme: Path) -> None:
    assert actor({"SVCCTL_ACTOR": "J\udcfcrgen"}, acme).encode() == b"J?rgen"


def test_gitpython_is_imported_when_a_repository_is_asked_and_not_before(acme: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from svcctl.provenance import actor, commit_of
actor(os.environ, Path(sys.argv[1]))
assert "git" not in sys.modules
commit_of(Path(sys.argv[1]), {})
assert "git" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, acme], check=True)
