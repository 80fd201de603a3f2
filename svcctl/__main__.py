import gc
from typing import NoReturn


def main() -> NoReturn:
    """Nothing that imports make is garbage: looking for it would cost 6 ms of every start."""
    gc.disable()
    from svcctl.cli.main import main as command_line

    gc.freeze()
    gc.enable()
    command_line()


if __name__ == "__main__":
    main()
