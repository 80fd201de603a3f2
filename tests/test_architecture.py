"""The shape of the code: what may import what, where each library lives, and what a command costs to start."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import svcctl

PACKAGE = Path(svcctl.__file__).parent
ORDER = (
    ("errors", "text", "ages", "progress", "faults"),
    ("names", "digest"),
    ("model", "keyvalues"),
    ("reference", "commands"),
    ("wire",),
    ("config", "bundle", "rules", "provenance", "sealing", "tokens", "credentials"),
    ("backend", "runtime"),
    ("api", "dataplane"),
    ("cli",),
)
HOMES = {
    "typer": ("cli",),
    "rich": ("cli/terminal.py",),
    "tomlkit": ("config/edit.py", "config/edit"),
    "git": ("provenance",),
    "cryptography": ("sealing",),
    "pathspec": ("bundle",),
    "uv": ("bundle",),
    "sqlite3": ("backend/store/connection.py",),
    "psycopg": ("backend/store/postgres",),
    "litestar": ("api",),
    "httpx": ("runtime/workers/outbound.py", "backend/remote"),
    "keyring": ("credentials.py",),
    # The API is an application; the command line composes its server.
    "uvicorn": ("dataplane", "cli/apiserver.py", "cli/apiconnections.py"),
    "uvloop": ("dataplane",),
    "httptools": ("dataplane",),
    "watchfiles": ("dataplane",),
    "platformdirs": ("cli",),
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem[:2] != "__")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part(module: str) -> str | None:
    """`config` of `svcctl.config.edit`."""
    words = module.split(".")
    return words[1] if words[0] == "svcctl" and len(words) > 1 else None


def rank(name: str) -> int:
    return next(number for number, names in enumerate(ORDER) if name in names)


def test_every_part_has_its_place_in_the_order():
    parts = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    known = {name for names in ORDER for name in names}
    assert {name for name in parts if not name.startswith("__")} == known


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_part_imports_only_earlier_ones(path: Path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    later = sorted(
        module
        for module in imports(path)
        if (used := part(module)) and used not in (own, "__version__") and rank(used) > rank(own)
    )
    assert not later, f"{own} must not import {later}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_one_home(path: Path):
    where = path.relative_to(PACKAGE).as_posix()
    strays = sorted(
        module
        for module in imports(path)
        if (library := module.split(".")[0]) in HOMES and not where.startswith(HOMES[library])
    )
    assert not strays


def test_below_the_command_line_nothing_prints_or_exits():
    for path in modules():
        if path.is_relative_to(PACKAGE / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "input", "exit"}, f"{path}:{node.lineno}"


def test_history_imports_nothing_that_it_does_not_use(tmp_path: Path):
    """The budget of start-up, kept by names: times belong in benchmarks."""
    (tmp_path / "services.toml").write_text('project = "acme"\n[services.shop]\nmain = "shop/worker.py"\n')
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/worker.py").write_text("async def fetch(request, env, ctx): ...\n")
    svcctl = [sys.executable, "-m", "svcctl", "-C", str(tmp_path)]
    subprocess.run([*svcctl, "deploy", "--env", "production"], check=True, capture_output=True)
    code = (
        "import sys, svcctl.cli.main as main, os\n"
        f"status = main.run(['-C', {str(tmp_path)!r}, 'history', '--json'], os.environ)\n"
        "sys.stderr.write(' '.join(sys.modules)); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    unwanted = {"rich", "git", "cryptography", "tomlkit", "pathspec", "uv", "pydantic", "click", "asyncio", "ssl"}
    assert not unwanted & loaded
    assert {"svcctl.cli.commands.history"} == {name for name in loaded if name.startswith("svcctl.cli.commands.")}
    assert not {name for name in loaded if name.startswith(("svcctl.bundle", "svcctl.provenance", "svcctl.sealing"))}
