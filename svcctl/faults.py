"""Named points at which a test can have the process killed: `SVCCTL_FAULT=apply.before-commit`, or `…:3` for the third
time it is reached. Each is an instant after which the store must be in the state before or the state after.
`…:1:STOP` stops it there instead, until it is told to go on."""

import os
import signal

POINTS = (
    "store.created",
    "migrate.before-commit",
    "migrate.committed",
    "pending.kept",
    "plan.agreed",
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
    "gc.rewritten",
    "gc.unlinked",
    "kv.before-commit",
    "kv.committed",
    "kv.copying",
    "kv.dropped",
    "move.locked",
    "move.before-commit",
    "move.committed",
    "move.secrets",
    "export.written",
    "export.named",
    "answer.printed",
)

_wanted, _left, _signal = "", 0, signal.SIGKILL
if "SVCCTL_FAULT" in os.environ:
    _wanted, _, _rest = os.environ["SVCCTL_FAULT"].partition(":")
    _count, _, _name = _rest.partition(":")
    _left = int(_count or 1)
    _signal = signal.Signals[f"SIG{_name or 'KILL'}"]


def point(name: str) -> None:
    if name != _wanted:
        return
    global _left  # noqa: PLW0603  # the count of one test's one process
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), _signal)
