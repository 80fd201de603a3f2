"""What the demos are played with: shells that show each line and really run it, servers beside them, and requests.

The play stops at the first line that does not end as it should. However it ends, no server is left running.
"""

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NoReturn, Self

EXAMPLES = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent
_SECONDS = 30
"""For what must happen at all."""
_PAUSE = 0.02
_ENDS = {signal.SIGINT, signal.SIGTERM}


def say(text: str) -> None:
    print(f"\n# {text}", flush=True)


def failed(text: str) -> NoReturn:
    sys.exit(f"demo: {text}")


def wait_until(happened: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """`otherwise` says what is wrong if it never does."""
    deadline = time.monotonic() + _SECONDS
    while not happened():
        if time.monotonic() > deadline:
            failed(otherwise())
        time.sleep(_PAUSE)


@contextmanager
def ending_well() -> Iterator[None]:
    """SIGTERM ends a play as Ctrl-C does: what it opened is closed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


@contextmanager
def undisturbed() -> Iterator[None]:
    """For starting what must be ended: a signal waits. In a fork it would be lost, and just after it what was started
    would be nobody's."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Shell:
    """Somebody's, in a folder of their own."""

    def __init__(self, folder: Path, name: str = "Ada", prompt: str = "$") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._prompt = prompt
        email = f"{name.lower()}@example.com"
        self._environ = {
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
            "SVCCTL_ACTOR": f"{name} <{email}>",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",  # the real one is none of a demo's business
            "TERM": os.environ.get("TERM", "dumb"),
        }

    def shows(self, line: str) -> None:
        print(f"\n{self._prompt} {line}", flush=True)

    def run(self, line: str, status: tuple[int, ...] = (0,)) -> None:
        self.shows(line)
        self._ended(subprocess.run(["sh", "-c", line], cwd=self.folder, env=self._environ, check=False), status)

    def told(self, line: str) -> str:
        """The last line of its answer."""
        self.shows(line)
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=self._environ, stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout, end="", flush=True)
        self._ended(done, (0,))
        return done.stdout.splitlines()[-1]

    def _ended(self, done: subprocess.CompletedProcess[str], status: tuple[int, ...]) -> None:
        if done.returncode not in status:
            failed(f"that ended with status {done.returncode}")

    def export(self, name: str, value: str) -> None:
        """`value` may be `$(…)`."""
        self.shows(f"export {name}={value}")
        words = ["sh", "-c", f'printf %s "{value}"']
        self._environ[name] = subprocess.run(
            words, cwd=self.folder, env=self._environ, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def quietly(self, *lines: str) -> None:
        for line in lines:
            subprocess.run(shlex.split(line), cwd=self.folder, env=self._environ, check=True)

    def edit(self, path: str, old: str, new: str) -> None:
        self.shows(f"sed -i 's/{old}/{new}/' {path}")
        file = self.folder / path
        file.write_text(file.read_text().replace(old, new))

    def open_shop(self, *lines: str) -> None:
        """Goes into a git repository with examples/shop; `lines` stand first in its services.toml."""
        shop = self.folder / "shop"
        shutil.copytree(EXAMPLES / "shop", shop, ignore=shutil.ignore_patterns("__pycache__", ".svcctl"))
        file = shop / "services.toml"
        file.write_text("".join(f"{line}\n" for line in lines) + file.read_text())
        self.folder = shop
        self.quietly("git init --quiet --initial-branch main", "git add -A", "git commit --quiet -m 'Open the shop'")

    def clone(self, other: "Shell") -> None:
        """Goes into a clone of the other's repository."""
        self.quietly(f"git clone --quiet {shlex.quote(str(other.folder))} shop")
        self.folder = self.folder / "shop"

    def start(self, line: str, log: str | None = None) -> "Server":
        """With `--port 0`; what it says of what goes wrong is in the file `log`."""
        return Server(self, line, log)

    def process(self, line: str, log: str | None) -> subprocess.Popen[str]:
        self.shows(f"{line} 2>> {log} &" if log else f"{line} &")
        with (self.folder / (log or os.devnull)).open("a") as err:
            return subprocess.Popen(
                shlex.split(line),
                cwd=self.folder,
                env=self._environ,
                stdout=subprocess.PIPE,
                stderr=err if log else None,
                text=True,
                preexec_fn=_disturbed_again,  # noqa: PLW1509 - no threads here
            )


class Server:
    """`svcctl serve` or `svcctl api`, from when it has said where, to the end of the block."""

    def __init__(self, shell: Shell, line: str, log: str | None) -> None:
        self._shell = shell
        self._line = line
        self._log = log
        self._start()

    def _start(self) -> None:
        try:
            with undisturbed():
                self._process = self._shell.process(self._line, self._log)
            self.port = self._announced()
        except BaseException:
            self.end()
            raise

    def _announced(self) -> int:
        for line in self._process.stdout or ():
            print(line, end="", flush=True)
            if line.startswith("serving "):
                return int(line.rpartition(":")[2])
        failed(f"{self._line} ended: {self.log}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._shell.folder / self._log).read_text() if self._log else ""

    def kill(self) -> None:
        self._shell.shows(f"kill -9 {self._process.pid}")
        self._process.kill()
        self._gone()

    def again(self) -> None:
        """Where it was."""
        self._line = self._line.replace("--port 0", f"--port {self.port}")
        self._start()

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._gone()

    def _gone(self) -> None:
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def says(self, words: str) -> None:
        """Waits for the line in its log, and shows it."""
        wait_until(lambda: words in self.log, lambda: f"{self._line} never said {words!r}, but {self.log}")
        self._shell.shows(f"grep '{words}' {self._log} | tail -n 1")
        print([line for line in self.log.splitlines() if words in line][-1], flush=True)

    def ask(self, host: str, token: str | None = None, until: str | None = None) -> None:
        """As curl would; `until` waits for the moment in which a change is live."""
        said = f" -H 'Authorization: Bearer {token}'" if token else ""
        print(f"\n$ curl -s{said} http://{host}:{self.port}/", flush=True)
        answers = [""]

        def answered() -> bool:
            answers.append(self._answer(host, token))
            return (until or "") in answers[-1]

        wait_until(answered, lambda: f"{host} never said {until!r}, but {answers[-1]!r}")
        print(answers[-1], flush=True)

    def _answer(self, host: str, token: str | None) -> str:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        try:
            connection.request(
                "GET", "/", headers={"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
            )
            return connection.getresponse().read().decode()
        except (OSError, HTTPException) as error:
            failed(f"{host}: {error}")
        finally:
            connection.close()


def _disturbed_again() -> None:
    """And a demo that is killed leaves no server behind."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
