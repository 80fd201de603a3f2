"""svcctl logs, as transcripts; with --follow in a process of its own."""

import json
import os
import pty
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from transcript import Shell

from svcctl.ages import timestamp
from svcctl.dataplane.logbook import Logbook, LogRecord

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
NAUGHTY = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m\x90\x85",
    "a\rb\bc\x7f",
    "\u202egnp.exe\u2066",
    "\ufeff\u200b\u2028\u2029",
    "\x00\x0b\x0c\x1e\x1f",
    "Ω≈ç√ ⁰⁴⁵ 田中さん ❤️ \U0001f4a9",
    "=HYPERLINK('x') '; DROP TABLE logs; -- ${jndi:ldap://x} %s {0}",
    "<script>alert(1)</script> [bold]x[/bold] :smile:",
]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "acme"
    for service in ("auth", "shop"):
        (folder / service).mkdir(parents=True)
        (folder / service / "worker.py").write_text(WORKER)
    (folder / "services.toml").write_text(FILE)
    return Shell(folder, capsys)


@pytest.fixture
def book(shell: Shell) -> Iterator[Logbook]:
    book = Logbook(shell.folder / ".svcctl" / "logs")
    yield book
    book.close()


@pytest.fixture
def logged(shell: Shell, book: Logbook) -> Logbook:
    """Deployed twice to staging; what two services and the data plane said since."""
    shell.done("deploy")
    (shell.folder / "shop/worker.py").write_text(WORKER + "# 2\n")
    shell.done("deploy", "--tag", "v2")
    cart = {"service": "shop", "environment": "staging", "version": 1, "request": "7f3a9c01000001"}
    token = {"service": "auth", "environment": "staging", "version": 1, "request": "7f3a9c01000001"}
    book.event("info", "listening")
    book.append(
        [
            said("stdout", "cart of Ada\n  tea\n\tmilk", 1, **cart),
            said("log", "old key", 2, level="warning", **token),
            said("request", "", 3, **cart, method="GET", host="shop.example.com", path="/cart", status=200, ms=1.5),
            said("exception", "Traceback (most recent call last):\n  …\nKeyError: 'x'", 4, level="error", **newer()),
            said("log", "no more", 5, level="debug", service="shop", environment="pr-7", version=3),
        ]
    )
    return book


def newer() -> dict[str, object]:
    return {"service": "shop", "environment": "staging", "version": 2, "request": "7f3a9c01000002"}


def said(source, message: str, second: int, level="info", **more) -> LogRecord:
    return LogRecord(at=f"2026-11-23T11:12:{second:02}.500Z", level=level, source=source, message=message, **more)


LINES = """\
2026-11-23T11:12:01.500Z shop/staging@1 7f3a9c01000001 info    cart of Ada
      tea
        milk
2026-11-23T11:12:02.500Z auth/staging@1 7f3a9c01000001 warning old key
2026-11-23T11:12:03.500Z shop/staging@1 7f3a9c01000001 info    GET shop.example.com/cart 200 1.5 ms
2026-11-23T11:12:04.500Z shop/staging@2 7f3a9c01000002 error   Traceback (most recent call last):
      …
    KeyError: 'x'
"""
BY_LINE = LINES.splitlines(keepends=True)
CART, TOKEN, REQUEST, ERROR = "".join(BY_LINE[:3]), BY_LINE[3], BY_LINE[4], "".join(BY_LINE[5:])


# ---- what is shown


def test_before_anything_was_logged_it_says_what_to_type(shell: Shell) -> None:
    shell.done("deploy")
    assert shell.done("logs") == "nothing was logged yet\nnote: services log while they run: svcctl serve\n"
    assert shell.done("logs", "shop/staging") == shell.done("logs")
    assert json.loads(shell.done("logs", "--json")) == {"logs": [], "more": False}


@pytest.mark.usefixtures("logged")
def test_all_of_the_project_oldest_first_and_of_the_data_plane(shell: Shell) -> None:
    first, *rest = shell.done("logs").splitlines(keepends=True)
    assert first.endswith(" svcctl - info    listening\n")
    *rest, last = rest
    assert "".join(rest).split() == LINES.split()
    assert last == "2026-11-23T11:12:05.500Z shop/pr-7@3    -              debug   no more\n"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["shop/staging"], CART + REQUEST + ERROR),
        (["staging"], LINES),
        (["staging", "-s", "auth"], TOKEN),
        (["-s", "auth"], TOKEN),
        (["shop/staging@1"], CART + REQUEST),
        (["shop/staging@v2"], ERROR),
        (["staging@v2"], TOKEN + ERROR),
        (["shop/staging@-1"], CART + REQUEST),
        (["staging@1", "-s", "shop"], CART + REQUEST),
        (["staging@c1"], CART + TOKEN + REQUEST),
        (["staging", "--level", "warning"], TOKEN + ERROR),
        (["staging", "--level", "warn"], TOKEN + ERROR),
        (["--level", "ERROR"], ERROR),
        (["--request", "7f3a9c01000001"], CART + TOKEN + REQUEST),
        (["--request", "000002"], ERROR),
        (["shop/staging", "-n", "1"], ERROR),
        (["staging", "-n", "2"], REQUEST + ERROR),
        (["staging", "--since", "2026-11-23T11:12:03Z"], REQUEST + ERROR),
        (["shop/pr-7"], "2026-11-23T11:12:05.500Z shop/pr-7@3 - debug   no more\n"),
        (["staging", "--request", "ffffffff"], "no log record is like this\n"),
        (["production"], "no log record is like this\n"),
    ],
)
@pytest.mark.usefixtures("logged")
def test_by_reference_level_request_and_time(shell: Shell, arguments: list[str], shown: str) -> None:
    assert shell.done("logs", *arguments) == shown


@pytest.mark.usefixtures("logged")
def test_json_is_one_document_and_its_refs_are_references(shell: Shell) -> None:
    answer = json.loads(shell.done("logs", "staging", "--json"))
    assert answer["more"] is False
    assert [each["ref"] for each in answer["logs"]] == [
        "shop/staging@1",
        "auth/staging@1",
        "shop/staging@1",
        "shop/staging@2",
    ]
    assert answer["logs"][2] == {
        "ref": "shop/staging@1",
        "at": "2026-11-23T11:12:03.500Z",
        "level": "info",
        "source": "request",
        "service": "shop",
        "environment": "staging",
        "version": 1,
        "request": "7f3a9c01000001",
        "message": "GET shop.example.com/cart 200 1.5 ms",
        "method": "GET",
        "host": "shop.example.com",
        "path": "/cart",
        "status": 200,
        "ms": 1.5,
    }
    shortened = json.loads(shell.done("logs", "staging", "--json", "-n", "3"))
    assert (shortened["logs"], shortened["more"]) == (answer["logs"][1:], True)
    assert json.loads(shell.done("logs", "-n", "0", "--json"))["logs"] == []


def test_a_hundred_unless_it_is_said_what_is_looked_for(shell: Shell, book: Logbook) -> None:
    shell.done("deploy")
    start = datetime.now(UTC) - timedelta(minutes=5)
    where = {"service": "shop", "environment": "staging", "version": 1, "level": "info", "source": "stdout"}
    book.append([LogRecord(at=timestamp(start + timedelta(seconds=n)), message=str(n), **where) for n in range(250)])
    assert [line.split()[-1] for line in shell.done("logs").splitlines()] == [str(n) for n in range(150, 250)]
    assert len(shell.done("logs", "--since", "10m").splitlines()) == 250
    assert len(shell.done("logs", "--since", "10m", "-n", "7").splitlines()) == 7
    assert len(shell.done("logs", "-n", "1000").splitlines()) == 250


def test_what_runs_from_the_working_tree_has_logs_before_the_first_deploy(shell: Shell, book: Logbook) -> None:
    book.append([said("stdout", "hello", 1, service="shop", environment="staging")])
    assert shell.done("logs", "shop/staging") == "2026-11-23T11:12:01.500Z shop/staging - info    hello\n"


# ---- what is wrong


@pytest.mark.parametrize(
    ("arguments", "status", "err"),
    [
        (["stagin"], 3, "error: no environment 'stagin'\nhint: did you mean staging?\n"),
        (["shop"], 3, "error: no environment 'shop'\nhint: shop is a service\nnext: svcctl logs -s shop\n"),
        (["-s", "shp"], 3, "error: no service 'shp'\nhint: did you mean shop?\n"),
        (["shop/staging@9"], 3, None),
        (["staging@1"], 2, None),
        (["staging@v9"], 3, None),
        (["shop/staging", "-s", "auth"], 2, "error: shop/staging names service shop; -s names auth\n"),
        (["--level", "loud"], 2, "error: --level loud: must be one of debug, info, warning, error\n"),
        (["--since", "soon"], 2, None),
        (["\x1b[31m"], 2, None),
    ],
)
@pytest.mark.usefixtures("logged")
def test_what_is_not_there_is_said(shell: Shell, arguments: list[str], status: int, err: str | None) -> None:
    ended = shell("logs", *arguments)
    assert (ended.status, ended.out) == (status, "")
    assert "\x1b" not in ended.err
    assert err is None or ended.err == err


# ---- control characters


def controls(text: str) -> set[str]:
    return {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") and each != "\n"}


def on_terminal(shell: Shell, *arguments: str) -> str:
    person, terminal = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "HOME": str(shell.folder), "TERM": "xterm", "TZ": "UTC"}
    words = [sys.executable, "-m", "svcctl", "-C", str(shell.folder), *arguments]
    process = subprocess.Popen(words, cwd=ROOT, env=environ, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        while block := os.read(person, 65536):
            seen += block
    except OSError:
        pass  # Linux tells the end of a terminal as an error
    os.close(person)
    assert process.wait() == 0, seen
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.usefixtures("logged")
def test_a_terminal_gets_colours_and_the_time_of_day(shell: Shell) -> None:
    seen = on_terminal(shell, "logs", "shop/staging", "--level", "error")
    assert seen == (
        "\x1b[2m11-23 11:12:04.500\x1b[0m shop/staging@2 \x1b[2m7f3a9c01000002\x1b[0m \x1b[31merror  \x1b[0m "
        "\x1b[31mTraceback (most recent call last):\x1b[0m\n      …\n    KeyError: 'x'\n"
    )
    assert "\x1b" not in on_terminal(shell, "logs", "--no-color")


@pytest.mark.parametrize("text", NAUGHTY)
def test_t29_no_control_character_of_a_handler_reaches_a_terminal(shell: Shell, book: Logbook, text: str) -> None:
    shell.done("deploy")
    where = {"service": "shop", "environment": "staging", "version": 1, "request": text, "host": text, "path": text}
    book.append([said("stdout", f"{text}\n{text}", 1, **where), said("request", "", 2, **where, method=text)])
    assert not controls(shell.done("logs"))
    out = shell.done("logs", "--json")
    assert not controls(out)
    printed, _ = json.loads(out)["logs"]
    assert printed["message"] == f"{text}\n{text}"
    for arguments in (["logs"], ["logs", "--no-color"], ["logs", "--json"]):
        seen = on_terminal(shell, *arguments)
        for style in ("\x1b[0m", "\x1b[2m", "\x1b[31m"):
            seen = seen.replace(style, "")
        assert not controls(seen)


def test_a_credential_in_a_url_is_masked(shell: Shell, book: Logbook) -> None:
    shell.done("deploy")
    book.append([said("stdout", "GET https://ada:hunter2@example.com/?token=abc", 1)])
    assert shell.done("logs").endswith(" GET https://***@example.com/?token=***\n")


# ---- following


class Following:
    def __init__(self, shell: Shell, *arguments: str) -> None:
        words = [sys.executable, "-m", "svcctl", "-C", str(shell.folder), "logs", "-f", *arguments]
        environ = {"PATH": os.environ["PATH"], "HOME": str(shell.folder)}
        self.process = subprocess.Popen(
            words, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def interrupted(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def test_following_shows_what_comes_until_it_is_interrupted(shell: Shell, logged: Logbook) -> None:
    following = Following(shell, "shop/staging", "-n", "1")
    assert following.line() == BY_LINE[5]
    assert [following.line(), following.line()] == BY_LINE[6:]
    logged.append([said("stdout", "not of shop", 6, service="auth", environment="staging", version=1)])
    logged.append([said("stdout", "next", 7, **newer())])
    assert following.line().endswith("info    next\n")
    assert following.interrupted() == (130, "", "")


def test_following_with_json_is_a_document_a_line(shell: Shell, logged: Logbook) -> None:
    logged.append([said("log", "\x9b31m\u202e\n2", 6, level="warning", **newer())])
    following = Following(shell, "--json", "-n", "1", "--level", "warning")
    line = following.line()
    assert not controls(line)
    found = json.loads(line)
    assert (found["ref"], found["message"], found["path"]) == ("shop/staging@2", "\x9b31m\u202e\n2", None)
    logged.append([said("log", "again", 7, level="error")])
    assert json.loads(following.line())["ref"] is None
    assert following.interrupted() == (130, "", "")


def test_following_waits_where_nothing_was_logged_yet(shell: Shell, book: Logbook) -> None:
    shell.done("deploy")
    following = Following(shell)
    assert following.process.stderr
    said_first = [following.process.stderr.readline() for _ in range(2)]
    assert said_first == ["nothing was logged yet\n", "note: services log while they run: svcctl serve\n"]
    book.append([said("stdout", "hello", 1)])
    assert following.line() == "2026-11-23T11:12:01.500Z svcctl - info    hello\n"
    assert following.interrupted() == (130, "", "")


def test_a_reader_that_goes_away_ends_it(shell: Shell, logged: Logbook) -> None:
    following = Following(shell)
    assert following.line()
    assert following.process.stdout
    following.process.stdout.close()
    following.process.stdout = None
    while following.process.poll() is None:
        logged.event("info", "one more")
    assert following.process.wait() == 141
    following.process.communicate()
