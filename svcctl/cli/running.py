"""What serve and dev are made of: composed here, from the command line's context."""

import hashlib
import socket
import sys
from pathlib import Path

from svcctl.backend.base import Backend
from svcctl.backend.store import Store
from svcctl.cli.context import Context, backend_location
from svcctl.dataplane import serving
from svcctl.dataplane.cache import Cache
from svcctl.dataplane.ledger import LedgerSource
from svcctl.dataplane.logbook import Logbook, LogRecord
from svcctl.dataplane.processes import program
from svcctl.dataplane.runner import Patience
from svcctl.dataplane.serving import Plane
from svcctl.dataplane.worker import Orders
from svcctl.errors import Refused
from svcctl.runtime.assembly import Assembly
from svcctl.text import clean_lines

_MEGABYTE = 1 << 20


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


def plane(context: Context, given: Orders, patience: Patience) -> Plane:
    folder = store_folder(context)
    # A store that was moved away may come back: nothing is put in its place.
    logbook = Logbook(folder / "logs", parents=False)

    def record(records: list[LogRecord]) -> None:
        logbook.append(records)
        for each in records:
            if each.source == "system" and each.level != "debug":
                sys.stderr.write(f"{each.level}: {clean_lines(each.message)}\n")

    return Plane(
        program=[*program("svcctl.cli.warm"), str(folder)],
        environ=context.environ,
        orders=given,
        record=record,
        patience=patience,
    )


def store_folder(context: Context) -> Path:
    location = backend_location(context)
    if isinstance(location, str):
        raise Refused(f"{location}: remote backends are not built yet", hint="name a folder")
    return location


def listener(context: Context, host: str, port: int) -> socket.socket:
    return serving.listener(host, port, context.environ)


def ledger(context: Context, plane: Plane, cache: Path | None) -> LedgerSource:
    """Over the store, which must be there or have been: then the cache stands in for it."""
    folder = store_folder(context)

    def open() -> Backend:
        return Store.open(folder, environ=context.environ, create=False)

    def close(backend: Backend) -> None:
        assert isinstance(backend, Store)  # noqa: S101 - of `open`
        backend.close()

    def standing() -> object:
        found = (folder / "ledger.db").stat()
        return found.st_dev, found.st_ino

    return LedgerSource(open, close, standing, Cache(cache or cache_folder(folder)), plane.say)


def cache_folder(store: Path) -> Path:
    """Outside the store, so that it is there when the store is not."""
    from platformdirs import user_cache_path

    name = hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:16]
    return user_cache_path("svcctl") / name
