import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from svcctl.cli import running
from svcctl.cli.context import Context
from svcctl.cli.options import HostOption, PortOption
from svcctl.cli.output import Block, Cell, Content, Success, Table
from svcctl.dataplane.crowd import Scale
from svcctl.dataplane.runner import Patience
from svcctl.model import Environment, Model


class Address(Model):
    url: str
    ref: str
    state: str
    """`live`, or why not."""


class Serving(Model):
    host: str
    port: int
    addresses: tuple[Address, ...]


def serve(
    context: Context,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8787,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option("--trusted-proxy", metavar="NETWORK", help="Believe X-Forwarded-* of these peers; repeatable."),
    ] = None,
    allow_private: Annotated[
        list[str] | None,
        typer.Option("--allow-private", metavar="NETWORK", help="Handlers may fetch from it; repeatable."),
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory", metavar="MB", min=64, help="What one worker process may allocate.")
    ] = 512,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Processes that one busy deployment may have; else one a processor."
        ),
    ] = None,
    busy: Annotated[
        int,
        typer.Option(
            "--busy", metavar="PERCENT", min=1, max=100, help="Of a processor: who takes more gets another worker."
        ),
    ] = 80,
    request_timeout: Annotated[
        float, typer.Option("--request-timeout", metavar="SECONDS", min=0.1, help="Until a handler must have answered.")
    ] = 30.0,
    idle: Annotated[
        float, typer.Option("--idle", metavar="SECONDS", min=1, help="An unused worker is stopped after so long.")
    ] = 900.0,
    start_timeout: Annotated[
        float, typer.Option("--start-timeout", metavar="SECONDS", min=0.1, help="Until a worker must be ready.")
    ] = 30.0,
    blocked: Annotated[
        float,
        typer.Option("--blocked", metavar="SECONDS", min=0.1, help="A worker that hangs for so long is killed."),
    ] = 10.0,
    drain: Annotated[
        float, typer.Option("--drain", metavar="SECONDS", min=0, help="Running requests have so long to end.")
    ] = 30.0,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="FOLDER", help="What is kept to start without the store.")
    ] = None,
) -> None:
    """Answer requests at the hostnames of every environment.

    Changes by any command on this store are live without a restart. SIGTERM and Ctrl-C finish what runs."""
    plane = running.plane(
        context,
        running.orders(
            memory=memory,
            request_timeout=request_timeout,
            drain_timeout=drain,
            trusted_proxies=trusted_proxy,
            allow_private=allow_private,
            access_log=access_log,
        ),
        Patience(idle=idle, blocked=blocked, start=start_timeout),
        Scale(workers or running.processors(), busy / 100),
    )
    sock = running.listener(context, host, port)
    source = running.ledger(context, plane, cache)
    plane.run(source, sock, lambda: _announce(context, source.environments(), *sock.getsockname()[:2]))


def _announce(context: Context, environments: list[Environment], host: str, port: int) -> None:
    addresses = tuple(
        Address(
            url=f"http://{each.hostname}:{port}/",
            ref=each.ref if each.head is None else f"{each.ref}@{each.head}",
            state=_state(each),
        )
        for each in environments
        if each.hostname
    )
    context.show(Serving(host=host, port=port, addresses=addresses), _blocks(host, port, addresses))
    sys.stdout.flush()


def _state(environment: Environment) -> str:
    if environment.head is None:
        return "no version yet"
    return f"not live: lacks {', '.join(environment.lacks)}" if environment.lacks else "live"


def _blocks(host: str, port: int, addresses: tuple[Address, ...]) -> Iterator[Block]:
    rows: list[list[Content]] = [
        [each.url, each.ref, Cell(each.state, "ok" if each.state == "live" else "warn")] for each in addresses
    ]
    yield Table(["url", "runs", "state"], rows, empty="nothing is deployed yet; what is deployed is served at once")
    yield Success(f"serving on {host}:{port}")
