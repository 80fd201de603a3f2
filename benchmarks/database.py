"""PostgreSQL as the tests start it, but as durable as an installation's, and its own benchmark."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from postgres import Server

_DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on", "shared_buffers": "128MB"}
_RATE = re.compile(r"tps = ([\d.]+)")


@contextmanager
def postgres() -> Iterator[Server]:
    server = Server(**_DURABLE)
    try:
        yield server
    finally:
        server.stop()


def pgbench(server: Server, url: str, *arguments: str) -> float:
    """Transactions a second."""
    done = subprocess.run(
        [str(server.programs / "pgbench"), *arguments, url], capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    rate = _RATE.search(done.stdout)
    return float(rate[1]) if rate else 0.0
