"""How long a command takes to say something, against what importing its framework costs."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from benchmarks import scenes
from benchmarks.measure import QUIET, SVCCTL, Figure, in_turn, process, timed
from svcctl import commands
from svcctl.backend.store import Store


def figures(folder: Path) -> list[Figure]:
    made = scenes.project(["shop"])
    folder.mkdir()
    store = Store.open(folder / ".svcctl", actor=lambda: "bench")
    scenes.deploy(store, made, {"shop": {"worker.py": scenes.WORKER}})
    for number in range(999):
        store.apply(
            commands.Configure(id=commands.new_id(), project=made, environment="staging", vars={"N": str(number)})
        )
    store.close()
    (folder / "app").mkdir()
    (folder / "app/worker.py").write_bytes(scenes.WORKER)
    (folder / "services.toml").write_text('project = "bench"\n[services.shop]\nmain = "app/worker.py"\n')
    base, plain, table = in_turn(
        15,
        lambda: process([sys.executable, "-c", "import typer"], folder),
        lambda: process([SVCCTL, "history", "--json"], folder),
        lambda: timed(lambda: on_terminal([SVCCTL, "history"], folder)),
    )
    detail = f"`import typer` {base * 1000:.0f} ms"
    return [
        Figure(
            "`svcctl history --json`, 1,000 versions / `import typer`",
            plain / base,
            1.8,
            detail=f"{plain * 1000:.0f} ms; {detail}",
        ),
        Figure(
            "`svcctl history` on a terminal / `import typer`",
            table / base,
            2.6,
            detail=f"{table * 1000:.0f} ms; {detail}",
        ),
    ]


def on_terminal(arguments: list[str], folder: Path) -> None:
    """The rendered table: a pseudo-terminal that is read to its end."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, **QUIET, "TERM": "xterm-256color", "COLUMNS": "160"}
    child = subprocess.Popen(arguments, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    try:
        while os.read(ours, 65536):
            pass
    except OSError:  # the terminal's other end closed: all was read
        pass
    os.close(ours)
    if child.wait() != 0:
        raise subprocess.CalledProcessError(child.returncode, arguments)
