import signal

# Until a command runs there is nothing to unwind, and no traceback to show: Ctrl-C just ends it.
_INTERRUPT = signal.signal(signal.SIGINT, signal.SIG_DFL)

import gc  # noqa: E402
from typing import NoReturn  # noqa: E402


def main() -> NoReturn:
    """Nothing that imports make is garbage: looking for it would cost 6 ms of every start."""
    gc.disable()
    from svcctl.cli.main import main as command_line

    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, _INTERRUPT)
    command_line()


if __name__ == "__main__":
    main()
