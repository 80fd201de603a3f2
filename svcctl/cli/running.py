"""What serve and dev are made of: composed here, from the command line's context."""

import hashlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from svcctl import wire
from svcctl.backend.base import Backend
from svcctl.backend.store import Store
from svcctl.cli.context import Context, backend_location, is_api, kept_token, open_api
from svcctl.cli.warm import Reach
from svcctl.dataplane import serving
from svcctl.dataplane.cache import Cache
from svcctl.dataplane.crowd import Scale
from svcctl.dataplane.follower import WAIT
from svcctl.dataplane.ledger import LedgerSource
from svcctl.dataplane.logbook import Logbook, LogRecord
from svcctl.dataplane.processes import program
from svcctl.dataplane.runner import Patience
from svcctl.dataplane.serving import Plane
from svcctl.dataplane.worker import Orders
from svcctl.runtime.assembly import Assembly
from svcctl.text import clean_lines

if TYPE_CHECKING:
    from svcctl.backend import remote

Opener = Callable[[], Backend]
_MEGABYTE = 1 << 20
_POLL = 5.0
"""Seconds of one poll of an API: shorter, and twenty nodes ask for nothing all day."""


def orders(
    *,
    memory: int | None,
    request_timeout: float,
    drain_timeout: float,
    trusted_proxies: list[str] | None,
    allow_private: list[str] | None,
    access_log: bool,
    explain: bool = False,
) -> Orders:
    return Orders(
        assembly=Assembly(parts=()),
        memory=memory * _MEGABYTE if memory else None,
        request_timeout=request_timeout,
        drain_timeout=drain_timeout,
        trusted_proxies=tuple(trusted_proxies or ()),
        allow_private=tuple(allow_private or ()),
        access_log=access_log,
        explain=explain,
    )


def plane(context: Context, given: Orders, patience: Patience, scale: Scale | None = None) -> Plane:
    # A store that was moved away may come back: nothing is put in its place.
    logbook = Logbook(context.own_folder / "logs", parents=not isinstance(backend_location(context), Path))

    def record(records: list[LogRecord]) -> None:
        logbook.append(records)
        for each in records:
            if each.source == "system" and each.level != "debug":
                sys.stderr.write(f"{each.level}: {clean_lines(each.message)}\n")

    return Plane(
        program=program("svcctl.cli.warm"),
        environ=context.environ,
        orders=given,
        record=record,
        patience=patience,
        scale=scale or Scale(),
        given=wire.canonical(reach(context)),
    )


def processors() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reach(context: Context) -> Reach:
    """What handlers may reach of the backend."""
    location = backend_location(context)
    if isinstance(location, Path):
        return Reach(folder=str(location))
    if not is_api(location):
        return Reach(database=location)
    token = kept_token(context, location)
    return Reach(api=location, token=token.reveal().decode() if token else None)


def listener(context: Context, host: str, port: int) -> socket.socket:
    return serving.listener(host, port, context.environ)


def ledger(context: Context, plane: Plane, cache: Path | None) -> LedgerSource:
    """Over the backend, which must be there or have been: then the cache stands in for it."""
    location = backend_location(context)

    def standing() -> object:
        if isinstance(location, str):
            return location
        found = (location / "ledger.db").stat()
        return found.st_dev, found.st_ino

    wait = WAIT if isinstance(location, Path) else _POLL
    kept = Cache(context.path(cache).absolute() if cache else cache_folder(location))  # workers are elsewhere
    open, hastily = _opening(context, location)
    return LedgerSource(open, Backend.close, standing, kept, plane.say, wait=wait, open_hastily=hastily)


def _opening(context: Context, location: str | Path) -> tuple[Opener, Opener | None]:
    """Each time anew, for whichever thread asks; and for a node that has what it needs, should the API not answer."""
    if not is_api(location):
        return lambda: Store.open(location, environ=context.environ, create=False), None
    from svcctl.backend.remote import HASTY, PATIENT, Seen

    seen = Seen()

    def opener(patience: "remote.Patience") -> Opener:
        return lambda: open_api(context, str(location), seen=seen, patience=patience)

    return opener(PATIENT), opener(HASTY)


def cache_folder(location: str | Path) -> Path:
    """Outside the store, so that it is there when the store is not."""
    from platformdirs import user_cache_path

    text = location if isinstance(location, str) else str(location.resolve())
    return user_cache_path("svcctl") / hashlib.sha256(text.encode()).hexdigest()[:16]
