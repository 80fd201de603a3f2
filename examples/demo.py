"""The main job, as a user would type it, in a temporary git repository: `make demo`.

Every line after a `$` is really run; the demo stops at the first that does not end as it should.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

EXAMPLE = Path(__file__).with_name("shop")
SVCCTL = str(Path(sys.executable).with_name("svcctl"))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="svcctl-demo-") as folder:
        shell = Shell(Path(folder))
        shutil.copytree(EXAMPLE, shell.folder / "shop", ignore=shutil.ignore_patterns("__pycache__", ".svcctl"))
        shell.say("A git repository with two services, shop and auth (shop/services.toml).")
        shell.quietly("git init --quiet --initial-branch main", "git add -A", "git commit --quiet -m 'Open the shop'")
        shell.folder = shell.folder / "shop"

        shell.say("Deploy to staging: bundled, stored, version 1 of each service.")
        shell.run("svcctl deploy -m 'first light'")
        shell.say("The tested bytes go to production, which has settings of its own.")
        shell.run("svcctl promote staging production --yes")

        shell.say("A preview of a change, in an environment of its own, in a moment.")
        shell.run("svcctl env clone staging preview --ttl 7d")
        shell.edit("shop/worker.py", "GREETING", "GREETING.upper()")
        shell.quietly("git commit --quiet -am 'Say it louder'")
        shell.run("svcctl deploy --env preview")
        shell.run("svcctl diff staging preview", status=(0, 8))
        shell.run("svcctl promote preview production --yes")

        shell.say("A setting changes at night; in the morning two roll backs undo both.")
        shell.run("svcctl vars set LOG_LEVEL=debug --env production -s shop")
        shell.run("svcctl rollback --yes")
        shell.run("svcctl rollback --yes")

        shell.say("The environments answer at their hostnames; shop calls auth in the same process.")
        with shell.serving() as server:
            server.ask("shop.localhost")
            server.ask("shop.localhost", token="ada")
            server.ask("preview--shop.localhost", token="ada")
            shell.say("What a command changes is live at once, and no request fails meanwhile.")
            shell.run("svcctl vars set 'GREETING=Good morning!' --env production -s shop")
            server.ask("shop.localhost", token="ada", until="Good morning!")
            shell.run("svcctl rollback --yes")
            server.ask("shop.localhost", token="ada", until="Welcome!")
        shell.say("Any stored version answers without a server.")
        shell.run("svcctl call shop/production@1 / -H 'Authorization: Bearer ada'")
        print()

        shell.say("Who changed what, when.")
        shell.run("svcctl history shop/production")
        shell.run("svcctl verify")


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environ = {
            "PATH": f"{Path(SVCCTL).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.com",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.com",
            "SVCCTL_ACTOR": "Ada <ada@example.com>",
            "TERM": os.environ.get("TERM", "dumb"),
        }

    def say(self, text: str) -> None:
        print(f"\n# {text}", flush=True)

    def run(self, line: str, status: tuple[int, ...] = (0,)) -> None:
        print(f"\n$ {line}", flush=True)
        done = subprocess.run(shlex.split(line), cwd=self.folder, env=self._environ, check=False)
        if done.returncode not in status:
            sys.exit(f"demo: that ended with status {done.returncode}")

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        print("\n$ svcctl serve --port 0 &", flush=True)
        words = ["svcctl", "serve", "--port", "0"]
        with subprocess.Popen(words, cwd=self.folder, env=self._environ, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Server(process)
            finally:
                process.terminate()

    def quietly(self, *lines: str) -> None:
        for line in lines:
            subprocess.run(shlex.split(line), cwd=self.folder, env=self._environ, check=True)

    def edit(self, path: str, old: str, new: str) -> None:
        print(f"\n$ sed -i 's/{old}/{new}/' {path}", flush=True)
        file = self.folder / path
        file.write_text(file.read_text().replace(old, new))


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if line.startswith("serving on "):
                self._port = int(line.rpartition(":")[2])
                return
        sys.exit("demo: serve ended")

    def ask(self, host: str, token: str | None = None, until: str | None = None) -> None:
        """As curl would; `until` waits for the moment in which a change is live."""
        said = f" -H 'Authorization: Bearer {token}'" if token else ""
        print(f"\n$ curl -s{said} http://{host}:{self._port}/", flush=True)
        deadline = time.monotonic() + 10
        while (until or "") not in (text := self._answer(host, token)):
            if time.monotonic() > deadline:
                sys.exit(f"demo: {host} never said {until!r}, but {text!r}")
        print(text)

    def _answer(self, host: str, token: str | None) -> str:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request("GET", "/", headers={"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {}))
        text = connection.getresponse().read().decode()
        connection.close()
        return text


if __name__ == "__main__":
    main()
