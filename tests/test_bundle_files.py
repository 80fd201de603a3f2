"""What a bundle is made of: the files, their paths, the manifest and its digest."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from svcctl import digest, wire
from svcctl.bundle import Bundle, build
from svcctl.errors import Refused, UsageError
from svcctl.model import Limits, Manifest, Source

WORKER = "async def fetch(request, env, ctx): ...\n"
SHOP = Source(main="shop/worker.py", root="shop")
USUAL = Limits()
DOCUMENT = Path(__file__).parent.parent / "docs/bundling.md"


def write(folder: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def bundle(project: Path, source: Source = SHOP, limits: Limits = USUAL) -> Bundle:
    return build(project, source, cache=project / ".svcctl/cache", limits=limits)


def paths(project: Path, source: Source = SHOP) -> list[str]:
    return [file.path for file in bundle(project, source).manifest.files]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, {"shop/worker.py": WORKER, "shop/pages/index.html": "<h1>Shop</h1>\n", "services.toml": ""})
    return tmp_path


def test_a_service_is_the_files_of_its_root_sorted_and_named_by_their_content(project: Path) -> None:
    made = bundle(project)
    page, worker = made.manifest.files
    assert (made.manifest.main, page.path, worker.path) == ("worker.py", "pages/index.html", "worker.py")
    assert worker.blob == hashlib.sha256(WORKER.encode()).hexdigest()
    assert worker.size == len(WORKER)
    assert wire.decode(made.content, Manifest) == made.manifest
    assert made.digest == digest.of("artifact", made.content)


def test_every_blob_can_be_opened_again_for_upload(project: Path) -> None:
    made = bundle(project)
    for file in made.manifest.files:
        with made.open(file.blob) as stream:
            assert hashlib.sha256(stream.read()).hexdigest() == file.blob


def test_only_the_owners_executable_bit_is_kept(project: Path) -> None:
    write(project, {"shop/run.sh": "", "shop/others.sh": "", "shop/setuid.sh": ""})
    (project / "shop/run.sh").chmod(0o700)
    (project / "shop/others.sh").chmod(0o655)
    (project / "shop/setuid.sh").chmod(0o6644)
    executable = {file.path: file.executable for file in bundle(project).manifest.files}
    assert executable == {
        "others.sh": False, "pages/index.html": False, "run.sh": True, "setuid.sh": False, "worker.py": False,
    }  # fmt: skip


def test_a_shared_folder_comes_along_under_its_own_name(project: Path) -> None:
    write(project, {"libs/common/__init__.py": "", "libs/common/deep/money.py": "", "libs/other/x.py": ""})
    source = Source(main="shop/worker.py", root="shop", with_=("libs/common",))
    assert paths(project, source) == ["common/__init__.py", "common/deep/money.py", "pages/index.html", "worker.py"]


def test_a_shared_folder_that_clashes_with_the_root_is_an_error_naming_both(project: Path) -> None:
    write(project, {"pages/index.html": ""})
    with pytest.raises(UsageError) as caught:
        bundle(project, Source(main="shop/worker.py", root="shop", with_=("pages",)))
    assert caught.value.message == "shop/pages/index.html and pages/index.html would both be pages/index.html"


def test_a_shared_folder_that_lies_in_the_root_is_bundled_once(project: Path) -> None:
    source = Source(main="shop/worker.py", root="shop", with_=("shop/pages",))
    assert paths(project, source) == paths(project)


def test_settings_are_no_code(project: Path) -> None:
    write(project, {"worker.py": WORKER})
    whole = Source(main="worker.py", root=".")
    before = bundle(project, whole).digest
    write(project, {"services.toml": 'project = "acme"\n'})
    assert bundle(project, whole).digest == before


def test_the_declared_python_and_compiled_code_are_part_of_the_manifest(project: Path) -> None:
    assert (bundle(project).manifest.python, bundle(project).manifest.platform) == (None, None)
    write(project, {"shop/fast.cpython-311-x86_64-linux-gnu.so": "", "shop/libz.so.1": ""})
    declared = bundle(project, Source(main="shop/worker.py", root="shop", python="3.11")).manifest
    assert declared.python == "3.11"
    assert declared.platform
    assert declared.platform.startswith(sys.platform)


def test_links_within_the_root_are_the_files_they_name(project: Path) -> None:
    (project / "shop/home.html").symlink_to("pages/index.html")
    (project / "shop/site").symlink_to("pages")
    (project / "shop/twice").symlink_to("home.html")
    made = {file.path: file.blob for file in bundle(project).manifest.files}
    assert set(made) == {"home.html", "pages/index.html", "site/index.html", "twice", "worker.py"}
    assert len({made[path] for path in made if path != "worker.py"}) == 1


def test_hard_links_are_files_like_others(project: Path) -> None:
    os.link(project / "services.toml", project / "shop/linked")
    assert "linked" in paths(project)


# ---- the same tree, the same digest (I5, T7)

BUILD = """
import sys
from pathlib import Path
from svcctl.bundle import build
from svcctl.model import Source
folder = Path(sys.argv[1])
source = Source(main="shop/worker.py", root="shop", with_=("common",))
print(build(folder, source, cache=folder / ".svcctl/cache").digest)
"""


def copy_of_the_tree(folder: Path, order: int) -> Path:
    names = ["shop/worker.py", "shop/ünïcode.txt", "shop/b/c.py", "shop/a.py", "common/x.py", "shop/Z.py"]
    write(folder, {name: WORKER + name for name in names[::order]})
    (folder / "shop/a.py").chmod(0o744)
    return folder


def test_i5_the_same_tree_gives_the_same_digest_anywhere_and_at_any_time(tmp_path: Path) -> None:
    surroundings = [
        ({"PYTHONHASHSEED": "1", "LC_ALL": "C"}, 0o022, 1, None),
        ({"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8"}, 0o077, -1, 86_400),
        ({"PYTHONHASHSEED": "3", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, 0, 1, 4e9),
    ]
    digests = []
    for number, (environment, umask, order, modified) in enumerate(surroundings):
        old = os.umask(umask)
        tree = copy_of_the_tree(tmp_path / str(number), order)
        os.umask(old)
        for path in tree.rglob("*") if modified else ():
            os.utime(path, (modified, modified))
        command = [sys.executable, "-c", BUILD, os.path.relpath(tree, tree.parent)]
        digests.append(subprocess.check_output(command, cwd=tree.parent, env=os.environ | environment, umask=umask))
    assert len(set(digests)) == 1


def test_t7_two_different_trees_never_share_a_digest(project: Path) -> None:
    digests = [bundle(project).digest]
    for path, content in [("shop/a", "bc"), ("shop/ab", "c"), ("shop/a/b", "c"), ("shop/pages/index.html", "")]:
        before = (project / path).read_text() if (project / path).exists() else None
        write(project, {path: content})
        digests.append(bundle(project).digest)
        (project / path).unlink()
        if before is not None:
            write(project, {path: before})
        elif path == "shop/a/b":
            (project / "shop/a").rmdir()
    (project / "shop/worker.py").chmod(0o755)
    digests.append(bundle(project).digest)
    assert len(set(digests)) == len(digests)


# ---- limits


def test_each_limit_names_what_is_over_it_and_its_key(project: Path) -> None:
    write(project, {"shop/data/a": "x" * 60, "shop/data/b": "x" * 60, "shop/data/c": "x" * 60})
    cases = {
        "file_size": (Limits(file_size=50), "shop/data/a is 60 bytes; limits.file_size allows 50"),
        "artifact_size": (
            Limits(artifact_size=150),
            "the files up to shop/data/c are 180 bytes; limits.artifact_size allows 150",
        ),
        "file_count": (
            Limits(file_count=4),
            "there are more than 4 files, 3 of them below shop/data; limits.file_count allows 4",
        ),
        "path_length": (
            Limits(path_length=15),
            "shop/pages/index.html is a path of 16 characters; limits.path_length allows 15",
        ),
    }
    for key, (limits, message) in cases.items():
        with pytest.raises(Refused) as caught:
            bundle(project, limits=limits)
        assert caught.value.message == message
        assert key == "path_length" or f"raise {key} under [limits]" in str(caught.value.hint)


# ---- services.toml at fault


def test_main_that_is_not_there_or_left_out_says_so(project: Path) -> None:
    write(project, {".gitignore": "gen/\n*.gen.py\n", "shop/w.gen.py": WORKER, "shop/.venv/w.py": WORKER})
    cases = {
        "shop/wroker.py": (UsageError, "main: there is no file shop/wroker.py"),
        "shop/w.gen.py": (Refused, "main: shop/w.gen.py is left out by a .gitignore file or by `exclude`"),
        "shop/.venv/w.py": (UsageError, "main: shop/.venv/w.py has a name that is never bundled"),
    }
    for main, (kind, message) in cases.items():
        with pytest.raises(kind) as caught:
            bundle(project, Source(main=main, root="shop"))
        assert caught.value.message == message


def test_a_root_or_shared_folder_must_exist_within_the_project(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project / "away").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    cases = {
        "gone": "services.toml: with: gone can't be opened: No such file or directory",
        "services.toml": "services.toml: with: services.toml is no folder",
    }
    for name, message in cases.items():
        with pytest.raises(UsageError) as caught:
            bundle(project, Source(main="shop/worker.py", root="shop", with_=(name,)))
        assert caught.value.message == message
    with pytest.raises(UsageError, match=r"with: away is a link to .*elsewhere0, outside of the project's folder"):
        bundle(project, Source(main="shop/worker.py", root="shop", with_=("away",)))
    with pytest.raises(UsageError, match="root: away is a link to"):
        bundle(project, Source(main="away/worker.py", root="away"))


def test_progress_tells_how_many_bytes_are_hashed_and_always_ends(project: Path) -> None:
    class Told:
        def __init__(self) -> None:
            self.story: list[object] = []
            self.bytes = 0

        def start(self, what: str, total: int | None = None) -> None:
            self.story += [what, total]

        def advance(self, by: int) -> None:
            self.bytes += by

        def done(self) -> None:
            self.story.append("done")

    told = Told()
    size = sum(file.size for file in build(project, SHOP, cache=project / "cache", progress=told).manifest.files)
    assert (told.story, told.bytes) == (["hashing", size, "done"], size)
    write(project, {"shop/id_rsa": "-----BEGIN OPENSSH PRIVATE KEY-----\n"})
    with pytest.raises(Refused):
        build(project, SHOP, cache=project / "cache", progress=told)
    assert told.story[-1] == "done"


def test_the_documented_limits_are_the_limits() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {key: int(value.replace(",", "")) for key, value in rows} == {
        field: getattr(Limits(), field) for field in Limits.__struct_fields__
    }
