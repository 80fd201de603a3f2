"""`python -m benchmarks.following URL FOLDER NODES`, SVCCTL_TOKEN set: nodes that follow an API, all that one is but
its router and workers, in one process. It writes a line for each change that a node has taken in."""

import asyncio
import os
import sys
import time
from functools import partial
from pathlib import Path

from svcctl.backend.base import Backend
from svcctl.backend.remote import Remote, Seen
from svcctl.dataplane.cache import Cache
from svcctl.dataplane.ledger import LedgerSource
from svcctl.sealing import SecretValue

_POLL = 5.0  # of `svcctl serve`


async def main(url: str, folder: Path, nodes: int) -> None:
    loop = asyncio.get_running_loop()
    sources = [_source(url, folder / f"n{number}") for number in range(nodes)]
    for number, source in enumerate(sources):
        await source.start(partial(_changed, number, source))
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)  # polls that nobody waits for


async def _changed(number: int, source: LedgerSource) -> None:
    """The router has the new landscape from here on: the next request is answered by the new version."""
    print(number, source.landscape.number, time.time(), flush=True)


def _source(url: str, folder: Path) -> LedgerSource:
    seen, secret = Seen(), SecretValue(os.environ["SVCCTL_TOKEN"])
    return LedgerSource(
        lambda: Remote(url, secret, seen=seen),
        Backend.close,
        lambda: url,
        Cache(folder),
        lambda level, message: print(f"{level}: {message}", file=sys.stderr, flush=True),
        wait=_POLL,
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
