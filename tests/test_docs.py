"""The documents are true: their transcripts are typed, their links lead somewhere, what is generated is fresh."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SVCCTL = str(Path(sys.executable).with_name("svcctl"))

CHANGING = (
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"), "TIME"),
    (re.compile(r"\b[0-9]+:[0-9a-f]{64}\b"), "HEAD"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "COMMIT"),
    (re.compile(r"\b[0-9a-f]{7,8}\b"), "SHORT"),
    (re.compile(r"\b[0-9]+ s (ago|before)\b"), "A MOMENT AGO"),
    (re.compile(r" +"), " "),
)


def steady(text: str) -> list[str]:
    """Without what differs from one run to the next."""
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.splitlines()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """examples/shop in a git repository of its own."""
    shutil.copytree(ROOT / "examples/shop", tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__", ".svcctl"))
    monkeypatch.setenv("SVCCTL_ACTOR", "Ada <ada@example.com>")
    for command in (
        "git init -q -b main",
        "git add -A",
        "git -c user.name=Ada -c user.email=ada@example.com commit -q -m 'Open the shop'",
    ):
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    return tmp_path / "shop"


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(line)
    assert words[0] == "svcctl", line
    return subprocess.run(
        [SVCCTL, *words[1:]], cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ)
    )


def transcript() -> list[tuple[str, str]]:
    """(command, output) of the README's transcript."""
    text = (ROOT / "README.md").read_text()
    block = text.split("<!-- transcript -->")[1].split("<!-- /transcript -->")[0]
    found: list[tuple[str, str]] = []
    for line in block.strip().removeprefix("```console\n").removesuffix("\n```").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def test_the_readme_shows_what_the_program_says(project: Path):
    steps = transcript()
    assert len(steps) >= 5
    with ExitStack() as end:
        server: Served | None = None
        for command, shown in steps:
            if command.endswith(" &"):
                server = end.enter_context(Served(command.removesuffix(" &"), project))
                said = server.announced
            elif command.startswith("curl "):
                assert server is not None
                said = server.answer(command)
            else:
                done = run(command, project)
                assert done.returncode == 0, done.stderr
                said = done.stdout + done.stderr
            assert steady(said) == steady(shown), command


class Served:
    """`svcctl serve` on a free port; what it says is told as if that were the usual one."""

    def __init__(self, command: str, folder: Path) -> None:
        words = shlex.split(command)[1:]
        self._process = subprocess.Popen(
            [SVCCTL, *words, "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        assert self._process.stdout
        lines: list[str] = []
        while not lines or not lines[-1].startswith("serving on "):
            lines.append(self._process.stdout.readline())
            assert lines[-1], "serve ended"
        self._port = lines[-1].split(":")[-1].strip()
        self.announced = "".join(lines).replace(f":{self._port}", ":8787")

    def answer(self, command: str) -> str:
        """What `curl -s [-H 'Name: value'] URL` prints."""
        words = shlex.split(command)[2:]
        headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
        url = urlsplit(words[-1])
        connection = HTTPConnection("127.0.0.1", int(self._port), timeout=30)
        connection.request("GET", url.path, headers={"Host": url.netloc} | headers)
        answer = connection.getresponse().read().decode()
        connection.close()
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=60)


def test_the_quickstart_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In its order; what it says to a person on a terminal gets its yes here."""
    monkeypatch.setenv("SVCCTL_ACTOR", "Ada <ada@example.com>")
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "docs/quickstart.md").read_text(), re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    folder = tmp_path
    for line in lines:
        match shlex.split(line):
            case ["pip", *_]:
                continue
            case ["cd", name]:
                folder /= name
                start_git(folder)
            case ["svcctl", "secrets", "set", *_]:
                words = shlex.split(line)[1:]
                done = subprocess.run([SVCCTL, *words, "-s", "hello"], cwd=folder, input=b"value", check=False)
                assert done.returncode == 0, line
            case ["svcctl", *words]:
                yes = " --yes" if words[0] in ("promote", "rollback") else ""
                done = run(line.replace("shop/", "hello/") + yes, folder)
                assert done.returncode in (0, 1 if "v1.4.0" in line else 0), (line, done.stderr)
            case _:
                pytest.fail(f"what is {line!r}?")


def start_git(folder: Path) -> None:
    for command in (
        "git init -q -b my-branch",
        "git add -A",
        "git -c user.name=Ada -c user.email=ada@example.com commit -q -m 'Start'",
    ):
        subprocess.run(shlex.split(command), cwd=folder, check=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_reference_of_commands_is_fresh(tmp_path: Path):
    """`make docs` writes it anew."""
    subprocess.run([sys.executable, "-m", "svcctl.cli.reference", str(tmp_path / "cli.md")], check=True)
    assert (tmp_path / "cli.md").read_text() == (ROOT / "docs/cli.md").read_text()


def played(demo: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / demo)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_plays(tmp_path: Path):
    assert "rolled back" in played("demo.py", tmp_path)


def test_the_demo_of_a_team_plays_what_the_readme_shows(tmp_path: Path):
    """But for where things are, and with more options."""

    def lines(text: str) -> list[str]:
        text = re.sub(r"(https?|postgresql)://\S+", "THERE", text)
        return [line for line in text.splitlines() if re.match(r"[a-z0-9-]+ \$ ", line)]

    shown = lines((ROOT / "README.md").read_text().split("<!-- team -->")[1].split("<!-- /team -->")[0])
    said = played("team_demo.py", tmp_path)
    assert shown
    assert [line for line in shown if not any(each.startswith(line) for each in lines(said))] == []
    assert "\nsound: " in said
