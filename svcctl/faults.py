"""Named points at which a test can have the process killed: `SVCCTL_FAULT=apply.before-commit`, or `…:3` for the third
time it is reached. Each is an instant after which the store must be in the state before or the state after."""

import os
import signal

POINTS = (
    "pending.kept",
    "upload.pack-written",
    "upload.pack-named",
    "upload.before-commit",
    "upload.committed",
    "apply.locked",
    "apply.planned",
    "apply.written",
    "apply.before-commit",
    "apply.committed",
    "gc.marked",
    "gc.committed",
    "gc.unlinked",
    "migrate.before-commit",
    "migrate.committed",
    "answer.printed",
)

_wanted, _, _count = os.environ.get("SVCCTL_FAULT", "").partition(":")
_left = int(_count) if _count.isdecimal() else 1


def point(name: str) -> None:
    if name != _wanted:
        return
    global _left  # noqa: PLW0603  # the count of one test's one process
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
