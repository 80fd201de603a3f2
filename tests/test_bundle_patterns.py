"""Which files belong: the answer is git's own, asked of git."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svcctl.bundle import build
from svcctl.errors import UsageError
from svcctl.model import Source

WORKER = "async def fetch(request, env, ctx): ...\n"
SHOP = Source(main="worker.py", root=".")


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    command = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(folder), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def git_says(folder: Path) -> set[str]:
    """Tracked or not, what git would not ignore."""
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z").decode().split("\0")
    return {path for path in listed if path and not path.startswith(".svcctl/")}


def write(folder: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def bundled(folder: Path, source: Source = SHOP) -> set[str]:
    return {file.path for file in build(folder, source, cache=folder / ".svcctl/cache").manifest.files}


@pytest.mark.parametrize(
    "lines",
    [
        ["*", "!*/", "!*.py"],
        ["*.log", "!keep.log"],
        ["build/"],
        ["/build"],
        ["a/*", "!a/keep/"],
        ["a/**", "!a/keep/x.py"],
        ["a/**/x.py"],
        ["**/x.py"],
        ["sub/*.log"],
        ["!*.py", "*.py"],
        ["foo[", "[z-a]", "/", "!", "#x.log", ""],
        ["\\#odd", "\\!odd", "trailing\\ ", "x.log   "],
        ["x.lo?", "[a-c]"],
        ["keep[!x]"],
        ["**"],
        ["**/"],
        ["*/"],
        ["build\r", "x.log\r"],
        ["a/keep"],
        ["/a/keep/"],
    ],
    ids=" ".join,
)
def test_a_gitignore_means_what_git_says_it_means(tmp_path: Path, lines: list[str]) -> None:
    tree = tmp_path / "tree"
    names = [
        "x.py",
        "x.log",
        "keep.log",
        "#odd",
        "!odd",
        "trailing ",
        "build",
        "a/keep/x.py",
        "a/keep/x.log",
        "a/b/x.py",
    ]
    names += ["sub/build/x.py", "sub/x.log", "a/x.log", "b/c", "keep/x.log", "worker.py"]
    write(tree, dict.fromkeys(names, WORKER))
    (tree / ".gitignore").write_bytes("\n".join([*lines, "!/worker.py"]).encode())
    git(tree, "init", "-q")
    assert bundled(tree) == git_says(tree)


SEGMENT = st.sampled_from(["a", "b", "x.py", "*", "**", "*.py", "?", "[ab]"])
PATTERN = st.builds(
    lambda no, anchor, segments, end: no + anchor + "/".join(segments) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(SEGMENT, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


@pytest.fixture(scope="module")
def lattice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every path of up to three of a, b, x.py, as far as one name can be file or folder."""
    tree = tmp_path_factory.mktemp("lattice") / "tree"
    folders = ["", "a/", "b/", "a/a/", "a/b/", "b/a/"]
    write(tree, {f"{folder}{name}": WORKER for folder in folders for name in ("x.py", "y", "c.py")})
    write(tree, {"worker.py": WORKER})
    git(tree, "init", "-q")
    return tree


@settings(max_examples=60, deadline=None)
@given(top=st.lists(PATTERN, max_size=5), deeper=st.lists(PATTERN, max_size=3))
def test_any_two_gitignore_files_together_mean_what_git_says(lattice: Path, top: list[str], deeper: list[str]) -> None:
    (lattice / ".gitignore").write_text("\n".join([*top, "!/worker.py"]))
    (lattice / "a/.gitignore").write_text("\n".join(deeper))
    assert bundled(lattice) == git_says(lattice)


def test_gitignore_files_count_from_the_top_of_the_repository_down(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.tmp\n/apps/shop/out/\n", "apps/.gitignore": "*.bak\n!keep.tmp\n"})
    write(tmp_path, {f"apps/shop/{name}": WORKER for name in ("worker.py", "a.tmp", "keep.tmp", "b.bak", "out/c.py")})
    git(tmp_path, "init", "-q")
    source = Source(main="shop/worker.py", root="shop")
    assert bundled(tmp_path / "apps", source) == {"worker.py", "keep.tmp"}


def test_ignore_rules_of_the_user_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"tree/worker.py": WORKER, "tree/notes.txt": "", "home/.config/git/ignore": "*.txt\n"})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    git(tmp_path / "tree", "init", "-q")
    write(tmp_path, {"tree/.git/info/exclude": "*.txt\n"})
    assert "notes.txt" in bundled(tmp_path / "tree")


def test_exclude_comes_on_top_of_gitignore_and_include_wins_over_both(tmp_path: Path) -> None:
    files = [
        "worker.py",
        "tests/test_x.py",
        "dist/app.js",
        "dist/app.map",
        "dist/deep/x.map",
        "data/big.bin",
        "logo.png",
    ]
    write(tmp_path, dict.fromkeys(files, WORKER) | {".gitignore": "dist/\n*.map\n*.png\n"})
    source = Source(
        main="worker.py", root=".", include=("dist/", "data/big.bin"), exclude=("tests/", "data/", "!logo.png")
    )
    found = bundled(tmp_path, source)
    assert found == {
        "worker.py",
        "dist/app.js",
        "dist/app.map",
        "dist/deep/x.map",
        "data/big.bin",
        "logo.png",
        ".gitignore",
    }


def test_include_reaches_into_an_ignored_folder_by_path_alone(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(["worker.py", "out/a/keep.js", "out/a/other.js", "out/b/keep.js", "x.js"], WORKER))
    write(tmp_path, {".gitignore": "out/\nx.js\n"})
    by_path = Source(main="worker.py", root=".", include=("out/a/keep.js",))
    by_name = Source(main="worker.py", root=".", include=("*.js",))
    assert bundled(tmp_path, by_path) == {".gitignore", "worker.py", "out/a/keep.js"}
    assert bundled(tmp_path, by_name) == {".gitignore", "worker.py", "x.js"}


def test_some_names_never_belong_not_even_by_include(tmp_path: Path) -> None:
    never = [
        ".git/config",
        ".svcctl/ledger.db",
        ".svcctl.vars",
        ".dev.vars",
        ".env",
        ".env.production",
        "tls.key",
        "a/tls.PEM",
    ]
    never += [".venv/bin/python", "__pycache__/worker.pyc", "a/__pycache__/x.pyc", "services.toml"]
    write(tmp_path, dict.fromkeys(never, "") | {"worker.py": WORKER, "a/env.py": "", "a/services.toml": ""})
    source = Source(main="worker.py", root=".", include=("*", "a/*", ".git/*"))
    assert bundled(tmp_path, source) == {"worker.py", "a/env.py", "a/services.toml"}


def test_what_is_no_pattern_in_services_toml_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"worker.py": WORKER})
    with pytest.raises(UsageError, match="`exclude` holds '!', which is no gitignore pattern"):
        bundled(tmp_path, Source(main="worker.py", root=".", exclude=("!",)))


def test_a_folder_or_a_link_in_the_place_of_gitignore_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"tree/worker.py": WORKER, "rules": "*\n", "tree/a/.gitignore/x.py": "", "tree/b/x.py": ""})
    (tmp_path / "tree/b/.gitignore").symlink_to("../b/x.py")
    git(tmp_path / "tree", "init", "-q")
    assert "b/x.py" in bundled(tmp_path / "tree")
