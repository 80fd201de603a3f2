"""`python -m svcctl.cli.warm STORE DRAIN_TIMEOUT FD`: the process that workers are forked from, started by `svcctl
serve` and `svcctl dev`.

What it composes is what a worker may reach of a store: key-value data, opened after the fork at the first use.
"""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from svcctl.backend.store.kv import KeyValueStore
from svcctl.dataplane.parent import Parent


def main(arguments: list[str]) -> NoReturn:
    folder, drain_timeout, descriptor = Path(arguments[0]), float(arguments[-2]), int(arguments[-1])
    import svcctl.dataplane.worker  # noqa: F401 - what every fork would import, imported once

    Parent(socket.socket(fileno=descriptor), lambda: KeyValueStore(folder), drain_timeout).run()


if __name__ == "__main__":
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    main(sys.argv[1:])
