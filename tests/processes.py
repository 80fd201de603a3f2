"""svcctl in processes of its own, so that it can be killed, stopped, starved of space, or many.

acme = Acme.new(tmp_path)             a project of two services, nothing deployed
acme("deploy")                        typed; what it said
acme.killed("deploy", at="apply.written")
acme.stopped("rollback", "--yes", at="plan.agreed").goes_on()
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from svcctl.backend.store import Store
from svcctl.backend.store.gc import Swept
from svcctl.backend.store.verify import Verified

ADA = "Ada <ada@example.com>"
ANSWERS = "async def fetch(request, env, ctx):\n    return {!r}\n"

SERVICES = """\
project = "acme"
default_environment = "staging"

[services.auth]
main = "auth/worker.py"

[services.shop]
main = "shop/worker.py"
vars = { LOG = "info" }
secrets = ["KEY"]
optional = ["KEY"]
bindings.AUTH = { service = "auth" }
"""


class Ended(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Running:
    def __init__(self, process: subprocess.Popen[str], typed: str | None) -> None:
        self.process = process
        self.pid = process.pid
        self._typed = typed

    def ended(self) -> Ended:
        out, err = self.process.communicate(self._typed, timeout=60)
        return Ended(self.process.returncode, out, err)

    def goes_on(self) -> Ended:
        os.kill(self.pid, signal.SIGCONT)
        return self.ended()

    def is_killed(self) -> Ended:
        os.kill(self.pid, signal.SIGKILL)
        return self.ended()


class Acme:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "acme"
        self.store = self.folder / ".svcctl"
        self.home = folder / "home"
        self.program = (sys.executable, "-m", "svcctl")

    @classmethod
    def new(cls, folder: Path) -> "Acme":
        acme = cls(folder)
        acme.home.mkdir(parents=True)
        acme.folder.mkdir()
        (acme.folder / "services.toml").write_text(SERVICES)
        acme.write("v1")
        return acme

    @classmethod
    def released(cls, folder: Path) -> "Acme":
        """v1 and v2 went to production, v3 is in staging and canary, v4 is written."""
        acme = cls.new(folder)
        for answer in ("v1", "v2"):
            acme.write(answer)
            acme.done("deploy")
            acme.done("promote", "staging", "production", "--yes")
        acme.write("v3")
        acme.done("deploy")
        acme.done("env", "clone", "staging", "canary")
        acme.write("v4")
        return acme

    def copied(self, folder: Path) -> "Acme":
        shutil.copytree(self.folder.parent, folder)
        return Acme(folder)

    def write(self, answer: str) -> None:
        """The code of both services."""
        for service in ("auth", "shop"):
            worker = self.folder / service / "worker.py"
            worker.parent.mkdir(exist_ok=True)
            worker.write_text(ANSWERS.format(f"{service} {answer}"))

    # ---- processes

    def environ(self, **more: str) -> dict[str, str]:
        known = {"PATH": os.environ["PATH"], "HOME": str(self.home), "SVCCTL_ACTOR": ADA, "GIT_CONFIG_NOSYSTEM": "1"}
        # A child whose disk is full would leave half of a byte code file for every later process to stumble over.
        known["PYTHONDONTWRITEBYTECODE"] = "1"
        return known | more

    def start(
        self,
        *arguments: str,
        before: Callable[[], None] | None = None,
        under: Iterable[str] = (),
        typed: str | None = None,
        passed: Iterable[int] = (),
        **environ: str,
    ) -> Running:
        """`before` runs in the child first; `under` is a program to start it with; `typed` comes on standard input;
        `passed` are descriptors that it gets."""
        process = subprocess.Popen(
            [*under, *self.program, *arguments],
            cwd=self.folder,
            env=self.environ(**environ),
            stdin=subprocess.DEVNULL if typed is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=tuple(passed),
            preexec_fn=before,  # noqa: PLW1509 - no threads here
        )
        return Running(process, typed)

    def __call__(self, *arguments: str, typed: str | None = None, **environ: str) -> Ended:
        return self.start(*arguments, typed=typed, **environ).ended()

    def done(self, *arguments: str, typed: str | None = None, **environ: str) -> Ended:
        ended = self(*arguments, typed=typed, **environ)
        assert ended.status == 0, (arguments, ended)
        return ended

    def killed(self, *arguments: str, at: str, typed: str | None = None) -> None:
        ended = self(*arguments, typed=typed, SVCCTL_FAULT=at)
        assert ended.status == -signal.SIGKILL, f"{arguments} never came to {at}: {ended}"

    def stopped(self, *arguments: str, at: str, **environ: str) -> Running:
        running = self.start(*arguments, SVCCTL_FAULT=f"{at}:1:STOP", **environ)
        found = os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_status == signal.SIGSTOP, f"{arguments} never came to {at}: {running.ended()}"
        return running

    def short_of_space(self, size: int, *arguments: str) -> Ended:
        """No file may grow beyond `size`, as on a disk that is full there."""
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        # Python itself would leave byte code cut short, and every later process would fail to read it.
        return self.start(*arguments, before=limit, PYTHONDONTWRITEBYTECODE="1").ended()

    # ---- what is there

    def changes(self) -> int:
        """So many were made."""
        with self._opened() as store:
            return store.wait(after=1 << 60, timeout=0) if store else 0

    def state(self) -> dict[str, tuple[int, str | None]]:
        """By environment: its head, and the code that runs there."""
        with self._opened() as store:
            heads = store.heads("acme") if store else ()
        return {
            f"{head.service}/{head.environment}": (head.number, head.code.digest if head.code else None)
            for head in heads
        }

    @contextmanager
    def _opened(self) -> Iterator[Store | None]:
        """None where none was ever whole."""
        if not (self.store / "ledger.db").exists():
            yield None
            return
        with closing(Store.open(self.store)) as store:
            yield store

    def found(self) -> Verified:
        """What `svcctl verify` finds."""
        with closing(Store.open(self.store)) as store:
            return store.verify()

    def swept(self) -> Swept:
        """What `svcctl gc` removes."""
        with closing(Store.open(self.store)) as store:
            return store.gc(dry_run=False)
