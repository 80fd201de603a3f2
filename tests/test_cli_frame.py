"""The frame of the command line: what every command has in common, as transcripts."""

import fcntl
import importlib
import importlib.util
import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from svcctl import commands
from svcctl.cli import catalogue, consent, pending, reference, times
from svcctl.cli.click import Command
from svcctl.cli.context import Context, backend_location
from svcctl.cli.loading import build
from svcctl.cli.main import run
from svcctl.cli.output import (
    Block,
    Cell,
    Column,
    Fields,
    Lines,
    Note,
    Patch,
    Success,
    Table,
    Tree,
    Verbatim,
    When,
    lines_of,
)
from svcctl.cli.plain import PlainOutput
from svcctl.cli.progress import TerminalProgress
from svcctl.cli.shells import SCRIPTS
from svcctl.errors import ConsentNeeded, NotFound, Refused
from svcctl.model import Project

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WRITTEN = [name for name in catalogue.COMMANDS if importlib.util.find_spec(catalogue.module(name))]

PROJECT = """\
project = "acme"

[services.shop]
main = "shop/worker.py"

[services.shop.environments.staging]
vars.STRIPE_MODE = "test"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    (folder / "shop").mkdir(parents=True)
    (folder / "services.toml").write_text(PROJECT)
    (folder / "shop" / "worker.py").write_text("async def fetch(request, env, ctx): ...\n")
    return folder


class Program:
    """svcctl in processes of its own, with a command `burn` that only this test knows."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(state), "XDG_STATE_HOME": str(state), "TERM": "xterm"}
        self.words = [sys.executable, "-m", "svcctl"]

    def burn(self, body: str) -> None:
        source = f'def burn(context):\n    """Burn."""\n{textwrap.indent(textwrap.dedent(body), "    ")}'
        script = f"""
import os, sys, types
from svcctl import errors
from svcctl.cli import catalogue
from svcctl.__main__ import main
catalogue.COMMANDS["burn"] = catalogue.Entry("Burn.", "Other")
module = types.ModuleType(catalogue.module("burn"))
module.__dict__.update(os=os, sys=sys, errors=errors)
exec({source!r}, module.__dict__)
sys.modules[module.__name__] = module
main()
"""
        self.words = [sys.executable, "-c", script]

    def __call__(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        settings = {
            "cwd": self.folder,
            "env": self.environ,
            "capture_output": True,
            "stdin": subprocess.DEVNULL,
        } | options
        return subprocess.run([*self.words, *arguments], check=False, text=True, **settings)

    def on_terminal(self, *arguments: str, typed: str = "") -> tuple[int, str]:
        """Its status, and all that a person sees, who types when asked."""
        person, terminal = pty.openpty()
        process = subprocess.Popen(
            [*self.words, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        seen = b""
        while block := read_or_end(person):
            seen += block
            if typed and seen.endswith((b"] ", b": ")):
                os.write(person, typed.encode())
                typed = ""
        os.close(person)
        return process.wait(), seen.decode().replace("\r\n", "\n")


def read_or_end(descriptor: int) -> bytes:
    """Linux tells the end of a terminal as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@pytest.fixture
def program(project: Path, tmp_path: Path) -> Program:
    return Program(project, tmp_path / "state")


# ---- finding commands


def test_help_lists_every_command_in_its_panel_and_imports_none(program: Program) -> None:
    program.words = [
        sys.executable,
        "-c",
        "import sys; from svcctl.cli.main import run; run(['--help'], {}); print(*sorted(sys.modules))",
    ]
    *shown, imported = program().stdout.splitlines()
    assert "svcctl.cli.catalogue" in imported.split()
    assert "svcctl.cli.commands" not in imported.split()
    for panel in ("Deploy:", "Environments:", "Settings:", "History:", "Store:"):
        assert panel in shown
    for name, entry in catalogue.children("").items():
        assert any(line.split()[:2] == [name, entry.help.split()[0]] for line in shown), name


@pytest.mark.parametrize("name", WRITTEN)
def test_the_catalogue_says_what_the_command_says(name: str) -> None:
    module = importlib.import_module(catalogue.module(name))
    function = getattr(module, catalogue.function(name))
    assert function.__doc__.splitlines()[0] == catalogue.COMMANDS[name].help


def test_every_command_has_a_module_and_every_module_a_command() -> None:
    modules = {path.stem for path in (ROOT / "svcctl/cli/commands").glob("*.py")} - {"__init__"}
    assert modules == {catalogue.function(name) for name in WRITTEN}


@pytest.mark.parametrize(
    ("arguments", "message", "hint", "next"),
    [
        (["depoly"], "there is no command 'depoly'", "did you mean deploy?", "svcctl --help"),
        (["env", "clon"], "there is no command 'env clon'", "did you mean clone?", "svcctl env --help"),
        (["version", "--jsno"], "no such option: --jsno (Possible options: --json)", None, "svcctl version --help"),
        (["completion"], "missing argument 'SHELL'", None, "svcctl completion --help"),
        (["completion", "tcsh"], "there is no completion for 'tcsh'", "there is bash, fish, zsh", None),
        (["version", "--", "--json"], "got unexpected extra argument(s) (--json)", None, "svcctl version --help"),
        (["-C", "/nowhere", "version"], "-C /nowhere: there is no such folder", None, None),
    ],
)
def test_what_is_mistyped_is_named_with_what_to_type(
    arguments: list[str], message: str, hint: str | None, next: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"error: {message}"] + ([f"hint: {hint}"] if hint else []) + ([f"next: {next}"] if next else [])
    assert run(arguments, {}) == 2
    assert capsys.readouterr() == ("", "\n".join(lines) + "\n")
    assert run(["--json", *arguments], {}) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": {"code": "usage", "message": message, "hint": hint, "next": next}}
    assert said.err == "\n".join(lines) + "\n"


def test_without_a_command_the_help_is_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([], {}) == 2
    assert capsys.readouterr().err.startswith("Usage: svcctl [OPTIONS] COMMAND [ARGS]...\n")
    assert run(["env"], {}) == 2
    assert "clone    Make a new environment" in capsys.readouterr().err
    assert run(["env", "--json"], {}) == 2
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "missing command"


@pytest.mark.parametrize("arguments", [["--json", "version"], ["version", "--json"]])
def test_options_stand_before_or_after_the_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments, {}) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version", "python"}


def test_a_start_imports_only_what_it_uses(program: Program) -> None:
    program.words = [
        sys.executable,
        "-c",
        "import os, sys; from svcctl.cli.main import run; run(['version'], os.environ); print(*sorted(sys.modules))",
    ]
    imported = set(program().stdout.splitlines()[-1].split())
    heavy = {"rich", "httpx", "git", "keyring", "cryptography", "tomlkit", "tomllib", "sqlite3", "platformdirs"}
    assert not imported & (heavy | {"importlib.metadata", "asyncio", "svcctl.config", "svcctl.backend", "svcctl.rules"})


# ---- what a command works on


def test_a_command_finds_the_project_from_a_subfolder_or_with_dash_c(program: Program, project: Path) -> None:
    said = "services.toml is right: project acme, shop\n"
    program.folder = project / "shop"
    assert program("config", "check").stdout == said
    program.folder = project.parent
    assert program("-C", "acme", "config", "check").stdout == said
    lost = program("config", "check")
    assert lost.returncode == 3
    assert lost.stderr == (f"error: there is no services.toml in {project.parent} or above it\nnext: svcctl init\n")


def test_a_current_folder_that_was_deleted_is_said(program: Program) -> None:
    words = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && "$@"', "sh", *program.words, "config", "check"]
    lost = subprocess.run(words, cwd=program.folder, env=program.environ, capture_output=True, text=True, check=False)
    assert lost.returncode == 3
    assert lost.stderr.startswith("error: the current folder was deleted\n")


def test_the_backend_is_the_option_then_the_variable_then_the_file_then_the_folder(project: Path) -> None:
    def location(option: str | None = None, **environ: str) -> str | Path:
        context = Context(environ)
        context.folder = project / "shop"
        context.backend_option = option
        return backend_location(context)

    assert location() == project / ".svcctl"
    (project / "services.toml").write_text('backend = "store"\n' + PROJECT)
    assert location() == project / "store"
    assert location(SVCCTL_BACKEND="elsewhere") == project / "shop/elsewhere"
    assert location("https://svc.example.com", SVCCTL_BACKEND="elsewhere") == "https://svc.example.com"


def test_what_is_asked_of_a_store_itself_is_not_asked_of_an_api(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"verify works on a store itself, and https://svc.example.com is an API"):
        _ = Context({"SVCCTL_BACKEND": "https://svc.example.com", "HOME": str(tmp_path)}, ["verify"]).store


def test_reading_from_a_store_that_does_not_exist_makes_none(project: Path) -> None:
    context = Context({"SVCCTL_BACKEND": str(project / ".svcctl")})
    with pytest.raises(NotFound, match="nothing has been deployed here yet"):
        _ = context.backend
    assert not (project / ".svcctl").exists()


# ---- failures


def test_a_refusal_says_what_is_wrong_and_what_to_type(program: Program) -> None:
    program.burn("raise errors.Conflict('staging moved\\x1b[2J', hint='see https://u:p@h/x', next='svcctl history')")
    plain = program("burn")
    assert (plain.returncode, plain.stdout) == (4, "")
    assert plain.stderr == "error: staging moved\\x1b[2J\nhint: see https://***@h/x\nnext: svcctl history\n"
    answer = program("burn", "--json")
    assert json.loads(answer.stdout)["error"]["code"] == "conflict"
    assert answer.stderr == plain.stderr


def test_a_command_that_has_answered_prints_no_second_document(program: Program) -> None:
    program.burn("context.show({'same': False}, []); raise errors.Differences('they differ')")
    answer = program("burn", "--json")
    assert (answer.returncode, json.loads(answer.stdout), answer.stderr) == (8, {"same": False}, "")


def test_causes_are_named_when_asked_for(program: Program) -> None:
    program.burn("raise errors.Refused('no') from OSError(5, 'Input/output error')")
    assert program("burn", "-v").stderr == "error: no\ncaused by: OSError: [Errno 5] Input/output error\n"


@pytest.mark.parametrize("number", ["ENOSPC", "EACCES", "EROFS", "EDQUOT"])
def test_a_system_that_says_no_is_no_bug(number: str, program: Program) -> None:
    program.burn(f"import errno; raise OSError(errno.{number}, os.strerror(errno.{number}), '/store/ledger.db')")
    failed = program("burn", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"]["message"].startswith("/store/ledger.db: ")


def test_a_bug_leaves_a_report_without_values(program: Program, tmp_path: Path) -> None:
    program.burn("""\
        def sign(key):
            raise KeyError(key)
        try:
            int('hunter2')
        except ValueError as error:
            sign('hunter2')
    """)
    failed = program("burn", "--json", "--no-color")
    (path,) = (tmp_path / "state/svcctl/reports").iterdir()
    assert failed.returncode == 70
    assert failed.stderr == f"error: this is a bug in svcctl (KeyError)\nhint: a report was written to {path}\n"
    assert json.loads(failed.stdout)["error"]["code"] == "bug"
    assert path.stat().st_mode & 0o777 == 0o600
    report = path.read_text()
    assert "hunter2" not in report
    assert re.search(r"ValueError\n\nwhich led to\n(\n.*)+ in sign\nKeyError\n", report)
    again = program("burn", "--message=hunter2", "hunter2")
    assert "hunter2" not in again.stderr or again.returncode == 2
    program("burn")
    assert len(list(path.parent.iterdir())) == 2


def test_a_report_keeps_the_words_of_commands_and_options_alone() -> None:
    from svcctl.cli.report import compose

    text = compose(
        KeyError("x"), ["-C", "/home/me", "secrets", "set", "hunter2", "--message=hunter2", "--env", "a"], NOW
    )
    assert "command: svcctl -C *** secrets set *** --message=*** --env ***\n" in text
    assert "hunter2" not in text


def test_a_report_that_cannot_be_written_is_said(program: Program, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a folder")
    program.burn("raise KeyError")
    failed = program("burn", "-v")
    assert failed.returncode == 70
    assert "no report could be written" in failed.stderr
    assert "in burn" in failed.stderr


def test_an_interrupt_and_a_termination_unwind(program: Program) -> None:
    program.burn("""\
        try:
            os.kill(os.getpid(), int(os.environ['SIGNAL']))
            import time; time.sleep(60)
        finally:
            print('let go', flush=True)
    """)
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        program.environ["SIGNAL"] = str(int(number))
        ended = program("burn")
        assert (ended.returncode, ended.stdout, ended.stderr) == (status, "let go\n", "")


def test_an_interrupt_before_a_command_runs_shows_no_traceback() -> None:
    code = (
        "import sys, os, signal\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'svcctl.cli.context':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from svcctl.__main__ import main\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_crash(closed: str, program: Program) -> None:
    """And nothing that is opened later gets their numbers."""
    program.burn("assert os.open('services.toml', os.O_RDONLY) > 2; context.show({}, []); sys.stderr.write('')")
    words = ["sh", "-c", f'"$@" {closed}', "sh", *program.words, "burn"]
    assert subprocess.run(words, cwd=program.folder, env=program.environ, check=False).returncode == 0


def test_a_reader_that_goes_away_is_no_error(program: Program) -> None:
    program.burn("from svcctl.cli.output import Lines; context.show({}, [Lines(['x' * 100] * 10000)])")
    reader, writer = os.pipe()
    os.close(reader)
    ended = program("burn", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["version"], ["version", "--json"]])
def test_output_that_cannot_be_written_is_refused(arguments: list[str], program: Program) -> None:
    with Path("/dev/full").open("w") as full:
        ended = program(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr == "error: the output could not be written: No space left on device\n"


# ---- output


def everything() -> Iterable[Block]:
    yield Table(
        ["version", Column("files", right=True), "at", Column("subject", wrap=True)],
        [
            [Cell("shop/production@12", "live"), 4, When("2026-11-23T11:57:00.000Z"), "Fix the\x1b[31m cart"],
            ["shop/staging@9", 1234, When("2026-11-20T12:00:00.000Z"), "買い物"],
            ["shop/staging@8", None, None, None],
        ],
        title="Versions",
    )
    yield Table(["name"], [], empty="no versions yet")
    yield Fields([("hostname", "shop.localhost"), ("head", 12), ("expires", None)])
    yield Tree("shop", [Tree("auth", [Tree("users")]), Tree(Cell("carts", "dim"))])
    yield Patch("--- a\n+++ b\n@@ -1 +1 @@\n-old\n+new\x07\n")
    yield Lines(["one", [Cell("two", "ok"), "of", 3]])
    yield Verbatim("\ttabbed\n")
    yield Note("auth was left out")
    yield Success("deployed from https://user:token@git.example.com/x")


def test_plain_output_is_whole_aligned_and_the_same_tomorrow() -> None:
    stream = StringIO()
    PlainOutput(stream, StringIO()).show(None, everything())
    assert stream.getvalue() == textwrap.dedent("""\
        Versions
        VERSION             FILES  AT                    SUBJECT
        shop/production@12      4  2026-11-23T11:57:00Z  Fix the\\x1b[31m cart
        shop/staging@9       1234  2026-11-20T12:00:00Z  買い物
        shop/staging@8          -  -                     -
        no versions yet
        hostname:  shop.localhost
        head:      12
        shop
        ├── auth
        │   └── users
        └── carts
        --- a
        +++ b
        @@ -1 +1 @@
        -old
        +new\\x07
        one
        two of 3
        \ttabbed
        note: auth was left out
        deployed from https://***@git.example.com/x
        """)


def test_a_terminal_shows_the_same_with_colours_and_ages(program: Program) -> None:
    program.burn("""\
        from datetime import UTC, datetime
        from svcctl.cli.output import Cell, Patch, Success, Table, When
        context.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
        table = Table(['version', 'at'], [[Cell('shop/production@12', 'live'), When('2026-11-23T11:57:00.000Z')]])
        context.show(None, [table, Patch('+new'), Success('done')])
    """)
    status, seen = program.on_terminal("burn")
    assert status == 0
    assert "\x1b[1;32mshop/production@12\x1b[0m" in seen
    assert "\x1b[32m+new\x1b[0m" in seen
    assert "3 min ago" in seen
    for arguments, variable in ((["--no-color"], {}), ([], {"NO_COLOR": "1"}), ([], {"TERM": "dumb"})):
        program.environ.update(variable)
        assert program.on_terminal("burn", *arguments) == (
            0,
            "VERSION             AT\nshop/production@12  3 min ago\n+new\ndone\n",
        )
        program.environ = {name: value for name, value in program.environ.items() if name != "NO_COLOR"}


def test_a_label_lends_its_colour_to_nothing_beside_it(program: Program) -> None:
    program.burn("""\
        from svcctl.cli.output import Fields, Note, Tree
        context.show(None, [Fields([('head', 12)]), Tree('shop', [Tree('auth')]), Note('left out')])
    """)
    assert program.on_terminal("burn") == (
        0,
        "\x1b[2mhead:  \x1b[0m12\nshop\n\x1b[2m└── \x1b[0mauth\n\x1b[33mnote: \x1b[0mleft out\n",
    )


def test_a_narrow_terminal_cuts_nothing_and_shows_no_empty_column(program: Program) -> None:
    program.burn("""\
        from svcctl.cli.output import Table
        context.show(None, [Table(['version', 'commit', 'who'], [['shop/production@12', None, 'Mia of example.com']])])
    """)
    program.environ["COLUMNS"] = "20"
    _, seen = program.on_terminal("burn")
    assert re.sub(r"\x1b\[[0-9;]*m", "", seen).split() == [
        *("version", "who"),
        *("shop/production@12", "Mia", "of", "example.com"),
    ]
    assert seen.count("\n") == 2


def test_json_output_runs_no_block(program: Program) -> None:
    program.burn("""\
        from svcctl.cli.output import Note
        def blocks():
            raise AssertionError
            yield
        context.tell(Note('beside'))
        context.show({'ref': 'shop/production@12'}, blocks())
    """)
    answer = program("burn", "--json")
    assert json.loads(answer.stdout) == {"ref": "shop/production@12"}
    assert answer.stderr == "note: beside\n"


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-11-23T12:00:00.400Z", "now"),
        ("2026-11-23T11:59:18.000Z", "42 s ago"),
        ("2026-11-23T11:57:00.000Z", "3 min ago"),
        ("2026-11-23T07:00:00.000Z", "5 h ago"),
        ("2026-11-22T11:00:00.000Z", "1 day ago"),
        ("2026-11-02T12:00:00.000Z", "3 weeks ago"),
        ("2016-11-23T12:00:00.000Z", "10 years ago"),
        ("2026-11-29T13:00:00.000Z", "in 6 days"),
    ],
)
def test_ages(at: str, said: str) -> None:
    assert times.ago(at, NOW) == said


def test_a_deep_tree_keeps_its_branches() -> None:
    tree = Tree("a", [Tree("b", [Tree("c", [Tree("d")])]), Tree("e")])
    assert [branches for branches, _ in lines_of(tree)] == ["", "├── ", "│   └── ", "│       └── ", "└── "]


def test_progress_shows_only_what_takes_longer_than_half_a_second() -> None:
    stream, clock = StringIO(), iter([0.0, 0.3, 0.6, 0.65, 0.8])
    progress = TerminalProgress(stream, lambda: next(clock))
    progress.start("hashing", 200)
    for _ in range(4):
        progress.advance(25)
    progress.done()
    assert stream.getvalue().split("\r\x1b[K") == [
        "",
        "hashing [######..................]  25%",
        "hashing [############............]  50%",
        "",
    ]


def test_progress_that_is_interrupted_leaves_an_empty_line(program: Program) -> None:
    program.burn("""\
        from svcctl.cli import progress
        progress._PATIENCE = 0
        context.progress.start('uploading', 10)
        context.progress.advance(5)
        raise KeyboardInterrupt
    """)
    status, seen = program.on_terminal("burn", typed="")
    assert status == 130
    assert seen.endswith("50%\r\x1b[K")


# ---- consent


def test_without_a_terminal_nothing_is_asked_and_nothing_assumed(program: Program) -> None:
    program.burn("from svcctl.cli.consent import require_yes; require_yes(context, 'free 3 blobs', yes=False)")
    refused = program("burn", "--no-color")
    assert refused.returncode == 5
    assert refused.stderr == (
        "error: free 3 blobs: this needs a yes\nhint: add --yes\nnext: svcctl burn --no-color --yes\n"
    )


def test_on_a_terminal_a_yes_is_asked_for(program: Program) -> None:
    program.burn("""\
        from svcctl.cli.consent import require_yes
        require_yes(context, 'free 3 blobs', yes=False)
        print('freed')
    """)
    status, seen = program.on_terminal("burn", typed="y\n")
    assert status == 0
    assert "free 3 blobs? [y/N] " in seen
    assert seen.endswith("freed\n")
    status, seen = program.on_terminal("burn", typed="\n")
    assert status == 5
    assert "not confirmed; nothing was changed" in seen
    assert program.on_terminal("burn", "--json", typed="y\n")[0] == 5


def test_a_name_is_typed_for_what_cannot_be_undone(program: Program) -> None:
    program.burn("""\
        from svcctl.cli.consent import require_name
        require_name(context, 'delete the environment staging', 'staging', confirm=None)
        print('deleted')
    """)
    assert program("burn").stderr.endswith("next: svcctl burn --confirm staging\n")
    assert program.on_terminal("burn", typed="staging\n")[0] == 0
    assert program.on_terminal("burn", typed="production\n")[0] == 5
    consent.require_name(Context(), "delete", "staging", confirm="staging")
    with pytest.raises(ConsentNeeded, match="nothing was changed"):
        consent.require_name(Context(), "delete", "staging", confirm="y")


def test_a_secret_is_asked_for_without_echo(program: Program) -> None:
    program.burn("from svcctl.cli.consent import ask_secret; print(len(ask_secret(context, 'KEY')))")
    _, seen = program.on_terminal("burn", typed="hunter2\n")
    assert seen.endswith("7\n")
    assert program("burn").returncode == 5


# ---- pending


ROLLBACK = commands.RollBack(id="", project=Project(name="acme"), environment="production")


def attempt(folder: Path, *, then: str, environment: str = "production") -> subprocess.Popen[str]:
    """A process that claims a roll back, prints the id and whether it was resumed, and then does what it is told."""
    script = f"""
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from svcctl.cli import pending
from svcctl.commands import RollBack, new_id
from svcctl.model import Project
command = RollBack(id=new_id(), project=Project(name="acme"), environment={environment!r})
claim = pending.claim(Path(sys.argv[1]), command, "mia", datetime.now(UTC))
print(claim.id, claim.resumed, flush=True)
{then}
"""
    words = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
HELD = "sys.stdin.read()"


def said(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, _ = process.communicate()
    id, resumed = out.split()
    return id, resumed


def test_i8_a_killed_command_typed_again_has_the_same_id(tmp_path: Path) -> None:
    first, resumed = said(attempt(tmp_path, then=KILLED))
    assert resumed == "False"
    (left,) = tmp_path.iterdir()
    assert left.stat().st_mode & 0o777 == 0o600
    assert json.loads(left.read_text())["what"] == "rollback"
    assert said(attempt(tmp_path, then=KILLED, environment="staging"))[1] == "False"
    assert said(attempt(tmp_path, then=KILLED)) == (first, "True")
    assert said(attempt(tmp_path, then="claim.settled()")) == (first, "True")
    assert not left.exists()
    assert said(attempt(tmp_path, then="claim.settled()"))[1] == "False"


def test_two_who_type_the_same_at_once_have_two_ids(tmp_path: Path) -> None:
    living = attempt(tmp_path, then=HELD)
    id, _ = living.stdout.readline().split()  # type: ignore[union-attr]
    other, resumed = said(attempt(tmp_path, then="claim.settled()"))
    living.communicate()
    assert (other == id, resumed) == (False, "False")


def test_what_is_left_is_taken_over_by_one_alone(tmp_path: Path) -> None:
    left, _ = said(attempt(tmp_path, then=KILLED))
    racing = [attempt(tmp_path, then=HELD) for _ in range(6)]
    answers = [process.stdout.readline().split() for process in racing]  # type: ignore[union-attr]
    for process in racing:
        process.communicate()
    assert [left, "True"] in answers
    assert len({id for id, _ in answers}) == 6


def test_an_attempt_that_was_not_wholly_written_was_never_sent(tmp_path: Path) -> None:
    said(attempt(tmp_path, then=KILLED))
    (left,) = tmp_path.iterdir()
    left.write_bytes(left.read_bytes()[:20])
    claim = pending.claim(tmp_path, ROLLBACK, "mia", NOW)
    assert not claim.resumed
    assert not left.exists()
    claim.settled()
    assert list(tmp_path.iterdir()) == []


def test_an_abandoned_claim_stays_for_the_next(tmp_path: Path) -> None:
    pending.claim(tmp_path, ROLLBACK, "mia", NOW).abandoned()
    (left,) = tmp_path.iterdir()
    with left.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    again = pending.claim(tmp_path, ROLLBACK, "mia", NOW)
    assert (again.resumed, again.at) == (True, "2026-11-23T12:00:00.000Z")
    again.settled()


# ---- completion and reference


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_the_scripts_in_the_repository_are_the_program_s(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell], {}) == 0
    assert capsys.readouterr().out == (ROOT / f"completions/svcctl.{shell}").read_text()


@pytest.fixture
def bash(project: Path) -> Callable[[str], list[str]]:
    """What bash offers for a line, by the script in the repository."""

    def complete(line: str) -> list[str]:
        script = f"""
source {ROOT}/completions/svcctl.bash
COMP_LINE={json.dumps(line)} COMP_POINT={len(line)}
_svcctl svcctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {"PATH": path, "HOME": str(project)}
        words = ["bash", "--norc", "-c", script]
        return subprocess.run(
            words, cwd=project, env=environ, capture_output=True, text=True, check=True
        ).stdout.split()

    return complete


def test_bash_completes_commands_options_and_values(bash: Callable[[str], list[str]]) -> None:
    assert bash("svcctl env cl") == ["clone"]
    assert bash("svcctl --j") == ["--json"]
    assert bash("svcctl version --no") == ["--no-color"]
    assert bash("svcctl completion ") == ["bash", "zsh", "fish"]
    assert bash("svcctl nonsense ") == []


def test_bash_completes_names_from_the_file_and_the_store(program: Program, bash: Callable[[str], list[str]]) -> None:
    assert bash("svcctl promote st") == ["staging"]
    (program.folder / "shop/worker.py").write_text("async def fetch(request, env, ctx): ...\n")
    assert program("deploy", "--env", "staging", "--tag", "v1.4.0").returncode == 0
    assert program("env", "clone", "staging", "pr-7").returncode == 0
    assert bash("svcctl promote p") == ["pr-7", "production"]
    assert bash("svcctl deploy --env=pr") == ["pr-7", "production"]
    assert bash("svcctl deploy -s ") == ["shop"]
    assert bash("svcctl history shop/st") == ["shop/staging"]
    assert bash("svcctl history shop/staging@") == ["v1.4.0", "1"]
    (program.folder / "services.toml").write_text("broken")
    assert bash("svcctl promote p") == []


def options_of(command: Command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_command_takes_json(name: str) -> None:
    assert {"--json", "--no-color", "--backend"} <= options_of(build(name, Context()))


def test_the_reference_has_every_command_and_is_the_same_twice() -> None:
    text = reference.document(WRITTEN)
    assert text == reference.document(WRITTEN)
    for name in WRITTEN:
        assert f"### svcctl {name}\n" in text
