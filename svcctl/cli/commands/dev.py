import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from svcctl import wire
from svcctl.cli import complete, consent, developing, devlines
from svcctl.cli.context import STORE, Context
from svcctl.cli.developing import FOLDER, Development
from svcctl.cli.options import HostOption, PortOption, ServiceOption
from svcctl.cli.output import Block, Content, Note, Success, Table
from svcctl.cli.warm import Reach
from svcctl.dataplane import serving
from svcctl.dataplane.developing import DevSource, Reading, hostname
from svcctl.dataplane.logbook import Logbook
from svcctl.dataplane.processes import program
from svcctl.dataplane.serving import Plane
from svcctl.dataplane.worker import Orders
from svcctl.errors import Refused
from svcctl.model import Model
from svcctl.runtime.assembly import Assembly
from svcctl.runtime.records import LogRecord

_REQUEST = 30.0
_DRAIN = 1.0
"""Seconds that a request may go on after its code was edited, or after Ctrl-C."""


class Address(Model):
    url: str
    service: str
    runs: str
    """`working tree`, or the reference of a version."""
    reaches: tuple[str, ...]
    """The same of everything that it reaches."""


class Developing(Model):
    host: str
    port: int
    addresses: tuple[Address, ...]
    notes: tuple[str, ...]
    """What is worth knowing, such as secrets without a value."""


def dev(
    context: Context,
    service: ServiceOption = None,
    env: Annotated[
        str | None,
        typer.Option("--env", "-e", metavar="NAME", help="With its settings.", autocompletion=complete.environments),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="ENV",
            help="What the services of -s reach is this environment's, as stored.",
            autocompletion=complete.environments,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="REF",
            help="Stored versions instead of the working tree: production@v1.4.0.",
            autocompletion=complete.references,
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8787,
    allow_private: Annotated[
        list[str] | None,
        typer.Option("--allow-private", metavar="NETWORK", help="Handlers may fetch from it; repeatable."),
    ] = None,
) -> None:
    """Run services from the working tree; edits are live on save.

    Each at http://SERVICE.localhost:8787, nothing deployed. Secrets come from .svcctl.vars beside services.toml. Ctrl-C
    ends it."""
    development = Development(context, developing.asked(service, env, from_, at))
    folder = development.own_folder
    first = development.read()
    sock = _listener(context, host, port)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    plane = Plane(
        program=program("svcctl.cli.warm"),
        environ=context.environ,
        orders=Orders(
            assembly=Assembly(parts=()),
            request_timeout=_REQUEST,
            drain_timeout=_DRAIN,
            allow_private=tuple(allow_private or ()),
            access_log=True,
            explain=True,
        ),
        record=_Told(context, Logbook(folder / "logs")),
        given=wire.canonical(Reach(folder=str(folder))),
    )
    polling = bool(context.environ.get("WATCHFILES_FORCE_POLLING"))
    source = DevSource(first, development.read, plane.say, development.folder, polling=polling)
    plane.run(source, sock, lambda: _announce(context, first, *sock.getsockname()[:2]))


def _listener(context: Context, host: str, port: int) -> socket.socket:
    try:
        return serving.listener(host, port, context.environ)
    except Refused as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRINUSE:
            raise
        free = serving.next_free(host, port)
        raise Refused(
            f"another program listens on {host}:{port}",
            next=consent.again(context, f"--port {free}") if free else None,
        ) from error


class _Told:
    """What is logged is shown at once, and kept."""

    def __init__(self, context: Context, logbook: Logbook) -> None:
        self._context = context
        self._logbook = logbook
        self._reader_gone = False

    def __call__(self, records: list[LogRecord]) -> None:
        self._logbook.append(records)
        if self._reader_gone:
            return
        try:
            self._show(records)
        except (BrokenPipeError, Refused):
            self._reader_gone = True
            os.kill(os.getpid(), signal.SIGTERM)

    def _show(self, records: list[LogRecord]) -> None:
        if not self._context.json:
            self._context.output.stream((), devlines.blocks(records))
            return
        from svcctl.cli import loglines

        for record in records:
            self._context.output.stream(loglines.answer(record), ())


def _announce(context: Context, reading: Reading, host: str, port: int) -> None:
    answer = Developing(
        host=host,
        port=port,
        addresses=tuple(_address(name, assembly, port) for name, assembly in reading.assemblies.items()),
        notes=reading.notes,
    )
    context.output.stream(answer, _blocks(answer))
    sys.stdout.flush()


def _address(service: str, assembly: Assembly, port: int) -> Address:
    runs, *reaches = (part.ref if part.version else f"{part.service} as it is here" for part in assembly.parts)
    return Address(url=f"http://{hostname(service)}:{port}/", service=service, runs=runs, reaches=tuple(reaches))


def _blocks(answer: Developing) -> Iterator[Block]:
    rows: list[list[Content]] = [[each.url, each.runs, ", ".join(each.reaches)] for each in answer.addresses]
    yield Table(["url", "runs", "reaches"], rows)
    yield from map(Note, answer.notes)
    hosts = " ".join(hostname(each.service) for each in answer.addresses)
    yield Note(f"KV data and logs are development's own, in {STORE}/{FOLDER}")
    yield Note(
        f"browsers and curl find *.localhost; for other programs: 127.0.0.1 {hosts} in /etc/hosts, or the header Host"
    )
    yield Success(f"serving on {answer.host}:{answer.port}; edits are live on save, Ctrl-C ends")
