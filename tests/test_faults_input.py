"""Bad input (T29), a hostile repository (T31), credentials in URLs (T14), through whole commands."""

import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import Acme, Ended
from transcript import Shell

ESCAPES = "\x1b]0;pwned\x07\x1b[2J\x1b[31mred\x9b31m"
TEXTS = {
    "escapes": ESCAPES,
    "newlines": "one\ntwo\r\nthree\u2028four\u0085five",
    "right to left": "\u202egnp.exe\u2066 العربية \u200f",
    "joined": "👩‍👩‍👧 e\u0301 \ufeff\u200b",
    "shell": "$(touch pwned) `touch pwned`; rm -rf / && \\ \"'",
    "markup": "[bold red]x[/] [link=http://x]y[/link] :smile: <script>alert(1)</script>",
    "formula": '=HYPERLINK("http://x")',
    "format": "%s %n {0} {x.__class__} ${HOME} %(a)s",
    "path": "../../../etc/passwd",
    "words": "null true 1e999 NaN -0",
    "blank": " \t ",
    "long": "x" * 20_000,
}
NOT_TEXT = b"\xff\xfe\xed\xa0\x80"
NO_NAMES = (
    "",
    ".",
    "..",
    "-x",
    "A",
    "a--b",
    "a/b",
    "a@b",
    "ä",
    "a b",
    "a\x1b[31m",
    "x" * 41,
    "\u202ea",
    "a\n",
    "$(id)",
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def deployed_once(tmp_path_factory: pytest.TempPathFactory) -> Acme:
    acme = Acme.new(tmp_path_factory.mktemp("deployed"))
    acme.done("deploy")
    return acme


@pytest.fixture
def acme(deployed_once: Acme, tmp_path: Path) -> Acme:
    return deployed_once.copied(tmp_path / "copy")


def on_terminal(acme: Acme, *arguments: str) -> str:
    """What a person's terminal gets."""
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        [*acme.program, *arguments],
        cwd=acme.folder,
        env=acme.environ(TERM="xterm-256color", COLUMNS="400"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = b""
    while part := _read(person):
        seen += part
    process.wait(timeout=60)
    os.close(person)
    return seen.decode().replace("\r\n", "\n")  # the terminal's own


def _read(person: int) -> bytes:
    try:
        return os.read(person, 65536)
    except OSError:  # EIO: the other end was closed
        return b""


def value_of(ended: Ended, name: str) -> Any:
    (found,) = (each["value"] for each in ended.json["vars"] if each["name"] == name and each["service"] == "shop")
    return found


# ---- values come back as they were given


@pytest.mark.parametrize("kind", TEXTS)
def test_t29_text_comes_back_as_it_was_typed(kind: str, acme: Acme):
    text = TEXTS[kind]
    change = acme.done("vars", "set", "-s", "shop", f"TEXT={text}", "-m", text, "--meta", f"note={text}", "--json").json
    assert change["message"] == text
    assert change["versions"][0]["meta"] == {"note": text}
    assert value_of(acme.done("vars", "list", "--json"), "TEXT") == text
    assert acme.done("show", "shop/staging", "--json").json["message"] == text
    assert not (acme.folder / "pwned").exists()
    assert acme.found().problems == ()


def test_t29_every_character_that_json_can_name_comes_back(acme: Acme):
    text = "".join(map(chr, (*range(0x20), 0x7F, 0x85, 0xFEFF, 0xFFFF, 0x10FFFF)))
    acme.done("vars", "set", "-s", "shop", f"ALL:={json_of(text)}")
    assert value_of(acme.done("vars", "list", "--json"), "ALL") == text


def json_of(text: str) -> str:
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in text) + '"'


@pytest.mark.parametrize(
    "words",
    [
        ["vars", "set", b"A=" + NOT_TEXT],
        ["vars", "set", "A=1", "-m", NOT_TEXT],
        ["tag", "staging", NOT_TEXT],
        ["vars", "set", "A=1", "--meta", b"a=" + NOT_TEXT],
        ["env", "clone", "staging", NOT_TEXT],
        ["vars", "set", 'A:="\\ud800"'],
        ["show", NOT_TEXT],
        ["history", "--actor", NOT_TEXT],
    ],
)
def test_t29_bytes_that_are_no_text_are_refused(words: list[Any], acme: Acme):
    changes = acme.changes()
    ended = acme(*words, "--json")
    assert ended.status == 2, ended
    assert "not valid UTF-8" in ended.json["error"]["message"]
    assert acme.changes() == changes


@pytest.mark.parametrize("name", NO_NAMES)
def test_t29_what_is_no_name_is_refused_everywhere(name: str, acme: Acme, capsys: pytest.CaptureFixture[str]):
    changes, state = acme.changes(), acme.state()
    shell = Shell(acme.folder, capsys)
    for words in (
        ("env", "create", "--", name),
        ("env", "clone", "staging", "--", name),
        ("env", "rename", "staging", "--", name),
        ("deploy", f"--env={name or 'A'}"),  # an empty one is as if it were not given
        ("deploy", f"--service={name}"),
        ("vars", "set", "--", f"{name}-=1"),
        ("secrets", "unset", "--", f"{name}-"),
        ("tag", "staging", "--", f"{name}/"),
        ("show", "--", f"{name}/staging@@"),
    ):
        said = shell(*words)
        assert said.status in (1, 2, 3), (words, said)
        assert said.err.startswith("error: ")
        assert not CONTROL.search(said.err), (words, said.err)
    assert (acme.changes(), acme.state()) == (changes, state)


# ---- nothing drives a terminal

READERS = (
    "history",
    "show shop/staging",
    "vars list",
    "audit",
    "diff shop/staging@1 shop/staging",
    "status",
    "config show --env staging",
    "env show staging",
    "env list",
    "where {commit}",
    "rollback staging --dry-run",
)


def test_t29_no_control_character_reaches_a_terminal(acme: Acme):
    git(acme, "init", "--quiet", "--initial-branch=main")
    git(acme, "add", ".")
    git(acme, "commit", "--quiet", "--cleanup=verbatim", "-m", f"subject {ESCAPES}")
    acme.write(f"v2 {ESCAPES}")
    bad = "".join(TEXTS[kind] for kind in ("escapes", "newlines", "right to left", "markup"))
    acme.done("vars", "set", "-s", "shop", f"TEXT={bad}", "-m", bad, "--meta", f"a={bad}", SVCCTL_ACTOR=f"Eve {bad}")
    acme.done("deploy", "-m", bad, SVCCTL_ACTOR=f"Eve {bad}")
    commit = git(acme, "rev-parse", "HEAD").strip()
    for words in READERS:
        seen = on_terminal(acme, *words.format(commit=commit).split())
        assert "error" not in seen, (words, seen)
        assert not CONTROL.search(COLOURS.sub("", seen)), (words, seen)
        assert "\x1b[31mred" not in seen, words
    assert "subject \\x1b]0;pwned" in on_terminal(acme, "history")


def git(acme: Acme, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    return subprocess.run(
        ["git", *who, *arguments], cwd=acme.folder, env=acme.environ(), check=True, capture_output=True, text=True
    ).stdout


# ---- a repository that is not ours


def test_t31_a_deploy_from_a_hostile_repository_runs_nothing_of_it(tmp_path: Path):
    acme = Acme.new(tmp_path)
    trap, sprung = tmp_path / "trap", tmp_path / "sprung"
    trap.write_text(f'#!/bin/sh\necho "$@" >> {sprung}\ncat\n')
    trap.chmod(0o755)
    git(acme, "init", "--quiet", "--initial-branch=main")
    git(acme, "add", ".")
    git(acme, "commit", "--quiet", "-m", "Start")
    (acme.folder / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "diff.external",
        "diff.evil.textconv",
        "filter.evil.clean",
        "filter.evil.process",
        "gpg.program",
        "credential.helper",
        "core.alternateRefsCommand",
    ):
        git(acme, "config", key, str(trap))
    for word in ("status", "log", "diff", "rev-parse", "config"):
        git(acme, "config", f"alias.{word}", f"!{trap}")
    for hook in ("post-index-change", "pre-commit", "reference-transaction", "fsmonitor-watchman"):
        (acme.folder / ".git/hooks" / hook).write_text(trap.read_text())
        (acme.folder / ".git/hooks" / hook).chmod(0o755)
    acme.write("v2")

    acme.done("deploy")
    acme.write("v3")
    for words in (
        "deploy",
        "diff",
        "diff --stat",
        "status",
        "history",
        "show shop/staging",
        "where HEAD",
        "where HEAD --contains",
        "promote staging production --yes",
        "env clone --branch staging",
    ):
        ended = acme(*words.split())
        assert ended.status in (0, 2), (words, ended)
    assert acme.done("show", "shop/staging", "--json").json["code"]["commit"]["subject"] == "Start"
    assert not sprung.exists(), sprung.read_text()
    git(acme, "-c", "core.fsmonitor=false", "diff")
    assert sprung.exists(), "git alone springs them"


TOKEN = "ghp_0123456789abcdefSECRET"


@pytest.mark.parametrize(
    "url",
    [
        f"https://{TOKEN}@example.com/acme.git",
        f"https://x-access-token:{TOKEN}@example.com/acme.git",
        f"https://example.com/acme.git?private_token={TOKEN}",
    ],
)
def test_t14_a_token_in_the_remote_s_url_goes_nowhere(url: str, tmp_path: Path):
    acme = Acme.new(tmp_path)
    git(acme, "init", "--quiet", "--initial-branch=main")
    git(acme, "add", ".")
    git(acme, "commit", "--quiet", "-m", f"Mirror of {url}")
    git(acme, "remote", "add", "origin", url)

    said = []
    for words in (
        "deploy -m {url}",
        "promote staging production --yes",
        "history",
        "audit",
        "show shop/staging",
        "status",
        "diff staging production",
        "where HEAD",
        "config show --env staging",
        "verify",
    ):
        for options in ((), ("--json",)):
            ended = acme(*(word.format(url=url) for word in words.split()), *options, "-v")
            assert ended.status == 0, (words, ended)
            said.append((words, ended.out + ended.err))
    commit = acme.done("show", "shop/staging", "--json").json["code"]["commit"]
    assert commit["remote"].startswith("https://example.com/acme.git")
    assert [text for _, text in said if TOKEN in text] == []
    files = [path for path in acme.store.rglob("*") if path.is_file()]
    assert [path.name for path in files if TOKEN.encode() in path.read_bytes()] == []
