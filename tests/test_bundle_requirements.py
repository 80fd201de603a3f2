"""Requirements are installed into the artifact by uv: from wheels made here, without a network."""

import base64
import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from svcctl.bundle import Bundle, build
from svcctl.bundle.installing import FOLDER
from svcctl.errors import Refused, UsageError
from svcctl.model import Source

WORKER = "async def fetch(request, env, ctx): ...\n"
SHOP = Source(main="shop/worker.py", root="shop", python="3.11")


def make_wheel(folder: Path, name: str = "tea", version: str = "1.0", tag: str = "py3-none-any", **files: str) -> str:
    """A wheel with a package, a script and whatever else; returns its SHA-256."""
    info = f"{name}-{version}.dist-info"
    contents = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        f"{name}-{version}.data/scripts/{name}": "#!python\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **{path.replace("__", "/"): content for path, content in files.items()},
    }
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        record = ""
        for path, content in contents.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content)
            named = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={named},{len(content.encode())}\n"
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "FIND_LINKS": tmp_path / "wheels",
        "OFFLINE": 1,
        "NO_CONFIG": 1,
        "CACHE_DIR": tmp_path / "uv",
    }.items():
        monkeypatch.setenv(f"UV_{name}", str(value))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    folder = tmp_path / "project/shop"
    folder.mkdir(parents=True)
    (folder / "worker.py").write_text(WORKER)
    return folder


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return tmp_path / "wheels"


class Told:
    def __init__(self) -> None:
        self.story: list[str] = []

    def start(self, what: str, total: int | None = None) -> None:  # noqa: ARG002  # the protocol's
        self.story.append(what)

    def advance(self, by: int) -> None: ...

    def done(self) -> None: ...


def bundle(shop: Path, source: Source = SHOP, cache: str = "cache", told: Told | None = None) -> Bundle:
    return build(shop.parent, source, cache=shop.parents[1] / cache, progress=told or Told())


def installed(made: Bundle) -> list[str]:
    return [file.path for file in made.manifest.files if file.path.startswith(FOLDER)]


def test_requirements_lie_in_one_folder_without_what_installing_leaves_behind(shop: Path, wheels: Path) -> None:
    make_wheel(wheels)
    (shop / "requirements.txt").write_text("tea==1.0\n")
    made = bundle(shop)
    assert installed(made) == [
        "python_modules/tea-1.0.dist-info/METADATA",
        "python_modules/tea-1.0.dist-info/WHEEL",
        "python_modules/tea/__init__.py",
    ]
    blob = next(file.blob for file in made.manifest.files if file.path.endswith("__init__.py"))
    with made.open(blob) as stream:
        assert stream.read() == b"VERSION = '1.0'\n"


def test_equal_requirements_give_equal_digests_on_another_machine(
    shop: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels)
    (shop / "requirements.txt").write_text("tea==1.0\n")
    first = bundle(shop)
    monkeypatch.setenv("UV_CACHE_DIR", str(wheels.parent / "another"))
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    monkeypatch.setenv("VIRTUAL_ENV", str(wheels.parent / "nowhere"))
    monkeypatch.setenv("PYTHONPATH", str(wheels))
    assert bundle(shop, cache="another machine").digest == first.digest


def test_an_installation_is_made_once_and_kept(shop: Path, wheels: Path) -> None:
    make_wheel(wheels)
    (shop / "requirements.txt").write_text("tea==1.0\n")
    told = Told()
    first = bundle(shop, told=told)
    (wheels / "tea-1.0-py3-none-any.whl").unlink()
    assert bundle(shop, told=told).digest == first.digest
    assert told.story.count("installing requirements") == 1


def test_an_installation_that_lost_a_file_is_made_anew(shop: Path, wheels: Path) -> None:
    make_wheel(wheels)
    (shop / "requirements.txt").write_text("tea==1.0\n")
    first = bundle(shop)
    next(path for path in (shop.parents[1] / "cache").rglob("tea/__init__.py")).unlink()
    assert bundle(shop).digest == first.digest


STAND_IN = """#!/bin/sh
[ "$1" = --version ] && echo uv 0 && exit
while [ "$1" != --target ]; do shift; done
touch "$2/half.py"
kill -9 $PPID
"""


def test_an_installation_killed_halfway_is_made_anew(shop: Path, wheels: Path) -> None:
    make_wheel(wheels)
    (shop / "requirements.txt").write_text("tea==1.0\n")
    stand_in = wheels.parent / "bin/uv"
    stand_in.parent.mkdir()
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    code = "import sys; from pathlib import Path; from svcctl.bundle import build; from svcctl.model import Source; "
    code += (
        "build(Path(sys.argv[1]), Source(main='shop/worker.py', root='shop', python='3.11'), cache=Path(sys.argv[2]))"
    )
    cache = shop.parents[1] / "cache"
    command = [sys.executable, "-c", code, shop.parent, cache]
    killed = subprocess.run(command, env=os.environ | {"PATH": f"{stand_in.parent}:{os.environ['PATH']}"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(cache.rglob("half.py"))
    assert installed(bundle(shop)) == installed(bundle(shop, cache="fresh"))
    assert not list(cache.rglob("half.py"))


def test_hashes_are_checked_where_there_are_any(shop: Path, wheels: Path) -> None:
    digest = make_wheel(wheels)
    (shop / "requirements.txt").write_text(f"tea==1.0 --hash=sha256:{digest}\n")
    assert installed(bundle(shop))
    (shop / "requirements.txt").write_text(f"tea==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(Refused, match=r"uv could not install the requirements in shop/requirements\.txt"):
        bundle(shop)


def test_one_hash_asks_for_all(shop: Path, wheels: Path) -> None:
    digest = make_wheel(wheels)
    make_wheel(wheels, "milk")
    (shop / "requirements.txt").write_text(f"tea==1.0 --hash=sha256:{digest}\nmilk==1.0\n")
    with pytest.raises(Refused, match="milk"):
        bundle(shop)


def test_a_uv_lock_is_installed_as_it_stands(shop: Path, wheels: Path) -> None:
    make_wheel(wheels)
    (shop / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["tea"]\n'
        '[dependency-groups]\ndev = ["milk"]\n'
    )
    make_wheel(wheels, "milk")
    subprocess.run([sys.executable, "-m", "uv", "lock", "--quiet"], cwd=shop, check=True)
    make_wheel(wheels, version="2.0")
    found = installed(bundle(shop))
    assert "python_modules/tea-1.0.dist-info/METADATA" in found
    assert not [path for path in found if "milk" in path or "shop" in path]


def test_only_wheels_for_the_declared_python_and_platform_are_taken(shop: Path, wheels: Path) -> None:
    make_wheel(wheels, tag="cp312-cp312-manylinux_2_17_x86_64")
    (shop / "requirements.txt").write_text("tea\n")
    with pytest.raises(Refused, match="no wheels"):
        bundle(shop)


def test_compiled_packages_put_the_platform_into_the_manifest(shop: Path, wheels: Path) -> None:
    make_wheel(wheels, **{"tea__fast.abi3.so": ""})
    (shop / "requirements.txt").write_text("tea\n")
    assert bundle(shop).manifest.platform


def test_included_requirement_files_count(shop: Path, wheels: Path) -> None:
    make_wheel(wheels)
    make_wheel(wheels, version="2.0")
    (shop / "deps").mkdir()
    (shop / "requirements.txt").write_text("-r deps/base.txt\n")
    (shop / "deps/base.txt").write_text("tea\n--constraint=limits.txt\n")
    (shop / "deps/limits.txt").write_text("tea<2\n")
    assert "python_modules/tea-1.0.dist-info/METADATA" in installed(bundle(shop))
    (shop / "deps/limits.txt").write_text("tea<3\n")
    assert "python_modules/tea-2.0.dist-info/METADATA" in installed(bundle(shop))


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=./lib",
        "./lib",
        "../lib",
        "/opt/lib",
        "file:///opt/lib",
        "git+https://example.com/tea",
        "tea @ git+https://example.com/tea",
        "tea @ file:///opt/tea",
        "tea[milk]@file:///opt/tea",
    ],
)
def test_what_would_have_to_be_built_is_refused(shop: Path, line: str) -> None:
    (shop / "requirements.txt").write_text(f"# what we need\n{line}\n")
    with pytest.raises(Refused) as caught:
        bundle(shop)
    assert caught.value.message == f"shop/requirements.txt:2: {line} would have to be built, and deploys run no code"


@pytest.mark.parametrize("line", ["-r ../secret.txt", "-r /etc/passwd", "-c https://example.com/c.txt", "-rgone.txt"])
def test_t26_an_included_file_outside_of_the_service_is_refused(shop: Path, line: str) -> None:
    (shop.parent / "secret.txt").write_text("canary")
    (shop / "requirements.txt").write_text(line)
    with pytest.raises(Refused) as caught:
        bundle(shop)
    assert caught.value.message == f"shop/requirements.txt:1: {line} names no file of the service"


def test_packages_need_a_declared_python(shop: Path) -> None:
    (shop / "requirements.txt").write_text("tea\n")
    with pytest.raises(UsageError) as caught:
        bundle(shop, Source(main="shop/worker.py", root="shop"))
    assert caught.value.message.startswith("shop/requirements.txt needs packages")
    assert 'python = "3.11"' in str(caught.value.hint)


def test_a_file_without_requirements_needs_nothing(shop: Path) -> None:
    (shop / "requirements.txt").write_text("# none yet\n\n")
    (shop / "pyproject.toml").write_text("[tool.ruff]\nline-length = 120\n")
    assert not installed(bundle(shop, Source(main="shop/worker.py", root="shop")))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"requirements.txt": "tea", "uv.lock": "", "pyproject.toml": ""},
            "shop/requirements.txt and shop/uv.lock: which",
        ),
        ({"uv.lock": ""}, "shop/uv.lock stands without its pyproject.toml"),
        (
            {"pyproject.toml": '[project]\ndependencies = ["tea"]'},
            "shop/pyproject.toml has dependencies, but no uv.lock",
        ),
        ({"pyproject.toml": "= 1"}, "shop/pyproject.toml is no TOML: Invalid statement (at line 1, column 1)"),
    ],
)
def test_requirements_that_are_not_clear_are_refused(shop: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (shop / name).write_text(content)
    with pytest.raises(Refused) as caught:
        bundle(shop)
    assert caught.value.message.startswith(message)


def test_excluded_requirements_are_none(shop: Path) -> None:
    (shop / "requirements.txt").write_text("tea\n")
    assert not installed(bundle(shop, Source(main="shop/worker.py", root="shop", exclude=("requirements.txt",))))


def test_t14_a_failure_shows_the_last_lines_of_uv_without_credentials(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_OFFLINE", "UV_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(
        "PIP_INDEX_URL", "http://me:canary@127.0.0.1:9/simple"
    )  # pip's variables are the user's wish too
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    (shop / "requirements.txt").write_text("tea\n")
    with pytest.raises(Refused) as caught:
        bundle(shop)
    assert "127.0.0.1:9" in caught.value.message
    assert "canary" not in caught.value.message


def test_without_uv_the_error_says_how_to_get_it(shop: Path) -> None:
    (shop / "requirements.txt").write_text("tea\n")
    code = """
import sys
sys.modules["uv"] = None
from pathlib import Path
from svcctl.bundle import build
from svcctl.errors import Refused
from svcctl.model import Source
try:
    build(Path(sys.argv[1]), Source(main="shop/worker.py", root="shop", python="3.11"), cache=Path(sys.argv[1]) / "c")
except Refused as error:
    print(error.message, "/", error.next)
"""
    said = subprocess.check_output([sys.executable, "-c", code, shop.parent], env={"PATH": ""}, text=True)
    assert said == "requirements are installed with uv, which was not found / pip install uv\n"
