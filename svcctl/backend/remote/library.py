"""httpx, without the command line that it brings: that alone costs as much to import as all the rest (it needs rich,
click and pygments), and every command over the API would pay for it."""

import sys

_ITS_COMMAND_LINE = "httpx._main"

if "httpx" in sys.modules:
    import httpx
else:
    sys.modules[_ITS_COMMAND_LINE] = None  # type: ignore[assignment]  # importing it fails; httpx is prepared for that
    import httpx

    del sys.modules[_ITS_COMMAND_LINE]

__all__ = ["httpx"]
