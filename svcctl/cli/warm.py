"""`python -m svcctl.cli.warm FD`: the process that workers are forked from. `svcctl serve` and `svcctl dev` start it.

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
    descriptor, folder = arguments[-1], Path(arguments[0])
    import svcctl.dataplane.worker  # noqa: F401 - what every fork would import, imported once

    Parent(socket.socket(fileno=int(descriptor)), lambda: KeyValueStore(folder)).run()


if __name__ == "__main__":
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    main(sys.argv[1:])
