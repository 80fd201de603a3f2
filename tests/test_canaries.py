"""Twenty secrets are set, every command is run as talkative as it gets, some crash: the values are nowhere (I10)."""

import base64
import hashlib
import io
import json
import os
import random
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from apis import team

from svcctl.cli import catalogue
from svcctl.cli.main import run

COUNT = 20
SERVICES = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"

[services.shop]
main = "shop/worker.py"
vars = {{ LOG = "info" }}
secrets = [{names}]
bindings.AUTH = {{ service = "auth" }}
"""
NAMES = [f"CANARY_{number}" for number in range(COUNT)]
AWKWARD = "\"'\\/+ &%<>=é\t☃"

TALKING = [
    "history -v", "history shop/staging", "show shop/staging --files", "show shop/production", "status", "audit",
    "audit --format csv", "diff staging production", "diff shop/staging@2 shop/staging", "env list",
    "env show shop/staging", "vars list", "secrets list", "secrets list --env production", "config show",
    "config show --env production", "config check", "service list", "routes list", "graph", "verify", "gc --dry-run",
    "where HEAD", "version",
]  # fmt: skip
CHANGING = [
    "vars set LOG=debug -s shop", "secrets unset CANARY_0 --dry-run", "secrets unset CANARY_0 -m gone",
    "secrets unset CANARY_1 --purge --confirm CANARY_1", "secrets rewrap", "env clone staging preview",
    "env rename preview trial", "tag shop/staging first", "rollback staging --to 2 -s shop --yes --restore-secrets",
    "promote staging production --dry-run", "promote staging production --yes --force",
    "routes add shop.example.com/* -s shop --env production --cli", "bind EXTRA --kv extra -s shop --cli",
    "unbind EXTRA -s shop --cli", "env delete trial --confirm trial", "deploy -m again --tag second",
    "export whole.store", "export sealed.store --passphrase-file services.toml", "import whole.store --yes",
    "backend copy .svcctl copied", "backend copy .svcctl sealed --passphrase-file services.toml",
]  # fmt: skip
OF_A_STORE = ["verify", "gc --dry-run", "secrets rewrap"]
"""Which an API refuses."""
REFUSED = [
    "vars set CANARY_2=open", "secrets set NOBODY", "rollback production --to 99 --yes", "show shop/staging@99",
    "env clone nowhere there", "secrets set CANARY_3 unexpected-argument", "promote staging nowhere --yes",
]  # fmt: skip


class Acme:
    """A project, and a home for reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "acme"
        self.home = folder / "home"
        for place in (self.folder / "auth", self.folder / "shop", self.home):
            place.mkdir(parents=True)
        for service in ("auth", "shop"):
            (self.folder / service / "worker.py").write_text("async def fetch(request, env, ctx):\n    ...\n")
        (self.folder / "services.toml").write_text(SERVICES.format(names=", ".join(f'"{name}"' for name in NAMES)))
        self.away: dict[str, str] = {}
        """What leads to an API instead of the store in the folder."""

    def environ(self, **more: str) -> dict[str, str]:
        known = {"PATH": os.environ["PATH"], "HOME": str(self.home), "SVCCTL_ACTOR": "ada", "GIT_CONFIG_NOSYSTEM": "1"}
        return known | self.away | more


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    return Acme(tmp_path)


@pytest.fixture
def canaries() -> dict[str, str]:
    dice = random.Random(30)
    letters = string.ascii_letters + string.digits
    return {
        name: "".join(dice.choices(letters + AWKWARD, k=40)) + "".join(dice.choices(letters, k=8)) for name in NAMES
    }


def forms(value: str) -> Iterator[bytes]:
    """As a program or a careless line might have written it."""
    content = value.encode()
    yield content
    yield value[:16].encode()
    yield base64.b64encode(content).rstrip(b"=")
    yield base64.urlsafe_b64encode(content).rstrip(b"=")
    yield content.hex().encode()
    yield content.hex().upper().encode()
    yield quote(value, safe="").encode()
    yield quote_plus(value).encode()
    yield json.dumps(value)[1:-1].encode()
    yield json.dumps(value, ensure_ascii=False)[1:-1].encode()
    yield repr(value)[1:-1].encode()
    yield hashlib.sha256(content).hexdigest().encode()


def found_in(content: bytes, canaries: dict[str, str]) -> list[str]:
    return [name for name, value in canaries.items() if any(form in content for form in forms(value))]


@pytest.fixture(params=["folder", "api"])
def api_log(acme: Acme, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The store is the folder's own, or is reached through an API, which logs into this."""
    if request.param == "folder":
        yield []
        return
    with team(tmp_path / "team") as found:
        acme.away = {"SVCCTL_BACKEND": found.api.url, "SVCCTL_TOKEN": found.secret("ada", "admin")}
        yield found.api.lines


def test_no_secret_is_in_any_output_report_or_file(
    acme: Acme,
    api_log: list[str],
    canaries: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(line: str, typed: str = "", *, refused: bool = False) -> str:
        """What a command prints for a person, then, typed again, for a program."""
        text = ""
        for more in (["-v"], ["-v", "--json"]):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode()), encoding="utf-8"))
            words = line.replace(".svcctl", acme.away.get("SVCCTL_BACKEND", ".svcctl")).split()
            status = run(["-C", str(acme.folder), *words, *more], acme.environ())
            text += (printed := "".join(capsys.readouterr()))
            wrong = refused or (acme.away and line in OF_A_STORE)
            assert (status in range(1, 8)) if wrong else more[1:] or status == 0, (line, status, printed)
        return text

    git = ["git", "-C", str(acme.folder), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Open"]):
        subprocess.run([*git, *arguments], check=True)
    by_hand, by_file = NAMES[: COUNT // 2], NAMES[COUNT // 2 :]
    listed = json.dumps({name: canaries[name] for name in by_file})
    outputs = [said(f"secrets set {name}", canaries[name]) for name in by_hand]
    outputs += [said("secrets import -", listed), said("deploy")]
    outputs += [
        said("secrets import - --env production", json.dumps(canaries)),
        said("promote staging production --yes"),
    ]
    outputs += [said(line) for line in (*TALKING, *CHANGING)]
    outputs += [said(line, refused=True) for line in REFUSED]
    outputs += [
        said(f"secrets import - {wrong}", listed[:end], refused=True) for wrong, end in (("-s nobody", None), ("", -1))
    ]
    outputs += [said(line) for line in TALKING]

    assert found_in("".join((*outputs, *api_log)).encode(), canaries) == []
    assert bool(api_log) == bool(acme.away)
    assert _found_on_disk(acme, canaries) == []


def test_every_command_that_can_speak_of_settings_was_asked() -> None:
    """A new command is put into a list above, or here because it has nothing of a secret's environment to tell."""
    silent = {
        "init", "vars unset", "vars import", "env create", "env protect", "env prune", "service delete",
        "routes remove", "artifact get", "completion",
        "backend add", "backend use", "backend list", "login", "logout", "whoami",
        "api", "token create", "token list", "token revoke",
        "call", "serve", "dev", "logs",  # what handlers do with secrets is for test_serve_faults
        "kv key get", "kv key put", "kv key list", "kv key delete", "kv import", "kv export",
    }  # fmt: skip
    asked = {*TALKING, *CHANGING, "secrets set", "secrets import -"}

    assert {name for name in catalogue.COMMANDS if not any(line.startswith(name) for line in asked)} == silent


def test_no_secret_is_on_a_command_line_or_left_by_a_kill(acme: Acme, canaries: dict[str, str]) -> None:
    name, value = "CANARY_5", canaries["CANARY_5"]
    with subprocess.Popen(
        [sys.executable, "-m", "svcctl", "secrets", "set", name],
        cwd=acme.folder,
        env=acme.environ(SVCCTL_FAULT="apply.committed"),
        stdin=subprocess.PIPE,
    ) as process:
        started = Path(f"/proc/{process.pid}")
        assert found_in((started / "cmdline").read_bytes() + (started / "environ").read_bytes(), canaries) == []
        process.communicate(value.encode())
    assert process.returncode == -9

    assert list(acme.folder.rglob("pending/*.json"))
    assert _found_on_disk(acme, canaries) == []


CRASH = """
import sys, types
from svcctl.cli import catalogue, values
from svcctl.__main__ import main

def version(context):
    '''Print the version of svcctl.'''
    value = values.secret(context, "CANARY_6", raw=True)
    text = value.reveal().decode()
    try:
        {text: None}["no such key " + text]
    except KeyError as error:
        raise RuntimeError(f"could not use {text!r} of {value}") from error

module = types.ModuleType(catalogue.module("version"))
module.version = version
sys.modules[module.__name__] = module
main()
"""


def test_no_secret_is_in_the_report_of_a_crash(acme: Acme, canaries: dict[str, str]) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, "version", "-v", "--json"],
        cwd=acme.folder,
        env=acme.environ(),
        input=canaries["CANARY_6"].encode(),
        capture_output=True,
        check=False,
    )

    assert crashed.returncode == 70
    assert b"RuntimeError" in crashed.stderr
    assert len(list(acme.home.rglob("reports/*.txt"))) == 1
    assert found_in(crashed.stdout + crashed.stderr, canaries) == []
    assert _found_on_disk(acme, canaries) == []


def _found_on_disk(acme: Acme, canaries: dict[str, str]) -> list[tuple[str, list[str]]]:
    """In the project, in the home, and in the store behind the API."""
    paths = [path for path in acme.folder.parent.rglob("*") if path.is_file()]
    assert paths
    return [(str(path), names) for path in paths if (names := found_in(path.read_bytes(), canaries))]
