"""where, artifact get, verify, gc and completion of stored names, as transcripts."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest
from scene import bundle
from transcript import Shell

from svcctl import digest
from svcctl.backend.store import Store
from svcctl.bundle.unpack import unpack
from svcctl.errors import Damage, Refused
from svcctl.model import File, Manifest

ROOT = Path(__file__).parent.parent
FILE = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"

[services.shop]
main = "shop/worker.py"
"""
WORKER = "async def fetch(request, env, ctx):\n    return 1\n"


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
        (folder / service / "worker.py").write_text(WORKER)
    (folder / "services.toml").write_text(FILE)
    (folder / ".gitignore").write_text(".svcctl/\n")
    return Shell(folder, capsys)


def git(shell: Shell, *arguments: str) -> str:
    words = ["git", "-c", "user.name=Mia", "-c", "user.email=mia@example.com", *arguments]
    return subprocess.run(words, cwd=shell.folder, check=True, capture_output=True, text=True).stdout.strip()


def commit(shell: Shell, subject: str, answer: int) -> str:
    (shell.folder / "shop/worker.py").write_text(WORKER.replace("1", str(answer)))
    git(shell, "add", "-A")
    git(shell, "commit", "-q", "-m", subject)
    return git(shell, "rev-parse", "HEAD")


@pytest.fixture
def commits(shell: Shell) -> list[str]:
    """First and third are deployed, the third on top of the second; production runs the first."""
    git(shell, "init", "-q", "-b", "main")
    first = commit(shell, "First", 1)
    shell.done("deploy")
    shell.done("promote", "staging", "production", "--yes")
    second = commit(shell, "Second", 2)
    third = commit(shell, "Third", 3)
    shell.done("deploy")
    return [first, second, third]


def refs(shell: Shell, *arguments: str) -> tuple[list[str], list[str]]:
    """All that was found, and what of it is live."""
    said = shell("where", *arguments, "--json")
    assert said.status == 0, said.err
    return [version["ref"] for version in said.json["versions"]], said.json["live"]


# ---- where


def test_where_finds_what_ran_a_commit_and_marks_what_runs_it_now(shell: Shell, commits: list[str]) -> None:
    found = (
        ["auth/production@1", "shop/production@1", "auth/staging@1", "shop/staging@1"],
        ["auth/production@1", "shop/production@1", "auth/staging@1"],
    )
    assert refs(shell, commits[0]) == found
    assert refs(shell, commits[0][:7]) == found
    assert refs(shell, commits[0][:7].upper()) == found
    assert refs(shell, "HEAD~2") == found
    table = shell.done("where", commits[2][:7]).splitlines()
    assert len(table) == 2
    assert table[1].split()[:2] == ["●", "shop/staging@2"]


def test_where_follows_code_that_a_roll_back_brought_back(shell: Shell, commits: list[str]) -> None:
    shell.done("promote", "staging", "production", "--yes")
    assert "shop/production@1" not in refs(shell, commits[0])[1]
    shell.done("rollback", "--yes")
    assert "shop/production@1" in refs(shell, commits[0])[1]


def test_where_takes_branches_tags_and_artifacts(shell: Shell, commits: list[str]) -> None:
    git(shell, "tag", "v1", commits[0])
    assert refs(shell, "main") == (["shop/staging@2"], ["shop/staging@2"])
    assert refs(shell, "v1") == refs(shell, commits[0])
    code = shell("history", "shop/staging", "--json").json["versions"][0]["code"]["digest"]
    assert refs(shell, code) == refs(shell, code[:8]) == (["shop/staging@2"], ["shop/staging@2"])


def test_where_contains_asks_git_which_heads_have_a_commit(shell: Shell, commits: list[str]) -> None:
    assert refs(shell, commits[1], "--contains") == (["shop/staging@2"], ["shop/staging@2"])
    live = ["auth/production@1", "auth/staging@1", "shop/production@1", "shop/staging@2"]
    assert sorted(refs(shell, "HEAD~2", "--contains")[0]) == live


def test_where_says_what_was_never_deployed_and_what_it_may_be_part_of(shell: Shell, commits: list[str]) -> None:
    said = shell("where", commits[1][:7])
    assert (said.status, said.out) == (3, "")
    assert said.err == (
        f"error: commit {commits[1][:12]} was never deployed\n"
        "hint: it may be part of a later one that was\n"
        f"next: svcctl where {commits[1][:7]} --contains\n"
    )
    commit(shell, "Fourth", 4)
    assert shell("where", "HEAD", "--contains") == (
        3,
        "",
        f"error: no environment runs a commit that contains {git(shell, 'rev-parse', 'HEAD')[:12]}\n",
    )


@pytest.mark.parametrize("what", ["deadbeef", "nothing", "--", "-x", "\x1b[31m", "HEAD^{tree}"])
@pytest.mark.usefixtures("commits")
def test_where_of_what_nobody_knows(shell: Shell, what: str) -> None:
    said = shell("where", "--", what)
    assert said.status == 3
    assert said.err.startswith("error: no version ran ")
    assert "\x1b" not in said.err


def test_where_contains_tells_what_the_repository_can_t_know(shell: Shell, commits: list[str]) -> None:
    git(shell, "checkout", "-q", "--orphan", "other")
    git(shell, "branch", "-D", "main")
    commit(shell, "Elsewhere", 9)
    git(shell, "reflog", "expire", "--expire=now", "--all")
    git(shell, "gc", "-q", "--prune=now")
    said = shell("where", "HEAD", "--contains")
    assert said.status == 3
    assert "hint: the repository here lacks the commits of auth/production@1, auth/staging@1" in said.err
    assert refs(shell, commits[2]) == (["shop/staging@2"], ["shop/staging@2"])


# ---- artifact get


def test_artifact_get_writes_the_exact_files_of_any_version(shell: Shell, tmp_path: Path) -> None:
    shop = shell.folder / "shop"
    (shop / "data").mkdir()
    (shop / "data/logo.png").write_bytes(b"\x89PNG\0" * 1000)
    (shop / "run.sh").write_text("#!/bin/sh\n")
    (shop / "run.sh").chmod(0o755)
    before = tree(shop)
    shell.done("deploy")
    (shop / "run.sh").unlink()
    shell.done("deploy")
    out = tmp_path / "out"
    assert shell.done("artifact", "get", "shop/staging@1", str(out)).startswith("shop/staging@1: 3 files of artifact ")
    assert tree(out) == before
    assert oct(out.stat().st_mode & 0o777) == oct(0o777 & ~umask())


def test_artifact_get_fills_an_empty_folder_and_never_one_with_files(shell: Shell, tmp_path: Path) -> None:
    shell.done("deploy")
    out = tmp_path / "out"
    out.mkdir()
    here = out.stat().st_ino
    shell.done("artifact", "get", "shop/staging", str(out))
    assert (out.stat().st_ino, sorted(tree(out))) == (here, ["worker.py"])
    (out / "worker.py").write_text("mine")
    said = shell("artifact", "get", "shop/staging", str(out))
    assert said == (
        1,
        "",
        f"error: {out} is not empty\nhint: name a new or an empty folder: nothing is ever written over\n",
    )
    assert (out / "worker.py").read_text() == "mine"


def test_artifact_get_of_damaged_code_leaves_nothing_behind(shell: Shell, tmp_path: Path) -> None:
    shell.done("deploy", "-s", "shop")
    damage(shell, WORKER.encode())
    out = tmp_path / "out"
    said = shell("artifact", "get", "shop/staging", str(out))
    assert (said.status, said.out) == (9, "")
    assert said.err.startswith("error: worker.py: blob ")
    assert said.err.endswith("hint: nothing was written\nnext: svcctl verify\n")
    assert [path.name for path in tmp_path.iterdir()] == ["acme"]
    assert shell("artifact", "get", "shop/staging", str(out), "--json").json["error"]["code"] == "damage"


def test_a_version_without_code_has_no_files(shell: Shell, tmp_path: Path) -> None:
    shell.done("deploy", "--settings-only", "--env", "production")
    shell.done("vars", "set", "A=1", "-s", "shop", "--env", "production")
    said = shell("artifact", "get", "shop/production", str(tmp_path / "out"))
    assert (said.status, said.err.splitlines()[0]) == (1, "error: shop/production@2 has settings and no code")


HOSTILE = {
    "../x": "is not a plain relative path",
    "a/../../x": "is not a plain relative path",
    "/etc/x": "is not a plain relative path",
    "./x": "is not a plain relative path",
    "a//x": "is not a plain relative path",
    "": "is not a plain relative path",
    "a\\..\\x": "has a backslash in its name, which is a folder on other systems",
    "C:\\x": "has a backslash in its name, which is a folder on other systems",
    "a\0b": "has a control character in its name",
    "a\nb": "has a control character in its name",
    "x" * 5000: "is a path of 5,000 characters",
    "\ud800": "is not a name in UTF-8",
}


@pytest.mark.parametrize("path", HOSTILE, ids=[ascii(path)[:20] for path in HOSTILE])
def test_a_path_that_no_bundle_has_is_damage_and_nothing_is_written(path: str, tmp_path: Path) -> None:
    with pytest.raises(Damage, match="a path that no bundle has") as caught:
        unpack(made_of("fine.py", path), opened, tmp_path / "out")
    assert HOSTILE[path] in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (("a.py", "a.py"), "'a.py' twice"),
        (("a", "a/b"), "differ only in that one is a folder"),
        (("a.py", "A.py"), "differ only by upper and lower case"),
        (("caf\u00e9", "cafe\u0301"), "Unicode normalisation"),
    ],
)
def test_paths_that_would_meet_are_damage(paths: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(Damage, match=says):
        unpack(made_of(*paths), opened, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_change_after_they_were_checked_are_damage(tmp_path: Path) -> None:
    """The backend hashes before it hands on; what arrives is hashed once more."""
    with pytest.raises(Damage, match=r"a\.py: the stored bytes are not those of the artifact"):
        unpack(made_of("a.py"), lambda _: BytesIO(b"other"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_to_its_folder_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    unpack(made_of("a.py"), opened, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/a.py").read_bytes() == b"text"


def test_a_place_that_can_t_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is no folder"):
        unpack(made_of("a.py"), opened, tmp_path / "file")
    with pytest.raises(Refused, match="is no folder") as caught:
        unpack(made_of("a.py"), opened, tmp_path / "no/such/out")
    assert caught.value.next == f"mkdir -p {tmp_path / 'no/such'}"


def made_of(*paths: str) -> Manifest:
    return Manifest(main="a.py", files=tuple(File(path=path, blob=digest.of_blob(b"text"), size=4) for path in paths))


def opened(_: digest.Digest) -> BytesIO:
    return BytesIO(b"text")


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK))
        for path in folder.rglob("*")
        if path.is_file()
    }


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---- verify and gc


def damage(shell: Shell, content: bytes) -> None:
    (pack,) = (path for path in (shell.folder / ".svcctl/packs").iterdir() if content in path.read_bytes())
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes().replace(content, content.upper()))


def test_verify_of_a_sound_store_ends_with_the_head_to_keep(shell: Shell) -> None:
    shell.done("deploy", "-s", "shop")
    said = shell.done("verify").splitlines()
    assert said[0] == "sound: 1 change, 5 records, 2 blobs"
    head = said[1].removeprefix("head:  ")
    assert said[1].startswith("head:  1:")
    shell.done("vars", "set", "A=1", "-s", "shop", "--env", "staging")
    again = shell("verify", "--head", head, "--json").json
    assert (again["since_head"], again["problems"], again["leftovers"]) == ("grown by 1", [], [])
    assert shell.done("verify", "--head", again["head"]).splitlines()[1] == "since the head given:  unchanged"


def test_verify_lists_damage_by_version_and_ends_with_9(shell: Shell) -> None:
    shell.done("deploy", "-s", "shop")
    shell.done("promote", "staging", "production", "--yes")
    damage(shell, WORKER.encode())
    said = shell("verify")
    assert said.status == 9
    blob = digest.of_blob(WORKER.encode())[:8]
    assert said.out.startswith(f"blob {blob} does not match its name in ")
    assert "(worker.py): used by shop/production@1, shop/staging@1\nhead:  2:" in said.out
    assert said.err.startswith("error: 1 problem found\n")
    document = shell("verify", "--json")
    assert (document.status, len(document.json["problems"])) == (9, 1)


@pytest.mark.parametrize("arguments", [("rollback", "--yes"), ("env", "clone", "production", "preview")])
def test_damaged_code_is_refused_and_what_is_live_stays(shell: Shell, arguments: tuple[str, ...]) -> None:
    shell.done("deploy", "-s", "shop")
    shell.done("promote", "staging", "production", "--yes")
    (shell.folder / "shop/worker.py").write_text(WORKER.replace("1", "2"))
    shell.done("deploy", "-s", "shop")
    if arguments[0] == "rollback":
        shell.done("promote", "staging", "production", "--yes")
    damage(shell, WORKER.encode())
    live = shell("env", "list", "--json").json
    said = shell(*arguments)
    assert (said.status, said.out) == (9, "")
    assert "next: svcctl verify\n" in said.err
    assert shell("env", "list", "--json").json == live


def test_what_a_killed_upload_left_is_listed_and_swept(shell: Shell) -> None:
    shell.done("deploy", "-s", "shop")
    left = shell.folder / ".svcctl/packs/1234.pack.tmp"
    left.touch()
    assert "note: left over and needed by nothing: 1234.pack.tmp; svcctl gc removes them\n" in shell.done("verify")
    assert shell.done("gc", "--dry-run") == "would remove 1 leftover file (0 bytes of blobs)\n  1234.pack.tmp\n"
    asked = shell("gc")
    assert (asked.status, asked.out) == (5, "")
    assert asked.err == (
        "would remove 1 leftover file (0 bytes of blobs)\n"
        "  1234.pack.tmp\n"
        "error: remove this from the store: this needs a yes\nhint: add --yes\nnext: svcctl gc --yes\n"
    )
    assert left.exists()
    assert shell.done("gc", "--yes").startswith("removed 1 leftover file")
    assert shell.done("gc") == "nothing to remove\n"
    assert not left.exists()


def test_gc_frees_old_uploads_that_no_version_names(shell: Shell) -> None:
    shell.done("deploy", "-s", "shop")
    with closing(Store.open(shell.folder / ".svcctl")) as store:
        store.upload(bundle("never deployed"))
        assert shell.done("gc") == "nothing to remove\n"
        store.database.execute("UPDATE artifacts SET uploaded = 0")
    would = shell("gc", "--dry-run", "--json").json
    assert (would["artifacts"], would["blobs"], would["dry_run"]) == (1, 2, True)
    done = shell("gc", "--yes", "--json").json
    assert (done["artifacts"], done["blobs"], done["bytes"]) == (1, 2, would["bytes"])
    assert shell.done("verify").startswith("sound: 1 change, 5 records, 2 blobs\n")


@pytest.mark.parametrize("command", ["verify", "gc", "where main"])
def test_without_a_store_there_is_nothing_to_look_at(shell: Shell, command: str) -> None:
    said = shell(*command.split())
    assert said.status == 3
    assert said.err.startswith("error: nothing has been deployed here yet")


# ---- completion, in bash for real


@pytest.fixture
def press_tab(shell: Shell) -> Callable[[str], list[str]]:
    """What bash offers after a line, by the script in the repository and with names from the store."""
    shell.done("deploy", "--tag", "v1.4.0")
    shell.done("env", "clone", "staging", "preview")
    shell.done("vars", "set", "A=1", "-s", "shop", "--env", "staging")

    def complete(line: str) -> list[str]:
        script = f"""
source {ROOT}/completions/svcctl.bash
COMP_WORDBREAKS=$' \\t\\n"\\'@><=;|&(:'
COMP_LINE=$1 COMP_POINT=${{#1}}
_svcctl svcctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash", line],
            cwd=shell.folder,
            env={"PATH": path, "HOME": os.environ["HOME"]},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    return complete


def test_bash_completes_services_environments_versions_and_tags(press_tab: Callable[[str], list[str]]) -> None:
    assert press_tab("svcctl deploy -s ") == ["auth", "shop"]
    assert press_tab("svcctl rollback p") == ["preview", "production"]
    assert press_tab("svcctl promote stag") == ["staging"]
    assert press_tab("svcctl diff shop/") == ["shop/preview", "shop/production", "shop/staging"]
    # readline replaces only what follows the @
    assert press_tab("svcctl show shop/staging@") == ["v1.4.0", "2", "1"]
    assert press_tab("svcctl artifact get shop/staging@v") == ["v1.4.0"]
    assert press_tab("svcctl diff shop/nowhere@") == []
