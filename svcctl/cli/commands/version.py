import platform

from svcctl import __version__
from svcctl.cli.context import Context
from svcctl.cli.output import Lines


def version(context: Context) -> None:
    """Print the version of svcctl."""
    python = platform.python_version()
    context.show({"version": __version__, "python": python}, [Lines([f"svcctl {__version__} (Python {python})"])])
