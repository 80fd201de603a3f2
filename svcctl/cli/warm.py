"""`python -m svcctl.cli.warm DRAIN_TIMEOUT FD`: the process that workers are forked from, started by `svcctl serve` and
`svcctl dev`.

What it composes is what a worker may reach of a backend: key-value data, opened after the fork at the first use. Which
backend, and with what token, comes on standard input: arguments and variables can be seen by others.
"""

import signal

if __name__ == "__main__":  # a terminal's Ctrl-C goes to this process too, also while it imports
    signal.signal(signal.SIGINT, signal.SIG_IGN)

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from svcctl import wire
from svcctl.backend.store.kv import KeyValueStore
from svcctl.dataplane.parent import Parent
from svcctl.keyvalues import KeyValues
from svcctl.model import Model


class Reach(Model):
    """Exactly one of `folder`, `database` and `api` is set."""

    folder: str | None = None
    database: str | None = None
    api: str | None = None
    token: str | None = None

    def keyvalues(self) -> KeyValues:
        if self.api is not None:
            from svcctl.backend.remote import Remote
            from svcctl.sealing import SecretValue

            return Remote(self.api, SecretValue(self.token) if self.token else None).keyvalues
        if self.database is not None:
            from svcctl.backend.store import Store

            return Store.open(self.database, create=False).keyvalues
        return KeyValueStore(Path(self.folder or ""))

    def import_ahead(self) -> None:
        """What every fork would import, imported once. None of it starts a thread."""
        import svcctl.dataplane.worker

        if self.api is not None:
            import svcctl.backend.remote.keyvalues  # noqa: F401


def main(arguments: list[str]) -> NoReturn:
    drain_timeout, descriptor = float(arguments[-2]), int(arguments[-1])
    reach = wire.decode(sys.stdin.buffer.read(), Reach)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    reach.import_ahead()
    Parent(socket.socket(fileno=descriptor), reach.keyvalues, drain_timeout).run()


if __name__ == "__main__":
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    main(sys.argv[1:])
